#include "persistd/jail.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/fd.h"
#include "ipc/exits.h"

static int bind_directory(int dirfd, struct error *err)
{
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
		.propagation = MS_PRIVATE,
	};
	_cleanup_close_ int tree = -1, dir = -1;

	tree = open_tree(dirfd, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return error_errno(err, errno, "bind the directory");
	if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0)
		return error_errno(err, errno, "restrict the directory's mount");
	/* tree is only a path; to be synced the directory has to be open. */
	dir = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return error_errno(err, errno, "open the directory");
	if (dup3(dir, dirfd, O_CLOEXEC) < 0)
		return error_errno(err, errno, "move the directory's fd");
	return 0;
}

int jail_directory(int dirfd, struct error *err)
{
	const struct rlimit size = { .rlim_cur = EXITS_FILE_MAX, .rlim_max = EXITS_FILE_MAX };
	int r = bind_directory(dirfd, err);

	if (r < 0)
		return r;
	if (setrlimit(RLIMIT_FSIZE, &size) < 0)
		return error_errno(err, errno, "limit the file size");
	return 0;
}
