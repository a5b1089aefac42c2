#include "mountd/stdio.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/fdio.h"

static const char *type_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return "a regular file";
	case S_IFDIR:
		return "a directory";
	case S_IFLNK:
		return "a symbolic link";
	case S_IFSOCK:
		return "a socket";
	default:
		return "a device";
	}
}

/* The FIFO as an O_PATH fd: nothing is opened, so nothing can happen, before its type is known. */
static int find_fifo(const struct prefixes *prefixes, const char *what, const char *path,
	struct stat *ret_st, struct error *err)
{
	const char *scheme = strstr(path, "://");
	_cleanup_close_ int fd = -1;

	if (scheme)
		return error_set(err, EOPNOTSUPP,
			"%s " PATH_FMT ": loggers with '%.*s://' are not supported; use FIFOs",
			what, path, (int)(scheme - path), path);
	fd = prefixes_open_path(prefixes, what, path, O_PATH | O_NOFOLLOW, err);
	if (fd < 0)
		return fd;
	if (fd_stat(fd, ret_st) < 0)
		return error_errno(err, errno, "%s " PATH_FMT, what, path);
	if (!S_ISFIFO(ret_st->st_mode))
		return error_set(err, EINVAL, "%s " PATH_FMT " is %s, not a FIFO", what, path,
			type_name(ret_st->st_mode));
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

static int open_stream(const struct prefixes *prefixes, int proc, const char *what,
	const char *path, bool input, struct fdlist *ret, struct error *err)
{
	_cleanup_close_ int found = -1;
	struct stat st;
	int r;

	if (!*path)
		return 0;
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

int stdio_open(const struct prefixes *prefixes, int proc, const struct stdio_paths *paths,
	struct fdlist *ret, struct error *err)
{
	int r = open_stream(prefixes, proc, "stdin", paths->in, true, ret, err);

	if (r == 0)
		r = open_stream(prefixes, proc, "stdout", paths->out, false, ret, err);
	if (r == 0)
		r = open_stream(prefixes, proc, "stderr", paths->err, false, ret, err);
	return r;
}
