/* What is mounted in M, as /proc/self/mountinfo says. For a worker: it is as long as the host's is. */
#pragma once

#include <stdint.h>

#include "common/error.h"

/* All of it as text, which the caller frees; NULL with err. proc: a procfs that shows this process. */
char *mountinfo_read(int proc, struct error *err);

/* Points into the line. */
struct mountinfo {
	uint64_t id;
	char *device, *root; /* "8:1", and what of its file system is mounted */
	char *point, *type;
};

/* Changes the line. -EIO with err: it cannot be read. */
int mountinfo_parse(char *line, struct mountinfo *ret, struct error *err);
