/*
 * A role of bulkhead inside the fuzzer's process: its own main loop, its fds at
 * their numbers, and a kernel that is ours where it matters.
 *
 *	time		(but the date) stands still, and goes on by sim_advance() or when a wait of the
 *			role has nothing else left to end it. So a run is the same each
 *			time, and a deadline of a minute passes at once.
 *	waiting		ppoll() and epoll_wait() of a role that has nothing to do ask
 *			the harness for the next thing to happen.
 *	_exit()		ends the run.
 *	its end		closes its fds and, if asked to, frees its memory.
 *
 * A role that waits for ever although everybody it could wait for is gone has
 * missed something: the run aborts.
 */
#pragma once

#include <stdbool.h>

/* Fds of the role are below, the harness's own from here on. */
#define SIM_FD_OURS 200

struct sim {
	/* Makes the next thing happen. false: nothing will happen any more. */
	bool (*next)(void *ctx);
	/* The role's main(), behind its isolation. Returns its exit status. */
	int (*role)(void *ctx);
	/* It gave itself to _exit(): what must be undone that outlives a run. May be NULL. */
	void (*died)(void *ctx);
	void *ctx;
	/* Free what it leaves: for roles whose end is the process's. Else leaks are findings. */
	bool reap;
	/* All fds it opened must be closed when role() returns. */
	bool closes_fds;
};

/* What role() returned or gave to _exit(). */
int sim_run(const struct sim *sim);

void sim_advance(int ms);

/* Moves fd out of the role's way. Closed at the end of the run. The number. */
int sim_ours(int fd);

/* Makes fd the role's number `at`. */
void sim_theirs(int fd, int at);

/* A connected pair, AF_UNIX: one end at the role's number, ours returned. type: SOCK_STREAM, ... */
int sim_pair(int type, int at);

/* Closes one of ours now. */
void sim_close(int *fd);

/* A harness is wrong, or what it checks does not hold. */
#define SIM_CHECK(cond)                                                                            \
	do {                                                                                       \
		if (!(cond))                                                                       \
			sim_fail(__FILE__, __LINE__, #cond);                                       \
	} while (0)

_Noreturn void sim_fail(const char *file, int line, const char *what);
