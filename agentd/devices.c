#include "agentd/devices.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/devices.h"
#include "common/log.h"
#include "ipc/tables.h"

#define SERIAL_MAX (sizeof(DISK_SERIAL_FMT) + 10)

static int no_memory(struct error *err)
{
	return error_errno(err, ENOMEM, "disks and devices");
}

static char *serial(uint32_t disk)
{
	char text[SERIAL_MAX];

	snprintf(text, sizeof(text), DISK_SERIAL_FMT, disk);
	return strdup(text);
}

/* One more in a list of messages: NULL, or an initialized one that the list owns. */
static void *append(void *list, size_t *n, const ProtobufCMessageDescriptor *d)
{
	void ***at = list;
	void **longer = realloc(*at, (*n + 1) * sizeof(*longer));
	ProtobufCMessage *m;

	if (!longer)
		return NULL;
	*at = longer;
	m = calloc(1, d->sizeof_message);
	if (!m)
		return NULL;
	protobuf_c_message_init(d, m);
	longer[(*n)++] = m;
	return m;
}

/* ---- the root ---- */

static int add_option(Grpc__Storage *to, const char *option)
{
	for (size_t i = 0; i < to->n_options; i++)
		if (strcmp(to->options[i], option) == 0)
			return 0;
	to->options[to->n_options] = strdup(option);
	return to->options[to->n_options++] ? 0 : -ENOMEM;
}

/* Snapshots of one xfs all have its UUID, and a pod may have several. */
static int add_options(Grpc__Storage *to, const Ipc__Config__Disk *d)
{
	int r = 0;

	to->options = calloc(d->n_options + 2, sizeof(*to->options));
	if (!to->options)
		return -ENOMEM;
	for (size_t i = 0; r == 0 && i < d->n_options; i++)
		r = add_option(to, d->options[i]);
	if (r == 0 && d->read_only)
		r = add_option(to, "ro");
	if (r == 0 && strcmp(d->fstype, "xfs") == 0)
		r = add_option(to, "nouuid");
	return r;
}

static int add_root(struct oci_spec *s, const Ipc__Config__Disk *d, struct error *err)
{
	Grpc__Storage *to = append(&s->storages, &s->n_storages, &grpc__storage__descriptor);

	if (!to)
		return no_memory(err);
	to->driver = strdup("blk");
	to->source = serial(d->disk);
	to->fstype = strdup(d->fstype);
	to->mount_point = strdup(s->spec->root->path);
	if (!to->driver || !to->source || !to->fstype || !to->mount_point || add_options(to, d) < 0)
		return no_memory(err);
	return 0;
}

/* ---- devices ---- */

static int add_device(struct oci_spec *s, uint32_t disk, const char *path, struct error *err)
{
	Grpc__Device *to = append(&s->devices, &s->n_devices, &grpc__device__descriptor);

	if (!to)
		return no_memory(err);
	to->id = serial(disk);
	to->type = strdup("blk");
	to->container_path = strdup(path);
	return to->id && to->type && to->container_path ? 0 : no_memory(err);
}

static const Ipc__Config__Disk *find_disk(const Ipc__Config *config, Ipc__Config__Disk__Use use,
	uint32_t number)
{
	for (size_t i = 0; i < config->n_disks; i++)
		if (config->disks[i]->use == use && config->disks[i]->number == number)
			return config->disks[i];
	return NULL;
}

static int foreign(const Grpc__LinuxDevice *d, size_t i, struct error *err)
{
	return error_set(err, ENOTSUP,
		"config.json: linux.devices[%zu]: %.80s (%.8s %" PRId64 ":%" PRId64
		") is a device of the host alone; of character devices a VM has null, zero, full, "
		"random, urandom, tty, console, ptmx, pts, fuse and net/tun",
		i, d->path, d->type, d->major, d->minor);
}

/* 1: it stays; 0: it is to be left out; -errno with err. */
static int keep_device(struct oci_spec *s, const Ipc__Config *config, size_t i, struct error *err)
{
	const Grpc__LinuxDevice *d = s->spec->linux->devices[i];
	const Ipc__Config__Disk *disk;
	int r;

	if (strcmp(d->type, "p") == 0)
		return 1; /* a FIFO: nobody's device */
	if (strcmp(d->type, "b") != 0) {
		if (device_is_everywhere(d->major, d->minor))
			return 1;
		return config->host_devices ? 0 : foreign(d, i, err);
	}
	if (config->host_devices)
		return 0;
	disk = find_disk(config, IPC__CONFIG__DISK__USE__DEVICE, (uint32_t)i);
	if (!disk)
		return error_set(err, EINVAL,
			"config.json: linux.devices[%zu]: %.80s is no disk of the VM", i, d->path);
	r = add_device(s, disk->disk, d->path, err);
	return r < 0 ? r : 1;
}

/* Closes the gaps. How many there were. */
static size_t compact(Grpc__Linux *l)
{
	size_t kept = 0, n = l->n_devices;

	for (size_t i = 0; i < n; i++)
		if (l->devices[i])
			l->devices[kept++] = l->devices[i];
	l->n_devices = kept;
	return n - kept;
}

static int amend_devices(struct oci_spec *s, const Ipc__Config *config, struct error *err)
{
	Grpc__Linux *l = s->spec->linux;
	size_t left_out;
	int r = 1;

	for (size_t i = 0; r >= 0 && i < l->n_devices; i++) {
		r = keep_device(s, config, i, err);
		if (r != 0)
			continue;
		grpc__linux_device__free_unpacked(l->devices[i], NULL);
		l->devices[i] = NULL;
	}
	left_out = compact(l);
	if (left_out > 0)
		log_warn("config.json: linux.devices are all of the host, as a privileged container "
			 "has them; in a VM those of the VM are meant: %zu are left out",
			left_out);
	return r < 0 ? r : 0;
}

/* ---- volumes ---- */

/* The mount whose source is the volume's place in the share: out of the list, and the caller's. */
static Grpc__Mount *take_mount(Grpc__Spec *spec, unsigned index, unsigned volume)
{
	char path[sizeof(GUEST_SHARE SHARE_VOLUME_FMT) + 16];

	snprintf(path, sizeof(path), GUEST_SHARE SHARE_VOLUME_FMT, index, volume);
	for (size_t i = 0; i < spec->n_mounts; i++) {
		Grpc__Mount *m = spec->mounts[i];

		if (strcmp(m->source, path) != 0)
			continue;
		spec->n_mounts--;
		memmove(&spec->mounts[i], &spec->mounts[i + 1],
			(spec->n_mounts - i) * sizeof(*spec->mounts));
		return m;
	}
	return NULL;
}

static int describe_volume(Grpc__LinuxDevice *to, const Ipc__Config__Disk *d, const char *path)
{
	to->path = strdup(path);
	to->type = strdup("b");
	to->major = d->major;
	to->minor = d->minor;
	to->filemode = d->mode;
	to->uid = d->uid;
	to->gid = d->gid;
	return to->path && to->type ? 0 : -ENOMEM;
}

static int allow(Grpc__LinuxResources *to, const Ipc__Config__Disk *d)
{
	Grpc__LinuxDeviceCgroup *rule;

	/* Without any rule everything is allowed; one that is alone would forbid the rest. */
	if (to->n_devices == 0)
		return 0;
	rule = append(&to->devices, &to->n_devices, &grpc__linux_device_cgroup__descriptor);
	if (!rule)
		return -ENOMEM;
	rule->allow = true;
	rule->type = strdup("b");
	rule->major = d->major;
	rule->minor = d->minor;
	rule->access = strdup(d->read_only ? "rm" : "rwm");
	return rule->type && rule->access ? 0 : -ENOMEM;
}

static int add_volume(struct oci_spec *s, unsigned index, const Ipc__Config__Disk *d,
	struct error *err)
{
	Grpc__Linux *l = s->spec->linux;
	Grpc__Mount *mount = take_mount(s->spec, index, d->number);
	Grpc__LinuxDevice *device;
	int r = 0;

	if (!mount)
		return error_set(err, EINVAL, "config.json: no volume %u", d->number);
	device = append(&l->devices, &l->n_devices, &grpc__linux_device__descriptor);
	if (!device || describe_volume(device, d, mount->destination) < 0 ||
		(l->resources && allow(l->resources, d) < 0))
		r = no_memory(err);
	if (r == 0)
		r = add_device(s, d->disk, mount->destination, err);
	grpc__mount__free_unpacked(mount, NULL);
	return r;
}

/* ---- rules ---- */

static bool is_disk(const Grpc__Linux *l, int64_t major, int64_t minor)
{
	for (size_t i = 0; i < l->n_devices; i++)
		if (strcmp(l->devices[i]->type, "b") == 0 && l->devices[i]->major == major &&
			l->devices[i]->minor == minor)
			return true;
	return false;
}

/*
 * A number of the host's means something else in the guest, so what it allows is left out; but for
 * those of disks, which the guest's agent knows how to translate. What is forbidden stays so.
 */
static bool keep_rule(const Grpc__Linux *l, const Grpc__LinuxDeviceCgroup *r)
{
	if (!r->allow || (r->major < 0 && r->minor < 0))
		return true;
	if (strcmp(r->type, "b") == 0)
		return is_disk(l, r->major, r->minor);
	return strcmp(r->type, "c") == 0 && device_is_everywhere(r->major, r->minor);
}

static int complete_rule(Grpc__LinuxDeviceCgroup *r, struct error *err)
{
	if (!*r->type)
		r->type = strdup("a");
	if (!*r->access)
		r->access = strdup("rwm");
	return r->type && r->access ? 0 : no_memory(err);
}

static int amend_rules(Grpc__Linux *l, struct error *err)
{
	Grpc__LinuxResources *to = l->resources;
	size_t kept = 0;

	for (size_t i = 0; to && i < to->n_devices; i++)
		if (complete_rule(to->devices[i], err) < 0)
			return -ENOMEM;
	for (size_t i = 0; to && i < to->n_devices; i++) {
		if (keep_rule(l, to->devices[i]))
			to->devices[kept++] = to->devices[i];
		else
			grpc__linux_device_cgroup__free_unpacked(to->devices[i], NULL);
	}
	if (to)
		to->n_devices = kept;
	return 0;
}

int devices_amend(struct oci_spec *s, const Ipc__Config *config, struct error *err)
{
	int r = amend_devices(s, config, err);

	for (size_t i = 0; r == 0 && i < config->n_disks; i++) {
		const Ipc__Config__Disk *d = config->disks[i];

		if (d->use == IPC__CONFIG__DISK__USE__ROOTFS)
			r = add_root(s, d, err);
		else if (d->use == IPC__CONFIG__DISK__USE__VOLUME)
			r = add_volume(s, config->index, d, err);
	}
	return r < 0 ? r : amend_rules(s->spec->linux, err);
}
