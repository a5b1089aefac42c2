/* Network devices of a command line. */
#include <errno.h>

#include "vmmd/device_virtio_net.h"
#include "vmmd/qemu_fields.h"

int qemu_cmdline_add_network_device_consume(struct qemu_cmdline *c,
	const struct network_device_config *config, struct error *err)
{
	struct netdev *netdev = qemu_cmdline_new(c, &netdev_class, err);
	struct device_virtio_net *device;
	int r;

	if (!netdev) {
		network_device_config_close(config);
		return -ENOMEM;
	}
	r = netdev_init_consume(netdev, config, err);
	if (r == 0)
		r = qemu_cmdline_finish(c, &netdev->base, err);
	device = r < 0 ? NULL : qemu_cmdline_new(c, &device_virtio_net_class, err);
	if (!device)
		return r < 0 ? r : -ENOMEM;
	return device_virtio_net_init(device, c->transport, config, err);
}
