/*
 * What containerd says about a root file system, as it came in Create: which
 * mount it means. Pure: nothing is opened here.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

/* More are refused. With names of one or two letters so many fit into fsconfig()'s 255 bytes. */
#define LAYERS_MAX	  100
#define ROOTFS_FLAGS_MAX 8

/* containerd's types.Mount. */
struct rootfs_mount {
	const char *type, *source;
	char **options;
	size_t n_options;
};

enum rootfs_kind {
	ROOTFS_BUNDLE,	/* no mount: what config.json's root.path names is there already */
	ROOTFS_BIND,	/* the native snapshotter */
	ROOTFS_OVERLAY, /* the overlayfs snapshotter */
	ROOTFS_BLOCK,	/* a file system in a device or an image, for the guest to mount */
};

struct rootfs_plan {
	enum rootfs_kind kind;
	bool readonly;
	bool recursive;	    /* bind: with what is mounted beneath it */
	const char *source; /* bind, block: a path. The mount's. */
	const char *fstype; /* block */

	/* overlay: paths, unescaped, the plan's; upper and work are both there or both NULL */
	char *layers[LAYERS_MAX]; /* topmost first */
	unsigned n_layers;
	char *upper, *work;
	/* overlay, block: "key=value" or "key" to give the kernel, ours or the guest's */
	const char *flags[ROOTFS_FLAGS_MAX];
	unsigned n_flags;
};

#define ROOTFS_PLAN_INIT { .kind = ROOTFS_BUNDLE }

/* Reads the mounts of a container: none or one. 0, or -errno with err naming type and option. */
int rootfs_plan_read(struct rootfs_plan *plan, const struct rootfs_mount *mounts, size_t n,
	struct error *err);
void rootfs_plan_done(struct rootfs_plan *plan);

/* The name of layer i in mountd's private directory: one letter or digit, then two letters. */
#define LAYER_NAME_MAX 4
void layer_name(unsigned i, char ret[LAYER_NAME_MAX]);
