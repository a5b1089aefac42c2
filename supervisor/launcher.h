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

/*
 * Removes what is left of sandboxes nobody will delete: the supervisor is dead
 * and the bundle is gone. (containerd calls no delete for a shim that died
 * before it could connect, or while containerd itself was away.)
 */
void launcher_gc(const struct config *c);

/* The same in a process of its own, which start does not wait for. */
void launcher_gc_in_background(const struct config *c);

/* Kills what is alive of the sandbox and removes all it left. Blocks at most 4 s. */
void launcher_teardown(struct sandbox *s, const struct config *c);
