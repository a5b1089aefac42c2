/* The supervisor with a role that has been taken over (A12): hostile_twin.c is in place of all. */
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/mem.h"
#include "supervisor/supervisor.h"
#include "tests/proc/common_role.h"
#include "tests/proc/ctl_shape.h"

#define DIR_PATH "/mnt"

static void copy(const char *from, const char *to)
{
	char buf[65536];
	int in = open(from, O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	ssize_t n;

	CHECK(in >= 0 && out >= 0);
	while ((n = read(in, buf, sizeof(buf))) > 0)
		CHECK_INT(write(out, buf, (size_t)n), n);
	close(in);
	close(out);
}

/* The twin, by every name there is, in a directory of this test's own. */
static void world_make(void)
{
	static const char *const others[] = { "frontend", "agentd", "vmmd", "persistd", "netd",
		"mountd" };
	const char *build = getenv("BULKHEAD_BUILD");
	char path[512];

	need_root();
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mount("twins", DIR_PATH, "tmpfs", 0, NULL) == 0);
	CHECK(mkdir(DIR_PATH "/sandbox", 0700) == 0);
	snprintf(path, sizeof(path), "%s/tests/proc/hostile_twin", build ? build : ".");
	copy(path, DIR_PATH "/bulkhead-slot");
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		snprintf(path, sizeof(path), DIR_PATH "/bulkhead-%s", others[i]);
		CHECK(link(DIR_PATH "/bulkhead-slot", path) == 0);
	}
}

static int spawn_supervisor(int log)
{
	static const char *const args[] = { "id=s1", "namespace=ns1", "bundle=/mnt",
		"dir=/mnt/sandbox", "libexec=/mnt", "qemu=/q", "virtiofsd=/v", "virtio_fs_cache=auto", "kernel=/k",
		"initrd=/i", "cmdline=x", "accel=tcg", "accel_why=", "network_model=none",
		"network_queues=1", "disable_vhost_net=1", "uid_base=2000000200", "vcpus=1",
		"memory_mib=64", "max_vcpus=1", "max_memory_mib=64",
		"overhead_millicpus=0", "overhead_memory_mib=0", "hello_timeout_ms=1000", "vm_oom_score_adj=1000", "t0_us=0",
		NULL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), pid;
	struct test_fd fds[SUPERVISOR_FD_END + 1];

	for (int i = 0; i < SUPERVISOR_FD_END; i++)
		fds[i] = (struct test_fd){ i, i == SUPERVISOR_FD_LOG ? log : null };
	fds[SUPERVISOR_FD_END] = (struct test_fd){ -1, -1 };
	pid = test_spawn("bulkhead-supervisor", args, fds);
	close(null);
	return pid;
}

struct misdeed {
	const char *role;
	unsigned when; /* as in hostile_twin.c */
	enum ctl_shape shape;
	uint16_t type;
	enum role as;
	const char *says; /* the supervisor, in the log */
};

static void write_plan(const struct misdeed *m)
{
	FILE *f = fopen(DIR_PATH "/plan", "we");

	CHECK(f);
	fprintf(f, "%s %u %d %u %d\n", m->role, m->when, m->shape, m->type, m->as);
	fclose(f);
	unlink(DIR_PATH "/locked");
}

/* In a process of its own: a PID namespace takes no new processes once its first has ended. */
static void one(const struct misdeed *m)
{
	char text[8192] = "";
	int log[2], status;
	ssize_t n;

	CHECK(unshare(CLONE_NEWPID) == 0);
	CHECK(pipe2(log, O_CLOEXEC) == 0);
	write_plan(m);
	status = test_wait(spawn_supervisor(log[1]), 10000);
	close(log[1]);
	/* The end of the pipe: nobody of the sandbox is left. */
	for (size_t at = 0; (n = read(log[0], text + at, sizeof(text) - 1 - at)) > 0;)
		at += (size_t)n;
	close(log[0]);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0 || !strstr(text, m->says))
		test_fail(__FILE__, __LINE__, "%s, %u, shape %d, type %u: 0x%x, %s", m->role, m->when,
			m->shape, m->type, (unsigned)status, text);
	CHECK_INT(access(DIR_PATH "/locked", F_OK), m->when == 2 ? 0 : -1);
}

static void run(const struct misdeed *m)
{
	int pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		one(m);
		_exit(0);
	}
	CHECK_INT(test_wait(pid, 20000), 0);
}

#define MAY_NOT "which it may not now"
#define NO_CTL	"sent something that is no control message"
#define OK	CTL_WELL_FORMED

TEST(before_lock)
{
	static const struct misdeed misdeeds[] = {
		{ "netd", 1, OK, CTL_READY, ROLE_NETD, "netd sent control message 1, " MAY_NOT },
		{ "agentd", 0, OK, CTL_READY, ROLE_PERSISTD, "agentd sent control message 1 as if it were persistd" },
		{ "qemu", 0, OK, CTL_READY, ROLE_VIRTIOFSD, "qemu sent control message 1 as if it were virtiofsd" },
		{ "frontend", 1, OK, CTL_LOCK, ROLE_FRONTEND, MAY_NOT },
		{ "virtiofsd", 1, OK, CTL_GO, ROLE_VIRTIOFSD, MAY_NOT },
		{ "vmmd", 1, OK, CTL_KILL_VM, ROLE_VMMD, MAY_NOT },
		{ "mountd", 1, OK, CTL_STOP, ROLE_MOUNTD, MAY_NOT },
		{ "vmmd", 0, OK, CTL_CHILD_EXIT, ROLE_VMMD, MAY_NOT },
		{ "netd", 0, OK, 0, ROLE_NETD, MAY_NOT },
		{ "netd", 0, OK, UINT16_MAX, ROLE_NETD, MAY_NOT },
		{ "netd", 0, CTL_EMPTY, CTL_READY, ROLE_NETD, NO_CTL },
		{ "netd", 0, CTL_SHORT, CTL_READY, ROLE_NETD, NO_CTL },
		{ "netd", 0, CTL_LONG, CTL_READY, ROLE_NETD, NO_CTL },
		{ "netd", 0, CTL_NO_NUL, CTL_READY, ROLE_NETD, NO_CTL },
		{ "netd", 0, CTL_NO_ROLE, CTL_READY, ROLE_NETD, NO_CTL },
		{ "netd", 0, CTL_WITH_FD, CTL_READY, ROLE_NETD, NO_CTL },
	};

	world_make();
	for (size_t i = 0; i < ARRAY_SIZE(misdeeds); i++)
		run(&misdeeds[i]);
	printf("         roles -> supervisor: %zu cases before LOCK\n", ARRAY_SIZE(misdeeds));
}

TEST(after_lock)
{
	static const struct misdeed misdeeds[] = {
		{ "netd", 2, OK, CTL_READY, ROLE_NETD, MAY_NOT },
		{ "persistd", 2, OK, CTL_FAILED, ROLE_PERSISTD, MAY_NOT },
		{ "frontend", 2, OK, CTL_LOCK, ROLE_FRONTEND, MAY_NOT },
		{ "frontend", 2, OK, CTL_CHILD_EXIT, ROLE_FRONTEND, MAY_NOT },
		{ "frontend", 2, OK, CTL_KILL_VM, ROLE_VMMD, "as if it were vmmd" },
		{ "agentd", 2, OK, CTL_KILL_VM, ROLE_AGENTD, MAY_NOT },
		{ "agentd", 2, OK, CTL_KILL_VM, ROLE_FRONTEND, "as if it were frontend" },
		{ "qemu", 2, OK, CTL_KILL_VM, ROLE_QEMU, MAY_NOT },
		{ "vmmd", 2, OK, CTL_STOP, ROLE_VMMD, MAY_NOT },
		{ "mountd", 2, OK, CTL_GO, ROLE_MOUNTD, MAY_NOT },
		{ "mountd", 2, OK, 0, ROLE_MOUNTD, MAY_NOT },
		{ "mountd", 2, OK, 99, ROLE_MOUNTD, MAY_NOT },
		{ "agentd", 2, CTL_EMPTY, CTL_KILL_VM, ROLE_AGENTD, NO_CTL },
		{ "agentd", 2, CTL_SHORT, CTL_KILL_VM, ROLE_AGENTD, NO_CTL },
		{ "agentd", 2, CTL_LONG, CTL_KILL_VM, ROLE_AGENTD, NO_CTL },
		{ "frontend", 2, CTL_NO_NUL, CTL_KILL_VM, ROLE_FRONTEND, NO_CTL },
		{ "frontend", 2, CTL_NO_ROLE, CTL_STOP, ROLE_FRONTEND, NO_CTL },
		{ "vmmd", 2, CTL_WITH_FD, CTL_KILL_VM, ROLE_VMMD, NO_CTL },
	};

	world_make();
	for (size_t i = 0; i < ARRAY_SIZE(misdeeds); i++)
		run(&misdeeds[i]);
	printf("         roles -> supervisor: %zu cases after LOCK\n", ARRAY_SIZE(misdeeds));
}
