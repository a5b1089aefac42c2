/*
 * The records in memory and on disk. The file is always whole: each change
 * writes a new one beside it and renames it over the old.
 */
#pragma once

#include "ipc/exits.h"

struct store {
	int dirfd; /* borrowed */
	struct exits exits;
	struct exits next; /* a change before it is on disk */
	char text[EXITS_FILE_MAX];
};

/*
 * On disk when they return 0. On failure file and memory are as they were,
 * and the caller may go on. -EINVAL, -ENOSPC, or what the file system said.
 */
int store_record(struct store *s, const char *id, uint32_t status, int64_t exited_at_ns,
	struct error *err);

/* An id that is not recorded: success. */
int store_forget(struct store *s, const char *id, struct error *err);
