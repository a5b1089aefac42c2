/*
 * The table of containers and their processes: what State, Wait and Connect are
 * answered from.
 */
#pragma once

#include "shim-frontend/disks.h"
#include "shim-frontend/process.h"

#define CONTAINERS_MAX 256
#define EXECS_MAX      128 /* of one container, until they are deleted */

/* Of a container that runs. */
enum container_pause {
	CONTAINER_NOT_PAUSED,
	CONTAINER_PAUSING, /* the guest has been asked */
	CONTAINER_PAUSED,
	CONTAINER_RESUMING,
};

/* What it may use at most. 0: nobody has said; less: no limit. */
struct limits {
	int64_t cpu_quota, cpu_period; /* microseconds of every cpu_period */
	int64_t memory;		       /* bytes */
};

/* The file `oom` in its bundle, which mountd makes once. */
enum oom_mark {
	OOM_UNMARKED,
	OOM_MARKING, /* mountd has been asked: the exit waits for the answer */
	OOM_MARKED,  /* or could not be */
};

struct container {
	struct container *next;
	char id[ID_MAX + 1];
	char *bundle;
	uint32_t index; /* in the share, and towards mountd and agentd */
	enum container_pause pause;
	enum oom_mark oom;
	struct limits limits;
	struct process init;
	struct process *execs;
	unsigned n_execs;
	struct container_disks disks;
	bool gone; /* DELETING, and Delete has been answered */
};

struct table {
	struct container *first;
	unsigned n;
	uint32_t last_index, last_process;
};

/* ASCII, [A-Za-z0-9][A-Za-z0-9._-]*, at most ID_MAX. 0 or -EINVAL. */
int id_check(const char *id, struct error *err);

/* Its init in state CREATING, with the next index and process number. */
struct container *container_new(struct table *t, const Containerd__CreateTaskRequest *request);
/* Out of the table, freed, with its execs. Nobody waits any more. */
void container_free(struct table *t, struct container *c);

/* An exec in state CREATING, with the next process number. */
struct process *exec_new(struct table *t, struct container *c,
	const Containerd__ExecProcessRequest *request);
/* Nobody waits any more. */
void exec_free(struct process *p);

/* Whatever its state, unless its Delete has been answered. */
struct container *table_find(struct table *t, const char *id);
struct container *table_find_index(struct table *t, uint32_t index);
struct process *table_find_process(struct table *t, uint32_t number);
struct process *container_find_exec(struct container *c, const char *exec_id);
