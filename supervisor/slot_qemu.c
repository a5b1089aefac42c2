/*
 * QEMU's root. It is a private tmpfs, read-only once it is built:
 *
 *	/usr              the host's, read-only: QEMU, its modules, firmware, libraries
 *	/lib /lib64 /bin  what they are on the host: links into /usr, or directories
 *	/etc/ld.so.cache  the host's
 *	/kernel /initrd   the guest's, read-only
 *	/dev/kvm          for accel=kvm only
 *
 * No /proc, no /sys, nothing writable. Whatever belongs to one sandbox comes
 * to QEMU as an fd, except kernel and initrd: those it opens by name, and
 * fd sets do not work for them (QEMU 7.2).
 *
 * The host's trees are cloned while we still see the host. Then we join the
 * void and unshare from there, so that only the void's one mount is copied
 * and not the host's thousand.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/isolate.h"
#include "ipc/fds.h"
#include "supervisor/slot.h"

#define KVM_RDEV  makedev(10, 232)

#define READ_ONLY (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)

/* One name in the root. */
struct entry {
	const char *source; /* on the host */
	const char *target; /* beneath the root */
	bool may_lack;      /* no error if the host has none; a symlink is copied as it is */
	bool for_guest;     /* must be a file that any uid may read */

	int tree; /* the detached clone; -1: a symlink, or absent */
	bool is_dir;
	char link[64];
};

#define ENTRIES 7

struct root {
	struct entry entries[ENTRIES];
	bool kvm;
	uid_t uid;
	int fd; /* of the tmpfs */
};

static void root_done(struct root *root)
{
	for (size_t i = 0; i < ENTRIES; i++)
		fd_close(&root->entries[i].tree);
	fd_close(&root->fd);
}

static int check_guest_file(const struct entry *e, const struct stat *st, struct error *err)
{
	if (!S_ISREG(st->st_mode))
		return error_set(err, EINVAL, "%s is not a regular file", e->source);
	if (!(st->st_mode & S_IROTH))
		return error_set(err, EACCES,
			"%s cannot be read by QEMU's uid: make it readable for others", e->source);
	return 0;
}

/* 1: it is a symlink, kept in e->link; 0: it is not; -ENOENT without err: not there */
static int copy_link(struct entry *e, struct error *err)
{
	ssize_t n = readlink(e->source, e->link, sizeof(e->link));

	if (n < 0 && errno == EINVAL)
		return 0;
	if (n < 0 && errno == ENOENT)
		return -ENOENT;
	if (n < 0)
		return error_errno(err, errno, "read %s", e->source);
	if ((size_t)n >= sizeof(e->link))
		return error_set(err, ENAMETOOLONG, "%s is a link to a long path", e->source);
	e->link[n] = '\0';
	return 1;
}

static int clone_tree(struct entry *e, struct error *err)
{
	struct mount_attr attr = { .attr_set = READ_ONLY, .propagation = MS_PRIVATE };
	struct stat st;
	int r;

	e->tree =
		open_tree(AT_FDCWD, e->source, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE);
	if (e->tree < 0 || fstat(e->tree, &st) < 0)
		return error_errno(err, errno, "open %s", e->source);
	e->is_dir = S_ISDIR(st.st_mode);
	if (e->for_guest) {
		attr.attr_set |= MOUNT_ATTR_NOEXEC;
		r = check_guest_file(e, &st, err);
		if (r < 0)
			return r;
	}
	/* On the detached tree: there is no moment at which it is there and writable. */
	if (mount_setattr(e->tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return error_errno(err, errno, "make %s read-only", e->source);
	return 0;
}

/* Still on the host. */
static int root_collect(struct root *root, struct error *err)
{
	for (size_t i = 0; i < ENTRIES; i++) {
		struct entry *e = &root->entries[i];
		int r = e->may_lack ? copy_link(e, err) : 0;

		if (r == 0)
			r = clone_tree(e, err);
		else if (r == -ENOENT)
			r = 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* A small tmpfs, detached. */
static int tmpfs_new(const char *inodes, unsigned attrs, struct error *err)
{
	_cleanup_close_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "size", "4k", 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", inodes, 0) < 0 ||
		fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_errno(err, errno, "make a tmpfs");
	fd = fsmount(fs, FSMOUNT_CLOEXEC, attrs);
	return fd < 0 ? error_errno(err, errno, "mount a tmpfs") : fd;
}

static int seal(int fd, struct error *err)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };

	if (mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return error_errno(err, errno, "make a tmpfs read-only");
	return 0;
}

static int attach(int tree, int dirfd, const char *target, struct error *err)
{
	if (move_mount(tree, "", dirfd, target, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_errno(err, errno, "mount /%s", target);
	return 0;
}

static int make_place(const struct root *root, const struct entry *e, struct error *err)
{
	int fd;

	if (e->is_dir)
		return mkdirat(root->fd, e->target, 0755) < 0
			? error_errno(err, errno, "mkdir /%s", e->target)
			: 0;
	fd = openat(root->fd, e->target, O_CREAT | O_EXCL | O_RDONLY | O_CLOEXEC, 0444);
	if (fd < 0)
		return error_errno(err, errno, "create /%s", e->target);
	fd_close(&fd);
	return 0;
}

static int place_entry(const struct root *root, const struct entry *e, struct error *err)
{
	int r;

	if (e->link[0])
		return symlinkat(e->link, root->fd, e->target) < 0
			? error_errno(err, errno, "link /%s", e->target)
			: 0;
	if (e->tree < 0)
		return 0;
	r = make_place(root, e, err);
	return r < 0 ? r : attach(e->tree, root->fd, e->target, err);
}

/* Its own tmpfs, because the root is nodev. */
static int place_kvm(const struct root *root, struct error *err)
{
	_cleanup_close_ int dev = tmpfs_new("4", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, err);
	int r;

	if (dev < 0)
		return dev;
	if (mkdirat(root->fd, "dev", 0755) < 0 ||
		mknodat(dev, "kvm", S_IFCHR | 0600, KVM_RDEV) < 0 ||
		fchownat(dev, "kvm", root->uid, root->uid, 0) < 0)
		return error_errno(err, errno, "make /dev/kvm");
	r = seal(dev, err);
	return r < 0 ? r : attach(dev, root->fd, "dev", err);
}

/* The root becomes "/", what was there before is gone. */
static int root_enter(const struct root *root, struct error *err)
{
	if (fchdir(root->fd) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return error_errno(err, errno, "change the root");
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_errno(err, errno, "leave the old root");
	return 0;
}

/* In our own mount namespace. */
static int root_build(struct root *root, struct error *err)
{
	int r;

	root->fd = tmpfs_new("32", MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC, err);
	if (root->fd < 0)
		return root->fd;
	r = attach(root->fd, AT_FDCWD, "/", err);
	if (r == 0 && mkdirat(root->fd, "etc", 0755) < 0)
		r = error_errno(err, errno, "mkdir /etc");
	for (size_t i = 0; i < ENTRIES && r == 0; i++)
		r = place_entry(root, &root->entries[i], err);
	if (r == 0 && root->kvm)
		r = place_kvm(root, err);
	if (r == 0)
		r = seal(root->fd, err);
	return r < 0 ? r : root_enter(root, err);
}

static int leave_host(struct error *err)
{
	int fd = SLOT_FD_NS;

	if (setns(fd, CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET) < 0)
		return error_errno(err, errno, "join the void's namespaces");
	fd_close(&fd);
	if (unshare(CLONE_NEWNS) < 0)
		return error_errno(err, errno, "leave the void's mount namespace");
	return 0;
}

static int check_options(const struct slot_options *o, struct error *err)
{
	if (!o->kernel || !o->initrd || !o->accel)
		return error_set(err, EINVAL, "kind=qemu needs kernel=, initrd= and accel=");
	if (strcmp(o->accel, "tcg") != 0 && strcmp(o->accel, "kvm") != 0)
		return error_set(err, EINVAL, "accel=%s is neither tcg nor kvm", o->accel);
	/* QEMU finds modules and firmware relative to its own path. */
	if (strncmp(o->binary, "/usr/", 5) != 0)
		return error_set(err, EINVAL,
			"QEMU is %s, but its root holds only what is beneath /usr", o->binary);
	return 0;
}

int slot_isolate_qemu(const struct slot_options *o, struct error *err)
{
	CLEANUP(root_done) struct root root = {
		.entries = {
			{ .source = "/usr", .target = "usr", .tree = -1 },
			{ .source = "/lib", .target = "lib", .may_lack = true, .tree = -1 },
			{ .source = "/lib64", .target = "lib64", .may_lack = true, .tree = -1 },
			{ .source = "/bin", .target = "bin", .may_lack = true, .tree = -1 },
			{ .source = "/etc/ld.so.cache", .target = "etc/ld.so.cache",
				.may_lack = true, .tree = -1 },
			{ .source = o->kernel, .target = "kernel", .for_guest = true, .tree = -1 },
			{ .source = o->initrd, .target = "initrd", .for_guest = true, .tree = -1 },
		},
		.uid = (uid_t)o->uid,
		.fd = -1,
	};
	const struct isolation iso = {
		.name = "bulkhead-slot",
		.first_free_fd = SLOT_FD_NS,
		.void_pidfd = -1,
		.uid = (uid_t)o->uid,
		.nofile = SLOT_EXEC_FD + 1,
		.may_fork = true,        /* QEMU starts threads for ever */
		.may_write_files = true, /* the limit would hold for the guest's memory */
		.policy = NULL,          /* at EXEC */
	};
	int r = check_options(o, err);

	if (r < 0)
		return error_wrap(err, "QEMU's slot");
	root.kvm = slot_has_kvm(o);
	r = root_collect(&root, err);
	if (r == 0)
		r = leave_host(err);
	if (r == 0)
		r = root_build(&root, err);
	root_done(&root);
	return r < 0 ? error_wrap(err, "QEMU's root") : isolate(&iso, err);
}
