#include "mountd/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/fdio.h"
#include "mountd/mountinfo.h"
#include "mountd/paths.h"
#include "mountd/tree.h"

/* Not in linux/magic.h: from the kernel's fs/configfs, fs/fuse, net/sunrpc, ipc, fs/nfsd. */
#define CONFIGFS_MAGIC 0x62656570
#define FUSECTL_MAGIC  0x65735543
#define MQUEUE_MAGIC   0x19800202
#define NFSD_MAGIC     0x6e667364
#define RPC_PIPE_MAGIC 0x67596969

static const struct {
	const char *type;
	long magic;
} forbidden[] = {
	{ "binder", BINDERFS_SUPER_MAGIC },
	{ "binfmt_misc", BINFMTFS_MAGIC },
	{ "bpf", BPF_FS_MAGIC },
	{ "cgroup", CGROUP_SUPER_MAGIC },
	{ "cgroup2", CGROUP2_SUPER_MAGIC },
	{ "configfs", CONFIGFS_MAGIC },
	{ "debugfs", DEBUGFS_MAGIC },
	{ "efivarfs", EFIVARFS_MAGIC },
	{ "fusectl", FUSECTL_MAGIC },
	{ "mqueue", MQUEUE_MAGIC },
	{ "nfsd", NFSD_MAGIC },
	{ "nsfs", NSFS_MAGIC },
	{ "proc", PROC_SUPER_MAGIC },
	{ "pstore", PSTOREFS_MAGIC },
	{ "resctrl", RDTGROUP_SUPER_MAGIC },
	{ "rpc_pipefs", RPC_PIPE_MAGIC },
	{ "securityfs", SECURITYFS_MAGIC },
	{ "selinuxfs", SELINUX_MAGIC },
	{ "smackfs", SMACK_MAGIC },
	{ "sysfs", SYSFS_MAGIC },
	{ "tracefs", TRACEFS_MAGIC },
	{ "xenfs", XENFS_SUPER_MAGIC },
};

static int refuse(const char *path, const char *type, struct error *err)
{
	return error_set(err, EPERM,
		PATH_FMT " is a file system of the host's kernel (%s), which a VM must not have",
		path, type);
}

int volume_check(int source, const char *path, struct error *err)
{
	struct statfs st;

	if (fstatfs(source, &st) < 0)
		return error_errno(err, errno, "look at " PATH_FMT, path);
	for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++)
		if (st.f_type == forbidden[i].magic)
			return refuse(path, forbidden[i].type, err);
	return 0;
}

/* Is path, as a whole, the directory? What is hidden or gone is not; what cannot be looked at is. */
static bool is_same(const char *path, const struct stat *dir)
{
	_cleanup_close_ int fd = path_open(AT_FDCWD, path, O_PATH, RESOLVE_NO_SYMLINKS);
	struct stat st;

	if (fd < 0 || fd_stat(fd, &st) < 0)
		return fd != -ENOENT && fd != -ENOTDIR;
	return st.st_dev == dir->st_dev && st.st_ino == dir->st_ino;
}

/* By what leads to it: a directory has no path of its own that could be compared. */
static bool is_beneath(const char *point, const struct stat *dir)
{
	char path[PATH_MAX];
	size_t len = strlen(point);

	if (len >= sizeof(path) || is_same("/", dir))
		return true;
	memcpy(path, point, len + 1);
	for (char *end = strchr(path + 1, '/'); end; end = strchr(end + 1, '/')) {
		*end = '\0';
		if (is_same(path, dir))
			return true;
		*end = '/';
	}
	return false;
}

static int check_line(char *line, const struct stat *dir, struct error *err)
{
	struct mountinfo m;
	int r = mountinfo_parse(line, &m, err);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++)
		if (strcmp(m.type, forbidden[i].type) == 0 && is_beneath(m.point, dir))
			return refuse(m.point, m.type, err);
	return 0;
}

/* After the tree was cloned: what was mounted later is not in it. */
static int check_beneath(int proc, const struct stat *dir, struct error *err)
{
	_cleanup_free_ char *text = mountinfo_read(proc, err);
	char *save = NULL;
	int r = 0;

	if (!text)
		return -err->code;
	for (char *line = strtok_r(text, "\n", &save); line && r == 0;
		line = strtok_r(NULL, "\n", &save))
		r = check_line(line, dir, err);
	return r;
}

static int open_source(const struct spec_mount *m, struct stat *ret_st, struct error *err)
{
	_cleanup_close_ int fd = -1;

	if (!m->source || m->source[0] != '/')
		return error_set(err, EINVAL, "its source is not an absolute path");
	fd = path_open(AT_FDCWD, m->source, O_PATH, RESOLVE_NO_MAGICLINKS);
	if (fd < 0)
		return error_errno(err, -fd, "its source " PATH_FMT, m->source);
	if (fd_stat(fd, ret_st) < 0)
		return error_errno(err, errno, "its source " PATH_FMT, m->source);
	if (!S_ISDIR(ret_st->st_mode) && !S_ISREG(ret_st->st_mode) && !S_ISBLK(ret_st->st_mode))
		return error_set(err, EOPNOTSUPP,
			"its source " PATH_FMT
			" is neither a directory, nor a regular file, nor a block device: "
			"nobody at the other end of it would be in the VM",
			m->source);
	return fd_steal(&fd);
}

static int make_tree(int proc, const struct spec_mount *m, int source, const struct stat *st,
	struct error *err)
{
	/* In a file nothing can be mounted. */
	bool recursive = m->recursive && S_ISDIR(st->st_mode);
	_cleanup_close_ int tree = -1;
	int r = volume_check(source, m->source, err);

	if (r < 0)
		return r;
	tree = tree_bind(source, recursive, err);
	if (tree < 0)
		return tree;
	if (recursive)
		r = check_beneath(proc, st, err);
	if (r == 0 && m->readonly)
		r = tree_make_readonly(tree, m->readonly_recursive, err);
	return r < 0 ? r : fd_steal(&tree);
}

static int make(const struct block_place *place, const struct spec_mount *m, struct block *ret,
	struct fdlist *ret_fds, struct error *err)
{
	struct stat st;
	_cleanup_close_ int source = open_source(m, &st, err);
	int tree, r;

	if (source < 0)
		return source;
	if (S_ISBLK(st.st_mode))
		return block_open_node(place, source, m->readonly, ret, ret_fds, err);
	tree = make_tree(place->proc, m, source, &st, err);
	r = tree < 0 ? tree : fdlist_add_consume(ret_fds, tree);
	if (r < 0 || !m->follows || !S_ISDIR(st.st_mode))
		return r;
	tree = tree_follow(source, m->recursive, err);
	return tree < 0 ? tree : fdlist_add_consume(ret_fds, tree);
}

int volume_make(const struct block_place *place, const struct spec_mount *m, struct block *ret,
	struct fdlist *ret_fds, struct error *err)
{
	int r = make(place, m, ret, ret_fds, err);

	return r < 0 ? error_wrap(err, "volume %.80s", m->destination) : r;
}

/* Of the path that the kubelet gives every emptyDir: up to the volume's name. 0: it is another. */
static size_t empty_dirs(const char *source)
{
	static const char dir[] = "/kubernetes.io~empty-dir";
	const char *name = source ? strrchr(source, '/') : NULL;
	size_t len = name ? (size_t)(name - source) : 0;

	if (len <= strlen(dir) || len >= PATH_MAX || !name[1] ||
		strncmp(name - strlen(dir), dir, strlen(dir)) != 0)
		return 0;
	return len;
}

/* What cannot be opened is found out elsewhere. A part of one would be the whole of it in the guest. */
static int is_hugetlbfs(const struct spec_mount *m, struct error *err)
{
	_cleanup_close_ int own = m->source && m->source[0] == '/' ?
		path_open(AT_FDCWD, m->source, O_PATH, RESOLVE_NO_MAGICLINKS) : -1;
	_cleanup_close_ int above = -1;
	struct stat own_st, above_st;
	struct statfs fs;

	if (own < 0 || fstatfs(own, &fs) < 0 || fs.f_type != HUGETLBFS_MAGIC)
		return 0;
	above = path_open(own, "..", O_PATH, 0);
	if (above >= 0 && fd_stat(own, &own_st) == 0 && fd_stat(above, &above_st) == 0 &&
		own_st.st_dev != above_st.st_dev)
		return 1;
	return error_set(err, EOPNOTSUPP,
		"volume %.80s: its source " PATH_FMT " lies in a hugetlbfs, of which a VM can have "
		"the whole alone",
		m->destination, m->source);
}

/* Where /var/lib/kubelet itself is a tmpfs, every emptyDir lies in one: only a mounted one is meant. */
int volume_is_memory(const struct spec_mount *m, struct error *err)
{
	char parent[PATH_MAX];
	_cleanup_close_ int own = -1, above = -1;
	size_t len = empty_dirs(m->source);
	struct stat own_st, above_st;
	struct statfs fs;

	if (len == 0)
		return is_hugetlbfs(m, err);
	memcpy(parent, m->source, len);
	parent[len] = '\0';
	own = path_open(AT_FDCWD, m->source, O_PATH, RESOLVE_NO_MAGICLINKS);
	above = path_open(AT_FDCWD, parent, O_PATH, RESOLVE_NO_MAGICLINKS);
	if (own < 0 || above < 0)
		return error_errno(err, own < 0 ? -own : -above,
			"volume %.80s: its source " PATH_FMT, m->destination, m->source);
	if (fstatfs(own, &fs) < 0 || fd_stat(own, &own_st) < 0 || fd_stat(above, &above_st) < 0)
		return error_errno(err, errno, "volume %.80s: look at " PATH_FMT, m->destination,
			m->source);
	if (fs.f_type == HUGETLBFS_MAGIC)
		return is_hugetlbfs(m, err);
	return fs.f_type == TMPFS_MAGIC && own_st.st_dev != above_st.st_dev;
}
