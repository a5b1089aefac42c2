/*
 * A volume: a directory, a file or a block device of the host that config.json binds into the
 * container; the first two as a detached mount. Any path, as with runc: who writes config.json
 * decides. Only what the host's kernel shows of itself, which virtiofsd as uid 0
 * could write, never gets into a VM. For a worker.
 */
#pragma once

#include "mountd/block.h"
#include "mountd/spec.h"

/*
 * 0, or -errno with err. Of a directory or a file ret_fds gets the mount: nodev, and for the host's
 * kernel read-only as the options say: the topmost mount alone with "ro", all of them with "rro".
 * Of a directory that follows the host's mounts it gets its stage, too (follow.h).
 * A block device is *ret instead, and becomes a disk.
 */
int volume_make(const struct block_place *place, const struct spec_mount *m, struct block *ret,
	struct fdlist *ret_fds, struct error *err);

/* Is source, an fd, of a file system that a VM may have? path is for the sentence. 0, or -EPERM with err. */
int volume_check(int source, const char *path, struct error *err);

/*
 * An emptyDir whose medium is memory: a tmpfs that the kubelet has mounted on the
 * volume's directory. Or huge pages: a hugetlbfs, whoever has mounted it. The guest has one of its
 * own instead, which costs the pod's memory and not the host's. 1 or 0, or -errno with err.
 */
int volume_is_memory(const struct spec_mount *m, struct error *err);
