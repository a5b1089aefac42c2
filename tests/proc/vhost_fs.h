/*
 * A guest that speaks to virtiofsd as no kernel would: FUSE requests of any content, over a
 * vhost-user connection and one queue of its own.
 */
#pragma once

#include <linux/fuse.h>
#include <stddef.h>
#include <stdint.h>

/* Speaks vhost-user on fd, which is the caller's, and sends FUSE_INIT. One at a time. */
void vhost_fs_open(int fd);
void vhost_fs_close(void);

/*
 * One request: what follows its header, in two pieces, and what is answered behind the header, at
 * most size bytes. 0, or what errno it was refused with. -1: virtiofsd does not answer any more.
 */
struct vhost_fs_ask {
	uint32_t opcode;
	uint64_t node;
	uint32_t uid, gid;
	const void *in;
	size_t in_len;
	const void *names; /* each ends with a NUL */
	size_t names_len;
	void *out;
	size_t out_len;
};

int vhost_fs(const struct vhost_fs_ask *ask);

/* LOOKUP, as root: 0 and the node, or errno. */
int vhost_fs_lookup(uint64_t parent, const char *name, struct fuse_entry_out *ret);
/* The node of a path beneath the root that must be there. */
uint64_t vhost_fs_walk(const char *path);
