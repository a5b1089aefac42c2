#include "tests/fuzz/lib/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define START_S	  1000000 /* what the clocks say when a run begins */
#define OURS_MAX  128
#define BLOCKS	  (1U << 15)
#define STEPS_MAX 1000000 /* more in one run: it spins */

static struct {
	bool running;
	const struct sim *sim;
	int64_t now_ms;
	jmp_buf end;
	int status;
	unsigned steps;
	int ours[OURS_MAX], n_ours;
} world;

_Noreturn void sim_fail(const char *file, int line, const char *what)
{
	fprintf(stderr, "%s:%d: %s\n", file, line, what);
	abort();
}

/* ---- the memory of a role, by the sanitizer's hooks ---- */

int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void *, size_t),
	void (*)(const volatile void *)) __attribute__((weak));

static __thread bool tracked; /* libFuzzer has a second thread */
static const volatile void *blocks[BLOCKS];
static unsigned n_blocks;

static unsigned slot_of(const volatile void *p)
{
	return (unsigned)(((uintptr_t)p >> 4) * 2654435761U) % BLOCKS;
}

static void on_malloc(const volatile void *p, size_t size)
{
	unsigned i = slot_of(p);

	(void)size;
	if (!tracked || !p)
		return;
	SIM_CHECK(++n_blocks < BLOCKS / 2);
	while (blocks[i])
		i = (i + 1) % BLOCKS;
	blocks[i] = p;
}

/* Those behind it move up, so that no search ends too early. */
static void forget(unsigned hole)
{
	for (unsigned i = (hole + 1) % BLOCKS; blocks[i]; i = (i + 1) % BLOCKS) {
		unsigned home = slot_of(blocks[i]);

		if ((i - home) % BLOCKS < (i - hole) % BLOCKS)
			continue;
		blocks[hole] = blocks[i];
		hole = i;
	}
	blocks[hole] = NULL;
	n_blocks--;
}

static void on_free(const volatile void *p)
{
	if (!tracked || !p)
		return;
	for (unsigned i = slot_of(p); blocks[i]; i = (i + 1) % BLOCKS)
		if (blocks[i] == p) {
			forget(i);
			return;
		}
}

void __lsan_disable(void) __attribute__((weak));
void __lsan_enable(void) __attribute__((weak));

/* What the first run leaves stays, and is no leak: what libraries make once and keep is there. */
static void track(bool on)
{
	static bool warm;

	if (!world.sim->reap || !__sanitizer_install_malloc_and_free_hooks)
		return;
	if (!warm) {
		(on ? __lsan_disable : __lsan_enable)();
		if (on)
			__sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
		warm = !on;
		return;
	}
	tracked = on;
	for (unsigned i = 0; !on && n_blocks > 0 && i < BLOCKS; i++) {
		if (!blocks[i])
			continue;
		free((void *)blocks[i]);
		blocks[i] = NULL;
		n_blocks--;
	}
}

/* ---- what a role would ask the kernel ---- */

void sim_advance(int ms)
{
	world.now_ms += ms;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	/* The date is real: libFuzzer's alarm, which may come at any time, looks at it. */
	if (!world.running || clock == CLOCK_REALTIME)
		return (int)syscall(SYS_clock_gettime, clock, ts);
	*ts = (struct timespec){
		.tv_sec = START_S + world.now_ms / 1000,
		.tv_nsec = world.now_ms % 1000 * 1000000,
	};
	return 0;
}

/*
 * Waits: ready() is asked until something is; between two questions the next
 * thing happens. When nothing is left to happen the time passes.
 */
static int wait_for(int (*ready)(void *args), void *args, int timeout_ms)
{
	int64_t deadline = world.now_ms + timeout_ms;

	for (;;) {
		int n = ready(args);

		SIM_CHECK(++world.steps < STEPS_MAX);
		if (n != 0 || timeout_ms == 0)
			return n;
		if (timeout_ms > 0 && world.now_ms >= deadline)
			return 0;
		if (world.sim->next(world.sim->ctx))
			continue;
		SIM_CHECK(timeout_ms > 0); /* it would wait for ever */
		world.now_ms = deadline;
	}
}

struct poll_args {
	struct pollfd *fds;
	nfds_t n;
};

static int poll_ready(void *args)
{
	const struct poll_args *a = args;

	return (int)syscall(SYS_poll, a->fds, a->n, 0);
}

/* fd_poll() asks this one. */
int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *signals)
{
	struct poll_args args = { fds, n };

	if (!world.running)
		return (int)syscall(SYS_ppoll, fds, n, timeout, signals, sizeof(uint64_t));
	return wait_for(poll_ready, &args,
		timeout ? (int)(timeout->tv_sec * 1000 + timeout->tv_nsec / 1000000) : -1);
}

struct epoll_args {
	int fd, max;
	struct epoll_event *events;
};

static int epoll_ready(void *args)
{
	const struct epoll_args *a = args;

	return (int)syscall(SYS_epoll_wait, a->fd, a->events, a->max, 0);
}

int epoll_wait(int fd, struct epoll_event *events, int max, int timeout_ms)
{
	struct epoll_args args = { fd, max, events };

	if (!world.running)
		return (int)syscall(SYS_epoll_wait, fd, events, max, timeout_ms);
	return wait_for(epoll_ready, &args, timeout_ms);
}

_Noreturn void _exit(int status)
{
	if (world.running) {
		world.status = status;
		longjmp(world.end, 1);
	}
	for (;;)
		syscall(SYS_exit_group, status);
}

/* ---- fds ---- */

/*
 * libFuzzer keeps a file open while it merges. Until the first run all numbers
 * of a role are taken, so that the file gets one beyond them.
 */
static bool reserved;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)argc;
	(void)argv;
	while (fd >= 0 && fd < SIM_FD_OURS - 1)
		fd = fcntl(fd, F_DUPFD_CLOEXEC, fd + 1);
	reserved = true;
	return 0;
}

static void release(void)
{
	if (reserved)
		close_range(STDERR_FILENO + 1, SIM_FD_OURS - 1, 0);
	reserved = false;
}

int sim_ours(int fd)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, SIM_FD_OURS);

	SIM_CHECK(moved >= 0 && world.n_ours < OURS_MAX);
	close(fd);
	world.ours[world.n_ours++] = moved;
	return moved;
}

void sim_theirs(int fd, int at)
{
	release();
	if (fd == at)
		return;
	SIM_CHECK(dup2(fd, at) == at);
	close(fd);
}

int sim_pair(int type, int at)
{
	int fds[2];

	release();
	SIM_CHECK(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, fds) == 0);
	fds[1] = sim_ours(fds[1]);
	sim_theirs(fds[0], at);
	return fds[1];
}

void sim_close(int *fd)
{
	for (int i = 0; i < world.n_ours && *fd >= 0; i++)
		if (world.ours[i] == *fd) {
			world.ours[i] = world.ours[--world.n_ours];
			close(*fd);
			*fd = -1;
		}
}

static void close_ours(void)
{
	while (world.n_ours > 0)
		close(world.ours[--world.n_ours]);
}

/* Which of the first numbers behind stderr are open: a bit for each. */
static uint64_t open_fds(void)
{
	uint64_t fds = 0;

	for (unsigned i = 0; i < 64; i++)
		if (fcntl((int)i + STDERR_FILENO + 1, F_GETFD) >= 0)
			fds |= UINT64_C(1) << i;
	return fds;
}

/* ---- a run ---- */

int sim_run(const struct sim *sim)
{
	uint64_t before;

	release();
	signal(SIGPIPE, SIG_IGN);
	world.sim = sim;
	world.now_ms = 0;
	world.steps = 0;
	world.status = -1;
	before = open_fds();
	track(true);
	world.running = true;
	if (setjmp(world.end) == 0) {
		world.status = sim->role(sim->ctx);
		world.running = false;
		SIM_CHECK(!sim->closes_fds || (open_fds() & ~before) == 0);
	} else if (sim->died) {
		sim->died(sim->ctx);
	}
	world.running = false;
	track(false);
	close_ours();
	close_range(STDERR_FILENO + 1, SIM_FD_OURS - 1, 0);
	return world.status;
}
