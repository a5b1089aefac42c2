#include <errno.h>
#include <stdio.h>

#include "common/fd.h"
#include "vmmd/device_virtio_net.h"
#include "vmmd/plugged.h"

struct nic {
	struct plugged base;
	struct netdev netdev; /* without its fds once QEMU has them */
	struct device_virtio_net device;
	size_t sent; /* fds that QEMU has by name, and no netdev yet */
};

static int send_one(void *ctx, struct qemu_fd *fd, struct error *err)
{
	struct nic *nic = ctx;
	int r = call_text(nic->base.vm, "getfd", "fdname", fd->name, fd->fd, err);

	if (r == 0)
		nic->sent++;
	return r;
}

/* Of those that were sent, the last first. The netdev has taken the names that are gone. */
static int close_sent(struct nic *nic, const struct qemu_fds *fds, size_t before, struct error *err)
{
	int r = 0;

	while (nic->sent > before) {
		const struct qemu_fd *fd = &fds->fd[nic->sent - before - 1];
		int one = call_text(nic->base.vm, "closefd", "fdname", fd->name, -1, err);

		r = one < 0 ? one : r;
		nic->sent--;
	}
	return r;
}

static int undo_send(void *ctx, struct error *err)
{
	struct nic *nic = ctx;
	int vhost = close_sent(nic, &nic->netdev.vhostfds, nic->netdev.fds.n, err);
	int tap = close_sent(nic, &nic->netdev.fds, 0, err);

	return vhost < 0 ? vhost : tap;
}

static int do_send(void *ctx, struct error *err)
{
	struct nic *nic = ctx;
	struct error ignored = ERROR_INIT;
	int r = qemu_object_each_fd(&nic->netdev.base, send_one, nic, err);

	if (r < 0)
		undo_send(nic, &ignored);
	return r;
}

static int do_port(void *ctx, struct error *err)
{
	struct nic *nic = ctx;

	return take_port(&nic->base, nic->device.bus, err);
}

static int do_netdev(void *ctx, struct error *err)
{
	struct nic *nic = ctx;
	int r = call_add(nic->base.vm, "netdev_add", &nic->netdev.base, err);

	if (r == 0)
		nic->sent = 0; /* they are the netdev's: getfd's names are used up */
	return r;
}

static int undo_netdev(void *ctx, struct error *err)
{
	struct nic *nic = ctx;

	return call_text(nic->base.vm, "netdev_del", "id", nic->netdev.id, -1, err);
}

static int do_device(void *ctx, struct error *err)
{
	struct nic *nic = ctx;

	return call_add(nic->base.vm, "device_add", &nic->device.base, err);
}

static int undo_device(void *ctx, struct error *err)
{
	struct nic *nic = ctx;

	return vm_device_del(nic->base.vm, nic->device.id, err);
}

static const struct step steps[] = {
	{ "port", do_port, give_port },
	{ "getfd", do_send, undo_send },
	{ "netdev_add", do_netdev, undo_netdev },
	{ "device_add", do_device, undo_device },
};

static void done(struct plugged *p)
{
	struct nic *nic = (struct nic *)p;

	netdev_done(&nic->netdev);
}

static int close_one(void *ctx, struct qemu_fd *fd, struct error *err)
{
	(void)ctx, (void)err;
	fd_close(&fd->fd);
	return 0;
}

int hotplug_add_nic_consume(struct vm *vm, uint32_t index, struct network_device_config *config,
	struct error *err)
{
	char id[QEMU_ID_SIZE];
	struct nic *nic =
		plugged_new(vm, sizeof(*nic), HOTPLUG_NIC, index, steps, ARRAY_SIZE(steps), err);
	int r;

	if (!nic) {
		network_device_config_close(config);
		return -err->code;
	}
	snprintf(id, sizeof(id), "nic%u", nic->base.number);
	config->id = id;
	nic->base.done = done;
	r = netdev_init_consume(&nic->netdev, config, err);
	if (r == 0)
		r = device_virtio_net_init(&nic->device, QEMU_TRANSPORT_PCI, config, err);
	if (r < 0) {
		netdev_done(&nic->netdev);
		free(nic);
		return r;
	}
	r = plugged_add_consume(&nic->base, err);
	if (r < 0)
		return r;
	qemu_object_each_fd(&nic->netdev.base, close_one, NULL, NULL); /* QEMU has its own */
	return 0;
}
