/*
 * Owning file descriptors. Every fd of this project is opened close-on-exec;
 * a child gets an explicit list (spawn.h).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

/* Closes *fd if it is >= 0 and sets it to -1. Keeps errno. */
void fd_close(int *fd);

/* The number; *fd is -1 afterwards. */
static inline int fd_steal(int *fd)
{
	int v = *fd;

	*fd = -1;
	return v;
}

#define _cleanup_close_ CLEANUP(fd_close)

/* A bounded list that owns the fds in it. */
#define FDLIST_MAX 8

struct fdlist {
	size_t n;
	int fd[FDLIST_MAX];
};

#define FDLIST_INIT { .n = 0 }

/* Closes every fd of the list. The list is empty afterwards. */
void fdlist_done(struct fdlist *list);

/* Takes the fd at position i out of the list: the caller's from here on. -1 if it is not there. */
int fdlist_steal(struct fdlist *list, size_t i);

/* Takes ownership of fd, also on failure (then fd is closed). 0 or -ENOSPC. */
int fdlist_add_consume(struct fdlist *list, int fd);

/*
 * What an fd is, as the kernel says. A process that receives an fd checks its
 * kind before the first use; the message tables name the kind (ipc/channel.h).
 */
enum fd_kind {
	FD_NONE,
	FD_REGULAR_RO,	  /* a regular file, open for reading only */
	FD_REGULAR_APPEND, /* a regular file, open for appending only: a log */
	FD_FIFO_RW,	  /* a FIFO, open for both: stdout, stderr */
	FD_FIFO_RO,	  /* a FIFO, open for reading only: stdin */
	FD_UNIX_STREAM,	  /* a connected AF_UNIX SOCK_STREAM socket */
	FD_UNIX_LISTENER, /* a listening AF_UNIX SOCK_STREAM socket */
	FD_UNIX_DGRAM,	  /* an AF_UNIX SOCK_DGRAM socket */
	FD_PIPE_W,	  /* the writing end of a pipe */
	FD_TAP,		  /* /dev/net/tun or a macvtap's node, attached as a tap with IFF_VNET_HDR */
	FD_VHOST_NET,	  /* /dev/vhost-net */
	FD_BLOCK,	  /* a block device */
	FD_PATH,	  /* O_PATH, a regular file: a binary to execute */
	FD_STREAM,	  /* a connected SOCK_STREAM socket, AF_UNIX or AF_VSOCK */
	FD_ANY,		  /* the receiver checks it itself */
};

/* The CID that a connected AF_VSOCK SOCK_STREAM socket leads to. 0, which is no machine's: it is none. */
unsigned fd_vsock_peer(int fd);

const char *fd_kind_name(enum fd_kind kind);

/* 0, or -EBADF with the sentence "expected <kind>, got <what it is>". */
int fd_check_kind(int fd, enum fd_kind kind, struct error *err);
