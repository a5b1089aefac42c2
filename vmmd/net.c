#include "vmmd/net.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "ipc/netd.pb-c.h"
#include "vmmd/netdev.h"
#include "vmmd/qemu_cmdline.h"

void nic_fds_done(struct nic_fds *f)
{
	for (unsigned i = 0; i < f->queues; i++) {
		fd_close(&f->tap[i]);
		fd_close(&f->vhost_fd[i]);
	}
	*f = (struct nic_fds){ .queues = 0 };
}

void nics_done(struct nics *n)
{
	for (size_t i = 0; i < ARRAY_SIZE(n->nic); i++)
		nic_fds_done(&n->nic[i]);
}

/* By table it is a tap with a vnet header. It must be the one of this link, and go when we go. */
static int check_tap(int fd, uint32_t index, bool several, struct error *err)
{
	struct ifreq ifr = { .ifr_flags = 0 };
	char name[IFNAMSIZ];
	int flags;

	snprintf(name, sizeof(name), NETWORK_TAP_FMT, index);
	if (ioctl(fd, TUNGETIFF, &ifr) < 0)
		return error_errno(err, errno, "the tap of link %u", index);
	flags = (unsigned short)ifr.ifr_flags;
	if (strncmp(ifr.ifr_name, name, IFNAMSIZ) != 0)
		return error_set(err, EPROTO, "the tap of link %u is not called %s", index, name);
	if (flags & IFF_PERSIST)
		return error_set(err, EPROTO, "the tap %s is persistent", name);
	if (several && !(flags & IFF_MULTI_QUEUE))
		return error_set(err, EPROTO, "the tap %s has one queue only", name);
	return 0;
}

static int add_queue(struct nics *n, const Ipc__NetdQueue *m, struct fdlist *fds, struct error *err)
{
	struct nic_fds *f;
	int r;

	if (m->index >= NETWORK_LINKS_MAX || m->queue >= NETWORK_QUEUES_MAX)
		return error_set(err, EPROTO, "queue %u of link %u", m->queue, m->index);
	f = &n->nic[m->index];
	if (f->complete || m->queue != f->queues)
		return error_set(err, EPROTO, "queue %u of link %u is not the next one", m->queue,
			m->index);
	r = check_tap(fds->fd[0], m->index, m->queue > 0, err);
	if (r < 0)
		return r;
	f->vhost += fds->n > 1;
	f->vhost_fd[f->queues] = fdlist_steal(fds, 1);
	f->tap[f->queues++] = fdlist_steal(fds, 0);
	return 0;
}

static int end_nic(struct nics *n, const Ipc__NetdEnd *m, struct error *err)
{
	struct nic_fds *f;

	if (m->index >= NETWORK_LINKS_MAX)
		return error_set(err, EPROTO, "the end of link %u", m->index);
	f = &n->nic[m->index];
	if (f->complete || f->queues == 0 || m->queues != f->queues)
		return error_set(err, EPROTO, "link %u has %u queues, %u have come", m->index,
			m->queues, f->queues);
	if (f->vhost != 0 && f->vhost != f->queues)
		return error_set(err, EPROTO, "link %u has %u queues, %u with vhost-net", m->index,
			f->queues, f->vhost);
	f->complete = true;
	return 0;
}

static int receive_one(struct nics *n, int channel, struct error *err)
{
	CLEANUP(ipc_packet_done) struct ipc_packet packet = { .fds = FDLIST_INIT };
	ProtobufCMessage *msg;
	int r = channel_recv(channel, &ipc_netd_vmmd, MSG_DONTWAIT, &packet, err);

	if (r <= 0)
		return r == 0 ? -EAGAIN : r; /* netd may have left: it has said all it had to */
	msg = ipc_decode(&packet, err);
	if (!msg)
		return -EPROTO;
	r = packet.hdr.type == NETD_VMMD_QUEUE
		? add_queue(n, (const Ipc__NetdQueue *)msg, &packet.fds, err)
		: end_nic(n, (const Ipc__NetdEnd *)msg, err);
	ipc_free(msg);
	return r;
}

int nics_receive(struct nics *n, int channel, struct error *err)
{
	int r = 0;

	while (r == 0)
		r = receive_one(n, channel, err);
	return r == -EAGAIN ? 0 : error_wrap(err, "netd");
}

int nics_take(struct nics *n, uint32_t index, struct nic_fds *ret, struct error *err)
{
	if (index >= NETWORK_LINKS_MAX || !n->nic[index].complete)
		return error_set(err, EPROTO, "netd has sent no tap for link %u", index);
	*ret = n->nic[index];
	n->nic[index] = (struct nic_fds){ .queues = 0 };
	return 0;
}

static int add_nic(struct qemu_cmdline *c, struct nics *n, const Ipc__VmmdLaunch__Nic *m,
	struct error *err)
{
	struct network_device_config config = { .host_mtu = m->mtu };
	struct nic_fds fds;
	char id[QEMU_ID_SIZE];
	int r;

	if (m->mac.len != sizeof(config.mac))
		return error_set(err, EPROTO, "link %u has a MAC address of %zu bytes", m->index,
			m->mac.len);
	r = nics_take(n, m->index, &fds, err);
	if (r < 0)
		return r;
	snprintf(id, sizeof(id), "net%u", m->index);
	memcpy(config.mac, m->mac.data, sizeof(config.mac));
	config.id = id;
	config.queues = fds.queues;
	config.queue_fds = fds.tap;
	config.vhost_fds = fds.vhost ? fds.vhost_fd : NULL;
	return qemu_cmdline_add_network_device_consume(c, &config, err);
}

int nics_add(struct qemu_cmdline *c, int channel, const Ipc__VmmdLaunch *request,
	struct error *err)
{
	CLEANUP(nics_done) struct nics n = { 0 };
	int r = 0;

	if (request->n_nics == 0)
		return 0;
	r = nics_receive(&n, channel, err);
	for (size_t i = 0; r == 0 && i < request->n_nics; i++)
		r = add_nic(c, &n, request->nics[i], err);
	return r;
}
