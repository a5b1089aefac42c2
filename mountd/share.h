/*
 * mountd's mount namespace M and the two file systems of its own in it.
 *
 * M is a copy of the host's with "/" recursively slave: what the host mounts
 * later arrives, what mountd mounts never leaves. At the path that the
 * launcher made for it two small tmpfs lie on top of each other:
 *
 *	share	 on top, MS_SHARED: c<index>/rootfs and c<index>/v<number> are mount points. virtiofsd's
 *		 namespace holds a slave copy of it; what is mounted here appears
 *		 there, and goes by umount.
 *	private	 beneath it, reached by its fd alone: where a worker gives layers
 *		 short names, where virtiofsd's socket has a name for an instant, and
 *		 where stages lie (follow.h).
 */
#pragma once

#include "common/error.h"

struct share {
	int share;    /* its root */
	int private;  /* the private tmpfs's root */
	int names;    /* in it: a directory with one empty directory for each layer name */
	unsigned n_scratch;
};

#define SHARE_INIT { .share = -1, .private = -1, .names = -1 }

/* Directories in `names` besides those of the layers. */
#define SHARE_UPPER_NAME "upper"

/* Makes M and both file systems. Once, with privilege. 0, or -errno with err. */
int share_init(struct share *s, const char *path, struct error *err);

/*
 * A place of its own for one worker: the directories of `names`, as a mount,
 * on which it may mount. share_scratch_done() takes it away with everything
 * mounted there, whatever became of the worker.
 */
struct scratch {
	int fd; /* its root; -1: none */
	char name[16];
};

#define SCRATCH_INIT { .fd = -1 }

int share_scratch_make(struct share *s, struct scratch *ret, struct error *err);
void share_scratch_done(struct share *s, struct scratch *scratch);

/* Puts a detached mount to c<index>/rootfs. -EEXIST: the index was used before. */
int share_attach(struct share *s, unsigned index, int mount, struct error *err);

/* In its place an empty directory: the guest mounts a disk there. */
int share_leave(struct share *s, unsigned index, struct error *err);

/* The same to c<index>/v<number>, after that; mount is of a directory or a file. */
int share_attach_volume(struct share *s, unsigned index, unsigned number, int mount,
	struct error *err);

/* In its place an empty directory: the volume of this number is the guest's own. */
int share_leave_volume(struct share *s, unsigned index, unsigned number, struct error *err);

/*
 * A stage of c<index>/v<number>, in the private tmpfs (follow.h): made of a detached mount,
 * unmounted (for a worker), and its directory removed, which nothing is mounted on any more.
 */
int share_stage_make(struct share *s, unsigned index, unsigned number, int mount,
	struct error *err);
int share_stage_unmount(struct share *s, unsigned index, unsigned number, struct error *err);
void share_stage_remove(struct share *s, unsigned index, unsigned number);

/* The roots of both mounts, as O_PATH fds; -errno. */
int share_stage_open(const struct share *s, unsigned index, unsigned number);
int share_volume_open(const struct share *s, unsigned index, unsigned number);

/*
 * Unmounts all of c<index>. May block on the file systems mounted there: for a
 * worker. Nothing there: 0.
 */
int share_unmount(struct share *s, unsigned index, struct error *err);

/* Removes the directories of c<index>, which nothing is mounted on any more. */
int share_remove(struct share *s, unsigned index, struct error *err);
