/* crun, as the agent calls it. All but crun_init() blocks and is for job children only. */
#pragma once

#include <json-c/json.h>

#include "util.h"

#define CRUN_BUNDLES "/run/bulkhead/containers"

/* Before the first job; ends the guest when there is no crun. */
void crun_init(void);

/* The two calls that make a process. Without a terminal it inherits the job's stdio. */
struct crun_process {
	const char *id; /* of the container */
	bool terminal;
	struct json_object *json; /* config.json, or the process of an exec */
};

/*
 * Make the container, or a process in it. *ret_pid is an orphan the agent will adopt, *ret_master
 * the pty's master (or -1), the caller's. Returns 0, or -1 with crun's last line in *err.
 */
int crun_create(const struct crun_process *p, pid_t *ret_pid, int *ret_master, struct error *err);
int crun_exec(const struct crun_process *p, pid_t *ret_pid, int *ret_master, struct error *err);

int crun_start(const char *id, struct error *err);
int crun_update(const char *id, struct json_object *resources, struct error *err);

/* Kill and forget the container. Nothing is left of one that was never made, either. */
int crun_delete(const char *id, struct error *err);
