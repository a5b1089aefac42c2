/*
 * Landlock: a process gives up the file system, and what else this kernel's
 * version of it knows, for good. An extra layer where the kernel has it (5.13,
 * switched on at boot); the empty root and the filter stand without it.
 *
 * Not for whoever mounts: in any domain mount calls are EPERM. And not before
 * setns(): the target is then a process outside the domain, EPERM too.
 */
#pragma once

#include "common/error.h"

/*
 * Nothing may be opened, made or removed any more, no TCP port, abstract
 * socket or signal reach outside. Except that, with dirfd >= 0, regular files
 * beneath it may be made, written, renamed and removed. Sets no_new_privs.
 * 0, also where the kernel has no Landlock; -errno with err.
 */
int landlock_enter(int dirfd, struct error *err);
