#include "vmmd/block_device.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "vmmd/qemu_fields.h"

static const char *const words_discard[] = { "ignore", "unmap", NULL };

#define SET_MAX             1000000
#define NODE(s, m, k, ...)  FIELD(s, m, k, ID, .size = BLOCK_NODE_SIZE, __VA_ARGS__)

static const struct qemu_field add_fd_fields[] = {
	FIELD(add_fd, fd, "fd", FD),
	FIELD(add_fd, set, "set", NUMBER, RANGE(1, SET_MAX)),
	NODE(add_fd, opaque, "opaque"),
	{ 0 },
};
CLASS(add_fd, .name = "add-fd", .style = QEMU_STYLE_KEYVAL);

/*
 * aio=threads: io_uring is refused by our filter, and linux-aio needs more of
 * it. locking=off: nobody else has the file, and QEMU would open /dev/null.
 */
static const struct qemu_field blockdev_file_fields[] = {
	NODE(blockdev_file, node_name, "node-name"),
	TEXT(blockdev_file, filename, "filename"),
	FIXED("aio", "threads"),
	FIXED("locking", "off"),
	FIELD(blockdev_file, read_only, "read-only", BOOL),
	WORD(blockdev_file, discard, "discard", words_discard),
	FIELD(blockdev_file, cache_direct, "cache.direct", BOOL),
	{ 0 },
};
#define BLOCKDEV(t) .name = "blockdev", .style = QEMU_STYLE_JSON, .type_key = "driver", .type = (t)
CLASS(blockdev_file, BLOCKDEV("file"));

const struct qemu_class blockdev_host_device_class = { .fields = blockdev_file_fields,
	.size = sizeof(struct blockdev_file), BLOCKDEV("host_device") };

static const struct qemu_field blockdev_raw_fields[] = {
	NODE(blockdev_raw, node_name, "node-name"),
	NODE(blockdev_raw, file, "file"),
	FIELD(blockdev_raw, read_only, "read-only", BOOL),
	WORD(blockdev_raw, discard, "discard", words_discard),
	FIELD(blockdev_raw, cache_direct, "cache.direct", BOOL),
	{ 0 },
};
CLASS(blockdev_raw, BLOCKDEV("raw"));

static const struct qemu_field device_virtio_blk_fields[] = {
	FIELD(device_virtio_blk, id, "id", ID),
	NODE(device_virtio_blk, drive, "drive"),
	TEXT(device_virtio_blk, serial, "serial", OPTIONAL),
	FIELD(device_virtio_blk, iothread, "iothread", ID, OPTIONAL, NOT_MMIO),
	FIELD(device_virtio_blk, discard, "discard", BOOL),
	FIELD(device_virtio_blk, bus, "bus", ID, OPTIONAL, ONLY_PCI),
	FIELD(device_virtio_blk, addr, "addr", SLOT, OPTIONAL, ONLY_PCI, RANGE(1, 31)),
	FIELD(device_virtio_blk, devno, "devno", DEVNO, OPTIONAL, ONLY_CCW, RANGE(1, 0xffff)),
	{ 0 },
};
CLASS(device_virtio_blk, DEVICE("virtio-blk"), .has_transport = true);

static const struct qemu_field device_scsi_hd_fields[] = {
	FIELD(device_scsi_hd, id, "id", ID),
	NODE(device_scsi_hd, drive, "drive"),
	TEXT(device_scsi_hd, serial, "serial", OPTIONAL),
	FIELD(device_scsi_hd, bus, "bus", ID),
	{ 0 },
};
CLASS(device_scsi_hd, DEVICE("scsi-hd"));

static int set_node(char node[BLOCK_NODE_SIZE], const char *id, const char *suffix,
	struct error *err)
{
	if (strlen(id) >= BLOCK_ID_SIZE)
		return error_set(err, EINVAL,
			"the disk's identifier '%.32s...' is %zu bytes long, the limit is %d", id,
			strlen(id), BLOCK_ID_SIZE - 1);
	snprintf(node, BLOCK_NODE_SIZE, "%.26s%.5s", id, suffix);
	return 0;
}

int add_fd_init_consume(struct add_fd *o, const struct block_device_config *config,
	struct error *err)
{
	int r;

	qemu_object_init(&o->base, &add_fd_class);
	o->fd.fd = config->fd;
	o->set = config->set;
	r = set_node(o->opaque, config->id, "", err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}

int blockdev_file_init(struct blockdev_file *o, const struct block_device_config *config,
	struct error *err)
{
	int r;

	qemu_object_init(&o->base, config->kind == BLOCK_HOST_DEVICE ? &blockdev_host_device_class
								     : &blockdev_file_class);
	snprintf(o->filename, sizeof(o->filename), "/dev/fdset/%u", config->set);
	o->read_only = config->read_only;
	o->discard = config->discard;
	o->cache_direct = config->cache_direct;
	r = set_node(o->node_name, config->id, "-file", err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}

int blockdev_raw_init(struct blockdev_raw *o, const struct block_device_config *config,
	struct error *err)
{
	int r;

	qemu_object_init(&o->base, &blockdev_raw_class);
	o->read_only = config->read_only;
	o->discard = config->discard;
	o->cache_direct = config->cache_direct;
	r = set_node(o->node_name, config->id, "", err);
	if (r == 0)
		r = set_node(o->file, config->id, "-file", err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}

static int set_serial(char serial[BLOCK_SERIAL_SIZE], const struct block_device_config *config,
	struct error *err)
{
	return config->serial ? qemu_set_text(serial, BLOCK_SERIAL_SIZE, config->serial, err) : 0;
}

int device_virtio_blk_init(struct device_virtio_blk *o, enum qemu_transport transport,
	const struct block_device_config *config, struct error *err)
{
	int r;

	qemu_object_init(&o->base, &device_virtio_blk_class);
	o->base.transport = transport;
	o->discard = config->discard;
	r = qemu_set_id(o->id, "disk-", config->id, err);
	if (r == 0)
		r = set_node(o->drive, config->id, "", err);
	if (r == 0)
		r = set_serial(o->serial, config, err);
	if (r == 0 && config->iothread)
		r = qemu_set_id(o->iothread, "", config->iothread, err);
	if (r == 0 && config->bus)
		r = qemu_set_id(o->bus, "", config->bus, err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}

int device_scsi_hd_init(struct device_scsi_hd *o, const struct block_device_config *config,
	struct error *err)
{
	int r;

	qemu_object_init(&o->base, &device_scsi_hd_class);
	r = qemu_set_id(o->id, "disk-", config->id, err);
	if (r == 0)
		r = set_node(o->drive, config->id, "", err);
	if (r == 0)
		r = set_serial(o->serial, config, err);
	if (r == 0)
		r = qemu_set_id(o->bus, "", config->bus ? config->bus : "scsi0.0", err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}

static int add_frontend(struct qemu_cmdline *c, const struct block_device_config *config,
	struct error *err)
{
	void *device;

	if (config->frontend == BLOCK_SCSI) {
		device = qemu_cmdline_new(c, &device_scsi_hd_class, err);
		return device ? device_scsi_hd_init(device, config, err) : -ENOMEM;
	}
	device = qemu_cmdline_new(c, &device_virtio_blk_class, err);
	return device ? device_virtio_blk_init(device, c->transport, config, err) : -ENOMEM;
}

int qemu_cmdline_add_block_device_consume(struct qemu_cmdline *c,
	const struct block_device_config *config, struct error *err)
{
	struct add_fd *fd = qemu_cmdline_new(c, &add_fd_class, err);
	struct blockdev_file *file;
	struct blockdev_raw *raw;
	int r;

	if (!fd) {
		close(config->fd);
		return -ENOMEM;
	}
	r = add_fd_init_consume(fd, config, err);
	if (r == 0)
		r = qemu_cmdline_finish(c, &fd->base, err);
	if (r < 0)
		return r;
	file = qemu_cmdline_new(c, &blockdev_file_class, err);
	r = file ? blockdev_file_init(file, config, err) : -ENOMEM;
	if (r < 0)
		return r;
	raw = qemu_cmdline_new(c, &blockdev_raw_class, err);
	r = raw ? blockdev_raw_init(raw, config, err) : -ENOMEM;
	return r < 0 ? r : add_frontend(c, config, err);
}
