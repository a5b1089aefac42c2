/*
 * Operations of several steps, each of which can be taken back. An operation
 * that fails half way is taken back to where it began, the last step first.
 * Undoing all of them is an operation too, and what it has undone is taken again
 * when it fails.
 */
#pragma once

#include <stddef.h>

#include "common/error.h"

/* A step that fails has left nothing behind. */
struct step {
	const char *name; /* for a sentence about it */
	int (*take)(void *ctx, struct error *err);
	int (*undo)(void *ctx, struct error *err);
};

/*
 * Forwards. 0, or the -errno of the step that failed, with its sentence. What
 * cannot be taken back is logged, and the rest is taken back all the same.
 */
int steps_take(const struct step *steps, size_t n, void *ctx, struct error *err);

/* Backwards. */
int steps_undo(const struct step *steps, size_t n, void *ctx, struct error *err);
