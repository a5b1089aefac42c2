/*
 * The real supervisor, PID 1 of a PID namespace, with processes in the place of its roles that do
 * nothing: what they would say on their control sockets, the test says.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "ipc/fds.h"
#include "supervisor/supervisor.h"
#include "tests/proc/common_role.h"

#define DEADLINE_MS 5000
#define UID_BASE    (TEST_UID + 100)

/* Everybody but the supervisor itself. */
static const enum role roles[] = { ROLE_FRONTEND, ROLE_AGENTD, ROLE_VMMD, ROLE_PERSISTD, ROLE_NETD,
	ROLE_QEMU, ROLE_VIRTIOFSD, ROLE_MOUNTD };

static const char *const binaries[] = { "frontend", "agentd", "vmmd", "persistd", "netd", "slot",
	"mountd" };

struct stand_in {
	int pid;
	int ctl;  /* the role's own end */
	int test; /* to the process: one byte ends it with that status */
};

struct rig {
	int pid; /* of the supervisor, as we see it */
	int log; /* what it writes where containerd's log would be */
	char dir[64];
	struct stand_in role[ROLE_COUNT];
};

/* ---- a libexec of stand-ins, and a place to meet them ---- */

static int listen_in(const char *dir)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/test", dir);
	CHECK(bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) == 0 && listen(fd, 16) == 0);
	return fd;
}

static int make_libexec(struct rig *rig)
{
	const char *build = getenv("BULKHEAD_BUILD");
	char stand_in[4096], path[128];

	strcpy(rig->dir, "/tmp/bulkhead-supervisor-XXXXXX");
	CHECK(mkdtemp(rig->dir));
	snprintf(stand_in, sizeof(stand_in), "%s/tests/proc/supervisor_role", build ? build : ".");
	for (size_t i = 0; i < ARRAY_SIZE(binaries); i++) {
		snprintf(path, sizeof(path), "%s/bulkhead-%s", rig->dir, binaries[i]);
		CHECK(symlink(stand_in, path) == 0);
	}
	snprintf(path, sizeof(path), "%s/void", rig->dir);
	CHECK(mkdir(path, 0700) == 0);
	return listen_in(rig->dir);
}

static void remove_libexec(struct rig *rig)
{
	char path[128];

	for (size_t i = 0; i < ARRAY_SIZE(binaries); i++) {
		snprintf(path, sizeof(path), "%s/bulkhead-%s", rig->dir, binaries[i]);
		unlink(path);
	}
	snprintf(path, sizeof(path), "%s/test", rig->dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/void", rig->dir);
	rmdir(path);
	CHECK(rmdir(rig->dir) == 0);
}

/* Takes the control socket that one of them brings. */
static void meet_one(struct rig *rig, int listener)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	char name[64] = "";
	struct iovec iov = { .iov_base = name, .iov_len = sizeof(name) - 1 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control) };
	struct pollfd pfd = { .fd = listener, .events = POLLIN };
	struct ucred cred;
	socklen_t len = sizeof(cred);
	size_t i = 0;
	int conn;

	if (poll(&pfd, 1, DEADLINE_MS) != 1)
		test_fail(__FILE__, __LINE__, "not every role was started");
	conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(conn >= 0);
	CHECK(recvmsg(conn, &mh, MSG_CMSG_CLOEXEC) > (ssize_t)strlen("bulkhead-"));
	while (i < ARRAY_SIZE(roles) && strcmp(role_name(roles[i]), name + strlen("bulkhead-")) != 0)
		i++;
	if (i == ARRAY_SIZE(roles))
		test_fail(__FILE__, __LINE__, "a role of the name %s", name);
	CHECK_INT(rig->role[roles[i]].pid, 0);
	/* The kernel says the pid in our namespace. */
	CHECK(getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0);
	rig->role[roles[i]] = (struct stand_in){ .pid = cred.pid, .test = conn };
	memcpy(&rig->role[roles[i]].ctl, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(int));
}

/* ---- the supervisor ---- */

/* Children that are made after this are in our own namespace again, LeakSanitizer's among them. */
static void children_are_here(void)
{
	int own = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);

	CHECK_INT(setns(own, CLONE_NEWPID), 0);
	close(own);
}

/* What the launcher has opened for a guest whose agent is reached by vsock; cid 0: it has not. */
static struct {
	unsigned cid;
	int vhost, sock;
} vsock;

/* Directories that look like the sandbox's cgroup in each hierarchy, v2 first; "": there is no such one. */
static char cgroups[2][160];

static void spawn(struct rig *rig, int log)
{
	char libexec[128], dir[128], uid_base[64], cid[32];
	const char *const args[] = { "id=c1", "namespace=n", "bundle=/b", dir, libexec, "qemu=/q",
		"virtiofsd=/v", "virtio_fs_cache=auto", "kernel=/k", "initrd=/i", "cmdline=c", "accel=tcg", "accel_why=", "network_model=none",
		"network_queues=1", "disable_vhost_net=1", uid_base,
		"vcpus=1", "memory_mib=64", "max_vcpus=1",
		"max_memory_mib=64", "overhead_millicpus=0", "overhead_memory_mib=0", "hello_timeout_ms=1000", "vm_oom_score_adj=1000",
		"t0_us=0", cid, cgroups[0][0] ? cgroups[0] : NULL, cgroups[1][0] ? cgroups[1] : NULL, NULL };
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	snprintf(libexec, sizeof(libexec), "libexec=%s", rig->dir);
	snprintf(dir, sizeof(dir), "dir=%s/void", rig->dir);
	snprintf(uid_base, sizeof(uid_base), "uid_base=%u", UID_BASE);
	snprintf(cid, sizeof(cid), "cid=%u", vsock.cid);
	rig->pid = test_spawn("bulkhead-supervisor", args,
		(const struct test_fd[]){ { 0, null }, { 1, null }, { 2, null },
			{ SUPERVISOR_FD_LISTENER, null }, { SUPERVISOR_FD_EVENTS, null },
			{ SUPERVISOR_FD_LOG, log }, { SUPERVISOR_FD_BUNDLE, null },
			{ SUPERVISOR_FD_STATE, null }, { SUPERVISOR_FD_QEMU, null },
			{ SUPERVISOR_FD_VIRTIOFSD, null },
			{ SUPERVISOR_FD_VHOST_VSOCK, vsock.cid ? vsock.vhost : null },
			{ SUPERVISOR_FD_VSOCK, vsock.cid ? vsock.sock : null },
			{ -1, -1 } });
	close(null);
}

/* Started, with all of its roles. */
static void rig_start(struct rig *rig)
{
	int listener, log[2];

	*rig = (struct rig){ .pid = 0 };
	listener = make_libexec(rig);
	CHECK(pipe2(log, O_CLOEXEC | O_NONBLOCK) == 0);
	CHECK_INT(unshare(CLONE_NEWPID), 0); /* the supervisor is PID 1 */
	spawn(rig, log[1]);
	children_are_here();
	close(log[1]);
	rig->log = log[0];
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
		meet_one(rig, listener);
	close(listener);
}

static void rig_done(struct rig *rig)
{
	if (rig->pid > 0) {
		kill(rig->pid, SIGKILL);
		waitpid(rig->pid, NULL, 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
		fd_close(&rig->role[roles[i]].ctl);
		fd_close(&rig->role[roles[i]].test);
	}
	close(rig->log);
	remove_libexec(rig);
}

/* ---- what the roles say and hear ---- */

static void say(struct rig *rig, enum role role, enum ctl_type type)
{
	CHECK_INT(ctl_send(rig->role[role].ctl, type, role, 0, "because"), 0);
}

static void hear(struct rig *rig, enum role role, enum ctl_type type, struct ctl_msg *ret)
{
	struct pollfd pfd = { .fd = rig->role[role].ctl, .events = POLLIN };
	int r = poll(&pfd, 1, DEADLINE_MS) == 1 ? ctl_recv(pfd.fd, MSG_DONTWAIT, ret) : -EAGAIN;

	if (r != 1 || ret->type != type)
		test_fail(__FILE__, __LINE__, "%s hears %d (%d) instead of %d", role_name(role),
			r == 1 ? ret->type : 0, r, type);
}

/* Nothing comes to anybody for a moment, and nobody's socket is closed. */
static void silence(struct rig *rig)
{
	struct pollfd pfds[ARRAY_SIZE(roles)];

	for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
		pfds[i] = (struct pollfd){ .fd = rig->role[roles[i]].ctl, .events = POLLIN };
	CHECK_INT(poll(pfds, ARRAY_SIZE(roles), 100), 0);
}

/* Everybody but one is ready; virtiofsd's slot is told when mountd is. */
static void ready_but(struct rig *rig, enum role late)
{
	struct ctl_msg msg;

	for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
		if (roles[i] != late)
			say(rig, roles[i], CTL_READY);
	if (late != ROLE_MOUNTD)
		hear(rig, ROLE_VIRTIOFSD, CTL_GO, &msg);
}

static void locked(struct rig *rig)
{
	struct ctl_msg msg;

	for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
		hear(rig, roles[i], CTL_LOCK, &msg);
}

static void rig_up(struct rig *rig)
{
	rig_start(rig);
	ready_but(rig, ROLE_COUNT);
	locked(rig);
}

static bool is_running(int pid)
{
	char state[64];

	if (kill(pid, 0) < 0)
		return false;
	proc_status(pid, "State", state, sizeof(state));
	return state[0] != 'Z';
}

/* It has ended by itself, with that status, and taken everybody along. Its log has the words. */
static void ended(struct rig *rig, int status, const char *words)
{
	char log[65536];
	int r = test_wait(rig->pid, DEADLINE_MS);
	ssize_t n;

	rig->pid = 0;
	if (!WIFEXITED(r) || WEXITSTATUS(r) != status)
		test_fail(__FILE__, __LINE__, "the supervisor: wait status 0x%x, not after: %s",
			(unsigned)r, words);
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++)
		if (is_running(rig->role[roles[i]].pid))
			test_fail(__FILE__, __LINE__, "%s still runs", role_name(roles[i]));
	n = read(rig->log, log, sizeof(log) - 1);
	log[n > 0 ? n : 0] = '\0';
	CHECK_CONTAINS(log, words);
}

static void end_role(struct rig *rig, enum role role, unsigned char status)
{
	CHECK_INT(send(rig->role[role].test, &status, 1, MSG_NOSIGNAL), 1);
}

/* ---- LOCK ---- */

TEST(lock_waits_for_every_role)
{
	struct ctl_msg msg;
	struct rig rig;

	need_root();
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
		rig_start(&rig);
		ready_but(&rig, roles[i]);
		silence(&rig);
		say(&rig, roles[i], CTL_READY);
		if (roles[i] == ROLE_MOUNTD)
			hear(&rig, ROLE_VIRTIOFSD, CTL_GO, &msg);
		locked(&rig);
		rig_done(&rig);
	}
}

/* Who hears LOCK may rely on it: nobody has any privilege left, the supervisor itself included. */
TEST(at_lock_it_has_nothing_left)
{
	struct rig rig;

	need_root();
	rig_up(&rig);
	check_shut_in(rig.pid, UID_BASE + ROLE_SUPERVISOR, 0);
	CHECK(same_namespace(rig.pid, getpid(), "net"));
	CHECK(!same_namespace(rig.pid, getpid(), "mnt"));
	CHECK(!same_namespace(rig.pid, getpid(), "ipc"));
	CHECK(!same_namespace(rig.pid, getpid(), "uts"));
	rig_done(&rig);
}

/* ---- the end of others ---- */

TEST(the_end_of_any_role_is_the_end_of_all)
{
	static const enum role ends[] = { ROLE_FRONTEND, ROLE_AGENTD, ROLE_VMMD, ROLE_PERSISTD,
		ROLE_NETD, ROLE_MOUNTD };
	struct rig rig;
	char words[64];

	need_root();
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		rig_up(&rig);
		CHECK_INT(kill(rig.role[ends[i]].pid, SIGKILL), 0);
		snprintf(words, sizeof(words), "%s was killed by signal 9", role_name(ends[i]));
		ended(&rig, 0, words);
		rig_done(&rig);
	}
}

TEST(a_role_that_leaves_by_itself_is_no_better)
{
	static const enum role ends[] = { ROLE_AGENTD, ROLE_VMMD, ROLE_PERSISTD, ROLE_MOUNTD };
	struct rig rig;
	char words[64];

	need_root();
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		rig_up(&rig);
		end_role(&rig, ends[i], 0);
		snprintf(words, sizeof(words), "%s ended with status 0", role_name(ends[i]));
		ended(&rig, 0, words);
		rig_done(&rig);
	}
}

TEST(netd_may_leave_when_its_work_is_done)
{
	struct rig rig;

	need_root();
	rig_up(&rig);
	end_role(&rig, ROLE_NETD, 0);
	fd_close(&rig.role[ROLE_NETD].ctl);
	silence(&rig);
	CHECK(is_running(rig.pid));
	say(&rig, ROLE_FRONTEND, CTL_STOP);
	ended(&rig, 0, "phase=lock");
	rig_done(&rig);
	rig_up(&rig);
	end_role(&rig, ROLE_NETD, 70);
	ended(&rig, 0, "netd ended with status 70");
	rig_done(&rig);
}

TEST(the_end_of_the_vm_is_told)
{
	struct ctl_msg msg;
	struct rig rig;

	need_root();
	rig_up(&rig);
	CHECK_INT(kill(rig.role[ROLE_VIRTIOFSD].pid, SIGKILL), 0);
	hear(&rig, ROLE_FRONTEND, CTL_CHILD_EXIT, &msg);
	CHECK(msg.role == ROLE_VIRTIOFSD && msg.status == 137);
	end_role(&rig, ROLE_QEMU, 3);
	hear(&rig, ROLE_FRONTEND, CTL_CHILD_EXIT, &msg);
	CHECK(msg.role == ROLE_QEMU && msg.status == 3);
	hear(&rig, ROLE_VMMD, CTL_CHILD_EXIT, &msg);
	CHECK(msg.role == ROLE_QEMU && msg.status == 3);
	fd_close(&rig.role[ROLE_QEMU].ctl);
	fd_close(&rig.role[ROLE_VIRTIOFSD].ctl);
	silence(&rig);
	CHECK(is_running(rig.pid));
	rig_done(&rig);
}

/* ---- the host's OOM killer ---- */

/* What the kernel says. */
#define V1(n) "oom_kill_disable 0\nunder_oom 0\noom_kill " #n "\n"
#define V2(n) "low 0\nhigh 0\nmax 9\noom " #n "\noom_kill " #n "\noom_group_kill 0\n"

static char cgroup_root[64];

static void write_in(const char *dir, const char *file, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	f = fopen(path, "w");
	CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void make_cgroup(char *option, const char *name, bool v2)
{
	static const char *const children[] = { "shim", "vm" };
	char dir[128], child[160];

	snprintf(dir, sizeof(dir), "%s/%s", cgroup_root, name);
	CHECK(mkdir(dir, 0700) == 0);
	snprintf(option, sizeof(cgroups[0]), "cgroup=%s", dir);
	write_in(dir, v2 ? "cgroup.kill" : "cgroup.procs", "");
	for (size_t i = 0; v2 && i < ARRAY_SIZE(children); i++) {
		snprintf(child, sizeof(child), "%s/%s", dir, children[i]);
		CHECK(mkdir(child, 0700) == 0);
		write_in(child, "cgroup.procs", "");
		write_in(child, "cgroup.kill", "");
	}
}

/* Which hierarchies the host has. */
enum host { HOST_V1, HOST_HYBRID, HOST_V2 };

/* In the hierarchy that has the memory controller; NULL: none has. */
static void kernel_says(enum host host, const char *text)
{
	if (text)
		write_in(strchr(cgroups[host == HOST_HYBRID], '/'),
			host == HOST_V2 ? "memory.events" : "memory.oom_control", text);
}

static void make_host(enum host host)
{
	strcpy(cgroup_root, "/tmp/bulkhead-cgroup-XXXXXX");
	CHECK(mkdtemp(cgroup_root));
	memset(cgroups, 0, sizeof(cgroups));
	if (host != HOST_V1)
		make_cgroup(cgroups[0], "v2", true);
	if (host != HOST_V2)
		make_cgroup(cgroups[host == HOST_HYBRID], "memory", false);
}

static void remove_host(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", cgroup_root);
	CHECK_INT(system(command), 0); /* NOLINT */
	memset(cgroups, 0, sizeof(cgroups));
}

/* QEMU or virtiofsd ends, by SIGKILL or with status 1, having been counted or not: is it told as OOM? */
static void check_oom(enum host host, enum role role, bool killed, const char *before,
	const char *after, bool told)
{
	struct ctl_msg msg;
	struct rig rig;
	int status = killed ? 137 : 1;

	make_host(host);
	kernel_says(host, before);
	rig_up(&rig);
	kernel_says(host, after);
	if (killed)
		CHECK_INT(kill(rig.role[role].pid, SIGKILL), 0);
	else
		end_role(&rig, role, 1);
	if (told) {
		hear(&rig, ROLE_FRONTEND, CTL_OOM, &msg);
		CHECK(msg.role == role && msg.status == status);
	}
	hear(&rig, ROLE_FRONTEND, CTL_CHILD_EXIT, &msg);
	CHECK(msg.role == role && msg.status == status);
	if (role == ROLE_QEMU)
		hear(&rig, ROLE_VMMD, CTL_CHILD_EXIT, &msg);
	fd_close(&rig.role[role].ctl);
	silence(&rig);
	say(&rig, ROLE_FRONTEND, CTL_STOP);
	ended(&rig, 0, told ? "the host's OOM killer ended" : "phase=lock");
	rig_done(&rig);
	remove_host();
}

TEST(the_hosts_oom_killer_is_told_before_the_end)
{
	need_root();
	check_oom(HOST_V1, ROLE_QEMU, true, V1(0), V1(1), true);
	check_oom(HOST_HYBRID, ROLE_QEMU, true, V1(0), V1(1), true);
	check_oom(HOST_V2, ROLE_QEMU, true, V2(0), V2(2), true);
	/* A cgroup that was there before. */
	check_oom(HOST_V2, ROLE_QEMU, true, V2(3), V2(4), true);
	/* The one of virtiofsd's processes that is left ends by itself. */
	check_oom(HOST_HYBRID, ROLE_VIRTIOFSD, true, V1(0), V1(1), true);
	check_oom(HOST_HYBRID, ROLE_VIRTIOFSD, false, V1(0), V1(1), true);
}

TEST(an_end_that_the_oom_killer_has_no_part_in)
{
	need_root();
	check_oom(HOST_HYBRID, ROLE_QEMU, true, V1(0), V1(0), false);
	check_oom(HOST_V2, ROLE_QEMU, true, V2(3), V2(3), false);
	check_oom(HOST_V2, ROLE_VIRTIOFSD, true, V2(3), V2(3), false);
	/* Not by SIGKILL: somebody else was counted. */
	check_oom(HOST_HYBRID, ROLE_QEMU, false, V1(0), V1(1), false);
	/* Nobody counts, or who knows what. */
	check_oom(HOST_HYBRID, ROLE_QEMU, true, NULL, NULL, false);
	check_oom(HOST_V2, ROLE_QEMU, true, NULL, NULL, false);
	check_oom(HOST_HYBRID, ROLE_QEMU, true, "oom_kill_disable 0\n", "oom_kill_disable 1\n", false);
	check_oom(HOST_V2, ROLE_QEMU, true, V2(0), "oom_kill 1x\n", false);
}

/* What was counted is told once: an end that only follows is nobody's kill. */
TEST(one_kill_is_told_once)
{
	struct ctl_msg msg;
	struct rig rig;

	need_root();
	make_host(HOST_HYBRID);
	kernel_says(HOST_HYBRID, V1(0));
	rig_up(&rig);
	kernel_says(HOST_HYBRID, V1(1));
	CHECK_INT(kill(rig.role[ROLE_VIRTIOFSD].pid, SIGKILL), 0);
	hear(&rig, ROLE_FRONTEND, CTL_OOM, &msg);
	CHECK_INT(msg.role, ROLE_VIRTIOFSD);
	hear(&rig, ROLE_FRONTEND, CTL_CHILD_EXIT, &msg);
	CHECK_INT(kill(rig.role[ROLE_QEMU].pid, SIGKILL), 0); /* as the frontend asks for it */
	hear(&rig, ROLE_FRONTEND, CTL_CHILD_EXIT, &msg);
	CHECK_INT(msg.role, ROLE_QEMU);
	rig_done(&rig);
	remove_host();
}

/* QEMU is counted, and virtiofsd, which follows it or is killed with it, is seen first. */
TEST(who_only_follows_is_not_named)
{
	struct ctl_msg msg;
	struct rig rig;

	need_root();
	make_host(HOST_HYBRID);
	kernel_says(HOST_HYBRID, V1(0));
	rig_up(&rig);
	kernel_says(HOST_HYBRID, V1(1));
	say(&rig, ROLE_FRONTEND, CTL_KILL_VM); /* its agent is gone */
	silence(&rig);
	CHECK_INT(kill(rig.role[ROLE_VIRTIOFSD].pid, SIGKILL), 0);
	hear(&rig, ROLE_FRONTEND, CTL_CHILD_EXIT, &msg);
	CHECK_INT(msg.role, ROLE_VIRTIOFSD);
	CHECK_INT(kill(rig.role[ROLE_QEMU].pid, SIGKILL), 0);
	hear(&rig, ROLE_FRONTEND, CTL_OOM, &msg);
	CHECK_INT(msg.role, ROLE_QEMU);
	hear(&rig, ROLE_FRONTEND, CTL_CHILD_EXIT, &msg);
	CHECK_INT(msg.role, ROLE_QEMU);
	rig_done(&rig);
	remove_host();
}

/* ---- what a role may say ---- */

TEST(a_word_that_a_role_may_not_say_ends_all)
{
	static const struct {
		enum role role;
		enum ctl_type type;
	} words[] = {
		{ ROLE_FRONTEND, CTL_READY }, { ROLE_FRONTEND, CTL_LOCK },
		{ ROLE_FRONTEND, CTL_FAILED }, { ROLE_FRONTEND, CTL_CHILD_EXIT },
		{ ROLE_FRONTEND, CTL_GO }, { ROLE_FRONTEND, CTL_OOM }, { ROLE_FRONTEND, 99 }, { ROLE_AGENTD, CTL_STOP },
		{ ROLE_AGENTD, CTL_KILL_VM }, { ROLE_VMMD, CTL_STOP }, { ROLE_MOUNTD, CTL_KILL_VM },
		{ ROLE_MOUNTD, CTL_GO }, { ROLE_PERSISTD, CTL_KILL_VM }, { ROLE_NETD, CTL_STOP },
		{ ROLE_QEMU, CTL_KILL_VM }, { ROLE_VIRTIOFSD, CTL_READY },
	};
	struct rig rig;
	char text[64];

	need_root();
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		rig_up(&rig);
		say(&rig, words[i].role, words[i].type);
		snprintf(text, sizeof(text), "%s sent control message %d, which it may not now",
			role_name(words[i].role), words[i].type);
		ended(&rig, 0, text);
		rig_done(&rig);
	}
}

TEST(what_is_no_control_message_ends_all)
{
	struct rig rig;

	need_root();
	rig_up(&rig);
	CHECK_INT(send(rig.role[ROLE_AGENTD].ctl, "x", 1, MSG_NOSIGNAL), 1);
	ended(&rig, 0, "agentd sent something that is no control message");
	rig_done(&rig);
}

TEST(ready_twice_is_no_second_role)
{
	struct rig rig;

	need_root();
	rig_start(&rig);
	ready_but(&rig, ROLE_AGENTD);
	say(&rig, ROLE_VMMD, CTL_READY);
	ended(&rig, 0, "vmmd sent control message 1, which it may not now");
	rig_done(&rig);
}

TEST(a_vm_that_cannot_be_killed_alone_ends_with_all)
{
	static const enum role may[] = { ROLE_FRONTEND, ROLE_VMMD };
	struct rig rig;

	need_root();
	for (size_t i = 0; i < ARRAY_SIZE(may); i++) {
		rig_up(&rig); /* without a cgroup */
		say(&rig, may[i], CTL_KILL_VM);
		ended(&rig, 0, "the sandbox ends with the VM");
		rig_done(&rig);
	}
}

/* ---- a start that fails ---- */

/* The frontend is told why; all others lose the supervisor, and are never locked. */
static void only_the_frontend_is_left(struct rig *rig, enum role failed, const char *why)
{
	struct ctl_msg msg;

	hear(rig, ROLE_FRONTEND, CTL_FAILED, &msg);
	CHECK_INT(msg.role, failed);
	CHECK_CONTAINS(msg.text, why);
	for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
		struct pollfd pfd = { .fd = rig->role[roles[i]].ctl, .events = POLLIN };

		if (roles[i] == ROLE_FRONTEND || pfd.fd < 0)
			continue;
		CHECK_INT(poll(&pfd, 1, DEADLINE_MS), 1);
		/* virtiofsd's may have heard GO before. */
		while (ctl_recv(pfd.fd, MSG_DONTWAIT, &msg) == 1)
			CHECK_INT(msg.type, CTL_GO);
	}
	CHECK(is_running(rig->pid));
	end_role(rig, ROLE_FRONTEND, 0);
}

TEST(a_role_that_cannot_start_is_told_to_the_frontend)
{
	struct rig rig;

	need_root();
	rig_start(&rig);
	ready_but(&rig, ROLE_PERSISTD);
	say(&rig, ROLE_PERSISTD, CTL_FAILED);
	only_the_frontend_is_left(&rig, ROLE_PERSISTD, "because");
	ended(&rig, 0, "persistd could not start: because");
	rig_done(&rig);
}

TEST(a_role_that_dies_before_it_is_ready_too)
{
	struct rig rig;

	need_root();
	rig_start(&rig);
	CHECK_INT(kill(rig.role[ROLE_VMMD].pid, SIGKILL), 0);
	fd_close(&rig.role[ROLE_VMMD].ctl);
	only_the_frontend_is_left(&rig, ROLE_VMMD, "it was killed by signal 9 (KILL) before it was ready");
	ended(&rig, 0, "vmmd could not start");
	rig_done(&rig);
}

TEST(without_a_frontend_there_is_nobody_to_tell)
{
	struct rig rig;

	need_root();
	rig_start(&rig);
	end_role(&rig, ROLE_FRONTEND, 1);
	ended(&rig, 0, "frontend could not start");
	rig_done(&rig);
}

/* ---- vsock ---- */

/* By which number a process holds this file; -1: it does not. */
static int held_as(int pid, int file)
{
	char path[64];
	struct stat want, st;

	CHECK(fstat(file, &want) == 0);
	for (int fd = 0; fd < 64; fd++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
		if (stat(path, &st) == 0 && st.st_dev == want.st_dev && st.st_ino == want.st_ino)
			return fd;
	}
	return -1;
}

/* The device and the socket are vmmd's, where ipc/fds.h says, and nobody else's; without a CID nobody's. */
TEST(what_vsock_needs_is_vmmds_alone)
{
	struct rig rig;

	need_root();
	vsock.vhost = memfd_create("vhost", MFD_CLOEXEC);
	vsock.sock = memfd_create("sock", MFD_CLOEXEC);
	for (unsigned cid = 0; cid <= 5000; cid += 5000) {
		vsock.cid = cid;
		rig_up(&rig);
		for (size_t i = 0; i < ARRAY_SIZE(roles); i++) {
			bool vmmd = roles[i] == ROLE_VMMD && cid;
			int pid = rig.role[roles[i]].pid;

			CHECK_INT(held_as(pid, vsock.vhost), vmmd ? VMMD_FD_VHOST_VSOCK : -1);
			CHECK_INT(held_as(pid, vsock.sock), vmmd ? VMMD_FD_VSOCK : -1);
		}
		CHECK_INT(held_as(rig.pid, vsock.vhost), -1);
		CHECK_INT(held_as(rig.pid, vsock.sock), -1);
		rig_done(&rig);
	}
	close(vsock.vhost);
	close(vsock.sock);
}
