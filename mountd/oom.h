/*
 * The file `oom` of a bundle: CRI-O takes it for the word that the container was short of memory
 * (containerd hears that by an event). It is empty, root's, and goes with the bundle.
 *
 * Which bundle is whose is remembered by name and inode: an fd of each would be one for as long as
 * the container lives.
 */
#pragma once

#include <limits.h>
#include <sys/types.h>

#include "common/error.h"

/* Containers of a sandbox, at once: the frontend has no more. */
#define BUNDLES_MAX 256

struct bundle {
	char name[NAME_MAX + 1]; /* in the directory of all; "": a free place */
	unsigned index;
	dev_t dev;
	ino_t ino;
};

struct bundles {
	struct bundle item[BUNDLES_MAX];
};

/* 0, or -E2BIG with err. */
int bundles_room(struct bundles *b, struct error *err);

/* bundle is copied. There is room. */
void bundles_add(struct bundles *b, const struct bundle *bundle);

/* NULL: no container has this index. */
struct bundle *bundles_find(struct bundles *b, unsigned index);

/* If it is there. */
void bundles_forget(struct bundles *b, unsigned index);

/*
 * Makes the file, in the bundle beneath the directory dir; one that is there is as good. Nothing
 * is followed, written to or changed. For a worker. 0, or -errno with err.
 */
int oom_mark(int dir, const struct bundle *bundle, struct error *err);
