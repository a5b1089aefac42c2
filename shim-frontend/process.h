/*
 * A process of a container: its init, or one that was added by Exec.
 *
 *	CREATING    only the request that makes it knows it; to everybody else it does not exist
 *	CREATED     waits for Start: the init in the guest, an exec in agentd
 *	STARTING    the guest has been asked; State still says created. When that fails an init is
 *	            created as before, an exec is stopped and its streams are closed
 *	RUNNING
 *	STOPPED     its exit is published and told (the init's is recorded too); waits for Delete
 *	DELETING    the init alone: being removed, with its container
 *
 * An exit is first `seen`, then recorded by persistd when it is the init's (and the bundle marked
 * when memory ran out), and only then told: between the two the state does not change.
 */
#pragma once

#include "common/id.h"
#include "shim-frontend/proto/task.pb-c.h"
#include "shim-frontend/ttrpc.h"

struct container;

enum process_state {
	PROCESS_CREATING,
	PROCESS_CREATED,
	PROCESS_STARTING,
	PROCESS_RUNNING,
	PROCESS_STOPPED,
	PROCESS_DELETING,
};

struct process_exit {
	bool seen; /* the first word about it; later ones are ignored */
	bool recorded; /* or could not be; only of an init */
	bool told;
	uint32_t status;
	int64_t at_ns; /* CLOCK_REALTIME */
};

struct process {
	struct process *next; /* the execs of a container */
	struct container *container;
	char exec_id[ID_MAX + 1]; /* "": the init */
	char *stdin_path, *stdout_path, *stderr_path;
	bool terminal;
	uint32_t number; /* towards mountd and agentd; never used again */
	enum process_state state;
	struct process_exit exit;
	struct rpc *waiters;
};

struct process_stdio {
	const char *in, *out, *err; /* paths, "" for none */
	bool terminal;
};

/* In state CREATING. */
void process_init(struct process *p, struct container *c, const char *exec_id, uint32_t number,
	const struct process_stdio *stdio);
/* Nobody waits any more. */
void process_done(struct process *p);

static inline bool process_is_init(const struct process *p)
{
	return p->exec_id[0] == '\0';
}

/* As it is named in a sentence: "c1" or "exec e1 of c1". Valid until the next call. */
const char *process_name(const struct process *p);

/* The one place where a state changes. Logs old -> new. */
void process_set_state(struct process *p, enum process_state state);

/* What State shows of it. */
Containerd__Status process_status(const struct process *p);

/* Lets an rpc wait for its exit. */
void process_wait(struct process *p, struct rpc *rpc);
/* Answers everybody who waits. */
void process_answer_waiters(struct process *p);

/* reply->exited_at = ...; t lives as long as the reply. */
void exit_time(const struct process_exit *exit, Containerd__Timestamp *t);
