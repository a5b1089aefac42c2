/*
 * Makes the mount that becomes a container's root, detached: nothing is to be
 * seen anywhere until mountd puts it into the share. For a worker.
 */
#pragma once

#include "mountd/paths.h"
#include "mountd/plan.h"
#include "mountd/spec.h"

struct rootfs_place {
	int bundle;	    /* the container's bundle, in M */
	int scratch;	    /* overlay: where layers get their names */
	int proc;	    /* a procfs that shows this process */
	const struct prefixes *prefixes;
};

/*
 * The mount, or -errno with err naming what of the plan is wrong. It is
 * read-only if the plan or the spec says so, for the host's kernel and thus for
 * whatever the guest does; and nodev. Not nosuid: programs in the container
 * have their set-id bits.
 */
int rootfs_make(const struct rootfs_place *place, const struct rootfs_plan *plan,
	const struct spec *spec, struct error *err);
