/*
 * What a sandbox leaves on the host besides its processes, in one place:
 *
 *	<run>/uids/<n>		the lease of a block of 8 uids: an empty directory
 *	<run>/<16 hex>/		its directory, 0700 root; the name is the start of
 *				SHA-256(address NUL namespace NUL id)
 *		name		those three and the bundle, one a line
 *		lease		n
 *		released/	was uids/<n>: n is not ours any more
 *		cgroups		one absolute directory a line: the sandbox cgroup in
 *				each hierarchy, v2 first
 *		supervisor	host pid and start time of the supervisor
 *		state/		persistd's
 *		share/		an empty directory: where mountd has the share mounted
 *	/run/containerd/s/<64 hex>	the socket
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "supervisor/args.h"
#include "supervisor/config.h"

#define SOCKET_DIR   "/run/containerd/s"
#define SANDBOX_UIDS 8 /* of a lease */

struct sandbox {
	char dir[CONFIG_PATH_MAX + 32];
	char socket[128]; /* path */
	char address[144]; /* "unix://" + path */
	char uids[CONFIG_PATH_MAX + 8];
	int dir_fd; /* -1 until made or opened; holds the lock */
	long lease; /* -1: none */
	bool keep;  /* not all that it names could be read or removed */
};

/* Only computes the names. */
int sandbox_init(struct sandbox *s, const struct config *c, const struct args *a, const char *id,
	struct error *err);
void sandbox_done(struct sandbox *s);

/*
 * Makes and locks the directory, takes a lease, makes state/ (owned by the
 * lease's persistd) and share/. -EEXIST: there is such a sandbox.
 */
int sandbox_create(struct sandbox *s, const struct config *c, const struct args *a, const char *id,
	const char *bundle, struct error *err);

/* Opens and locks an existing one and reads its lease. -ENOENT: there is none. Blocks 3 s at most. */
int sandbox_open(struct sandbox *s, struct error *err);

/*
 * Removes socket, state and share; gives the lease back; removes the directory, in
 * this order. A failed step is logged and what follows it stays, as it does when
 * s->keep says so: that is how the next delete or start finds what is left.
 */
void sandbox_remove(struct sandbox *s);

/* A small file in the directory: written whole by temporary file and rename. */
int sandbox_write(const struct sandbox *s, const char *name, const char *text, struct error *err);
/* Its text, the caller's, or NULL. */
char *sandbox_read(const struct sandbox *s, const char *name, struct error *err);

static inline uid_t sandbox_uid_base(const struct sandbox *s, const struct config *c)
{
	return (uid_t)(c->uid_base + SANDBOX_UIDS * (uint64_t)s->lease);
}
