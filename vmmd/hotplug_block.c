#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>

#include "common/fd.h"
#include "common/fdio.h"
#include "ipc/tables.h"
#include "vmmd/block_device.h"
#include "vmmd/json.h"
#include "vmmd/plugged.h"

struct block {
	struct plugged base;
	struct add_fd add_fd; /* without its fd once QEMU has it */
	uint64_t qemu_fd;     /* its number in the set */
	struct blockdev_file file;
	struct blockdev_raw raw;
	struct device_virtio_blk device;
};

static int do_port(void *ctx, struct error *err)
{
	struct block *b = ctx;

	return take_port(&b->base, b->device.bus, err);
}

static int do_add_fd(void *ctx, struct error *err)
{
	struct block *b = ctx;
	_cleanup_json_ struct json_object *result = NULL;
	struct vm_call c = { "add-fd", json_object_new_object(), b->add_fd.fd.fd, 0 };
	uint64_t set;
	int r;

	if (json_set_number(c.arguments, "fdset-id", b->add_fd.set) < 0 ||
		json_set_text(c.arguments, "opaque", b->add_fd.opaque) < 0) {
		json_object_put(c.arguments);
		return error_errno(err, ENOMEM, "add-fd");
	}
	r = vm_call_consume(b->base.vm, &c, &result, err);
	if (r < 0)
		return r;
	if (!json_number(result, "fdset-id", UINT32_MAX, &set) || set != b->add_fd.set ||
		!json_number(result, "fd", INT32_MAX, &b->qemu_fd))
		return vm_lost(b->base.vm, err, "it put an fd into another set than it was told");
	return 0;
}

static int undo_add_fd(void *ctx, struct error *err)
{
	struct block *b = ctx;
	struct vm_call c = { "remove-fd", json_object_new_object(), -1, 0 };

	if (json_set_number(c.arguments, "fdset-id", b->add_fd.set) < 0 ||
		json_set_number(c.arguments, "fd", b->qemu_fd) < 0) {
		json_object_put(c.arguments);
		return error_errno(err, ENOMEM, "remove-fd");
	}
	return vm_call_consume(b->base.vm, &c, NULL, err);
}

static int do_file(void *ctx, struct error *err)
{
	struct block *b = ctx;

	return call_add(b->base.vm, "blockdev-add", &b->file.base, err);
}

static int undo_file(void *ctx, struct error *err)
{
	struct block *b = ctx;

	return call_text(b->base.vm, "blockdev-del", "node-name", b->file.node_name, -1, err);
}

static int do_raw(void *ctx, struct error *err)
{
	struct block *b = ctx;

	return call_add(b->base.vm, "blockdev-add", &b->raw.base, err);
}

static int undo_raw(void *ctx, struct error *err)
{
	struct block *b = ctx;

	return call_text(b->base.vm, "blockdev-del", "node-name", b->raw.node_name, -1, err);
}

static int do_device(void *ctx, struct error *err)
{
	struct block *b = ctx;

	return call_add(b->base.vm, "device_add", &b->device.base, err);
}

static int undo_device(void *ctx, struct error *err)
{
	struct block *b = ctx;

	return vm_device_del(b->base.vm, b->device.id, err);
}

static const struct step steps[] = {
	{ "port", do_port, give_port },
	{ "add-fd", do_add_fd, undo_add_fd },
	{ "blockdev-add of the file", do_file, undo_file },
	{ "blockdev-add of the disk", do_raw, undo_raw },
	{ "device_add", do_device, undo_device },
};

static void done(struct plugged *p)
{
	qemu_object_done(&((struct block *)p)->add_fd.base);
}

/*
 * What mountd was asked for: a read-only image must not have come writable, nor the
 * reverse. What else the objects must say of the fd is as it was opened.
 */
static int check_fd(struct block_device_config *config, struct error *err)
{
	int flags = fcntl(config->fd, F_GETFL);
	struct stat st;

	if (flags < 0 || fd_stat(config->fd, &st) < 0)
		return error_errno(err, errno, "the disk's fd");
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return error_set(err, EBADF, "what came is neither an image nor a block device");
	if ((flags & O_PATH) || (flags & O_ACCMODE) != (config->read_only ? O_RDONLY : O_RDWR))
		return error_set(err, EBADF, "a disk that is to be %s came open for something else",
			config->read_only ? "read-only" : "writable");
	config->kind = S_ISBLK(st.st_mode) ? BLOCK_HOST_DEVICE : BLOCK_FILE;
	config->cache_direct = flags & O_DIRECT;
	return 0;
}

static int init_consume(struct block *b, struct block_device_config *config, struct error *err)
{
	char id[BLOCK_ID_SIZE], serial[BLOCK_SERIAL_SIZE];
	int r;

	snprintf(id, sizeof(id), "hot%u", b->base.number);
	snprintf(serial, sizeof(serial), DISK_SERIAL_FMT, b->base.index);
	config->id = id;
	config->serial = serial;
	config->set = FDSET_HOTPLUG + b->base.number;
	r = add_fd_init_consume(&b->add_fd, config, err);
	if (r == 0)
		r = blockdev_file_init(&b->file, config, err);
	if (r == 0)
		r = blockdev_raw_init(&b->raw, config, err);
	if (r == 0)
		r = device_virtio_blk_init(&b->device, QEMU_TRANSPORT_PCI, config, err);
	return r;
}

int hotplug_add_block_consume(struct vm *vm, uint32_t index, int fd, bool read_only,
	struct error *err)
{
	struct block_device_config config = { .fd = fd, .read_only = read_only };
	struct block *b;
	int r = check_fd(&config, err);

	if (r < 0) {
		fd_close(&fd);
		return error_wrap(err, "disk %u", index);
	}
	b = plugged_new(vm, sizeof(*b), HOTPLUG_BLOCK, index, steps, ARRAY_SIZE(steps), err);
	if (!b) {
		fd_close(&fd);
		return -err->code;
	}
	b->base.done = done;
	r = init_consume(b, &config, err);
	if (r < 0) {
		done(&b->base);
		free(b);
		return r;
	}
	r = plugged_add_consume(&b->base, err);
	if (r == 0)
		fd_close(&b->add_fd.fd.fd); /* QEMU has its own */
	return r;
}

/* ---- query-fdsets ---- */

static bool is_expected(struct json_object *set, const unsigned *sets, size_t n, uint64_t *seen)
{
	struct json_object *fds = json_member(set, "fds", json_type_array);
	uint64_t id;

	if (!fds || json_object_array_length(fds) != 1 ||
		!json_number(set, "fdset-id", UINT32_MAX, &id))
		return false;
	for (size_t i = 0; i < n; i++)
		if (sets[i] == id && !(*seen & (UINT64_C(1) << i))) {
			*seen |= UINT64_C(1) << i;
			return true;
		}
	return false;
}

int hotplug_check_fdsets(struct vm *vm, const unsigned *sets, size_t n, struct error *err)
{
	static const char why[] = "its sets of fds are not those it was given";
	_cleanup_json_ struct json_object *result = NULL;
	const struct vm_call c = { .command = "query-fdsets", .fd = -1 };
	uint64_t seen = 0;
	int r = vm_call_consume(vm, &c, &result, err);

	if (r < 0)
		return r;
	if (n > 64 || !json_object_is_type(result, json_type_array) ||
		json_object_array_length(result) != n)
		return vm_lost(vm, err, why);
	for (size_t i = 0; i < n; i++)
		if (!is_expected(json_object_array_get_idx(result, i), sets, n, &seen))
			return vm_lost(vm, err, why);
	return 0;
}
