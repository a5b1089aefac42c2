#include "mountd/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "common/fd.h"

int tree_clone(int dir, bool recursive)
{
	return open_tree(dir, "",
		AT_EMPTY_PATH | (unsigned)OPEN_TREE_CLONE | (unsigned)OPEN_TREE_CLOEXEC |
			(recursive ? AT_RECURSIVE : 0U));
}

int tree_bind(int dir, bool recursive, struct error *err)
{
	_cleanup_close_ int tree = tree_clone(dir, recursive);
	struct mount_attr attr = {
		.attr_set = MOUNT_ATTR_NODEV,
		/* A slave of the host's mount would show what is mounted there later. */
		.propagation = MS_PRIVATE,
	};

	if (tree < 0)
		return error_errno(err, errno, "bind");
	if (mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0U), &attr,
		    sizeof(attr)) < 0)
		return error_errno(err, errno, "set nodev");
	return fd_steal(&tree);
}

int tree_follow(int dir, bool recursive, struct error *err)
{
	_cleanup_close_ int tree = tree_clone(dir, recursive);
	struct mount_attr attr = { .propagation = MS_SLAVE };

	if (tree < 0 ||
		mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0U), &attr,
			sizeof(attr)) < 0)
		return error_errno(err, errno, "follow the host's mounts");
	return fd_steal(&tree);
}

int tree_make_readonly(int tree, bool recursive, struct error *err)
{
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	struct statvfs st;

	if (mount_setattr(tree, "", AT_EMPTY_PATH | (recursive ? AT_RECURSIVE : 0U), &attr,
		    sizeof(attr)) < 0 ||
		fstatvfs(tree, &st) < 0)
		return error_errno(err, errno, "make it read-only");
	if (!(st.f_flag & ST_RDONLY))
		return error_set(err, EIO, "it is writable, though it was to be read-only");
	return 0;
}
