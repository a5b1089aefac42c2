/*
 * Calls for which libc has several system calls to choose from, or which the
 * kernel continues under another name, each in one form: the one that the
 * policies allow (seccomp-profiles/common.policy). Whatever runs under a filter of
 * ours uses these instead of poll(), send(), recv() and fstat().
 */
#pragma once

#include <poll.h>
#include <sys/stat.h>
#include <sys/types.h>

/* poll(2). timeout_ms < 0: for ever. */
int fd_poll(struct pollfd *fds, nfds_t n, int timeout_ms);

/* send(2) and recv(2) that neither block nor raise SIGPIPE. */
ssize_t fd_send(int fd, const void *data, size_t len);
ssize_t fd_recv(int fd, void *data, size_t size);

/* fstat(2) */
int fd_stat(int fd, struct stat *ret);
