#include "mountd/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"

/* openat2() answers EAGAIN when something was renamed while it walked. */
#define RENAME_RETRIES 32

static int open_how(int dirfd, const char *path, const struct open_how *how)
{
	for (int i = 0;; i++) {
		int fd = (int)syscall(SYS_openat2, dirfd, path, how, sizeof(*how));

		if (fd >= 0)
			return fd;
		if (errno != EINTR && (errno != EAGAIN || i == RENAME_RETRIES))
			return -errno;
	}
}

int path_open(int dirfd, const char *path, uint64_t flags, uint64_t resolve)
{
	const struct open_how how = {
		.flags = flags | O_CLOEXEC,
		.resolve = resolve,
	};

	return open_how(dirfd, path, &how);
}

int path_create(int dirfd, const char *name, unsigned mode)
{
	const struct open_how how = {
		.flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		.mode = mode,
		.resolve = PATH_BENEATH,
	};

	return open_how(dirfd, name, &how);
}

int path_reopen(int proc_fd, int fd, uint64_t flags)
{
	char name[32];

	snprintf(name, sizeof(name), "self/fd/%d", fd);
	return path_open(proc_fd, name, flags, 0);
}

bool path_is_name(const char *name)
{
	size_t len = strlen(name);

	return len > 0 && len <= NAME_MAX && !strchr(name, '/') && strcmp(name, ".") != 0 &&
	       strcmp(name, "..") != 0;
}

bool path_is_normal(const char *path)
{
	size_t len = strlen(path);

	if (path[0] != '/' || len < 2 || len >= PATH_MAX || path[len - 1] == '/')
		return false;
	while (*path) {
		size_t n = strcspn(++path, "/");

		if (n == 0 || (n == 1 && path[0] == '.') || (n == 2 && !memcmp(path, "..", 2)))
			return false;
		path += n;
	}
	return true;
}

int prefixes_open(struct prefixes *p, const char *key, const struct option_list *list,
	struct error *err)
{
	p->key = key;
	p->n = 0;
	for (unsigned i = 0; i < list->n; i++) {
		struct prefix *item = &p->item[p->n];

		if (!path_is_normal(list->item[i]))
			return error_set(err, EINVAL,
				"%s " PATH_FMT
				" is not an absolute path without '.', '..' and '//'",
				key, list->item[i]);
		item->path = list->item[i];
		/* The prefix itself is the administrator's: it may be a link to another disk. */
		item->fd = path_open(AT_FDCWD, item->path, O_PATH | O_DIRECTORY, 0);
		if (item->fd < 0 && item->fd != -ENOENT && item->fd != -ENOTDIR)
			return error_errno(err, -item->fd, "open %s " PATH_FMT, key, item->path);
		if (item->fd < 0)
			item->fd = -1;
		p->n++;
	}
	return 0;
}

const char *path_behind(const char *path, const char *prefix)
{
	size_t len = strlen(prefix);

	if (strncmp(path, prefix, len) != 0)
		return NULL;
	if (path[len] == '\0')
		return path + len;
	return path[len] == '/' ? path + len + 1 : NULL;
}

static int cannot_open(struct error *err, int code, const char *what, const char *path)
{
	switch (code) {
	case ENOENT:
		return error_set(err, code, "%s " PATH_FMT " does not exist", what, path);
	case ENOTDIR:
		return error_set(err, code, "%s " PATH_FMT " is not a directory", what, path);
	case ELOOP:
		return error_set(err, code,
			"%s " PATH_FMT
			" leads through a symbolic link; the path must be the real one",
			what, path);
	default:
		return error_errno(err, code, "open %s " PATH_FMT, what, path);
	}
}

/* The longest prefix that path lies beneath: they may be nested. */
static const struct prefix *prefix_of(const struct prefixes *p, const char *path)
{
	const struct prefix *found = NULL;

	for (unsigned i = 0; i < p->n; i++) {
		const char *rest = path_behind(path, p->item[i].path);

		if (rest && *rest && (!found || strlen(p->item[i].path) > strlen(found->path)))
			found = &p->item[i];
	}
	return found;
}

/* The prefix that allows the path: NULL with err. */
static const struct prefix *allowed(const struct prefixes *p, const char *what, const char *path,
	struct error *err)
{
	const struct prefix *prefix;

	if (!path_is_normal(path)) {
		error_set(err, EINVAL,
			"%s " PATH_FMT " is not an absolute path without '.', '..' and '//'", what,
			path);
		return NULL;
	}
	prefix = prefix_of(p, path);
	if (!prefix)
		error_set(err, EPERM,
			"%s " PATH_FMT " is beneath none of the directories of %s; "
			"if it should be allowed, add its directory there",
			what, path, p->key);
	return prefix;
}

/* The same, and its directory is open. 0, or -errno with err. */
static int find_prefix(const struct prefixes *p, const char *what, const char *path,
	const struct prefix **ret, struct error *err)
{
	*ret = allowed(p, what, path, err);
	if (!*ret)
		return -err->code;
	if ((*ret)->fd < 0)
		return error_set(err, ENOENT,
			"%s " PATH_FMT ": the directory " PATH_FMT
			" of %s did not exist when the sandbox was started",
			what, path, (*ret)->path, p->key);
	return 0;
}

int prefixes_open_path(const struct prefixes *p, const char *what, const char *path,
	uint64_t flags, struct error *err)
{
	const struct prefix *prefix;
	int r = find_prefix(p, what, path, &prefix, err);

	if (r < 0)
		return r;
	r = path_open(prefix->fd, path_behind(path, prefix->path), flags, PATH_BENEATH);
	return r < 0 ? cannot_open(err, -r, what, path) : r;
}

int prefixes_open_parent(const struct prefixes *p, const char *what, const char *path,
	const char **ret_name, struct error *err)
{
	const struct prefix *prefix;
	_cleanup_free_ char *parent = NULL;
	char of_what[64], *slash;
	int r = find_prefix(p, what, path, &prefix, err);

	if (r < 0)
		return r;
	*ret_name = strrchr(path, '/') + 1;
	parent = strdup(path_behind(path, prefix->path));
	if (!parent)
		return error_errno(err, ENOMEM, "%s", what);
	slash = strrchr(parent, '/');
	if (slash)
		*slash = '\0';
	snprintf(of_what, sizeof(of_what), "the directory of %s", what);
	r = path_open(prefix->fd, slash ? parent : ".", O_PATH | O_DIRECTORY, PATH_BENEATH);
	return r < 0 ? cannot_open(err, -r, of_what, path) : r;
}

int prefixes_open_dev(const struct prefixes *p, const char *what, const char *path,
	struct error *err)
{
	_cleanup_close_ int dev = -1;
	int fd;

	if (!allowed(p, what, path, err))
		return -err->code;
	dev = path_open(AT_FDCWD, "/dev", O_PATH | O_DIRECTORY, 0);
	fd = dev < 0 ? dev :
		       path_open(dev, path_behind(path, "/dev"), O_PATH,
				RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
	return fd < 0 ? cannot_open(err, -fd, what, path) : fd;
}

const char *path_type_name(mode_t mode)
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
	case S_IFIFO:
		return "a FIFO";
	case S_IFBLK:
		return "a block device";
	default:
		return "a character device";
	}
}
