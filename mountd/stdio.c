#include "mountd/stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/vfs.h>

#include "common/fdio.h"

/* ---------------------------------------------------------------------------- FIFOs */

/* The FIFO as an O_PATH fd: nothing is opened, so nothing can happen, before its type is known. */
static int find_fifo(const struct prefixes *prefixes, const char *what, const char *path,
	struct stat *ret_st, struct error *err)
{
	_cleanup_close_ int fd = -1;

	fd = prefixes_open_path(prefixes, what, path, O_PATH | O_NOFOLLOW, err);
	if (fd < 0)
		return fd;
	if (fd_stat(fd, ret_st) < 0)
		return error_errno(err, errno, "%s " PATH_FMT, what, path);
	if (!S_ISFIFO(ret_st->st_mode))
		return error_set(err, EINVAL, "%s " PATH_FMT " is %s, not a FIFO", what, path,
			path_type_name(ret_st->st_mode));
	return fd_steal(&fd);
}

/* Opens what find_fifo() has found, and looks again: it must be the same. */
static int open_fifo(int proc, int found, const struct stat *want, const char *what, uint64_t flags,
	struct fdlist *ret, struct error *err)
{
	_cleanup_close_ int fd = path_reopen(proc, found, flags | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0)
		return error_errno(err, -fd, "open %s", what);
	if (fd_stat(fd, &st) < 0 || !S_ISFIFO(st.st_mode) || st.st_dev != want->st_dev ||
		st.st_ino != want->st_ino)
		return error_set(err, ESTALE, "%s changed while it was opened", what);
	return fdlist_add_consume(ret, fd_steal(&fd));
}

static int open_pipe(const struct prefixes *prefixes, int proc, const char *what, const char *path,
	bool input, struct fdlist *ret, struct error *err)
{
	_cleanup_close_ int found = -1;
	struct stat st;
	int r;

	found = find_fifo(prefixes, what, path, &st, err);
	if (found < 0)
		return found;
	/* Open for both, a writer never sees EPIPE when containerd is away. */
	if (!input)
		return open_fifo(proc, found, &st, what, O_RDWR, ret, err);
	/* The writing end only after the reading one: alone and O_NONBLOCK it would be ENXIO. */
	r = open_fifo(proc, found, &st, what, O_RDONLY, ret, err);
	return r < 0 ? r : open_fifo(proc, found, &st, what, O_WRONLY, ret, err);
}

/* ---------------------------------------------------------------------------- files */

bool stdio_is_file(const char *path)
{
	return strncmp(path, "file://", strlen("file://")) == 0;
}

static int hex_digit(char c)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";
	const char *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) % 16 : -1;
}

/* One byte of a URI's path, as it is or as %XX; *at moves behind it. -1: there is none. */
static int next_byte(const char **at)
{
	const char *p = *at;
	int byte = (unsigned char)p[0], high, low;

	*at = p + 1;
	if (byte == '?' || byte == '#')
		return -1;
	if (byte == '%') {
		high = hex_digit(p[1]);
		low = high < 0 ? -1 : hex_digit(p[2]);
		if (low < 0)
			return -1;
		byte = high * 16 + low;
		*at = p + 3;
	}
	return byte < ' ' || byte == 0x7f ? -1 : byte;
}

/* The path of file:///PATH, as containerd writes it: without a host, nothing behind it. */
static int path_of_uri(const char *uri, const char *what, char path[static PATH_MAX],
	struct error *err)
{
	const char *at = uri + strlen("file://");
	size_t n = 0;

	while (*at) {
		int byte = next_byte(&at);

		if (byte < 0 || n == PATH_MAX - 1)
			return error_set(err, EINVAL,
				"%s " PATH_FMT " is not of the form file:///PATH", what, uri);
		path[n++] = (char)byte;
	}
	path[n] = '\0';
	return 0;
}

/*
 * agentd waits for the disk with every piece, and what waits for a server that is gone cannot
 * be ended. A disk is slow at worst.
 */
static int check_local(int dir, const char *what, const char *path, struct error *err)
{
	static const unsigned long of_a_server[] = { NFS_SUPER_MAGIC, FUSE_SUPER_MAGIC,
		SMB_SUPER_MAGIC, CIFS_SUPER_MAGIC, SMB2_SUPER_MAGIC, CEPH_SUPER_MAGIC, V9FS_MAGIC,
		AFS_SUPER_MAGIC, AFS_FS_MAGIC, CODA_SUPER_MAGIC };
	struct statfs st;

	if (fstatfs(dir, &st) < 0)
		return error_errno(err, errno, "the directory of %s " PATH_FMT, what, path);
	for (size_t i = 0; i < ARRAY_SIZE(of_a_server); i++)
		if ((unsigned long)st.f_type == of_a_server[i])
			return error_set(err, EINVAL,
				"%s " PATH_FMT
				" lies on a file system of a server's, which may not answer; "
				"use a directory of a disk",
				what, path);
	return 0;
}

/* Nobody else's file, and no other name of one that is somewhere else. */
static int check_log(int fd, const char *what, const char *path, struct stat *ret,
	struct error *err)
{
	if (fd_stat(fd, ret) < 0)
		return error_errno(err, errno, "%s " PATH_FMT, what, path);
	if (!S_ISREG(ret->st_mode))
		return error_set(err, EINVAL, "%s " PATH_FMT " is %s, not a regular file", what,
			path, path_type_name(ret->st_mode));
	if (ret->st_uid != 0)
		return error_set(err, EINVAL, "%s " PATH_FMT " belongs to uid %u, not to root",
			what, path, (unsigned)ret->st_uid);
	if (ret->st_nlink != 1)
		return error_set(err, EINVAL, "%s " PATH_FMT " has %lu names; it must have one",
			what, path, (unsigned long)ret->st_nlink);
	return 0;
}

/* The file as an O_PATH fd, made if it is not there. Neither a link nor a mount is followed. */
static int find_or_make(int dir, const char *name)
{
	int fd = path_open(dir, name, O_PATH | O_NOFOLLOW, PATH_BENEATH | RESOLVE_NO_XDEV);

	if (fd != -ENOENT)
		return fd;
	fd = path_create(dir, name, 0600);
	/* Somebody else has made it meanwhile: then that is it. */
	if (fd < 0 && fd != -EEXIST)
		return fd;
	fd_close(&fd);
	return path_open(dir, name, O_PATH | O_NOFOLLOW, PATH_BENEATH | RESOLVE_NO_XDEV);
}

static int open_path(const struct prefixes *prefixes, int proc, const char *what,
	const char *path, struct fdlist *ret, struct error *err)
{
	_cleanup_close_ int dir = -1, found = -1, fd = -1;
	struct stat want, st;
	const char *name;
	int r;

	dir = prefixes_open_parent(prefixes, what, path, &name, err);
	if (dir < 0)
		return dir;
	r = check_local(dir, what, path, err);
	if (r < 0)
		return r;
	found = find_or_make(dir, name);
	if (found < 0)
		return error_errno(err, -found, "open %s " PATH_FMT, what, path);
	r = check_log(found, what, path, &want, err);
	if (r < 0)
		return r;
	fd = path_reopen(proc, found, O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return error_errno(err, -fd, "open %s " PATH_FMT, what, path);
	r = check_log(fd, what, path, &st, err);
	if (r < 0)
		return r;
	if (st.st_dev != want.st_dev || st.st_ino != want.st_ino)
		return error_set(err, ESTALE, "%s changed while it was opened", what);
	return fdlist_add_consume(ret, fd_steal(&fd));
}

/* What is wrong with the name is the caller's: a bad argument, whatever the kernel calls it. */
static int open_log(const struct prefixes *prefixes, int proc, const char *what, const char *uri,
	struct fdlist *ret, struct error *err)
{
	char path[PATH_MAX];
	int r = path_of_uri(uri, what, path, err);

	if (r == 0)
		r = open_path(prefixes, proc, what, path, ret, err);
	switch (r) {
	case -EPERM:
	case -ENOENT:
	case -ENOTDIR:
	case -ELOOP:
	case -EXDEV:
		err->code = EINVAL;
		return -EINVAL;
	default:
		return r;
	}
}

/* ------------------------------------------------------------------------------ any */

static int open_stream(const struct stdio_prefixes *prefixes, int proc, const char *what,
	const char *path, bool input, struct fdlist *ret, struct error *err)
{
	const char *scheme = strstr(path, "://");

	if (!*path)
		return 0;
	if (stdio_is_file(path) && !input)
		return open_log(&prefixes->logs, proc, what, path, ret, err);
	if (scheme)
		return error_set(err, EINVAL, "%s " PATH_FMT ": '%.*s://' is not supported; use %s",
			what, path, (int)(scheme - path), path,
			input ? "a FIFO" : "a FIFO or file:///PATH");
	return open_pipe(&prefixes->fifos, proc, what, path, input, ret, err);
}

int stdio_open(const struct stdio_prefixes *prefixes, int proc, const struct stdio_paths *paths,
	struct fdlist *ret, struct error *err)
{
	int r = open_stream(prefixes, proc, "stdin", paths->in, true, ret, err);

	if (r == 0)
		r = open_stream(prefixes, proc, "stdout", paths->out, false, ret, err);
	if (r == 0)
		r = open_stream(prefixes, proc, "stderr", paths->err, false, ret, err);
	return r;
}
