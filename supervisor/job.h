/*
 * What a slot is told before it becomes its program: the arguments, in parts,
 * and the fds with the numbers they are to have.
 */
#pragma once

#include <stdbool.h>

#include "ipc/channel.h"

/* What a job may hold: arguments, bytes of arguments, and the highest fd number plus one. */
#define SLOT_ARGS_MAX   512
#define SLOT_ARGS_BYTES (128 * 1024)
#define SLOT_FDS_MAX    256

/* What the peer has sent so far. */
struct job {
	char args[SLOT_ARGS_BYTES]; /* one behind the other, each with its NUL */
	size_t used;
	unsigned n_args;
	bool unfinished;       /* the last argument goes on with the next part */
	int fds[SLOT_FDS_MAX]; /* by the number they are to have; -1: none */
};

/* NULL: out of memory. */
struct job *job_new(void);

/* Closes its fds. */
void job_free(struct job **job);

/*
 * Adds one packet of the slot's channel; its fd moves into the job. 0;
 * JOB_EXEC: it is complete and to be run; -EPROTO with err: the peer is lost.
 */
#define JOB_EXEC 1
int job_take(struct job *job, struct ipc_packet *packet, struct error *err);
