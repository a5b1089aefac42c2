#include "mountd/block.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/fdio.h"

/* What the kernel takes as a device's number. */
#define MAJOR_MAX 0xfff
#define MINOR_MAX 0xfffff

#define SECTOR 512

/* One that was found and not opened. */
struct node {
	int fd; /* O_PATH */
	struct stat st;
	char name[192]; /* for sentences */
	bool alone;	/* nobody else may have it */
};

#define NODE_INIT { .fd = -1 }

static void node_done(struct node *n)
{
	fd_close(&n->fd);
}

static void describe(const struct node *n, bool read_only, struct block *ret)
{
	bool device = S_ISBLK(n->st.st_mode);

	*ret = (struct block){
		.found = true,
		.read_only = read_only,
		.id = { .device = device,
			.dev = device ? n->st.st_rdev : n->st.st_dev,
			.ino = device ? 0 : n->st.st_ino },
		.major = major(n->st.st_rdev),
		.minor = minor(n->st.st_rdev),
		.mode = n->st.st_mode & 07777,
		.uid = n->st.st_uid,
		.gid = n->st.st_gid,
	};
}

/* Opens what was found, by itself and not by its name, and looks again: it must be the same. */
static int reopen(int proc, const struct node *n, bool read_only, struct error *err)
{
	bool alone = S_ISBLK(n->st.st_mode) && (n->alone || !read_only);
	_cleanup_close_ int fd = path_reopen(proc, n->fd,
		(read_only ? O_RDONLY : O_RDWR) | (alone ? (unsigned)O_EXCL : 0U));
	struct stat st;

	if (fd == -EBUSY && alone)
		return error_set(err, EBUSY,
			"%s is in use: the host has mounted it or made something of it, or "
			"another VM has it",
			n->name);
	if (fd < 0)
		return error_errno(err, -fd, "open %s for %s", n->name,
			read_only ? "reading" : "writing");
	if (fd_stat(fd, &st) < 0 || (st.st_mode & S_IFMT) != (n->st.st_mode & S_IFMT) ||
		st.st_rdev != n->st.st_rdev || st.st_dev != n->st.st_dev ||
		st.st_ino != n->st.st_ino)
		return error_set(err, ESTALE, "%s changed while it was opened", n->name);
	return fd_steal(&fd);
}

static int open_node(const struct block_place *place, const struct node *n, bool read_only,
	struct block *ret, struct fdlist *ret_fds, struct error *err)
{
	const struct disk *disk;
	int fd;

	describe(n, read_only, ret);
	disk = disks_find(place->disks, &ret->id);
	if (disk && disk->read_only && !read_only)
		return error_set(err, EBUSY,
			"%s is in the VM read-only already, and cannot be writable beside that",
			n->name);
	if (disk)
		return 0;
	fd = reopen(place->proc, n, read_only, err);
	return fd < 0 ? fd : fdlist_add_consume(ret_fds, fd);
}

/* One or the other, as its place says: a directory's own device is never meant (CVE-2026-24054). */
static int check_type(const struct node *n, bool device, struct error *err)
{
	if (device && !S_ISBLK(n->st.st_mode))
		return error_set(err, EINVAL, "%s is %s, not a block device", n->name,
			path_type_name(n->st.st_mode));
	if (!device && !S_ISREG(n->st.st_mode))
		return error_set(err, EINVAL,
			"%s is %s, not an image in a regular file (block devices are taken from "
			"/dev alone)",
			n->name, path_type_name(n->st.st_mode));
	if (!device && n->st.st_size < SECTOR)
		return error_set(err, EINVAL, "%s is an image of %lld bytes", n->name,
			(long long)n->st.st_size);
	return 0;
}

static int look(struct node *n, struct error *err)
{
	return fd_stat(n->fd, &n->st) < 0 ? error_errno(err, errno, "%s", n->name) : 0;
}

int block_open_source(const struct block_place *place, const struct prefixes *prefixes,
	const char *source, bool read_only, struct block *ret, struct fdlist *ret_fds,
	struct error *err)
{
	CLEANUP(node_done) struct node n = NODE_INIT;
	bool device = path_behind(source, "/dev");
	int r;

	snprintf(n.name, sizeof(n.name), "source " PATH_FMT, source);
	n.alone = true;
	n.fd = device ? prefixes_open_dev(prefixes, "source", source, err) :
			prefixes_open_path(prefixes, "source", source, O_PATH | O_NOFOLLOW, err);
	r = n.fd < 0 ? n.fd : look(&n, err);
	if (r == 0)
		r = check_type(&n, device, err);
	return r < 0 ? r : open_node(place, &n, read_only, ret, ret_fds, err);
}

int block_open_node(const struct block_place *place, int node, bool read_only, struct block *ret,
	struct fdlist *ret_fds, struct error *err)
{
	struct node n = { .fd = node };
	int r;

	snprintf(n.name, sizeof(n.name), "its source");
	r = look(&n, err);
	if (r == 0)
		r = check_type(&n, true, err);
	return r < 0 ? r : open_node(place, &n, read_only, ret, ret_fds, err);
}

/* "MAJOR=7\nMINOR=0\nDEVNAME=loop0\n": what the kernel calls a device, and so its node in /dev. */
static int read_devname(const char *path, char *text, size_t size, const char **ret_name)
{
	_cleanup_close_ int fd = path_open(AT_FDCWD, path, O_RDONLY, RESOLVE_NO_MAGICLINKS);
	ssize_t n = fd < 0 ? fd : read(fd, text, size - 1);
	char *name;

	if (n < 0)
		return fd < 0 ? fd : -errno;
	text[n] = '\0';
	name = strstr(text, "DEVNAME=");
	if (!name)
		return -ENOENT;
	*ret_name = name + strlen("DEVNAME=");
	name[strcspn(name, "\n")] = '\0';
	return 0;
}

static int find_number(unsigned major, unsigned minor, struct node *n, struct error *err)
{
	_cleanup_close_ int dev = path_open(AT_FDCWD, "/dev", O_PATH | O_DIRECTORY, 0);
	char path[64], text[4096];
	const char *name = NULL;
	int r;

	snprintf(n->name, sizeof(n->name), "block device %u:%u", major, minor);
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/uevent", major, minor);
	r = read_devname(path, text, sizeof(text), &name);
	if (r < 0)
		return error_set(err, ENXIO, "the host has no %s", n->name);
	n->fd = dev < 0 ? dev : path_open(dev, name, O_PATH | O_NOFOLLOW, PATH_BENEATH);
	if (n->fd < 0)
		return error_errno(err, -n->fd, "%s: its node /dev/%.64s", n->name, name);
	r = look(n, err);
	if (r == 0 && (!S_ISBLK(n->st.st_mode) || n->st.st_rdev != makedev(major, minor)))
		r = error_set(err, ESTALE, "%s: /dev/%.64s is another device", n->name, name);
	return r;
}

int block_open_number(const struct block_place *place, int64_t major, int64_t minor,
	bool read_only, struct block *ret, struct fdlist *ret_fds, struct error *err)
{
	CLEANUP(node_done) struct node n = NODE_INIT;
	int r;

	if (major < 0 || major > MAJOR_MAX || minor < 0 || minor > MINOR_MAX)
		return error_set(err, EINVAL, "%lld:%lld is no number of a device",
			(long long)major, (long long)minor);
	r = find_number((unsigned)major, (unsigned)minor, &n, err);
	return r < 0 ? r : open_node(place, &n, read_only, ret, ret_fds, err);
}
