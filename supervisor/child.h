/* What a process about to be executed is told, and which fds it is given. */
#pragma once

#include <stddef.h>

#include "common/mem.h"

#define WORDS_MAX 64

/* An argv being written. */
struct words {
	char *word[WORDS_MAX + 1]; /* ends with NULL */
	size_t n;
};

#define WORDS_INIT     \
	{              \
		.n = 0 \
	}

/* Adds one word. Out of memory, or more than WORDS_MAX, aborts: the number is ours. */
void words_say(struct words *w, const char *fmt, ...) PRINTF(2, 3);
void words_done(struct words *w);

/*
 * In the child: puts fd[i] at number i, whatever numbers they have now, and
 * marks everything from n up close-on-exec. 0, or -1 with errno.
 */
int child_place_fds(const int *fd, int n);
