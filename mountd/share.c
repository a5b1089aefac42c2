#include "mountd/share.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/fdio.h"
#include "common/log.h"
#include "ipc/tables.h"
#include "mountd/paths.h"
#include "mountd/plan.h"

#define SHARE_PATH_MAX 32

/* A new tmpfs on path. Its root's fd, or -errno with err. */
static int mount_tmpfs(const char *path, const char *mode, const char *inodes, struct error *err)
{
	_cleanup_close_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC), mnt = -1;

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "source", "bulkhead", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "size", "64k", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", inodes, 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "mode", mode, 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_errno(err, errno, "make a tmpfs");
	mnt = fsmount(fs, FSMOUNT_CLOEXEC,
		MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
	if (mnt < 0 || move_mount(mnt, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_errno(err, errno, "mount a tmpfs on " PATH_FMT, path);
	return fd_steal(&mnt);
}

static int make_names(struct share *s, struct error *err)
{
	char name[LAYER_NAME_MAX];

	if (mkdirat(s->private, "names", 0700) < 0)
		return error_errno(err, errno, "mkdir names");
	s->names = path_open(s->private, "names", O_PATH | O_DIRECTORY, PATH_BENEATH);
	if (s->names < 0)
		return error_errno(err, -s->names, "open names");
	for (unsigned i = 0; i < LAYERS_MAX; i++) {
		layer_name(i, name);
		if (mkdirat(s->names, name, 0700) < 0)
			return error_errno(err, errno, "mkdir names/%s", name);
	}
	if (mkdirat(s->names, SHARE_UPPER_NAME, 0700) < 0)
		return error_errno(err, errno, "mkdir names/" SHARE_UPPER_NAME);
	return 0;
}

int share_init(struct share *s, const char *path, struct error *err)
{
	struct mount_attr slave = { .propagation = MS_SLAVE };
	struct mount_attr shared = { .propagation = MS_SHARED };

	if (unshare(CLONE_NEWNS) < 0)
		return error_errno(err, errno, "unshare the mount namespace");
	if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &slave, sizeof(slave)) < 0)
		return error_errno(err, errno, "make every mount a slave of the host's");

	s->private = mount_tmpfs(path, "0700", "512", err);
	if (s->private < 0)
		return s->private;
	s->share = mount_tmpfs(path, "0755", "8192", err);
	if (s->share < 0)
		return s->share;
	/* Before virtiofsd's namespace is copied from this one: else nothing would arrive there. */
	if (mount_setattr(s->share, "", AT_EMPTY_PATH, &shared, sizeof(shared)) < 0)
		return error_errno(err, errno, "make the share propagate its mounts");
	return make_names(s, err);
}

int share_scratch_make(struct share *s, struct scratch *ret, struct error *err)
{
	_cleanup_close_ int tree = -1;
	struct scratch scratch = SCRATCH_INIT;

	/* Never the same name twice: a worker given up may still be in an older one. */
	snprintf(scratch.name, sizeof(scratch.name), "w%u", s->n_scratch++);
	if (mkdirat(s->private, scratch.name, 0700) < 0)
		return error_errno(err, errno, "mkdir %s", scratch.name);
	tree = open_tree(s->names, "",
		AT_EMPTY_PATH | (unsigned)OPEN_TREE_CLONE | (unsigned)OPEN_TREE_CLOEXEC);
	if (tree < 0 ||
		move_mount(tree, "", s->private, scratch.name, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
		error_errno(err, errno, "make a place for layers");
		unlinkat(s->private, scratch.name, AT_REMOVEDIR);
		return -err->code;
	}
	scratch.fd = fd_steal(&tree);
	*ret = scratch;
	return 0;
}

/* umount2() of a name in dir; nothing mounted there is success. -ENOENT: no such name. */
static int unmount_at(int dir, const char *name)
{
	if (fchdir(dir) < 0)
		return -errno;
	if (umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL)
		return -errno;
	return 0;
}

/* A directory, or a file that something was mounted on. -ENOENT: no such name. */
static int remove_at(int dir, const char *name)
{
	int r = unlinkat(dir, name, AT_REMOVEDIR);

	if (r < 0 && errno == ENOTDIR)
		r = unlinkat(dir, name, 0);
	return r < 0 ? -errno : 0;
}

void share_scratch_done(struct share *s, struct scratch *scratch)
{
	int r;

	if (scratch->fd < 0)
		return;
	fd_close(&scratch->fd);
	r = unmount_at(s->private, scratch->name);
	if (r == 0)
		r = remove_at(s->private, scratch->name);
	if (r < 0)
		log_warn("the layers of %s stay mounted: errno %d", scratch->name, -r);
}

static void share_path(char ret[SHARE_PATH_MAX], unsigned index)
{
	snprintf(ret, SHARE_PATH_MAX, SHARE_ROOTFS_FMT, index);
}

/* The same without "/rootfs". */
static void share_parent(char ret[SHARE_PATH_MAX], unsigned index)
{
	share_path(ret, index);
	*strrchr(ret, '/') = '\0';
}

static int put(struct share *s, const char *path, int mount)
{
	return move_mount(mount, "", s->share, path, MOVE_MOUNT_F_EMPTY_PATH) < 0 ? -errno : 0;
}

int share_leave(struct share *s, unsigned index, struct error *err)
{
	char parent[SHARE_PATH_MAX], path[SHARE_PATH_MAX];
	struct error ignored = ERROR_INIT;
	int r;

	share_parent(parent, index);
	share_path(path, index);
	/*
	 * Fresh directories: the guest caches what it has looked up, and would
	 * see an empty directory for a second.
	 */
	if (mkdirat(s->share, parent, 0755) < 0)
		return errno == EEXIST
			? error_set(err, EEXIST, "container index %u was used before", index)
			: error_errno(err, errno, "mkdir %s in the share", parent);
	if (mkdirat(s->share, path, 0755) < 0) {
		r = error_errno(err, errno, "mkdir %s in the share", path);
		share_remove(s, index, &ignored);
		return r;
	}
	return 0;
}

int share_attach(struct share *s, unsigned index, int mount, struct error *err)
{
	char path[SHARE_PATH_MAX];
	struct error ignored = ERROR_INIT;
	int r = share_leave(s, index, err);

	share_path(path, index);
	if (r == 0 && put(s, path, mount) < 0) {
		r = error_errno(err, errno, "mount %s in the share", path);
		share_remove(s, index, &ignored);
	}
	return r;
}

static void volume_path(char ret[SHARE_PATH_MAX], unsigned index, unsigned number)
{
	snprintf(ret, SHARE_PATH_MAX, SHARE_VOLUME_FMT, index, number);
}

/*
 * On a directory, else on a file: the kernel takes only what is of the mount's kind. The mount
 * is not asked: its file system may not answer.
 */
static int put_on_its_kind(struct share *s, const char *path, int mount)
{
	_cleanup_close_ int file = -1;

	if (mkdirat(s->share, path, 0755) < 0)
		return -errno;
	if (put(s, path, mount) == 0)
		return 0;
	if (unlinkat(s->share, path, AT_REMOVEDIR) < 0)
		return -errno;
	file = path_create(s->share, path, 0644);
	return file < 0 ? file : put(s, path, mount);
}

int share_attach_volume(struct share *s, unsigned index, unsigned number, int mount,
	struct error *err)
{
	char path[SHARE_PATH_MAX];
	int r;

	volume_path(path, index, number);
	r = put_on_its_kind(s, path, mount);
	return r < 0 ? error_errno(err, -r, "mount %s in the share", path) : 0;
}

int share_leave_volume(struct share *s, unsigned index, unsigned number, struct error *err)
{
	char path[SHARE_PATH_MAX];

	volume_path(path, index, number);
	return mkdirat(s->share, path, 0755) < 0 ?
		error_errno(err, errno, "make %s in the share", path) :
		0;
}

static void stage_name(char ret[SHARE_PATH_MAX], unsigned index, unsigned number)
{
	snprintf(ret, SHARE_PATH_MAX, "c%u-v%u", index, number);
}

int share_stage_make(struct share *s, unsigned index, unsigned number, int mount,
	struct error *err)
{
	char name[SHARE_PATH_MAX];

	stage_name(name, index, number);
	if (mkdirat(s->private, name, 0700) < 0 ||
		move_mount(mount, "", s->private, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_errno(err, errno, "mount the stage %s", name);
	return 0;
}

int share_stage_unmount(struct share *s, unsigned index, unsigned number, struct error *err)
{
	char name[SHARE_PATH_MAX];
	int r;

	stage_name(name, index, number);
	r = unmount_at(s->private, name);
	return r < 0 && r != -ENOENT ? error_errno(err, -r, "unmount the stage %s", name) : 0;
}

void share_stage_remove(struct share *s, unsigned index, unsigned number)
{
	char name[SHARE_PATH_MAX];
	int r;

	stage_name(name, index, number);
	r = remove_at(s->private, name);
	if (r < 0 && r != -ENOENT)
		log_warn("the stage %s stays mounted: errno %d", name, -r);
}

int share_stage_open(const struct share *s, unsigned index, unsigned number)
{
	char name[SHARE_PATH_MAX];

	stage_name(name, index, number);
	return path_open(s->private, name, O_PATH | O_DIRECTORY, PATH_BENEATH);
}

int share_volume_open(const struct share *s, unsigned index, unsigned number)
{
	char path[SHARE_PATH_MAX];

	volume_path(path, index, number);
	return path_open(s->share, path, O_PATH | O_DIRECTORY, PATH_BENEATH);
}

static const char *last_name(const char *path)
{
	return strrchr(path, '/') + 1;
}

/*
 * What is or was mounted in c<index>: the rootfs, then the volumes, up to the first that is not
 * there. Of the directory itself: a link in its place, however it came there, is not followed.
 */
static int for_each_mount(struct share *s, unsigned index, int (*act)(int dir, const char *name))
{
	_cleanup_close_ int parent = -1;
	char path[SHARE_PATH_MAX];
	int r;

	share_parent(path, index);
	parent = path_open(s->share, path, O_PATH | O_DIRECTORY, PATH_BENEATH);
	if (parent < 0)
		return parent == -ENOENT ? 0 : parent;
	share_path(path, index);
	r = act(parent, last_name(path));
	for (unsigned i = 0; r == 0 && i < SHARE_VOLUMES_MAX; i++) {
		volume_path(path, index, i);
		r = act(parent, last_name(path));
	}
	return r == -ENOENT ? 0 : r;
}

/* Detached: virtiofsd holds files of it until the guest forgets them. */
int share_unmount(struct share *s, unsigned index, struct error *err)
{
	int r = for_each_mount(s, index, unmount_at);

	return r < 0 ? error_errno(err, -r, "unmount container %u", index) : 0;
}

int share_remove(struct share *s, unsigned index, struct error *err)
{
	char parent[SHARE_PATH_MAX];
	int r = for_each_mount(s, index, remove_at);

	share_parent(parent, index);
	if (r == 0)
		r = remove_at(s->share, parent);
	if (r == -ENOENT)
		r = 0;
	return r < 0 ? error_errno(err, -r, "remove %s from the share", parent) : 0;
}
