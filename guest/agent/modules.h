/*
 * Kernel modules. The image builder resolves dependencies and writes lists of files in load order:
 * /lib/modules/early has what the agent's port needs, /lib/modules/late the rest, but for what only
 * some containers or hosts need: /lib/modules/need-<name>.
 */
#pragma once

/* Load every module of a list. One that fails costs a log line, for its device may be absent. */
void modules_load(const char *list);

/* What a name needs that is loaded only when it is used: a file system or a driver. Built into the kernel, it has no list. */
void modules_need(const char *name);
