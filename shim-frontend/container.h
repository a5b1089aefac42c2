/*
 * The table of containers: what State, Wait and Connect are answered from.
 *
 *	CREATING    only its Create knows it; to everybody else it does not exist
 *	CREATED     in the guest, its process waits for Start
 *	STARTING    AGENTD_START is on its way; State still says created
 *	RUNNING
 *	STOPPED     its exit is recorded, published and told; waits for Delete
 *	DELETING    being removed; to everybody but its Delete it does not exist
 *	            as soon as that is answered
 *
 * An exit is first `seen`, then recorded by persistd, and only then told:
 * between the two the state does not change.
 */
#pragma once

#include "common/id.h"
#include "shim-frontend/proto/task.pb-c.h"
#include "shim-frontend/ttrpc.h"

#define CONTAINERS_MAX 256

enum container_state {
	CONTAINER_CREATING,
	CONTAINER_CREATED,
	CONTAINER_STARTING,
	CONTAINER_RUNNING,
	CONTAINER_STOPPED,
	CONTAINER_DELETING,
};

struct container_exit {
	bool seen; /* the first word about it; later ones are ignored */
	bool told;
	uint32_t status;
	int64_t at_ns; /* CLOCK_REALTIME */
};

struct container {
	struct container *next;
	char id[ID_MAX + 1];
	char *bundle, *stdin_path, *stdout_path, *stderr_path;
	bool terminal;
	uint32_t index;   /* in the share, and towards mountd and agentd */
	uint32_t process; /* the number of its init */
	enum container_state state;
	struct container_exit exit;
	bool gone; /* DELETING, and Delete has been answered */
	struct rpc *waiters;
};

struct table {
	struct container *first;
	unsigned n;
	uint32_t last_index, last_process;
};

/* ASCII, [A-Za-z0-9][A-Za-z0-9._-]*, at most ID_MAX. 0 or -EINVAL. */
int id_check(const char *id, struct error *err);

/* In state CREATING, with the next index and process number. */
struct container *container_new(struct table *t, const Containerd__CreateTaskRequest *request);
/* Out of the table, freed. Nobody waits any more. */
void container_free(struct table *t, struct container *c);

/* Whatever its state, unless its Delete has been answered. */
struct container *table_find(struct table *t, const char *id);
struct container *table_find_process(struct table *t, uint32_t process);

/* The one place where a state changes. Logs old -> new. */
void container_set_state(struct container *c, enum container_state state);

/* What State shows of it. */
Containerd__Status container_status(const struct container *c);

/* Lets an rpc wait for its exit. */
void container_wait(struct container *c, struct rpc *rpc);
/* Answers everybody who waits. */
void container_answer_waiters(struct container *c);

/* reply->exited_at = ...; t lives as long as the reply. */
void exit_time(const struct container_exit *exit, Containerd__Timestamp *t);
