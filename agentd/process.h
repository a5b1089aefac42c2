/*
 * A process of a container: its three streams and its exit. The exit is told
 * when WaitProcess is answered *and* stdout and stderr are through, so that
 * whoever hears of it finds all output in the FIFOs.
 */
#pragma once

#include "agentd/stream.h"

struct process {
	struct process *next; /* of its container */
	uint32_t number;      /* the frontend's, unique in the sandbox */
	bool terminal;
	struct stream_owner owner;
	struct output out, err;
	struct input in;
	struct agent_call *wait;

	bool waited, told;
	uint32_t status;
	int64_t exited_at_ns;

	/* After WaitProcess: ticks without progress of stdout, stderr. */
	struct event settle;
	struct {
		uint64_t moved;
		unsigned ticks;
	} still[2];

	void (*exited)(void *ctx, const struct process *p);
	void *ctx;
};

/* -1: no such stream */
struct process_fds {
	int in, spare, out, err;
};

#define PROCESS_FDS_INIT { -1, -1, -1, -1 }

/* Takes the fds of *fds. exited() is called at most once, never from within these functions. */
struct process *process_new(const struct stream_owner *owner, uint32_t number, bool terminal,
	struct process_fds *fds, void (*exited)(void *ctx, const struct process *p), void *ctx);
void process_free(struct process *p);

/* It runs: relay its streams and wait for its end. */
void process_start(struct process *p);

void process_fds_done(struct process_fds *fds);
