/* The processes of a sandbox: which there are, which fds each gets, what it is told. */
#pragma once

#include <sys/types.h>

#include "ipc/ctl.h"
#include "supervisor/supervisor.h"

struct child {
	pid_t pid; /* 0: not started, or reaped */
	int ctl;   /* our end; -1 */
	int log;   /* our end; -1 */
	bool ready;
	struct relay relay;
};

struct tree {
	const struct supervisor_options *options;
	struct child child[ROLE_COUNT];
	pid_t task_pid; /* ours, as the host sees it */
	int null;
	int void_pidfd, void_hold, mountd_pidfd;
	int pairs[16][2]; /* of the channels, until both ends are given away */
};

/* Makes the channels and the void. */
int tree_prepare(struct tree *t, const struct supervisor_options *o, struct error *err);

/* Forks and execs one role. */
int tree_spawn(struct tree *t, enum role role, struct error *err);

/* Closes everything that only starting the roles needed; the void ends. */
void tree_started(struct tree *t);
