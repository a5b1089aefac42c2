/*
 * What the launcher has to know of config.json. It is read by a forked child
 * with nothing but the file, a pipe and the filter seccomp-profiles/spec.policy,
 * which answers with this one struct.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

enum container_kind {
	CONTAINER_SINGLE,  /* no pod annotations: a sandbox of its own */
	CONTAINER_SANDBOX, /* the pause container of a pod */
	CONTAINER_POD,	   /* a container of the pod sandbox_id */
};

struct spec {
	enum container_kind kind;
	char sandbox_id[77];
	char cgroups_path[1024]; /* linux.cgroupsPath, "" if not given */
	char netns_path[512];	 /* "" if not given */
	bool has_netns;		 /* linux.namespaces has a network entry */
	bool has_pidns, has_ipcns;
	/* What the pod, or the single container, may use; 0: no limit. */
	int64_t cpu_quota, cpu_period; /* microseconds of every cpu_period */
	int64_t memory_limit;	       /* bytes */
	int64_t hugepages;	       /* bytes, of a single container: of all sizes; beside the former */
	int oom_score_adj;
	bool has_oom_score_adj;
};

/*
 * What the child does with the file's text, which ends with a NUL that len does
 * not count. 0, or -errno with err; *ret is then half filled.
 */
int spec_parse(const char *text, size_t len, struct spec *ret, struct error *err);

/* Reads config.json in the bundle (a directory fd). Blocks at most 2 s. */
int spec_read(int bundle_fd, struct spec *ret, struct error *err);
