/*
 * The sandbox cgroup: the same relative path in every hierarchy that is
 * mounted, v1 and v2. In v2 it has two children: `shim` (our roles) and `vm`
 * (QEMU and virtiofsd), so that the VM can be killed alone (cgroup.kill). v1
 * cannot kill, so it has none: each would cost a directory and a move in every
 * hierarchy, at every start. Limits are the caller's parent's. Of v2's controllers the sandbox
 * cgroup itself has memory where its parents can give it, so that the kernel counts for it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define CGROUP_HIERARCHIES_MAX 16
#define CGROUP_PATH_MAX        1536

struct cgroups {
	unsigned n;
	bool v2; /* the first one is the unified hierarchy */
	char dir[CGROUP_HIERARCHIES_MAX][CGROUP_PATH_MAX]; /* absolute, of the sandbox cgroup */
};

/*
 * Where the sandbox cgroup of linux.cgroupsPath is in each hierarchy.
 * "slice:prefix:name" is systemd's form; "" becomes /bulkhead/<id>.
 */
int cgroup_locate(struct cgroups *ret, const char *cgroups_path, const char *id, struct error *err);

/* Makes the directories, parents too. On error nothing is left of the sandbox's own. */
int cgroup_create(const struct cgroups *c, struct error *err);

/* One directory a line, and back. */
char *cgroup_format(const struct cgroups *c);
int cgroup_parse(struct cgroups *ret, const char *text, struct error *err);

/* The directories, as cgroup_format() had them, v2 first. */
void cgroup_from_list(struct cgroups *ret, const char *const *dirs, unsigned n);

/* Moves the calling process into the sandbox cgroup of every hierarchy; in v2 into `shim`. */
int cgroup_join(const struct cgroups *c, struct error *err);

/* From there into `vm`. Without v2: nothing to do. */
int cgroup_join_vm(const struct cgroups *c, struct error *err);

/* Kills every process in `child`, or in all of the sandbox when it is "". -ENOTSUP without v2. */
int cgroup_kill(const struct cgroups *c, const char *child, struct error *err);

/* True when no process is left in any hierarchy. */
bool cgroup_is_empty(const struct cgroups *c);

/* Removes the sandbox's directories; what cannot be removed is logged. True: none is left. */
bool cgroup_remove(const struct cgroups *c);

/*
 * The file in which the kernel counts how many processes of the sandbox its OOM killer has ended,
 * whoever was short of memory: a cgroup above it, or the host. The fd, or -1: nobody counts.
 */
int cgroup_open_oom_kills(const struct cgroups *c);

/* How many there are now. False: it cannot be read, or is not such a file. */
bool cgroup_oom_kills(int fd, uint64_t *ret);

/* The same of a text: v2's memory.events and v1's memory.oom_control, which name it alike. */
bool cgroup_parse_oom_kills(const char *text, uint64_t *ret);

/* The path of file in <sandbox>/<child> of hierarchy i, in <sandbox> where there are no children. */
void cgroup_file(const struct cgroups *c, unsigned i, const char *child, const char *file,
	char out[CGROUP_PATH_MAX + 64]);
