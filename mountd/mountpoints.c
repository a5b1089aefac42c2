#include "mountd/mountpoints.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "common/fd.h"
#include "common/fdio.h"
#include "common/log.h"
#include "mountd/paths.h"

/* As if the root were "/": links in the image lead where they would in the container. */
#define IN_ROOT (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)

static int open_in(int root, const char *path)
{
	return path_open(root, path, O_PATH, IN_ROOT);
}

/* Makes one component: what leads to it is there. 0 or -errno. */
static int make_last(int root, char *path, bool file)
{
	_cleanup_close_ int parent = -1, made = -1;
	char *slash = strrchr(path, '/');

	*slash = '\0';
	parent = open_in(root, *path ? path : "/");
	*slash = '/';
	if (parent < 0)
		return parent;
	if (!path_is_name(slash + 1))
		return -EINVAL;
	if (file) {
		made = path_create(parent, slash + 1, 0644);
		return made < 0 ? made : 0;
	}
	return mkdirat(parent, slash + 1, 0755) < 0 ? -errno : 0;
}

/* path is absolute; it is cut and mended while it is walked. */
static int make_path(int root, char *path, bool file)
{
	for (char *end = path; *end;) {
		_cleanup_close_ int there = -1;
		char was;
		int r;

		end++;
		end += strcspn(end, "/");
		was = *end;
		*end = '\0';
		there = open_in(root, path);
		r = there == -ENOENT ? make_last(root, path, file && !was) : 0;
		*end = was;
		if (r < 0)
			return r;
	}
	return 0;
}

/* A bind mount's target is what its source is: a directory or not. */
static bool is_file(const struct spec_mount *m)
{
	_cleanup_close_ int fd = -1;
	struct stat st;

	if (!m->bind || !m->source || m->source[0] != '/')
		return false;
	fd = path_open(AT_FDCWD, m->source, O_PATH, 0);
	return fd >= 0 && fd_stat(fd, &st) == 0 && !S_ISDIR(st.st_mode);
}

/* Does an earlier mount cover it? Then it is made in there, not in the root. */
static bool is_covered(const struct spec *spec, size_t n, const char *destination)
{
	for (size_t i = 0; i < n; i++) {
		struct spec_mount m;
		const char *rest;

		if (!spec_mount(spec, i, &m))
			continue;
		rest = path_behind(destination, m.destination);
		if (rest && *rest)
			return true;
	}
	return false;
}

static void make_one(int root, const char *path, bool file)
{
	char copy[PATH_MAX];
	int r;

	if (path[0] != '/' || strlen(path) >= sizeof(copy))
		return;
	strcpy(copy, path);
	r = make_path(root, copy, file);
	if (r < 0)
		log_debug("mount point " PATH_FMT ": %s", path, strerror(-r));
}

void mountpoints_make(int root, const struct spec *spec)
{
	size_t n = spec_n_mounts(spec);

	for (size_t i = 0; i < n; i++) {
		struct spec_mount m;

		if (spec_mount(spec, i, &m) && !is_covered(spec, i, m.destination))
			make_one(root, m.destination, is_file(&m));
	}
	if (spec->cwd && !is_covered(spec, n, spec->cwd))
		make_one(root, spec->cwd, false);
}
