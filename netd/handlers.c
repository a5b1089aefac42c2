#include "netd/handlers.h"

#include <errno.h>

#include "common/log.h"
#include "ipc/netd.pb-c.h"
#include "netd/scan.h"
#include "netd/tcfilter.h"
#include "netd/translate.h"

/* SCANNED: there are links. Until then they may be looked for again. */
enum { SERVING = 1, SCANNED = 2 };

static int handle_scan(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	static Ipc__NetdScanReply answer = IPC__NETD_SCAN_REPLY__INIT;
	struct netd *n = h->ctx;
	int r = 0;

	(void)request;
	(void)reply_fds;
	if (n->model != MODEL_NONE)
		r = network_scan(n->sk, &n->network, err);
	if (r < 0)
		return error_wrap(err, "look into the pod's network namespace");
	r = network_check(&n->network, err);
	if (r < 0)
		return r;
	if (n->network.left_out > 0)
		log_warn("%zu routes of the pod are not copied: not unicast, or with several next hops",
			n->network.left_out);
	answer.links = (uint32_t)n->network.n_links;
	answer.parts = network_parts(&n->network);
	answer.stays = n->network.n_links == 0 && n->model != MODEL_NONE;
	*reply = &answer.base;
	h->done = n->model == MODEL_NONE;
	if (n->network.n_links > 0)
		h->state = SCANNED;
	return 0;
}

static int handle_part(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	static struct part part;
	const Ipc__NetdPart *m = (const Ipc__NetdPart *)request;
	struct netd *n = h->ctx;

	(void)reply_fds;
	if (m->part >= network_parts(&n->network))
		return error_set(err, EINVAL, "the network has no part %u", m->part);
	network_part(&n->network, m->part, &part);
	*reply = &part.reply.base;
	return 0;
}

/* Every queue, then how many there were. Our copies are closed by the caller. */
static int send_tap(struct netd *n, const struct tap *tap, unsigned index, struct error *err)
{
	Ipc__NetdQueue queue = IPC__NETD_QUEUE__INIT;
	Ipc__NetdEnd end = IPC__NETD_END__INIT;
	int r = 0;

	queue.index = end.index = index;
	end.queues = tap->queues;
	for (unsigned i = 0; r == 0 && i < tap->queues; i++) {
		const int fds[] = { tap->fd[i], tap->vhost[i] };

		queue.queue = i;
		r = channel_send(n->vmmd, &ipc_netd_vmmd, IPC_EVENT, NETD_VMMD_QUEUE, 0, &queue.base,
			fds, tap->vhost[i] >= 0 ? 2 : 1, IPC_SEND_TIMEOUT_MS, err);
	}
	if (r == 0)
		r = channel_send(n->vmmd, &ipc_netd_vmmd, IPC_EVENT, NETD_VMMD_END, 0, &end.base,
			NULL, 0, IPC_SEND_TIMEOUT_MS, err);
	return r;
}

/* Made before this process shut itself in. What it is not taken for goes with delete. */
static int attach_macvtap(struct netd *n, unsigned index, struct error *err)
{
	CLEANUP(tap_done) struct tap tap = { .queues = 0 };
	int r = macvtaps_take(&n->macvtaps, &n->network.links[index], &tap, err);

	return r < 0 ? r : send_tap(n, &tap, index, err);
}

static int attach_tap(struct netd *n, unsigned index, struct error *err)
{
	CLEANUP(tap_done) struct tap tap = { .queues = 0 };
	const struct link *link = &n->network.links[index];
	struct error undo = ERROR_INIT;
	int r = tap_create(&tap, &n->pool, index, n->queues, err);

	if (r == 0)
		r = tcfilter_attach(n->sk, link, &tap, err);
	if (r < 0)
		return r;
	r = send_tap(n, &tap, index, err);
	if (r < 0 && tcfilter_detach(n->sk, link, &undo) < 0)
		log_error("undo: %s", undo.msg);
	return r;
}

static int handle_attach(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	static Ipc__NetdAttachReply answer = IPC__NETD_ATTACH_REPLY__INIT;
	const Ipc__NetdAttach *m = (const Ipc__NetdAttach *)request;
	struct netd *n = h->ctx;
	const struct link *link;
	int r;

	(void)reply_fds;
	if (m->index >= n->network.n_links)
		return error_set(err, EINVAL, "the pod has no link %u", m->index);
	link = &n->network.links[m->index];
	if (n->attached & 1U << m->index)
		return error_set(err, EALREADY, "the link %s is attached already", link->name);
	r = n->model == MODEL_MACVTAP ? attach_macvtap(n, m->index, err)
				      : attach_tap(n, m->index, err);
	if (r < 0)
		return error_wrap(err, "attach the link %s (%s)", link->name,
			link->kind[0] ? link->kind : "a plain device");
	n->attached |= 1U << m->index;
	answer.queues = n->queues;
	*reply = &answer.base;
	return 0;
}

static int handle_done(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	(void)request, (void)reply, (void)reply_fds, (void)err;
	h->done = true;
	return 0;
}

static const struct helper_request requests[] = {
	{ NETD_SCAN, handle_scan, SERVING, 0 },
	{ NETD_PART, handle_part, SCANNED, 0 },
	{ NETD_ATTACH, handle_attach, SCANNED, 0 },
	{ NETD_DONE, handle_done, SERVING | SCANNED, 0 },
};

struct helper netd_helper(int fd, struct netd *n)
{
	return (struct helper){
		.channel = &ipc_frontend_netd,
		.fd = fd,
		.requests = requests,
		.n_requests = ARRAY_SIZE(requests),
		.state = SERVING,
		.ctx = n,
	};
}
