/* -device virtio-net-<transport>: the guest's half of a network device. It has no fds. */
#pragma once

#include "vmmd/netdev.h"

struct device_virtio_net {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char netdev[QEMU_ID_SIZE];
	uint8_t mac[6];
	bool mq;	     /* only with more than one queue */
	uint64_t vectors;    /* PCI: two for each queue, configuration, control */
	bool disable_modern; /* PCI */
	unsigned disable_legacy; /* PCI: enum on_off_auto; 0: QEMU's default */
	bool iommu_platform;
	uint64_t host_mtu;
	char bus[QEMU_ID_SIZE]; /* PCI: "": the machine's own */
	uint64_t addr;          /* PCI: the slot; 0: the next that is free */
	uint64_t devno;         /* CCW: 0: the next that is free */
};

extern const struct qemu_class device_virtio_net_class;

/*
 * The device of a netdev that is made from the same config, on the machine's
 * own bus: whoever wants another sets bus and addr (or devno) and checks
 * again. 0, or -EINVAL with err. Nothing to release.
 */
int device_virtio_net_init(struct device_virtio_net *device, enum qemu_transport transport,
	const struct network_device_config *config, struct error *err);
