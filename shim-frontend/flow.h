/*
 * A flow is an operation in several steps across the other processes: a table
 * of steps, each with what undoes it. When a step fails, the undos of the
 * completed ones run in reverse; a failing step cleans up after itself, except
 * that one whose answer never came is undone too, for nobody knows how far it
 * got. Errors of an undo are logged and do not stop the others.
 *
 * A step that waits returns STEP_WAIT and ends with flow_resume(), which only
 * marks the flow: the loop runs it, so no callback re-enters.
 */
#pragma once

#include "shim-frontend/call.h"
#include "shim-frontend/loop.h"

struct flow;
struct frontend;
struct rpc;

enum step_result {
	STEP_DONE,
	STEP_WAIT,
	STEP_FAIL, /* flow->err is set */
};

struct flow_step {
	const char *name; /* "start the VM": in the error's sentence */
	enum step_result (*run)(struct flow *f);
	/* STEP_DONE or STEP_WAIT; NULL: nothing to undo */
	enum step_result (*undo)(struct flow *f);
};

struct flow {
	const struct flow_step *steps;
	unsigned n_steps;
	unsigned at;
	bool lenient; /* a step that fails is logged, and the flow goes on */
	bool undoing;
	bool done;
	struct error err;      /* of the step that failed; code 0: none did */
	struct error step_err; /* of the step that was waited for */
	void (*reply)(struct flow *f, const ProtobufCMessage *reply);
	/* The end: err.code says how. Frees the flow. */
	void (*finish)(struct flow *f);
	struct task task;
};

/* One that is to answer a request: the first member of whoever is more than that. */
struct rpc_flow {
	struct flow flow; /* first: see rpc_flow_of() */
	struct frontend *fe;
	struct rpc *rpc;
};

static inline struct rpc_flow *rpc_flow_of(struct flow *f)
{
	return (struct rpc_flow *)f;
}

/* Runs from the loop, finish() included. */
void flow_start(struct flow *f, struct loop *loop, const struct flow_step *steps, unsigned n_steps,
	void (*finish)(struct flow *f));

/* What the step waited for is there; err NULL: it went well. */
void flow_resume(struct flow *f, const struct error *err);

/*
 * A step that is one call: run = flow_call(...). reply, when it is not NULL,
 * sees the answer before the flow goes on. In an undo it never fails.
 */
enum step_result flow_call(struct flow *f, struct peer *peer, uint16_t type,
	const ProtobufCMessage *request, int timeout_ms,
	void (*reply)(struct flow *f, const ProtobufCMessage *reply));
