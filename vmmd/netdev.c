#include "vmmd/netdev.h"

#include <errno.h>
#include <stdio.h>

#include "common/fd.h"
#include "vmmd/qemu_fields.h"

static const struct qemu_field netdev_fields[] = {
	FIELD(netdev, id, "id", ID),
	FIELD(netdev, fds, "fds", FDS),
	FIELD(netdev, vhost, "vhost", BOOL),
	FIELD(netdev, vhostfds, "vhostfds", FDS, OPTIONAL),
	{ 0 },
};
CLASS(netdev, .name = "netdev", .style = QEMU_STYLE_JSON, .type_key = "type", .type = "tap");

static void close_all(const int *fds, unsigned n)
{
	for (unsigned i = 0; fds && i < n; i++) {
		int fd = fds[i];

		fd_close(&fd);
	}
}

void network_device_config_close(const struct network_device_config *config)
{
	close_all(config->queue_fds, config->queues);
	close_all(config->vhost_fds, config->queues);
}

static void take(struct qemu_fds *to, const int *fds, unsigned n, const char *id, const char *what)
{
	for (unsigned i = 0; fds && i < n; i++) {
		struct qemu_fd *fd = &to->fd[to->n++];

		fd->fd = fds[i];
		snprintf(fd->name, sizeof(fd->name), "%.48s-%s%u", id, what, i);
	}
}

int netdev_init_consume(struct netdev *netdev, const struct network_device_config *config,
	struct error *err)
{
	int r;

	qemu_object_init(&netdev->base, &netdev_class);
	if (config->queues < 1 || config->queues > NETDEV_QUEUES_MAX) {
		network_device_config_close(config);
		return error_set(err, EINVAL, "-netdev tap: %u queues, allowed are 1 to %d",
			config->queues, NETDEV_QUEUES_MAX);
	}
	take(&netdev->fds, config->queue_fds, config->queues, config->id, "queue");
	take(&netdev->vhostfds, config->vhost_fds, config->queues, config->id, "vhost");
	netdev->vhost = config->vhost_fds != NULL;
	r = qemu_set_id(netdev->id, "", config->id, err);
	return r < 0 ? r : qemu_object_check(&netdev->base, err);
}

void netdev_done(struct netdev *netdev)
{
	qemu_object_done(&netdev->base);
}
