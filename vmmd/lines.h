/* QEMU's stderr: lines, cut to a length, control characters replaced. */
#pragma once

#include <stddef.h>

#define LINE_SIZE 384

struct lines {
	char part[LINE_SIZE]; /* of the line that is coming in */
	size_t len;
	char last[LINE_SIZE]; /* the last whole one that was not empty */
};

/* Takes bytes. Calls fn with each whole line, without its newline. */
typedef void (*line_fn)(const char *line);
void lines_feed(struct lines *lines, const char *data, size_t len, line_fn fn);

/* The end of input ends a line too. */
void lines_end(struct lines *lines, line_fn fn);
