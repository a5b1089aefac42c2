/*
 * persistd holds a directory, and a directory leads out: openat(dirfd, "../..")
 * works from an empty root too. So before anything else, while it may, the
 * directory becomes a mount of its own, attached nowhere: ".." ends at it, and
 * there are no set-uid files, devices or execution. isolate() adds Landlock,
 * where the kernel has it: only files beneath it. No file grows over
 * EXITS_FILE_MAX.
 */
#pragma once

#include "common/error.h"

/* dirfd, of this process's mount namespace, keeps its number. 0, or -errno with err. */
int jail_directory(int dirfd, struct error *err);
