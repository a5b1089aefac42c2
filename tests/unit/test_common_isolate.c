/*
 * isolate() in a child: what it is afterwards, as /proc and the kernel say,
 * and that each stage made to fail is an error.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <grp.h>
#include <unistd.h>

#include "common/fdio.h"
#include "common/isolate.h"
#include "common/landlock.h"
#include "tests/lib/test.h"
#include "tests/lib/void.h"

#define UID 2000000200U

static void need_root(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		test_skip("needs root");
}

static pid_t void_pid;

#define ALL_NAMESPACES (CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)

/* Fds below this number are the test's: report pipe and void among them. */
#define FIRST_FREE 20

static struct isolation usual(int void_pidfd)
{
	return (struct isolation){
		.name = "isolated",
		.first_free_fd = FIRST_FREE,
		.void_pidfd = void_pidfd,
		.void_namespaces = ALL_NAMESPACES,
		.uid = UID,
		.nofile = 64,
		.landlock = true,
		.policy = "common",
	};
}

struct child {
	pid_t pid;
	int from; /* what it says */
	int go;	  /* closed: it ends */
};

static void child_init(struct child *c, int to[2])
{
	int from[2], go[2];

	CHECK(pipe2(from, O_CLOEXEC) == 0 && pipe2(go, O_CLOEXEC) == 0);
	c->from = from[0];
	c->go = go[1];
	to[0] = from[1];
	to[1] = go[0];
	CHECK(from[1] < FIRST_FREE && go[1] < FIRST_FREE);
}

/* Isolates a child, which says 'k' and waits, or dies saying why not. */
static struct child isolated(const struct isolation *iso, struct error *err)
{
	struct child c;
	int to[2];
	ssize_t n;

	child_init(&c, to);
	c.pid = fork();
	CHECK(c.pid >= 0);
	if (c.pid == 0) {
		struct pollfd go = { .fd = to[1] };

		close(c.go);
		/* Outside of what is kept: must not be there afterwards. */
		if (dup2(0, 50) < 0 || dup2(0, 1000) < 0)
			_exit(9);
		*err = (struct error)ERROR_INIT;
		if (isolate(iso, err) < 0) {
			if (write(to[0], err, sizeof(*err)) < 0)
				_exit(8);
			_exit(70);
		}
		if (write(to[0], "k", 1) != 1)
			_exit(8);
		_exit(fd_poll(&go, 1, -1) == 1 ? 0 : 7);
	}
	close(to[0]);
	close(to[1]);
	n = read(c.from, err, sizeof(*err));
	if (n == 1)
		err->code = 0;
	else if (n != (ssize_t)sizeof(*err))
		error_set(err, ECHILD, "the child died without a word");
	return c;
}

/* Its wait status, after it is told to go. */
static int ends(struct child *c)
{
	close(c->go);
	close(c->from);
	return test_wait(c->pid, 5000);
}

static void status_of(pid_t pid, const char *key, char *ret, size_t size)
{
	char path[64], line[4096];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	CHECK(f);
	ret[0] = '\0';
	while (fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, key, strlen(key)) == 0)
			snprintf(ret, size, "%s", line + strlen(key));
	}
	fclose(f);
}

static void check_status(pid_t pid, const char *key, const char *want)
{
	char got[4096];

	status_of(pid, key, got, sizeof(got));
	if (strcmp(got, want) != 0)
		test_fail(__FILE__, __LINE__, "%s is '%s', not '%s'", key, got, want);
}

static void check_identity(pid_t pid, const char *ids, const char *caps)
{
	check_status(pid, "Name:\t", "isolated");
	check_status(pid, "Uid:\t", ids);
	check_status(pid, "Gid:\t", ids);
	check_status(pid, "Groups:\t", " ");
	check_status(pid, "CapPrm:\t", caps);
	check_status(pid, "CapEff:\t", caps);
	check_status(pid, "CapInh:\t", "0000000000000000");
	check_status(pid, "CapBnd:\t", "0000000000000000");
	check_status(pid, "CapAmb:\t", "0000000000000000");
	check_status(pid, "NoNewPrivs:\t", "1");
	check_status(pid, "Seccomp:\t", "2");
}

static bool same(pid_t a, pid_t b, const char *kind)
{
	char path[64];
	struct stat sa, sb;

	snprintf(path, sizeof(path), "/proc/%d/%s", a, kind);
	CHECK(stat(path, &sa) == 0);
	snprintf(path, sizeof(path), "/proc/%d/%s", b, kind);
	CHECK(stat(path, &sb) == 0);
	return sa.st_ino == sb.st_ino && sa.st_dev == sb.st_dev;
}

/* The hard limit, as /proc writes it. */
static void limit_of(pid_t pid, const char *what, char *ret, size_t size)
{
	char path[64], line[256], soft[64], hard[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/limits", pid);
	f = fopen(path, "re");
	CHECK(f);
	ret[0] = '\0';
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, what, strlen(what)) == 0 &&
			sscanf(line + strlen(what), "%63s %63s", soft, hard) == 2)
			snprintf(ret, size, "%s", hard);
	fclose(f);
}

static void check_limit(pid_t pid, const char *what, const char *want_value)
{
	char got[64];

	limit_of(pid, what, got, sizeof(got));
	if (strcmp(got, want_value) != 0)
		test_fail(__FILE__, __LINE__, "%s is %s, not %s", what, got, want_value);
}

TEST(a_role_without_capabilities)
{
	static const char *const kinds[] = { "ns/net", "ns/mnt", "ns/ipc", "ns/uts", "root/.", "cwd/." };
	const gid_t groups[] = { 4, 27 };
	struct isolation iso;
	struct error err;
	struct child c;
	struct stat st;
	char path[64];

	need_root();
	CHECK(setgroups(2, groups) == 0); /* to be lost */
	iso = usual(test_void(&void_pid));
	c = isolated(&iso, &err);
	if (err.code)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	check_identity(c.pid, "2000000200\t2000000200\t2000000200\t2000000200",
		"0000000000000000");
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (!same(c.pid, void_pid, kinds[i]))
			test_fail(__FILE__, __LINE__, "not the void's %s", kinds[i]);
	CHECK(!same(c.pid, getpid(), "root/."));

	check_limit(c.pid, "Max core file size", "0");
	check_limit(c.pid, "Max locked memory", "0");
	check_limit(c.pid, "Max msgqueue size", "0");
	check_limit(c.pid, "Max processes", "0");
	check_limit(c.pid, "Max file size", "0");
	check_limit(c.pid, "Max open files", "64");

	/* Not dumpable: /proc/<pid> belongs to root. */
	snprintf(path, sizeof(path), "/proc/%d/mem", c.pid);
	CHECK(stat(path, &st) == 0);
	CHECK_INT(st.st_uid, 0);

	/* Fds above, and the void, are closed. */
	snprintf(path, sizeof(path), "/proc/%d/fd/50", c.pid);
	CHECK(access(path, F_OK) < 0);
	snprintf(path, sizeof(path), "/proc/%d/fd/1000", c.pid);
	CHECK(access(path, F_OK) < 0);
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", c.pid, iso.void_pidfd);
	CHECK(access(path, F_OK) < 0);
	CHECK_INT(ends(&c), 0);
	close(iso.void_pidfd);
}

TEST(a_role_with_capabilities_and_its_own_namespaces)
{
	static const int caps[] = { CAP_SYS_ADMIN, CAP_MKNOD, -1 };
	struct isolation iso = { .name = "isolated", .first_free_fd = FIRST_FREE,
		.void_pidfd = -1, .uid = 0, .caps = caps, .nofile = 100, .may_fork = true,
		.may_write_files = true, .policy = "common" };
	struct error err;
	struct child c;
	char before[64], after[64];

	need_root();
	c = isolated(&iso, &err);
	if (err.code)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	check_identity(c.pid, "0\t0\t0\t0", "0000000008200000");
	CHECK(same(c.pid, getpid(), "ns/mnt"));
	limit_of(getpid(), "Max processes", before, sizeof(before));
	limit_of(c.pid, "Max processes", after, sizeof(after));
	CHECK_STR(after, before);
	CHECK_INT(ends(&c), 0);
}

/* What the child itself tries, after an isolation without a filter. */
static int status_after(const struct isolation *iso, void (*act)(void))
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		struct error err = ERROR_INIT;

		if (isolate(iso, &err) < 0) {
			fprintf(stderr, "%s\n", err.msg);
			_exit(99);
		}
		act();
		_exit(0);
	}
	return test_wait(pid, 5000);
}

static void want(bool yes, int code)
{
	if (!yes)
		_exit(code);
}

static void act_inside(void)
{
	struct sockaddr lo = { .sa_family = AF_INET };
	int fd;

	want(prctl(PR_GET_SECUREBITS, 0, 0, 0, 0) ==
			(SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
				SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
				SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED),
		1);
	want(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0, 2);
	want(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, 3);
	want(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0, 4);
	want(setresuid(0, 0, 0) < 0 && setresgid(0, 0, 0) < 0 && setgroups(0, NULL) < 0, 5);
	want(getpid() != 0 && umask(0) == 077, 6);
	/* The root: empty, not to be written, and nothing above it. */
	want(open("x", O_WRONLY | O_CREAT, 0600) < 0, 7);
	want(mkdir("/x", 0700) < 0, 8);
	want(access("/proc", F_OK) < 0 && access("../../../etc", F_OK) < 0, 9);
	want(fork() < 0 && errno == EAGAIN, 10);
	fd = socket(AF_INET, SOCK_DGRAM, 0);
	want(fd >= 0 && connect(fd, &lo, sizeof(lo)) < 0, 11);
	want(kill(getppid(), 0) < 0, 12);
	want(unshare(CLONE_NEWNS) < 0, 13);
}

TEST(what_is_left_without_the_filter)
{
	struct isolation iso;

	need_root();
	iso = usual(test_void(&void_pid));
	iso.policy = NULL;
	CHECK_INT(status_after(&iso, act_inside), 0);
	close(iso.void_pidfd);
}

/* Where nothing else of it happens to set these: uid 0 as before, no Landlock, no filter. */
static void act_plain(void)
{
	want(prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) == 0, 1);
	want(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, 2);
	want(prctl(PR_CAPBSET_READ, CAP_SYS_ADMIN, 0, 0, 0) == 0, 3);
	want(access("/proc/1", F_OK) == 0, 4); /* no void was joined */
}

TEST(uid_0_is_shut_in_too)
{
	const struct isolation iso = { .name = "isolated", .first_free_fd = FIRST_FREE,
		.void_pidfd = -1, .uid = 0, .nofile = 100 };

	need_root();
	CHECK_INT(status_after(&iso, act_plain), 0);
}

static void act_refused(void)
{
	syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

static void act_executable_memory(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	mprotect(p, 4096, PROT_READ | PROT_EXEC);
}

static void act_abort(void)
{
	abort();
}

TEST(the_filter_kills)
{
	struct isolation iso;
	int status;

	need_root();
	iso = usual(test_void(&void_pid));
	status = status_after(&iso, act_refused);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
#ifndef __SANITIZE_ADDRESS__
	status = status_after(&iso, act_executable_memory);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
#else
	(void)act_executable_memory;
#endif
	status = status_after(&iso, act_abort);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	close(iso.void_pidfd);
}

static int landlock_dir;

static void act_landlocked(void)
{
	int fd = openat(landlock_dir, "new", O_WRONLY | O_CREAT | O_EXCL, 0600);

	want(fd >= 0 && write(fd, "x", 1) == 1, 1);
	want(renameat(landlock_dir, "new", landlock_dir, "renamed") == 0, 2);
	want(openat(landlock_dir, "renamed", O_RDONLY) < 0 && errno == EACCES, 3);
	want(openat(landlock_dir, "../beside", O_WRONLY | O_CREAT | O_EXCL, 0600) < 0, 4);
	want(errno == EACCES, 5);
	want(mkdirat(landlock_dir, "dir", 0700) < 0 && errno == EACCES, 6);
	want(symlinkat("x", landlock_dir, "link") < 0 && errno == EACCES, 7);
	want(unlinkat(landlock_dir, "renamed", 0) == 0, 8);
	want(openat(landlock_dir, ".", O_RDONLY | O_DIRECTORY) < 0 && errno == EACCES, 9);
}

TEST(landlock_lets_one_directory_be_written)
{
	char path[] = "/tmp/bulkhead-landlock-XXXXXX";
	struct isolation iso;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 0)
		test_skip("no Landlock in this kernel");
	need_root();
	CHECK(mkdtemp(path));
	CHECK(chown(path, UID, UID) == 0);
	landlock_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	iso = usual(test_void(&void_pid));
	iso.policy = NULL;
	iso.may_write_files = true;
	iso.landlock_dir = landlock_dir;
	CHECK_INT(status_after(&iso, act_landlocked), 0);
	close(iso.void_pidfd);
	close(landlock_dir);
	CHECK(rmdir(path) == 0);
}

/* One stage made to fail, by what it is given. */
static void fails(struct isolation iso, const char *why)
{
	struct error err;
	struct child c = isolated(&iso, &err);
	int status = ends(&c);

	CHECK(err.code != 0);
	CHECK_CONTAINS(err.msg, why);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 70);
}

TEST(each_stage_fails_closed)
{
	static const int no_cap[] = { 63, -1 };
	struct isolation good, iso;
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	need_root();
	good = usual(test_void(&void_pid));

	iso = good;
	iso.void_pidfd = null;
	fails(iso, "stage namespaces: join the void");
	iso = good;
	iso.void_pidfd = 19;
	fails(iso, "stage namespaces: join the void");
	iso = good;
	iso.nofile = UINT32_MAX;
	fails(iso, "stage limits: limit open files");
	iso = good;
	iso.uid = (uid_t)-1; /* "unchanged": must not pass as success */
	fails(iso, "stage identity");
	iso = good;
	iso.caps = no_cap;
	fails(iso, "stage identity: capability 63 is unknown");
	iso = good;
	iso.landlock_dir = null;
	fails(iso, "stage landlock: allow files beneath a directory");
	iso = good;
	iso.policy = "nothing";
	fails(iso, "stage filter: there is no filter");
	close(good.void_pidfd);
	close(null);
}

/* The same stages failing because the caller lacks what they need. */
static void fails_without(int cap, const char *why)
{
	struct __user_cap_header_struct h = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct d[2];
	int pidfd = test_void(&void_pid);
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct isolation iso = usual(pidfd);
		struct error err = ERROR_INIT;

		if (syscall(SYS_capget, &h, d) < 0)
			_exit(1);
		d[cap / 32].effective &= ~(1U << (cap % 32));
		d[cap / 32].permitted &= ~(1U << (cap % 32));
		if (syscall(SYS_capset, &h, d) < 0)
			_exit(2);
		if (isolate(&iso, &err) == 0)
			_exit(3);
		_exit(strstr(err.msg, why) ? 0 : 4);
	}
	status = test_wait(pid, 5000);
	if (status != 0)
		test_fail(__FILE__, __LINE__, "without capability %d: 0x%x", cap, (unsigned)status);
	close(pidfd);
}

TEST(each_stage_fails_closed_without_privilege)
{
	need_root();
	fails_without(CAP_SYS_ADMIN, "stage namespaces: join the void");
	fails_without(CAP_SYS_CHROOT, "stage namespaces: join the void");
	fails_without(CAP_SETPCAP, "stage identity: set securebits");
	fails_without(CAP_SETGID, "stage identity: give up the supplementary groups");
	fails_without(CAP_SETUID, "stage identity: change to uid");
}
