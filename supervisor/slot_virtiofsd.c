/*
 * What virtiofsd lives in: the mount namespace V and a user namespace.
 *
 * V is a copy of M, mountd's mount namespace, in which nothing is left but a
 * small read-only root:
 *
 *	/usr              the host's, read-only: virtiofsd and its libraries
 *	/lib /lib64       what they are on the host: links into /usr, or directories
 *	/etc/ld.so.cache  the host's
 *	/proc             of the sandbox's PID namespace. It must be complete:
 *			  virtiofsd mounts its own, which a user namespace may
 *			  only where all of one is to be seen
 *	/share            a slave of mountd's share: mounts that mountd makes there
 *			  later appear here, and go when it unmounts them
 *
 * The share's own directories are read-only in V, or the guest could rename
 * c1 to c2 under mountd's feet; what is mounted on them is as mountd made it.
 *
 * The user namespace maps every id to itself, so that files have the owners
 * the guest gives them. Its point is that capabilities in it hold against
 * files, but not against the host: no device nodes, no mounts in V, no
 * ptrace of others, no network.
 *
 * virtiofsd itself then adds a PID, mount and network namespace, pivots into
 * the share and loads its own seccomp filter.
 */
#include <cap-ng.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/io.h"
#include "common/isolate.h"
#include "ipc/fds.h"
#include "supervisor/slot.h"

/* It keeps an fd for every file the guest knows of: as many as the host allows, up to this. */
#define NOFILE_MAX 1000000

static const char *const places[] = { "usr", "etc", "proc", "share" };

/* What virtiofsd needs to build its sandbox (the first two) and to act for the guest's users. */
static const unsigned kept_caps[] = {
	CAP_SYS_ADMIN, CAP_SETPCAP, CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SETGID,
	CAP_SETUID, CAP_MKNOD, CAP_SETFCAP,
};

static int join_mountd(struct error *err)
{
	struct mount_attr slave = { .propagation = MS_SLAVE };
	int fd = SLOT_FD_NS;

	/* With M come the void's other namespaces, in which mountd is. */
	if (setns(fd, CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET) < 0)
		return error_errno(err, errno, "join mountd's namespaces");
	fd_close(&fd);
	if (unshare(CLONE_NEWNS) < 0)
		return error_errno(err, errno, "unshare the mount namespace");
	if (mount_setattr(AT_FDCWD, "/", AT_RECURSIVE, &slave, sizeof(slave)) < 0)
		return error_errno(err, errno, "make every mount a slave of mountd's");
	return 0;
}

/* The share as virtiofsd will see it, detached. */
static int clone_share(const char *path, struct error *err)
{
	struct mount_attr slave = { .propagation = MS_SLAVE };
	struct mount_attr top = { .attr_set = MOUNT_ATTR_RDONLY };
	_cleanup_close_ int tree = open_tree(AT_FDCWD, path,
		(unsigned)OPEN_TREE_CLONE | (unsigned)OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (tree < 0)
		return error_errno(err, errno, "open the share %s", path);
	if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &slave, sizeof(slave)) < 0)
		return error_errno(err, errno, "make the share a slave of mountd's");
	/* Not recursive: only the directories that mountd mounts on. */
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &top, sizeof(top)) < 0)
		return error_errno(err, errno, "make the share's directories read-only");
	return fd_steal(&tree);
}

static int new_mount(const char *type, const char *mode, unsigned attr, struct error *err)
{
	_cleanup_close_ int fs = fsopen(type, FSOPEN_CLOEXEC);
	int mnt;

	if (fs < 0 || (mode && fsconfig(fs, FSCONFIG_SET_STRING, "mode", mode, 0) < 0) ||
		fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_errno(err, errno, "make a %s", type);
	mnt = fsmount(fs, FSMOUNT_CLOEXEC, attr | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV);
	return mnt < 0 ? error_errno(err, errno, "mount a %s", type) : mnt;
}

static int attach(int mnt, int root, const char *name, struct error *err)
{
	if (move_mount(mnt, "", root, name, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_errno(err, errno, "mount %s", name);
	return 0;
}

/* Binds a directory or file of the host read-only on the name it has there. */
static int bind_host(int root, const char *path, struct error *err)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
		.propagation = MS_PRIVATE,
	};
	_cleanup_close_ int tree = open_tree(AT_FDCWD, path,
		(unsigned)OPEN_TREE_CLONE | (unsigned)OPEN_TREE_CLOEXEC | AT_RECURSIVE);

	if (tree < 0)
		return error_errno(err, errno, "open %s", path);
	if (mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
		return error_errno(err, errno, "make %s read-only", path);
	return attach(tree, root, path + 1, err);
}

/* /lib, /lib64: links into /usr where the host has merged it, else directories. */
static int copy_lib(int root, const char *path, struct error *err)
{
	char target[128];
	ssize_t n = readlink(path, target, sizeof(target) - 1);

	if (n < 0 && errno == ENOENT)
		return 0;
	if (n < 0 && errno != EINVAL)
		return error_errno(err, errno, "read %s", path);
	if (n < 0) {
		if (mkdirat(root, path + 1, 0755) < 0)
			return error_errno(err, errno, "mkdir %s", path);
		return bind_host(root, path, err);
	}
	target[n] = '\0';
	if (symlinkat(target, root, path + 1) < 0)
		return error_errno(err, errno, "symlink %s", path);
	return 0;
}

static int copy_cache(int root, struct error *err)
{
	_cleanup_close_ int fd = -1;

	if (access("/etc/ld.so.cache", R_OK) < 0)
		return 0; /* the loader does without */
	fd = openat(root, "etc/ld.so.cache", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444);
	if (fd < 0)
		return error_errno(err, errno, "create /etc/ld.so.cache");
	return bind_host(root, "/etc/ld.so.cache", err);
}

static int fill_root(int root, int share, struct error *err)
{
	_cleanup_close_ int proc = new_mount("proc", NULL, MOUNT_ATTR_NOEXEC, err);
	int r;

	if (proc < 0)
		return proc;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (mkdirat(root, places[i], 0755) < 0)
			return error_errno(err, errno, "mkdir /%s", places[i]);
	r = bind_host(root, "/usr", err);
	if (r == 0)
		r = copy_lib(root, "/lib", err);
	if (r == 0)
		r = copy_lib(root, "/lib64", err);
	if (r == 0)
		r = copy_cache(root, err);
	if (r == 0)
		r = attach(proc, root, "proc", err);
	return r < 0 ? r : attach(share, root, "share", err);
}

static int enter_root(int root, struct error *err)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };

	/* The old root ends up on top of the new one, and is the one that goes. */
	if (fchdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return error_errno(err, errno, "enter the new root");
	if (mount_setattr(root, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return error_errno(err, errno, "make the root read-only");
	return 0;
}

static int make_root(const char *path, struct error *err)
{
	_cleanup_close_ int share = clone_share(path, err), root = -1;
	int r;

	if (share < 0)
		return share;
	root = new_mount("tmpfs", "0755", MOUNT_ATTR_NOEXEC, err);
	if (root < 0)
		return root;
	/* It needs a place before anything can be mounted in it; this one is of no further use. */
	if (move_mount(root, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
		return error_errno(err, errno, "mount the root");
	r = fill_root(root, share, err);
	return r < 0 ? r : enter_root(root, err);
}

static int write_map(pid_t pid, const char *name)
{
	static const char map[] = "0 0 4294967295";
	char path[64];
	_cleanup_close_ int fd = -1;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write_full(fd, map, sizeof(map) - 1);
}

/* In a child that stayed outside: who is inside has no capability to map more than itself. */
static _Noreturn void map_parent(pid_t parent, int inside)
{
	char byte;
	int r;

	if (read_full(inside, &byte, 1) != 1)
		_exit(ECANCELED);
	r = write_map(parent, "uid_map");
	if (r == 0)
		r = write_map(parent, "gid_map");
	_exit(-r);
}

static int wait_mapped(pid_t child, struct error *err)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return error_errno(err, errno, "wait for the id maps");
	if (!WIFEXITED(status))
		return error_set(err, EIO, "the process that writes the id maps was killed");
	if (WEXITSTATUS(status))
		return error_errno(err, WEXITSTATUS(status), "write the id maps");
	return 0;
}

static int enter_user_namespace(struct error *err)
{
	_cleanup_close_ int inside = -1, tell = -1;
	pid_t parent = getpid(), child;
	int fds[2], r, failed = 0;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, errno, "pipe");
	inside = fds[0];
	tell = fds[1];
	child = fork();
	if (child < 0)
		return error_errno(err, errno, "fork");
	if (child == 0) {
		fd_close(&tell);
		map_parent(parent, inside);
	}
	if (unshare(CLONE_NEWUSER) < 0)
		failed = errno;
	else if (write(tell, "", 1) != 1)
		failed = EPIPE;
	fd_close(&tell);
	r = wait_mapped(child, err);
	if (failed)
		return error_errno(err, failed, "make a user namespace");
	return r;
}

/* uid 0 of the user namespace with no more than it needs, for itself and for what it will exec. */
static int reduce(struct error *err)
{
	const capng_type_t type = CAPNG_EFFECTIVE | CAPNG_PERMITTED | CAPNG_BOUNDING_SET;
	uint64_t kept = 0;

	if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
		return error_errno(err, errno, "become uid 0 of the user namespace");
	capng_clear(CAPNG_SELECT_ALL);
	for (size_t i = 0; i < ARRAY_SIZE(kept_caps); i++) {
		if (capng_update(CAPNG_ADD, type, kept_caps[i]) < 0)
			return error_set(err, EINVAL, "capability %u is unknown", kept_caps[i]);
		kept |= 1ULL << kept_caps[i];
	}
	if (capng_apply(CAPNG_SELECT_ALL) < 0)
		return error_set(err, EPERM, "give up capabilities");
	if (isolate_check_bounding(kept, err) < 0)
		return -err->code;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, errno, "set no_new_privs");
	return 0;
}

static int limit(void)
{
	const struct rlimit none = { 0, 0 };
	struct rlimit files = { NOFILE_MAX, NOFILE_MAX };

	if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_MEMLOCK, &none) < 0 ||
		setrlimit(RLIMIT_MSGQUEUE, &none) < 0)
		return -errno;
	if (setrlimit(RLIMIT_NOFILE, &files) == 0)
		return 0;
	/* Raising the hard limit takes CAP_SYS_RESOURCE; without, all that there is. */
	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return -errno;
	files.rlim_cur = files.rlim_max;
	return setrlimit(RLIMIT_NOFILE, &files) < 0 ? -errno : 0;
}

static int isolate_stages(const struct slot_options *options, struct error *err)
{
	int r;

	if (!options->share || options->share[0] != '/')
		return error_set(err, EINVAL, "kind=virtiofsd needs share=, an absolute path");
	if (close_range(SLOT_FD_END, ~0U, 0) < 0)
		return error_errno(err, errno, "close_range");
	r = limit();
	if (r < 0)
		return error_errno(err, -r, "limits");
	umask(022);
	r = join_mountd(err);
	if (r == 0)
		r = make_root(options->share, err);
	if (r == 0)
		r = enter_user_namespace(err);
	return r < 0 ? r : reduce(err);
}

int slot_isolate_virtiofsd(const struct slot_options *options, struct error *err)
{
	int r = isolate_stages(options, err);

	return r < 0 ? error_wrap(err, "virtiofsd's root") : 0;
}
