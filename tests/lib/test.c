#include "tests/lib/test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct test *tests;
int test_timeout_s = TEST_TIMEOUT_S;
int test_together = 1;

#define TOGETHER_MAX 16

void test_register(struct test *t)
{
	struct test **p = &tests;

	while (*p)
		p = &(*p)->next;
	*p = t;
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%d: ", file, line);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	fflush(NULL);
	_exit(1);
}

void test_skip(const char *why)
{
	fprintf(stderr, "skipped: %s\n", why);
	_exit(TEST_SKIPPED);
}

int test_count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	if (!d)
		return -1;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 3; /* ".", ".." and the directory itself */
}

void test_pair(int ret[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret) < 0)
		test_fail(__FILE__, __LINE__, "socketpair: %s", strerror(errno));
}

#if defined(__SANITIZE_ADDRESS__)
/* LeakSanitizer's, which by itself looks at exit() alone: what is allocated and nobody knows. */
int __lsan_do_recoverable_leak_check(void);
#else
static int __lsan_do_recoverable_leak_check(void)
{
	return 0;
}
#endif

static void run_checked(const struct test *t)
{
	int before = test_count_fds(), after;

	t->run();
	after = test_count_fds();
	if (after != before)
		test_fail(t->name, 0, "%d fds open, %d before the test", after, before);
	if (__lsan_do_recoverable_leak_check())
		test_fail(t->name, 0, "memory has leaked");
}

struct running {
	const struct test *test; /* NULL: this place is free */
	pid_t pid;
	int pidfd;
	int64_t until; /* CLOCK_MONOTONIC, ms */
};

static struct {
	int passed, failed, skipped;
} sum;

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void start(struct running *r, const struct test *t)
{
	fflush(NULL);
	r->pid = fork();
	if (r->pid == 0) {
		setpgid(0, 0);
		run_checked(t);
		fflush(NULL);
		_exit(0);
	}
	if (r->pid < 0)
		test_fail(t->name, 0, "fork: %s", strerror(errno));
	setpgid(r->pid, r->pid);
	r->pidfd = (int)syscall(SYS_pidfd_open, r->pid, 0);
	r->test = t;
	r->until = now_ms() + test_timeout_s * 1000LL;
}

static void end(struct running *r, bool in_time)
{
	const char *name = r->test->name, *result = "FAIL";
	int *count = &sum.failed;
	int status;

	kill(-r->pid, SIGKILL); /* it, and what it has left */
	waitpid(r->pid, &status, 0);
	close(r->pidfd);
	r->test = NULL;
	if (!in_time) {
		result = "TIMEOUT";
	} else if (status == 0) {
		result = "ok";
		count = &sum.passed;
	} else if (WIFEXITED(status) && WEXITSTATUS(status) == TEST_SKIPPED) {
		result = "SKIP";
		count = &sum.skipped;
	} else if (WIFSIGNALED(status)) {
		fprintf(stderr, "%s: signal %d\n", name, WTERMSIG(status));
	}
	++*count;
	printf("%-8s %s\n", result, name);
	fflush(stdout);
}

/* Until one of them has ended, at the latest when its time is up. */
static void wait_for_one(struct running *running, size_t n)
{
	struct pollfd pfds[TOGETHER_MAX];
	int64_t until = INT64_MAX, ms;

	for (size_t i = 0; i < n; i++) {
		pfds[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
		if (!running[i].test)
			continue;
		pfds[i].fd = running[i].pidfd;
		if (running[i].until < until)
			until = running[i].until;
	}
	ms = until - now_ms();
	if (poll(pfds, n, ms < 0 ? 0 : (int)ms) < 0 && errno == EINTR)
		return;
	for (size_t i = 0; i < n; i++)
		if (running[i].test && (pfds[i].revents || now_ms() >= running[i].until))
			end(&running[i], pfds[i].revents != 0);
}

static void run_all(void)
{
	size_t places = (size_t)test_together, busy = 0;
	struct running running[TOGETHER_MAX] = { 0 };
	const struct test *next = tests;

	while (next || busy) {
		busy = 0;
		for (size_t i = 0; i < places; i++) {
			if (!running[i].test && next) {
				start(&running[i], next);
				next = next->next;
			}
			busy += running[i].test != NULL;
		}
		if (busy)
			wait_for_one(running, places);
	}
}

int main(int argc, char **argv)
{
	if (argc > 1) {
		for (const struct test *t = tests; t; t = t->next)
			if (strcmp(argv[1], t->name) == 0) {
				run_checked(t);
				return 0;
			}
		return 2;
	}
	run_all();
	printf("%d passed, %d failed, %d skipped\n", sum.passed, sum.failed, sum.skipped);
	if (sum.failed)
		return 1;
	return sum.passed == 0 ? TEST_SKIPPED : 0;
}

bool test_spawn_traced;

static _Noreturn void exec_child(const char *path, char *const *argv, const struct test_fd *fds)
{
	int moved[32];
	int n = 0, highest = 2;

	/* Above all targets first, so that no dup2 overwrites one still needed. */
	for (; fds[n].target >= 0; n++) {
		moved[n] = fcntl(fds[n].fd, F_DUPFD_CLOEXEC, 100);
		if (moved[n] < 0)
			_exit(126);
		if (fds[n].target > highest)
			highest = fds[n].target;
	}
	for (int i = 0; i < n; i++)
		if (dup2(moved[i], fds[i].target) < 0)
			_exit(126);
	close_range((unsigned)highest + 1, ~0U, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (test_spawn_traced)
		ptrace(PTRACE_TRACEME, 0, 0, 0);
	execv(path, argv);
	_exit(127);
}

int test_spawn(const char *binary, const char *const *args, const struct test_fd *fds)
{
	const char *build = getenv("BULKHEAD_BUILD"), *trace = getenv("BULKHEAD_TRACE");
	char path[4096], tracer[4096];
	char *argv[64];
	char folder[64];
	size_t n = 0;
	pid_t pid;

	/* bulkhead-netd is built in netd/, bulkhead-slot in supervisor/ */
	snprintf(folder, sizeof(folder), "%s", binary + strlen("bulkhead-"));
	if (strcmp(folder, "slot") == 0)
		strcpy(folder, "supervisor");
	if (strcmp(folder, "frontend") == 0)
		strcpy(folder, "shim-frontend");
	snprintf(path, sizeof(path), "%s/%s/%s", build ? build : ".", folder, binary);
	snprintf(tracer, sizeof(tracer), "%s/tests/faults/tracer", build ? build : ".");
	if (trace) {
		argv[n++] = tracer;
		argv[n++] = (char *)trace;
	}
	argv[n++] = path;
	while (*args && n < 63)
		argv[n++] = (char *)*args++;
	argv[n] = NULL;

	pid = fork();
	if (pid < 0)
		test_fail(__FILE__, __LINE__, "fork: %s", strerror(errno));
	if (pid == 0)
		exec_child(argv[0], argv, fds);
	return pid;
}

int test_wait(int pid, int ms)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	int status, r;

	do
		r = poll(&pfd, 1, ms);
	while (r < 0 && errno == EINTR);
	close(pidfd);
	if (r == 0) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		return -1;
	}
	waitpid(pid, &status, 0);
	return status;
}
