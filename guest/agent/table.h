/*
 * The table of containers and their processes, for the files with the requests about them: finding
 * one, and collecting what has ended.
 */
#pragma once

#include "agent.pb-c.h"
#include "hugepages.h"
#include "job.h"
#include "loop.h"
#include "process.h"

#define ID_MAX 128

struct container {
	struct container *next;
	char *id;
	char **held; /* its root, its disks, and what lies beside the root on the share and is bound into it */
	size_t n_held;
	struct hugepages hugepages; /* what it has of them from its creation to its removal */
	struct process *processes; /* the init first */
	struct job *job;           /* what is being done to the container as a whole */
	bool started;

	struct watch memory_events; /* the cgroup's file; -1 until the container is created */
	uint64_t oom_kills;
	bool oom_pending; /* not yet told by GetOOMEvent */
};

/* In the order of creation: the first one alive is the one whose pid namespace may be shared. */
extern struct container *containers;

/* Ids become file names and arguments of crun. */
bool id_valid(const char *id);

struct container *container_find(const char *id);
unsigned int container_count(void);

/* Takes init. */
struct container *container_add(
        const Grpc__CreateContainerRequest *request, struct process *init);
void container_free(struct container *c);

/* The container of a request, or NULL after the request was refused. */
struct container *container_get(uint32_t stream, const char *id);
/* The same, of a request that changes the container as a whole: only one at a time. */
struct container *container_get_idle(uint32_t stream, const char *id);

struct process *process_find(const struct container *c, const char *exec_id);
/* The process of a request, or NULL after the request was refused. */
struct process *process_get(uint32_t stream, const char *id, const char *exec_id);
void process_remove(struct container *c, struct process *p);

/* Collect every process of a container whose cgroup is empty: all have died. */
void container_reap(struct container *c);
