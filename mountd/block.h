/*
 * What becomes a disk of the VM: a block device, or an image. Nothing is opened before it is
 * known what it is, and what was opened is looked at again. For a worker.
 */
#pragma once

#include "common/fd.h"
#include "mountd/disks.h"
#include "mountd/paths.h"

struct block_place {
	int proc;		   /* a procfs that shows this process */
	const struct disks *disks; /* those that are open already are not opened again */
};

/* What mountd is told of one; its fd comes too, unless it is one of the disks. */
struct block {
	bool found; /* else there is none, and nothing else is set */
	bool read_only;
	struct disk_id id;
	unsigned major, minor; /* of a device */
	unsigned mode, uid, gid; /* of the node or file */
};

/*
 * Each: 0, or -errno with err. Open for reading alone if read_only says so, else for both. A device
 * that is to be written, and one that is a root, must be nobody else's: not mounted on the host, not
 * a part of what is. -EBUSY: it is, or it is a disk already that cannot be written.
 */

/* By the source of a root: a device beneath /dev or a regular file, beneath the prefixes. */
int block_open_source(const struct block_place *place, const struct prefixes *prefixes,
	const char *source, bool read_only, struct block *ret, struct fdlist *ret_fds,
	struct error *err);

/* By an O_PATH fd of a device's node. */
int block_open_node(const struct block_place *place, int node, bool read_only, struct block *ret,
	struct fdlist *ret_fds, struct error *err);

/* By a device's number, which is all that linux.devices says of it. */
int block_open_number(const struct block_place *place, int64_t major, int64_t minor,
	bool read_only, struct block *ret, struct fdlist *ret_fds, struct error *err);
