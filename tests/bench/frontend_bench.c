/*
 * What State costs in the frontend: latency by ttrpc_bench, system calls by
 * strace (skipped without it). The real binary with scripted neighbours:
 *
 *	BULKHEAD_BUILD=build/release frontend_bench
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/flow/frontend_harness.h"

static struct fx fx;
static struct client c;
static struct answer a;

static void begin(void)
{
	fx.events = -1;
	fx_start(&fx, NULL);
	fx_client(&fx, &c);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
}

static void end(void)
{
	client_done(&c);
	fx_stop(&fx);
}

static pid_t start(const char *const *argv)
{
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	return pid;
}

static void bench(const char *count, const char *gap_us, const char *method)
{
	const char *build = getenv("BULKHEAD_BUILD");
	char path[512];
	const char *const argv[] = { path, fx.path, SANDBOX, count, gap_us, method, NULL };
	int status;

	snprintf(path, sizeof(path), "%s/tests/bench/ttrpc_bench", build ? build : ".");
	if (access(path, X_OK) < 0)
		snprintf(path, sizeof(path), "%s/tests/ttrpc_bench", build ? build : ".");
	CHECK(waitpid(start(argv), &status, 0) > 0);
	CHECK_INT(status, 0);
}

TEST (latency) {
	begin();
	bench("20000", "0", "State");
	bench("3000", "1000", "State");
	bench("200", "20000", "State");
	bench("3000", "1000", "Pids");
	bench("3000", "1000", "Connect");
	end();
}

static unsigned long long cpu_ns(void)
{
	char path[64], line[128] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", fx.pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0 && read(fd, line, sizeof(line) - 1) > 0);
	close(fd);
	return strtoull(line, NULL, 10);
}

TEST (cpu) {
	unsigned long long t;

	begin();
	t = cpu_ns();
	bench("3000", "1000", "State");
	printf("CPU of the frontend per State at 1 ms: %.1f us\n", (double)(cpu_ns() - t) / 3000e3);
	printf("RSS of the frontend: %ld KiB\n", fx_rss_kib(&fx));
	end();
}

TEST (system_calls) {
	char pid[16];
	const char *const argv[] = { "strace", "-f", "-c", "-U", "calls,name", "-p", pid, NULL };
	pid_t tracer;
	int status;

	begin();
	snprintf(pid, sizeof(pid), "%d", fx.pid);
	tracer = start(argv);
	fx_pump(&fx, 1000, NULL);
	bench("1000", "1000", "State");
	kill(tracer, SIGINT);
	CHECK(waitpid(tracer, &status, 0) == tracer);
	end();
}
