/*
 * The file `exits`: which containers of a sandbox have ended, and how. One
 * line for each:
 *
 *	<id> <status> <exited_at_ns>\n
 *
 * persistd writes it; `delete`, which is root, reads it after everybody of the
 * sandbox is dead. So the text is hostile: whatever is not exactly what
 * exits_format() writes makes the whole file refused. The reader opens it
 * O_NOFOLLOW, checks type and owner, and reads at most EXITS_FILE_MAX bytes
 * (read_file_fd()). Nothing here does any I/O.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/id.h"

#define EXITS_FILE     "exits"
#define EXITS_FILE_MAX (256U * 1024)
#define EXITS_MAX      1024 /* records */

struct exit_record {
	char id[ID_MAX + 1];
	uint8_t status; /* as a shell says it: 0..255, 128 + signal */
	int64_t exited_at_ns; /* CLOCK_REALTIME, never negative */
};

struct exits {
	size_t n;
	struct exit_record record[EXITS_MAX];
};

/* NULL when there is none of that id. */
struct exit_record *exits_find(struct exits *e, const char *id);

/* Adds or replaces. 0, or -EINVAL (id, time), -ENOSPC (EXITS_MAX are there) with err. */
int exits_set(struct exits *e, const char *id, uint32_t status, int64_t exited_at_ns,
	struct error *err);

/* 1: it was there, 0: it was not. */
int exits_remove(struct exits *e, const char *id);

/* *ret is written only on success. 0, or -EINVAL or -EFBIG with err naming the line. */
int exits_parse(const char *text, size_t len, struct exits *ret, struct error *err);

/* The file's text, NUL-terminated. The length, or -ENOSPC when size bytes are too few. */
int exits_format(const struct exits *e, char *text, size_t size);
