#include "storage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "disk.h"
#include "hugepages.h"
#include "modules.h"

/* The mount points, one a line, in the order of mounting; locked while storages are mounted. */
#define STORAGE_LIST "/run/bulkhead/storages"

static const struct {
	const char *name;
	unsigned long set, clear;
} mount_options[] = {
	{ "ro", MS_RDONLY, 0 },
	{ "rw", 0, MS_RDONLY },
	{ "nosuid", MS_NOSUID, 0 },
	{ "suid", 0, MS_NOSUID },
	{ "nodev", MS_NODEV, 0 },
	{ "dev", 0, MS_NODEV },
	{ "noexec", MS_NOEXEC, 0 },
	{ "exec", 0, MS_NOEXEC },
	{ "sync", MS_SYNCHRONOUS, 0 },
	{ "async", 0, MS_SYNCHRONOUS },
	{ "noatime", MS_NOATIME, 0 },
	{ "relatime", MS_RELATIME, 0 },
	{ "nodiratime", MS_NODIRATIME, 0 },
};

/* True, and the flags changed, if the option is one of mount(2) and not of the file system. */
static bool mount_flag(const char *option, unsigned long *flags)
{
	for (size_t i = 0; i < ARRAY_SIZE(mount_options); i++) {
		if (strcmp(mount_options[i].name, option) != 0)
			continue;
		*flags = (*flags & ~mount_options[i].clear) | mount_options[i].set;
		return true;
	}
	return false;
}

/* Split options into flags and the file system's own, comma-separated, which the caller frees. */
static char *split_options(char *const *options, size_t n, unsigned long *flags)
{
	char *data = xstrdup("");

	for (size_t i = 0; i < n; i++) {
		char *longer;

		if (mount_flag(options[i], flags))
			continue;
		longer = xasprintf("%s%s%s", data, *data ? "," : "", options[i]);
		free(data);
		data = longer;
	}
	return data;
}

static int mount_fs(const Grpc__Storage *s, const char *fstype, struct error *err)
{
	unsigned long flags = 0;
	_cleanup_free_ char *data = split_options(s->options, s->n_options, &flags);

	if (mount(s->source, s->mount_point, fstype, flags, data) < 0)
		return error_errno(
		        err, "mount %s %s on %s (%s)", fstype, s->source, s->mount_point, data);
	return 0;
}

static int mount_virtio_fs(const Grpc__Storage *s, struct error *err)
{
	return mount_fs(s, "virtiofs", err);
}

static int set_mode(const Grpc__Storage *s, unsigned int mode, struct error *err)
{
	for (size_t i = 0; i < s->n_options; i++)
		(void)sscanf(s->options[i], "mode=%o", &mode);
	if (chmod(s->mount_point, mode & 07777) < 0)
		return error_errno(err, "chmod %s", s->mount_point);
	return 0;
}

/* mount(2) has one errno for all that can be wrong with the options, and takes no set-id bit from them. */
static int mount_huge_pages(const Grpc__Storage *s, struct error *err)
{
	unsigned long long page_size = 0, size = 0;

	for (size_t i = 0; i < s->n_options; i++) {
		(void)sscanf(s->options[i], "pagesize=%llu", &page_size);
		(void)sscanf(s->options[i], "size=%llu", &size);
	}
	if (hugepages_check(page_size, err) < 0)
		return -1;
	if (size == 0)
		hugepages_on_demand(page_size);
	return mount_fs(s, "hugetlbfs", err) < 0 ? -1 : set_mode(s, 0755, err);
}

static int mount_ephemeral(const Grpc__Storage *s, struct error *err)
{
	if (strcmp(s->fstype, "hugetlbfs") == 0)
		return mount_huge_pages(s, err);
	if (strcmp(s->fstype, "tmpfs") != 0)
		return error_set(err, CODE_INVALID_ARGUMENT,
		        "ephemeral storage of type \"%.32s\" is not supported", s->fstype);
	return mount_fs(s, s->fstype, err);
}

static int mount_local(const Grpc__Storage *s, struct error *err)
{
	return set_mode(s, 0755, err);
}

/* A disk of the host, which names it by its serial number. The host parses nothing of what is on it. */
static int mount_blk(const Grpc__Storage *s, struct error *err)
{
	static const char *const types[] = { "erofs", "ext4", "xfs" };
	Grpc__Storage disk = *s;
	_cleanup_free_ char *node = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		if (strcmp(s->fstype, types[i]) != 0)
			continue;
		node = disk_find(s->source, err);
		if (!node)
			return -1;
		modules_need(types[i]);
		disk.source = node;
		return mount_fs(&disk, types[i], err);
	}
	return error_set(err, CODE_INVALID_ARGUMENT, "a disk with a file system of type \"%.32s\"",
	        s->fstype);
}

static const struct {
	const char *name;
	int (*mount)(const Grpc__Storage *s, struct error *err);
	bool of_container; /* and goes with it; the others are the sandbox's */
} drivers[] = {
	{ "virtio-fs", mount_virtio_fs, false },
	{ "ephemeral", mount_ephemeral, false },
	{ "local", mount_local, false },
	{ "blk", mount_blk, true },
};

static int apply_fs_group(const Grpc__Storage *s, struct error *err)
{
	if (!s->fs_group)
		return 0;
	if (chown(s->mount_point, (uid_t)-1, s->fs_group->group_id) < 0 ||
	        chmod(s->mount_point, 02775) < 0)
		return error_errno(err, "fs group of %s", s->mount_point);
	return 0;
}

/* True if the mount point stands in the list. */
static bool listed(const char *list, const char *mount_point)
{
	size_t len = strlen(mount_point);

	for (const char *at = strstr(list, mount_point); at; at = strstr(at + 1, mount_point))
		if ((at == list || at[-1] == '\n') && at[len] == '\n')
			return true;
	return false;
}

static int mount_one(const Grpc__Storage *s, int list_fd, struct error *err)
{
	char list[STORAGES_MAX * 64] = "";
	_cleanup_free_ char *line = xasprintf("%s\n", s->mount_point);
	int r;

	if (s->mount_point[0] != '/' || strstr(s->mount_point, "/../") ||
	        strchr(s->mount_point, '\n'))
		return error_set(err, CODE_INVALID_ARGUMENT, "mount point \"%.128s\" is not valid",
		        s->mount_point);
	if (pread(list_fd, list, sizeof(list) - 1, 0) < 0)
		return error_errno(err, "read %s", STORAGE_LIST);
	if (listed(list, s->mount_point))
		return 0;
	if (strlen(list) + strlen(line) >= sizeof(list))
		return error_set(err, CODE_RESOURCE_EXHAUSTED, "too many storages");
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		if (strcmp(drivers[i].name, s->driver) != 0)
			continue;
		r = make_dirs(s->mount_point);
		if (r < 0) {
			errno = -r;
			return error_errno(err, "mkdir %s", s->mount_point);
		}
		if (drivers[i].mount(s, err) < 0 || apply_fs_group(s, err) < 0)
			return -1;
		if (drivers[i].of_container)
			return 0;
		if (write(list_fd, line, strlen(line)) < 0)
			return error_errno(err, "write %s", STORAGE_LIST);
		return 0;
	}
	return error_set(
	        err, CODE_INVALID_ARGUMENT, "storage driver \"%.32s\" is not supported", s->driver);
}

int storage_mount_all(Grpc__Storage *const *storages, size_t n, struct error *err)
{
	_cleanup_close_ int fd = -1;

	if (n == 0)
		return 0;
	fd = open(STORAGE_LIST, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (fd < 0 || flock(fd, LOCK_EX) < 0)
		return error_errno(err, "open %s", STORAGE_LIST);
	for (size_t i = 0; i < n; i++)
		if (mount_one(storages[i], fd, err) < 0)
			return -1;
	return 0;
}

bool storage_of_container(const Grpc__Storage *s)
{
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++)
		if (strcmp(drivers[i].name, s->driver) == 0)
			return drivers[i].of_container;
	return false;
}

void storage_unmount_all(void)
{
	char list[STORAGES_MAX * 64];

	sync();
	if (file_read(STORAGE_LIST, list, sizeof(list)) < 0)
		return;
	/* The last mounted first, for one may lie in another. */
	while (*list) {
		char *line;

		list[strlen(list) - 1] = '\0';
		line = strrchr(list, '\n');
		line = line ? line + 1 : list;
		if (umount2(line, MNT_DETACH | UMOUNT_NOFOLLOW) < 0 && errno != EINVAL)
			log_line("umount %s: %s", line, strerror(errno));
		*line = '\0';
	}
}
