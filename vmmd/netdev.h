/*
 * -netdev tap: the host's half of a network device. Kinds are not told apart:
 * a tuntap and a macvtap are both fds of queues here.
 *
 * A struct netdev owns its fds: those of a command line live as long as it
 * does, those of a hot-plugged device until netdev_done(), when QEMU has its
 * own copies.
 */
#pragma once

#include "vmmd/qemu_object.h"

#define NETDEV_QUEUES_MAX QEMU_FDS_MAX

/* One network device, as netd hands it over: both halves are built from it. */
struct network_device_config {
	const char *id; /* of the netdev; the device is "virtio-<id>" */
	uint8_t mac[6]; /* the guest's */
	unsigned queues; /* 1 to NETDEV_QUEUES_MAX */
	const int *queue_fds;  /* of the tap, one a queue; with IFF_VNET_HDR */
	const int *vhost_fds;  /* of /dev/vhost-net, one a queue; NULL: vhost off */
	unsigned host_mtu; /* what the guest is told; 0: nothing */
	bool disable_modern, iommu_platform;
};

struct netdev {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	struct qemu_fds fds;
	bool vhost;
	struct qemu_fds vhostfds;
};

extern const struct qemu_class netdev_class;

/* Closes every fd of the config. */
void network_device_config_close(const struct network_device_config *config);

/*
 * Takes the config's fds, also on failure. The fds' names for getfd are
 * "<id>-queue<i>" and "<id>-vhost<i>". netdev_done() is the caller's, always.
 * 0, or -EINVAL with err.
 */
int netdev_init_consume(struct netdev *netdev, const struct network_device_config *config,
	struct error *err);

void netdev_done(struct netdev *netdev);
