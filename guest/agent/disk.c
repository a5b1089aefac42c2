#include "disk.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define BLOCK         "/sys/block"
#define FIND_S        10
#define DEVICES_MAX   64

static bool has_serial(const char *name, const char *serial)
{
	_cleanup_free_ char *path = xasprintf(BLOCK "/%s/serial", name);
	char text[32];

	if (file_read(path, text, sizeof(text)) <= 0)
		return false;
	text[strcspn(text, "\n")] = '\0';
	return strcmp(text, serial) == 0;
}

static char *look(const char *serial)
{
	DIR *dir = opendir(BLOCK);
	struct dirent *entry;
	char *node = NULL;

	while (dir && !node && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && has_serial(entry->d_name, serial))
			node = xasprintf("/dev/%s", entry->d_name);
	if (dir)
		closedir(dir);
	return node;
}

/* The host says when it has plugged it in, and the kernel takes a while from there. */
char *disk_find(const char *serial, struct error *err)
{
	uint64_t deadline = now_ms() + FIND_S * 1000;

	for (;;) {
		char *node = look(serial);

		if (node && access(node, F_OK) == 0)
			return node;
		free(node);
		if (now_ms() >= deadline)
			break;
		sleep_ms(5);
	}
	error_set(err, CODE_DEADLINE_EXCEEDED, "no disk %.64s has come within %d s", serial, FIND_S);
	return NULL;
}

/* -- devices of a container */

/* A number of the host's and of the guest's for the same disk. */
struct number {
	int64_t major, minor;
	dev_t guest;
};

static Grpc__LinuxDevice *find_device(const Grpc__Linux *linux_, const char *path)
{
	for (size_t i = 0; linux_ && i < linux_->n_devices; i++)
		if (strcmp(linux_->devices[i]->path, path) == 0 &&
		        strcmp(linux_->devices[i]->type, "b") == 0)
			return linux_->devices[i];
	return NULL;
}

static int read_number(const Grpc__Device *d, const Grpc__LinuxDevice *of, struct number *ret,
        struct error *err)
{
	_cleanup_free_ char *node = NULL;
	struct stat st;

	if (!of)
		return error_set(err, CODE_INVALID_ARGUMENT, "the spec has no block device %.128s",
		        d->container_path);
	node = disk_find(d->id, err);
	if (!node)
		return -1;
	if (stat(node, &st) < 0)
		return error_errno(err, "%s", node);
	*ret = (struct number){ of->major, of->minor, st.st_rdev };
	return 0;
}

/* Each rule once, by what it said of the host: a number of the guest's may be one of the host's too. */
static void translate_rules(Grpc__LinuxResources *to, const struct number *numbers, size_t n)
{
	for (size_t i = 0; to && i < to->n_devices; i++) {
		Grpc__LinuxDeviceCgroup *rule = to->devices[i];
		size_t k = 0;

		if (strcmp(rule->type, "b") != 0)
			continue;
		while (k < n && (numbers[k].major != rule->major || numbers[k].minor != rule->minor))
			k++;
		if (k == n)
			continue;
		rule->major = major(numbers[k].guest);
		rule->minor = minor(numbers[k].guest);
	}
}

static bool in_dev(const char *path)
{
	return strncmp(path, "/dev/", 5) == 0;
}

static void remove_device(Grpc__Linux *linux_, const Grpc__LinuxDevice *d)
{
	size_t kept = 0;

	for (size_t i = 0; i < linux_->n_devices; i++)
		if (linux_->devices[i] != d)
			linux_->devices[kept++] = linux_->devices[i];
	linux_->n_devices = kept;
}

static void add_bind(Grpc__Spec *spec, char *source, char *destination)
{
	Grpc__Mount *m = xcalloc(1, sizeof(*m));
	Grpc__Mount **longer = xcalloc(spec->n_mounts + 1, sizeof(*longer));

	grpc__mount__init(m);
	m->destination = destination;
	m->source = source;
	m->type = xstrdup("bind");
	m->options = xcalloc(1, sizeof(*m->options));
	m->options[0] = xstrdup("bind");
	m->n_options = 1;
	if (spec->n_mounts > 0)
		memcpy(longer, spec->mounts, spec->n_mounts * sizeof(*longer));
	longer[spec->n_mounts++] = m;
	spec->mounts = longer; /* this process ends soon, and the message with it */
}

static int bind_node(Grpc__Spec *spec, const Grpc__LinuxDevice *d, const char *path,
        struct error *err)
{
	mode_t mode = d->filemode ? d->filemode & 0777 : 0666;

	(void)unlink(path);
	if (mknod(path, S_IFBLK | mode, makedev((unsigned)d->major, (unsigned)d->minor)) < 0 ||
	        chmod(path, mode) < 0 || chown(path, d->uid, d->gid) < 0)
		return error_errno(err, "node %s", path);
	add_bind(spec, xstrdup(path), xstrdup(d->path));
	remove_device(spec->linux, d);
	return 0;
}

int disk_devices(Grpc__Spec *spec, Grpc__Device *const *devices, size_t n, const char *dir,
        struct error *err)
{
	struct number numbers[DEVICES_MAX];

	if (n > DEVICES_MAX)
		return error_set(err, CODE_RESOURCE_EXHAUSTED, "more than %d devices", DEVICES_MAX);
	for (size_t i = 0; i < n; i++)
		if (read_number(devices[i], find_device(spec->linux, devices[i]->container_path),
		            &numbers[i], err) < 0)
			return -1;
	if (n > 0)
		translate_rules(spec->linux->resources, numbers, n);
	for (size_t i = 0; i < n; i++) {
		Grpc__LinuxDevice *d = find_device(spec->linux, devices[i]->container_path);
		_cleanup_free_ char *path = xasprintf("%s/disk%zu", dir, i);

		if (!d)
			return error_set(err, CODE_INVALID_ARGUMENT, "two devices are %.128s",
			        devices[i]->container_path);
		d->major = major(numbers[i].guest);
		d->minor = minor(numbers[i].guest);
		if (!in_dev(d->path) && bind_node(spec, d, path, err) < 0)
			return -1;
	}
	return 0;
}
