/*
 * A disk: an fd that QEMU knows as /dev/fdset/<set>, the node that reads it,
 * the node of its format (always raw: nothing of ours is parsed by QEMU), and
 * the device the guest sees. One object each, built from one config.
 *
 * struct add_fd alone owns the fd. At start it is -add-fd; at hot-plug QMP's
 * add-fd brings it, and the three others are blockdev-add twice and device_add.
 */
#pragma once

#include "vmmd/qemu_object.h"

/* block nodes have names of at most 31 bytes */
#define BLOCK_ID_SIZE     27
#define BLOCK_NODE_SIZE   32
#define BLOCK_SERIAL_SIZE 21 /* virtio has 20 bytes */

enum block_kind { BLOCK_FILE, BLOCK_HOST_DEVICE };
enum block_frontend { BLOCK_VIRTIO, BLOCK_SCSI };

struct block_device_config {
	const char *id; /* of the format's node; the file's is "<id>-file", the device "disk-<id>" */
	int fd;		/* open as read_only says; of a block device: BLOCK_HOST_DEVICE */
	unsigned set;	/* the fd set's number, one for each disk of a VM, from 1 */
	enum block_kind kind;
	enum block_frontend frontend;
	bool read_only;
	bool discard;	   /* what the guest discards is given back */
	bool cache_direct; /* past the host's page cache; needs O_DIRECT in fd's flags */
	const char *serial;   /* NULL: none */
	const char *iothread; /* virtio: its thread; NULL: the main loop */
	const char *bus;      /* NULL: the machine's own; of BLOCK_SCSI the controller's */
};

struct add_fd {
	struct qemu_object base;
	struct qemu_fd fd;
	uint64_t set;
	char opaque[BLOCK_NODE_SIZE]; /* what query-fdsets tells it by: the id */
};

struct blockdev_file {
	struct qemu_object base;
	char node_name[BLOCK_NODE_SIZE];
	char filename[32]; /* "/dev/fdset/<set>" */
	bool read_only;
	unsigned discard;
	bool cache_direct;
};

struct blockdev_raw {
	struct qemu_object base;
	char node_name[BLOCK_NODE_SIZE];
	char file[BLOCK_NODE_SIZE];
	bool read_only;
	unsigned discard;
	bool cache_direct;
};

struct device_virtio_blk {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char drive[BLOCK_NODE_SIZE];
	char serial[BLOCK_SERIAL_SIZE];
	char iothread[QEMU_ID_SIZE];
	bool discard;
	char bus[QEMU_ID_SIZE];
	uint64_t addr, devno;
};

struct device_scsi_hd {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char drive[BLOCK_NODE_SIZE];
	char serial[BLOCK_SERIAL_SIZE];
	char bus[QEMU_ID_SIZE];
};

extern const struct qemu_class add_fd_class, blockdev_file_class, blockdev_host_device_class,
	blockdev_raw_class, device_virtio_blk_class, device_scsi_hd_class;

/* Takes the config's fd, also on failure; qemu_object_done() is the caller's, always. */
int add_fd_init_consume(struct add_fd *o, const struct block_device_config *config,
	struct error *err);

/* Nothing to release. 0, or -EINVAL with err. */
int blockdev_file_init(struct blockdev_file *o, const struct block_device_config *config,
	struct error *err);
int blockdev_raw_init(struct blockdev_raw *o, const struct block_device_config *config,
	struct error *err);
int device_virtio_blk_init(struct device_virtio_blk *o, enum qemu_transport transport,
	const struct block_device_config *config, struct error *err);
int device_scsi_hd_init(struct device_scsi_hd *o, const struct block_device_config *config,
	struct error *err);
