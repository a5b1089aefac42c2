/* containerd's FIFOs for a process's streams. For a worker. */
#pragma once

#include "common/fd.h"
#include "mountd/paths.h"

struct stdio_paths {
	const char *in, *out, *err; /* "": no such stream */
};

/*
 * Opens the FIFOs and adds their fds to ret, in the order of the paths: stdin
 * gives two, its reading end and a spare writing end. 0, or -errno with err.
 */
int stdio_open(const struct prefixes *prefixes, int proc, const struct stdio_paths *paths,
	struct fdlist *ret, struct error *err);
