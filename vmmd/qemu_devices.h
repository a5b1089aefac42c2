/*
 * Devices and objects that have no fd, or one: buses and ports, threads,
 * controllers, the balloon, vsock, the IOMMU. Each is made by one
 * qemu_cmdline_add_...() of qemu_cmdline.h.
 */
#pragma once

#include "vmmd/qemu_object.h"

/* A property of every device of a kind. */
struct global {
	struct qemu_object base;
	char driver[QEMU_ID_SIZE], property[QEMU_ID_SIZE];
	unsigned value; /* enum on_off_auto */
};

struct bios {
	struct qemu_object base;
	char bios[256];
};

struct object_iothread {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
};

struct device_virtio_scsi {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char iothread[QEMU_ID_SIZE];
};

/* A place for one device at hot-plug. */
struct device_pcie_root_port {
	struct qemu_object base;
	char id[QEMU_ID_SIZE], bus[QEMU_ID_SIZE];
	uint64_t chassis; /* with slot: unique in the VM */
	uint64_t slot;
};

struct device_pci_bridge {
	struct qemu_object base;
	char id[QEMU_ID_SIZE], bus[QEMU_ID_SIZE];
	uint64_t chassis_nr;
	bool shpc;
	uint64_t addr;
};

struct device_virtio_balloon {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	bool free_page_reporting, deflate_on_oom;
};

struct device_vhost_vsock {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	struct qemu_fd vhostfd;
	uint64_t guest_cid;
};

struct device_intel_iommu {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	unsigned intremap; /* enum on_off_auto */
	bool device_iotlb, caching_mode;
};
