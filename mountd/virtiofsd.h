/* Starts virtiofsd in its slot. */
#pragma once

#include "common/error.h"

#define VIRTIOFSD_LISTENER 3 /* the fd number of its socket, in virtiofsd */
#define VIRTIOFSD_SHARE	   "/share" /* the share in virtiofsd's root: supervisor/slot_virtiofsd.c */

/*
 * Its arguments behind argv[0] (which is the slot's), ended by NULL. QEMU's own, up to
 * 7.x, and the one that took its place differ in their switches: which it is says the place
 * of the binary. cache: "auto" or "keep", the configuration's virtio_fs_cache.
 * 0, or -EINVAL with err.
 */
int virtiofsd_args(const char *binary, const char *cache, const char *const **ret,
	struct error *err);

/*
 * Makes its socket (with a name in the directory `private` for an instant),
 * hands the listening end and the arguments to the slot and waits at most
 * timeout_ms until the program runs. The connected end, or -errno with err.
 */
int virtiofsd_start(int slot, int private, const char *const *args, int timeout_ms,
	struct error *err);
