#include "mountd/rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/fd.h"
#include "mountd/mountpoints.h"
#include "mountd/share.h"
#include "mountd/tree.h"

/* What fsconfig() takes as one value, with its NUL. */
#define FSCONFIG_VALUE_MAX 256

/* Mounts dir, by its fd, on a name in the scratch directory. The mount's root, or -errno. */
static int bind_as(int scratch, const char *name, int dir)
{
	_cleanup_close_ int tree = tree_clone(dir, false);

	if (tree < 0 || move_mount(tree, "", scratch, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return -errno;
	return fd_steal(&tree);
}

/*
 * overlayfs takes its layers by path, and fsconfig() takes 255 bytes. So each
 * layer, opened beneath its prefix, gets a short name in a directory of ours
 * and lowerdir is "0:1:2:..." from there. (By fd it would be simpler, but that
 * needs Linux 6.13; this works on 6.1 and later ones alike.)
 */
static int bind_layers(const struct rootfs_place *place, const struct rootfs_plan *plan,
	char lowerdir[FSCONFIG_VALUE_MAX], struct error *err)
{
	char *to = lowerdir;

	for (unsigned i = 0; i < plan->n_layers; i++) {
		char name[LAYER_NAME_MAX];
		_cleanup_close_ int dir = -1, mnt = -1;

		dir = prefixes_open_path(place->prefixes, "lowerdir", plan->layers[i],
			O_PATH | O_DIRECTORY, err);
		if (dir < 0)
			return dir;
		layer_name(i, name);
		mnt = bind_as(place->scratch, name, dir);
		if (mnt < 0)
			return error_errno(err, -mnt, "bind lowerdir " PATH_FMT, plan->layers[i]);
		to += snprintf(to, (size_t)(lowerdir + FSCONFIG_VALUE_MAX - to), "%s%s",
			i ? ":" : "", name);
		if (to >= lowerdir + FSCONFIG_VALUE_MAX)
			return error_set(err, E2BIG, "too many layers (%u)", plan->n_layers);
	}
	return 0;
}

/* The directory both paths lie in, and what follows it in each. */
static int common_parent(const struct rootfs_plan *plan, char *ret_parent, const char **ret_upper,
	const char **ret_work, struct error *err)
{
	const char *upper = strrchr(plan->upper, '/'), *work = strrchr(plan->work, '/');
	size_t len;

	if (!path_is_normal(plan->upper) || !path_is_normal(plan->work))
		return error_set(err, EINVAL, "upperdir or workdir is not an absolute path "
					      "without '.', '..' and '//'");
	len = (size_t)(upper - plan->upper);
	if (len != (size_t)(work - plan->work) || memcmp(plan->upper, plan->work, len) != 0)
		return error_set(err, EINVAL,
			"upperdir " PATH_FMT " and workdir " PATH_FMT
			" are not in the same directory",
			plan->upper, plan->work);
	memcpy(ret_parent, plan->upper, len);
	ret_parent[len] = '\0';
	*ret_upper = upper + 1;
	*ret_work = work + 1;
	return 0;
}

struct writable {
	int upper, work;
};

static void writable_done(struct writable *w)
{
	fd_close(&w->upper);
	fd_close(&w->work);
}

/*
 * Opens upperdir and workdir: beneath one mount, or overlayfs refuses them, so
 * their common parent is what is bound.
 */
static int open_writable(const struct rootfs_place *place, const struct rootfs_plan *plan,
	struct writable *ret, struct error *err)
{
	_cleanup_close_ int dir = -1, mnt = -1;
	const char *upper = NULL, *work = NULL;
	char parent[PATH_MAX];
	int r = common_parent(plan, parent, &upper, &work, err);

	if (r < 0)
		return r;
	dir = prefixes_open_path(place->prefixes, "the directory of upperdir and workdir", parent,
		O_PATH | O_DIRECTORY, err);
	if (dir < 0)
		return dir;
	mnt = bind_as(place->scratch, SHARE_UPPER_NAME, dir);
	if (mnt < 0)
		return error_errno(err, -mnt, "bind " PATH_FMT, parent);
	ret->upper = path_open(mnt, upper, O_PATH | O_DIRECTORY, PATH_BENEATH | RESOLVE_NO_XDEV);
	if (ret->upper < 0)
		return error_errno(err, -ret->upper, "open upperdir " PATH_FMT, plan->upper);
	ret->work = path_open(mnt, work, O_PATH | O_DIRECTORY, PATH_BENEATH | RESOLVE_NO_XDEV);
	if (ret->work < 0)
		return error_errno(err, -ret->work, "open workdir " PATH_FMT, plan->work);
	return 0;
}

/* What the kernel says about a file system context that failed, put behind the sentence. */
static int overlay_failed(int fs, int code, const char *what, struct error *err)
{
	char text[256];
	ssize_t n = read(fs, text, sizeof(text) - 1);

	if (n <= 2)
		return error_errno(err, code, "%s", what);
	text[n] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return error_errno(err, code, "%s: %s", what, text + 2); /* after "e " */
}

static int set_value(int fs, const char *key, const char *value, struct error *err)
{
	if (fsconfig(fs, FSCONFIG_SET_STRING, key, value, 0) < 0)
		return overlay_failed(fs, errno, key, err);
	return 0;
}

/*
 * By /proc/self/fd, not by name: between our look and overlayfs's, a guest
 * that can write there and a frontend in league with it could put a symbolic
 * link to anywhere on the host in its place.
 */
static int set_fd(int fs, const char *key, int fd, struct error *err)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return set_value(fs, key, path, err);
}

static int set_flags(int fs, const struct rootfs_plan *plan, struct error *err)
{
	for (unsigned i = 0; i < plan->n_flags; i++) {
		char key[32];
		const char *flag = plan->flags[i], *eq = strchr(flag, '=');
		int r = 0;

		if (!eq) {
			if (fsconfig(fs, FSCONFIG_SET_FLAG, flag, NULL, 0) < 0)
				r = overlay_failed(fs, errno, flag, err);
		} else {
			snprintf(key, sizeof(key), "%.*s", (int)(eq - flag), flag);
			r = set_value(fs, key, eq + 1, err);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

static int create_overlay(const struct rootfs_plan *plan, const char *lowerdir,
	const struct writable *writable, struct error *err)
{
	_cleanup_close_ int fs = fsopen("overlay", FSOPEN_CLOEXEC), mnt = -1;
	int r;

	if (fs < 0)
		return error_errno(err, errno, "this kernel has no overlayfs");
	r = set_value(fs, "source", "overlay", err);
	if (r == 0)
		r = set_flags(fs, plan, err);
	if (r == 0)
		r = set_value(fs, "lowerdir", lowerdir, err);
	if (r == 0 && plan->upper)
		r = set_fd(fs, "upperdir", writable->upper, err);
	if (r == 0 && plan->upper)
		r = set_fd(fs, "workdir", writable->work, err);
	if (r < 0)
		return r;
	if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return overlay_failed(fs, errno, "create", err);
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NODEV);
	if (mnt < 0)
		return error_errno(err, errno, "fsmount");
	return fd_steal(&mnt);
}

static int make_overlay(const struct rootfs_place *place, const struct rootfs_plan *plan,
	struct error *err)
{
	CLEANUP(writable_done) struct writable writable = { -1, -1 };
	char lowerdir[FSCONFIG_VALUE_MAX];
	int r = bind_layers(place, plan, lowerdir, err);

	if (r == 0 && plan->upper)
		r = open_writable(place, plan, &writable, err);
	if (r < 0)
		return r;
	/* lowerdir is relative to here. Only this worker's cwd. */
	if (fchdir(place->scratch) < 0)
		return error_errno(err, errno, "chdir to the layers");
	return create_overlay(plan, lowerdir, &writable, err);
}

/* config.json's root.path: beneath the bundle, or absolute as Docker writes it. */
static int make_bundle(const struct rootfs_place *place, const struct spec *spec,
	struct error *err)
{
	const char *path = spec->root_path;
	_cleanup_close_ int dir = -1;

	if (path[0] == '/') {
		dir = prefixes_open_path(place->prefixes, "root.path of config.json", path,
			O_PATH | O_DIRECTORY, err);
		if (dir < 0)
			return dir;
	} else {
		dir = path_open(place->bundle, path, O_PATH | O_DIRECTORY, PATH_BENEATH);
		if (dir < 0)
			return error_errno(err, -dir,
				"containerd sent no mount, and the bundle's " PATH_FMT
				" cannot be opened",
				path);
	}
	return tree_bind(dir, true, err);
}

static int make_source(const struct rootfs_place *place, const struct rootfs_plan *plan,
	struct error *err)
{
	_cleanup_close_ int dir = prefixes_open_path(place->prefixes, "source", plan->source,
		O_PATH | O_DIRECTORY, err);

	return dir < 0 ? dir : tree_bind(dir, plan->recursive, err);
}

static int make_kind(const struct rootfs_place *place, const struct rootfs_plan *plan,
	const struct spec *spec, struct error *err)
{
	int r;

	switch (plan->kind) {
	case ROOTFS_BUNDLE:
		r = make_bundle(place, spec, err);
		return r < 0 ? error_wrap(err, "rootfs") : r;
	case ROOTFS_BIND:
		r = make_source(place, plan, err);
		return r < 0 ? error_wrap(err, "rootfs mount of type bind") : r;
	case ROOTFS_OVERLAY:
		r = make_overlay(place, plan, err);
		return r < 0 ? error_wrap(err, "rootfs mount of type overlay") : r;
	case ROOTFS_BLOCK:
		break; /* a disk, which the host does not mount */
	}
	return error_set(err, EINVAL, "rootfs of unknown kind %d", plan->kind);
}

/* An overlay can come up read-only without an error, a bind inherits it from its source. */
static int check_access(int mnt, bool readonly, struct error *err)
{
	struct statvfs st;

	if (fstatvfs(mnt, &st) < 0)
		return error_errno(err, errno, "look at the mounted rootfs");
	if (readonly && !(st.f_flag & ST_RDONLY))
		return error_set(err, EIO, "the rootfs is writable, though it was to be read-only");
	if (!readonly && (st.f_flag & ST_RDONLY))
		return error_set(err, EROFS,
			"the rootfs came up read-only; "
			"is the snapshotter's file system read-only or full?");
	return 0;
}

int rootfs_make(const struct rootfs_place *place, const struct rootfs_plan *plan,
	const struct spec *spec, struct error *err)
{
	_cleanup_close_ int mnt = make_kind(place, plan, spec, err);
	bool readonly = plan->readonly || spec->readonly;
	int r = mnt;

	if (mnt >= 0 && readonly && !plan->readonly)
		mountpoints_make(mnt, spec);
	if (mnt >= 0 && readonly)
		r = tree_make_readonly(mnt, true, err);
	if (r >= 0)
		r = check_access(mnt, readonly, err);
	return r < 0 ? r : fd_steal(&mnt);
}
