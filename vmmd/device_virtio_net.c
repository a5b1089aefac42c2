#include "vmmd/device_virtio_net.h"

#include <errno.h>
#include <string.h>

#include "vmmd/qemu_fields.h"

/* host_mtu: virtio-net's smallest is IPv4's. */
static const struct qemu_field device_virtio_net_fields[] = {
	FIELD(device_virtio_net, id, "id", ID),
	FIELD(device_virtio_net, netdev, "netdev", ID),
	FIELD(device_virtio_net, mac, "mac", MAC),
	FIELD(device_virtio_net, mq, "mq", BOOL, OPTIONAL),
	FIELD(device_virtio_net, vectors, "vectors", NUMBER, ONLY_PCI,
		RANGE(4, 2 * NETDEV_QUEUES_MAX + 2)),
	FIELD(device_virtio_net, disable_modern, "disable-modern", BOOL, OPTIONAL, ONLY_PCI),
	WORD(device_virtio_net, disable_legacy, "disable-legacy", on_off_auto, OPTIONAL, ONLY_PCI),
	FIELD(device_virtio_net, iommu_platform, "iommu_platform", BOOL, OPTIONAL),
	FIELD(device_virtio_net, host_mtu, "host_mtu", NUMBER, OPTIONAL, RANGE(68, 65535)),
	FIELD(device_virtio_net, bus, "bus", ID, OPTIONAL, ONLY_PCI),
	FIELD(device_virtio_net, addr, "addr", SLOT, OPTIONAL, ONLY_PCI, RANGE(1, 31)),
	FIELD(device_virtio_net, devno, "devno", DEVNO, OPTIONAL, ONLY_CCW, RANGE(1, 0xffff)),
	FIXED("romfile", "", ONLY_PCI), /* nobody boots from it: no ROM for the guest to read */
	{ 0 },
};
CLASS(device_virtio_net, DEVICE("virtio-net"), .has_transport = true);

int device_virtio_net_init(struct device_virtio_net *device, enum qemu_transport transport,
	const struct network_device_config *config, struct error *err)
{
	bool pci = transport == QEMU_TRANSPORT_PCI;
	int r;

	qemu_object_init(&device->base, &device_virtio_net_class);
	device->base.transport = transport;
	memcpy(device->mac, config->mac, sizeof(device->mac));
	device->mq = config->queues > 1;
	device->vectors = pci ? 2 * (uint64_t)config->queues + 2 : 0;
	device->disable_modern = config->disable_modern;
	device->iommu_platform = config->iommu_platform;
	device->host_mtu = config->host_mtu;
	if (pci && config->iommu_platform) {
		if (config->disable_modern)
			return error_set(err, EINVAL,
				"-device virtio-net: iommu_platform needs what disable-modern takes away");
		device->disable_legacy = ON_OFF_AUTO_ON; /* a legacy device has no IOMMU */
	}
	r = qemu_set_id(device->id, "virtio-", config->id, err);
	if (r == 0)
		r = qemu_set_id(device->netdev, "", config->id, err);
	return r < 0 ? r : qemu_object_check(&device->base, err);
}
