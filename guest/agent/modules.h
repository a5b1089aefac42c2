/*
 * Kernel modules. The image builder resolves dependencies and writes lists of files in load order:
 * /lib/modules/early has what the agent's port needs, /lib/modules/late the rest.
 */
#pragma once

/* Load every module of a list. One that fails costs a log line, for its device may be absent. */
void modules_load(const char *list);
