#include "supervisor/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/io.h"
#include "common/log.h"

static const char *const children[] = { "shim", "vm" };

static bool has_children(const struct cgroups *c, unsigned i)
{
	return c->v2 && i == 0;
}

void cgroup_file(const struct cgroups *c, unsigned i, const char *child, const char *file,
	char out[CGROUP_PATH_MAX + 64])
{
	if (!has_children(c, i))
		child = "";
	snprintf(out, CGROUP_PATH_MAX + 64, "%s%s%.24s%s%.32s", c->dir[i], *child ? "/" : "", child,
		*file ? "/" : "", file);
}

/*
 * systemd's names: a.slice/a-b.slice for "a-b.slice", then prefix-name.scope
 * (systemd.slice(5): a dash in a slice's name is a step down the tree).
 */
static int expand_slice(const char *text, char *out, size_t size, struct error *err)
{
	const char *prefix = strchr(text, ':');
	const char *name = prefix ? strchr(prefix + 1, ':') : NULL;
	size_t len = prefix ? (size_t)(prefix - text) : 0, base, n = 0;

	if (!name || strchr(name + 1, ':') || strchr(text, '/'))
		return error_set(err, EINVAL, "linux.cgroupsPath '%s' is not slice:prefix:name",
			text);
	if (len < 6 || strncmp(prefix - 6, ".slice", 6) != 0 || len * len > size)
		return error_set(err, EINVAL, "linux.cgroupsPath '%s' does not begin with a slice",
			text);
	base = len - 6;
	for (size_t i = 1; i <= base; i++)
		if ((text[i] == '-' || i == base) && !(base == 1 && text[0] == '-'))
			n += (size_t)snprintf(out + n, size - n, "/%.*s.slice", (int)i, text);
	snprintf(out + n, size - n, "/%.*s%s%s.scope", (int)(name - prefix - 1), prefix + 1,
		name > prefix + 1 ? "-" : "", name + 1);
	return 0;
}

static int relative_path(const char *cgroups_path, const char *id, char *out, size_t size,
	struct error *err)
{
	if (!cgroups_path[0]) {
		snprintf(out, size, "/bulkhead/%s", id);
		return 0;
	}
	if (strchr(cgroups_path, ':') && cgroups_path[0] != '/')
		return expand_slice(cgroups_path, out, size, err);
	snprintf(out, size, "%s%s", cgroups_path[0] == '/' ? "" : "/", cgroups_path);
	/* A step up, or nothing but slashes, would make the sandbox's cgroup somebody else's. */
	if (strstr(out, "/../") || strstr(out, "//") || strcmp(out, "/") == 0 ||
		(strlen(out) >= 3 && strcmp(out + strlen(out) - 3, "/..") == 0) ||
		strchr(out, '\n'))
		return error_set(err, EINVAL, "linux.cgroupsPath '%s' is not a plain path",
			cgroups_path);
	return 0;
}

/* Mount points of cgroup file systems, v2 first. */
static int find_hierarchies(struct cgroups *c, struct error *err)
{
	FILE *f = fopen("/proc/self/mounts", "re");
	char line[4096], point[1024], type[64];

	if (!f)
		return error_errno(err, errno, "read /proc/self/mounts");
	while (fgets(line, sizeof(line), f)) {
		bool v2;
		unsigned at;

		if (sscanf(line, "%*s %1023s %63s", point, type) != 2)
			continue;
		v2 = strcmp(type, "cgroup2") == 0;
		if ((!v2 && strcmp(type, "cgroup") != 0) || (v2 && c->v2) ||
			c->n == CGROUP_HIERARCHIES_MAX)
			continue;
		at = v2 ? 0 : c->n;
		if (v2)
			memmove(c->dir[1], c->dir[0], c->n * sizeof(c->dir[0]));
		snprintf(c->dir[at], sizeof(c->dir[at]), "%s", point);
		c->v2 |= v2;
		c->n++;
	}
	fclose(f);
	return 0;
}

int cgroup_locate(struct cgroups *ret, const char *cgroups_path, const char *id, struct error *err)
{
	char path[1200];
	int r = relative_path(cgroups_path, id, path, sizeof(path), err);

	ret->n = 0;
	ret->v2 = false;
	if (r == 0)
		r = find_hierarchies(ret, err);
	if (r < 0)
		return r;
	for (unsigned i = 0; i < ret->n; i++) {
		size_t len = strlen(ret->dir[i]);

		if (len + strlen(path) >= CGROUP_PATH_MAX)
			return error_set(err, ENAMETOOLONG, "cgroup path %s%s", ret->dir[i], path);
		strcpy(ret->dir[i] + len, path);
	}
	return 0;
}

/* A fresh v1 cpuset takes no process until it has cpus and mems: the parent's. */
static int inherit_cpuset(const char *dir, struct error *err)
{
	static const char *const files[] = { "cpuset.cpus", "cpuset.mems" };
	char path[CGROUP_PATH_MAX + 64], value[512];

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_close_ int from = -1, to = -1;
		ssize_t n;

		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		to = open(path, O_RDWR | O_CLOEXEC);
		if (to < 0 && errno == ENOENT)
			return 0; /* not the cpuset hierarchy */
		if (to < 0)
			return error_errno(err, errno, "open %s", path);
		snprintf(path, sizeof(path), "%s/../%s", dir, files[i]);
		from = open(path, O_RDONLY | O_CLOEXEC);
		if (from < 0)
			return error_errno(err, errno, "open %s", path);
		if (read(to, value, sizeof(value)) > 1)
			continue; /* set already: more than a newline */
		n = read(from, value, sizeof(value));
		if (n <= 0 || write(to, value, (size_t)n) < 0)
			return error_errno(err, errno, "set %s in %s", files[i], dir);
	}
	return 0;
}

static int write_file(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	return write_full(fd, text, strlen(text));
}

static int make_dir(const char *path, struct error *err)
{
	if (mkdir(path, 0755) < 0)
		return errno == EEXIST ? 0 : error_errno(err, errno, "make cgroup %s", path);
	return strstr(path, "/cpuset/") ? inherit_cpuset(path, err) : 0;
}

static int make_path(char *path, struct error *err)
{
	struct stat st;
	char *slash = strrchr(path, '/');
	int r;

	if (!slash || slash == path || stat(path, &st) == 0)
		return 0;
	*slash = '\0';
	r = make_path(path, err);
	*slash = '/';
	return r < 0 ? r : make_dir(path, err);
}

/*
 * Has every v2 cgroup above this one hand down the memory controller, as far as they go: one that
 * has it not, or processes of its own, cannot.
 */
static int hand_down_memory(char *path)
{
	char file[CGROUP_PATH_MAX + 64];
	char *slash = strrchr(path, '/');
	int r = 0;

	*slash = '\0';
	snprintf(file, sizeof(file), "%s/cgroup.subtree_control", path);
	if (access(file, F_OK) == 0) { /* not yet above the mount point */
		r = hand_down_memory(path);
		if (r == 0)
			r = write_file(file, "+memory");
	}
	*slash = '/';
	return r;
}

static int create_one(const struct cgroups *c, unsigned i, struct error *err)
{
	char path[CGROUP_PATH_MAX + 64];
	int r;

	cgroup_file(c, i, "", "", path);
	r = make_path(path, err);
	if (r == 0 && has_children(c, i))
		hand_down_memory(path); /* else nobody counts there: cgroup_open_oom_kills() */
	for (size_t k = 0; r == 0 && has_children(c, i) && k < ARRAY_SIZE(children); k++) {
		cgroup_file(c, i, children[k], "", path);
		r = make_dir(path, err);
	}
	return r;
}

int cgroup_create(const struct cgroups *c, struct error *err)
{
	for (unsigned i = 0; i < c->n; i++)
		if (create_one(c, i, err) < 0) {
			cgroup_remove(c);
			return -err->code;
		}
	return 0;
}

char *cgroup_format(const struct cgroups *c)
{
	char *text = calloc(c->n + 1, CGROUP_PATH_MAX + 1);

	for (unsigned i = 0; text && i < c->n; i++) {
		strcat(text, c->dir[i]);
		strcat(text, "\n");
	}
	return text;
}

/* Only v2 can kill a cgroup, since Linux 5.14. */
static bool can_kill(const char *dir)
{
	char path[CGROUP_PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/cgroup.kill", dir);
	return access(path, W_OK) == 0;
}

int cgroup_parse(struct cgroups *ret, const char *text, struct error *err)
{
	ret->n = 0;
	while (*text && ret->n < CGROUP_HIERARCHIES_MAX) {
		size_t len = strcspn(text, "\n");

		if (len >= CGROUP_PATH_MAX || text[len] != '\n' || text[0] != '/')
			return error_set(err, EINVAL, "the list of cgroups is damaged");
		memcpy(ret->dir[ret->n], text, len);
		ret->dir[ret->n++][len] = '\0';
		text += len + 1;
	}
	ret->v2 = ret->n > 0 && can_kill(ret->dir[0]);
	return 0;
}

void cgroup_from_list(struct cgroups *ret, const char *const *dirs, unsigned n)
{
	ret->n = n < CGROUP_HIERARCHIES_MAX ? n : CGROUP_HIERARCHIES_MAX;
	for (unsigned i = 0; i < ret->n; i++)
		snprintf(ret->dir[i], sizeof(ret->dir[i]), "%s", dirs[i]);
	ret->v2 = ret->n > 0 && can_kill(ret->dir[0]);
}

static int join_one(const struct cgroups *c, unsigned i, const char *child, struct error *err)
{
	char path[CGROUP_PATH_MAX + 64];
	int r;

	cgroup_file(c, i, child, "cgroup.procs", path);
	r = write_file(path, "0");
	return r < 0 ? error_errno(err, -r, "join %s", path) : 0;
}

int cgroup_join(const struct cgroups *c, struct error *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < c->n; i++)
		r = join_one(c, i, "shim", err);
	return r;
}

int cgroup_join_vm(const struct cgroups *c, struct error *err)
{
	return c->v2 ? join_one(c, 0, "vm", err) : 0;
}

int cgroup_kill(const struct cgroups *c, const char *child, struct error *err)
{
	char path[CGROUP_PATH_MAX + 64];
	int r;

	if (!c->v2)
		return error_set(err, ENOTSUP, "no cgroup v2 hierarchy");
	cgroup_file(c, 0, child, "cgroup.kill", path);
	r = write_file(path, "1");
	return r < 0 ? error_errno(err, -r, "write %s", path) : 0;
}

static bool has_processes(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char byte;

	return fd >= 0 && read(fd, &byte, 1) > 0;
}

bool cgroup_is_empty(const struct cgroups *c)
{
	char path[CGROUP_PATH_MAX + 64];

	for (unsigned i = 0; i < c->n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(children); k++) {
			cgroup_file(c, i, children[k], "cgroup.procs", path);
			if (has_processes(path))
				return false;
		}
	return true;
}

/* v2 first, as everywhere: memory is in one hierarchy only, and the others have no such file. */
int cgroup_open_oom_kills(const struct cgroups *c)
{
	char path[CGROUP_PATH_MAX + 64];
	int fd = -1;

	for (unsigned i = 0; fd < 0 && i < c->n; i++) {
		cgroup_file(c, i, "", has_children(c, i) ? "memory.events" : "memory.oom_control",
			path);
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	}
	return fd;
}

bool cgroup_parse_oom_kills(const char *text, uint64_t *ret)
{
	static const char key[] = "oom_kill ";
	unsigned long long value;
	const char *at = text;
	char *end;

	while (strncmp(at, key, strlen(key)) != 0) {
		at = strchr(at, '\n');
		if (!at)
			return false;
		at++;
	}
	at += strlen(key);
	errno = 0;
	value = strtoull(at, &end, 10);
	/* strtoull() would take a sign and spaces too. */
	if (*at < '0' || *at > '9' || *end != '\n' || errno != 0)
		return false;
	*ret = value;
	return true;
}

bool cgroup_oom_kills(int fd, uint64_t *ret)
{
	char text[512]; /* six lines at most */
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		return false;
	text[n] = '\0';
	return cgroup_parse_oom_kills(text, ret);
}

static bool remove_dir(const char *path)
{
	if (rmdir(path) == 0 || errno == ENOENT)
		return true;
	log_warn("remove cgroup %s: %s", path, strerrordesc_np(errno));
	return false;
}

bool cgroup_remove(const struct cgroups *c)
{
	char path[CGROUP_PATH_MAX + 64];
	bool all = true;

	for (unsigned i = 0; i < c->n; i++) {
		for (size_t k = 0; has_children(c, i) && k < ARRAY_SIZE(children); k++) {
			cgroup_file(c, i, children[k], "", path);
			all &= remove_dir(path);
		}
		all &= remove_dir(c->dir[i]);
	}
	return all;
}
