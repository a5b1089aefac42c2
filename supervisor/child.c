#include "supervisor/child.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define CHILD_FDS_MAX 32

void words_say(struct words *w, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (w->n == WORDS_MAX || vasprintf(&w->word[w->n], fmt, ap) < 0)
		abort();
	va_end(ap);
	w->n++;
}

void words_done(struct words *w)
{
	for (size_t i = 0; i < w->n; i++)
		free(w->word[i]);
	w->n = 0;
}

int child_place_fds(const int *fd, int n)
{
	int moved[CHILD_FDS_MAX];

	if (n > CHILD_FDS_MAX)
		abort();
	/* Above all targets first, so that no dup2() overwrites one still needed. */
	for (int i = 0; i < n; i++) {
		moved[i] = fcntl(fd[i], F_DUPFD_CLOEXEC, n);
		if (moved[i] < 0)
			return -1;
	}
	for (int i = 0; i < n; i++)
		if (dup2(moved[i], i) < 0)
			return -1;
	return close_range((unsigned)n, ~0U, CLOSE_RANGE_CLOEXEC);
}
