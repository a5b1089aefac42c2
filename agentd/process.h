/*
 * A process of a container: its three streams and its exit. The exit is told
 * when WaitProcess is answered *and* stdout and stderr are through, so that
 * whoever hears of it finds all output in the FIFOs.
 */
#pragma once

#include "agent.pb-c.h"
#include "agentd/stream.h"

enum process_state {
	PROCESS_ADDED,    /* an exec that the agent does not know yet */
	PROCESS_STARTING,
	PROCESS_STARTED,  /* of an init: its streams are relayed */
};

struct process {
	struct process *next; /* of its container */
	uint32_t number;      /* the frontend's, unique in the sandbox */
	bool terminal;
	enum process_state state;
	/* An exec: its name for the agent, never used again, and what it is to be until it starts. */
	char *exec_id;
	Grpc__Process *spec;
	/* The last size that was asked for; 0 x 0: none. */
	struct {
		uint32_t width, height;
	} size;
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

/* Takes the streams of one that was made without any, before its start. */
void process_set_fds(struct process *p, struct process_fds *fds);

/* Makes it an exec of this spec, which it takes. 0 or -ENOMEM. */
int process_set_exec(struct process *p, Grpc__Process *spec_consume);

/* Asks the agent to give its terminal the last size. fn as in agent_call(); NULL: nobody cares. */
int process_send_size(struct process *p, agent_reply_fn *fn, void *ctx, struct error *err);

/* It runs: relay its streams and wait for its end. */
void process_start(struct process *p);

void process_fds_done(struct process_fds *fds);
