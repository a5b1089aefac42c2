/* The actions of containerd-shim-bulkhead-v2. */
#pragma once

#include "supervisor/args.h"
#include "supervisor/config.h"
#include "supervisor/sandbox.h"

/*
 * start: makes a sandbox and its supervisor, or finds the sandbox a pod's
 * container belongs to. On success the address is on stdout; on failure
 * nothing is, and nothing is left. The working directory is the bundle.
 */
int launcher_start(const struct config *c, const struct args *a, struct error *err);

/* delete: the only janitor. Always prints a DeleteResponse; fails only when that cannot be written. */
int launcher_delete(const struct config *c, const struct args *a, struct error *err);

/* Kills what is alive of the sandbox and removes all it left. Blocks at most 3.5 s. */
void launcher_teardown(struct sandbox *s);
