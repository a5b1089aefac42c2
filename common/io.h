/* Reading and writing whole things. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "common/error.h"

/* Writes all of it, through EINTR and short writes. 0 or -errno. For files and blocking fds. */
int write_full(int fd, const void *data, size_t len);

/* Reads len bytes, or up to the end, through EINTR. How many, or -errno. For files and blocking fds. */
ssize_t read_full(int fd, void *data, size_t len);

/*
 * Reads a whole file of at most max bytes. Returns a NUL-terminated buffer,
 * the caller's, and its length; NULL with err set. A longer file is refused
 * with EFBIG, never cut.
 */
char *read_file_fd(int fd, size_t max, size_t *ret_len, struct error *err);
