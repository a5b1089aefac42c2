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
#include "vmmd/qemu_cmdline.h"

static void nic_fds_done(struct nic_fds *f)
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

	if (n->lost)
		return error_set(err, EPROTO, "netd: it has broken the protocol before");
	while (r == 0)
		r = receive_one(n, channel, err);
	if (r == -EAGAIN)
		return 0;
	nics_done(n);
	n->lost = true;
	return error_wrap(err, "netd");
}

int nics_take(struct nics *n, const Ipc__VmmdLaunch__Nic *m, struct nic_config *ret,
	struct error *err)
{
	*ret = (struct nic_config){ .config = { .host_mtu = m->mtu } };
	if (m->mac.len != sizeof(ret->config.mac))
		return error_set(err, EPROTO, "link %u has a MAC address of %zu bytes", m->index,
			m->mac.len);
	if (m->index >= NETWORK_LINKS_MAX || !n->nic[m->index].complete)
		return error_set(err, EPROTO, "netd has sent no tap for link %u", m->index);
	ret->fds = n->nic[m->index];
	n->nic[m->index] = (struct nic_fds){ .queues = 0 };
	memcpy(ret->config.mac, m->mac.data, sizeof(ret->config.mac));
	ret->config.queues = ret->fds.queues;
	ret->config.queue_fds = ret->fds.tap;
	ret->config.vhost_fds = ret->fds.vhost ? ret->fds.vhost_fd : NULL;
	return 0;
}

static int add_nic(struct qemu_cmdline *c, struct nics *n, const Ipc__VmmdLaunch__Nic *m,
	struct error *err)
{
	struct nic_config nic;
	char id[QEMU_ID_SIZE];
	int r = nics_take(n, m, &nic, err);

	if (r < 0)
		return r;
	snprintf(id, sizeof(id), "net%u", m->index);
	nic.config.id = id;
	return qemu_cmdline_add_network_device_consume(c, &nic.config, err);
}

int nics_add(struct nics *n, struct qemu_cmdline *c, int channel, const Ipc__VmmdLaunch *request,
	struct error *err)
{
	int r = request->n_nics ? nics_receive(n, channel, err) : 0;

	for (size_t i = 0; r == 0 && i < request->n_nics; i++)
		r = add_nic(c, n, request->nics[i], err);
	return r;
}
