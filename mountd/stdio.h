/* containerd's FIFOs for a process's streams, or log files in their place. For a worker. */
#pragma once

#include "common/fd.h"
#include "mountd/paths.h"

struct stdio_paths {
	const char *in, *out, *err; /* "": no such stream */
};

/* Where they may lie. Not the same: in a directory of FIFOs and states there is nothing to append to. */
struct stdio_prefixes {
	struct prefixes fifos, logs;
};

/* Does it name a file, file:///PATH, and not a FIFO? */
bool stdio_is_file(const char *path);

/*
 * Opens the FIFOs and files and adds their fds to ret, in the order of the
 * paths: stdin gives two, its reading end and a spare writing end. 0, or
 * -errno with err.
 */
int stdio_open(const struct stdio_prefixes *prefixes, int proc, const struct stdio_paths *paths,
	struct fdlist *ret, struct error *err);
