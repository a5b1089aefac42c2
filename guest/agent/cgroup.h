/* What the kernel says about a container's cgroup, and signals to all that is in it. */
#pragma once

#include <stdint.h>

#include "agent.pb-c.h"
#include "util.h"

#define CGROUP_ROOT "/sys/fs/cgroup/bulkhead"

/* "/sys/fs/cgroup/bulkhead/<id>/<name>"; the caller frees. */
char *cgroup_path(const char *id, const char *name);

/* Write a file of it. 0 or -errno. */
int cgroup_write(const char *id, const char *name, const char *text);

/* Wait until no process is left in a cgroup below CGROUP_ROOT ("" for all). Job children only. */
void cgroup_wait_empty(const char *name);

/* Answers StatsContainer. */
void cgroup_reply_stats(uint32_t stream, const char *id);

/* Calls fn for every process there, below and in sub-cgroups. */
typedef void cgroup_process(pid_t pid, void *ctx);
void cgroup_each(const char *id, cgroup_process *fn, void *ctx);

/* Sends it to every process there, below and in sub-cgroups. The number of those it reached. */
unsigned int cgroup_signal(const char *id, int signal);

/* The limits are those that were asked for. 0, or -1 with the file that says something else. */
int cgroup_check_limits(const char *id, const Grpc__LinuxResources *want, struct error *err);
