#include "shim-frontend/call.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fdio.h"
#include "common/log.h"

/* Packets taken from one peer before the others get their turn. */
#define BATCH 64

struct call {
	struct peer *peer;
	struct call *next;
	call_fn fn; /* NULL: has been called, only the answer is awaited */
	void *ctx;
	struct timer deadline;
	int timeout_ms;
	bool sent;
	const struct ipc_message *row;
	uint32_t seq;
	size_t len;
	uint8_t packet[];
};

static void call_free(struct call *call)
{
	timer_done(&call->deadline);
	free(call);
}

/* Calls back, once. The call itself stays. */
static void call_end(struct call *call, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	call_fn fn = call->fn;

	call->fn = NULL;
	timer_stop(&call->deadline);
	if (fn)
		fn(call->ctx, reply, fds, err);
}

static void unlink_call(struct call **list, struct call *call)
{
	while (*list != call)
		list = &(*list)->next;
	*list = call->next;
}

static void unqueue(struct peer *p, struct call *call)
{
	unlink_call(&p->queue, call);
	p->n_queue--;
	p->queue_last = &p->queue;
	while (*p->queue_last)
		p->queue_last = &(*p->queue_last)->next;
}

static void call_expired(void *ctx)
{
	struct call *call = ctx;
	struct error err = ERROR_INIT;
	bool sent = call->sent;

	error_set(&err, ETIMEDOUT, "%s did not answer '%s' in %d ms%s", call->peer->config.name,
		call->row->name, call->timeout_ms, sent ? "" : ", it is busy");
	if (!sent)
		unqueue(call->peer, call);
	call_end(call, NULL, NULL, &err);
	if (!sent)
		call_free(call);
}

static void peer_lost(struct peer *p, const struct error *err)
{
	p->config.lost(p->config.ctx, p, err);
}

/* 0; -EAGAIN: no room; -EPIPE: it has closed, which its reading side will see. */
static int send_call(struct peer *p, struct call *call)
{
	ssize_t n;

	do
		n = fd_send(p->fd, call->packet, call->len);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	return errno == EAGAIN || errno == ENOBUFS ? -EAGAIN : -EPIPE;
}

/* Sends what the peer may be asked now. */
static void peer_pump(struct peer *p)
{
	while (p->queue && p->n_in_flight < p->config.in_flight_max) {
		struct call *call = p->queue;
		int r = send_call(p, call);

		if (r == -EAGAIN) {
			watch_write(&p->watch, true);
			if (!timer_is_set(&p->unread))
				timer_set(&p->unread, PEER_READ_TIMEOUT_MS);
			return;
		}
		if (r < 0)
			break;
		unqueue(p, call);
		call->sent = true;
		call->next = p->in_flight;
		p->in_flight = call;
		p->n_in_flight++;
	}
	watch_write(&p->watch, false);
	timer_stop(&p->unread);
}

static void peer_writable(void *ctx)
{
	peer_pump(ctx);
}

static void peer_does_not_read(void *ctx)
{
	struct peer *p = ctx;
	struct error err = ERROR_INIT;

	error_set(&err, ETIMEDOUT, "%s has not read its channel for %d ms", p->config.name,
		PEER_READ_TIMEOUT_MS);
	peer_lost(p, &err);
}

static struct call *find_call(struct peer *p, const struct ipc_header *h)
{
	for (struct call *c = p->in_flight; c; c = c->next)
		if (c->seq == h->seq && c->row->type == h->type)
			return c;
	return NULL;
}

static int answer(struct peer *p, struct ipc_packet *packet, struct error *err)
{
	struct call *call = find_call(p, &packet->hdr);
	ProtobufCMessage *reply = NULL;
	struct error failure = ERROR_INIT;

	if (!call)
		return error_set(err, EPROTO, "an answer to '%s' number %u, which was not asked",
			packet->row->name, packet->hdr.seq);
	if (packet->hdr.kind == IPC_ERROR) {
		if (ipc_decode_error(packet, &failure) < 0)
			return error_set(err, EPROTO, "%s: an error that cannot be decoded",
				packet->row->name);
	} else {
		reply = ipc_decode(packet, err);
		if (!reply)
			return -EPROTO;
	}
	unlink_call(&p->in_flight, call);
	p->n_in_flight--;
	call_end(call, reply, &packet->fds, reply ? NULL : &failure);
	call_free(call);
	ipc_free(reply);
	peer_pump(p);
	return 0;
}

static int handle_packet(struct peer *p, struct ipc_packet *packet, struct error *err)
{
	ProtobufCMessage *event;

	switch (packet->hdr.kind) {
	case IPC_REPLY:
	case IPC_ERROR:
		return answer(p, packet, err);
	case IPC_EVENT:
		event = ipc_decode(packet, err);
		if (!event)
			return -EPROTO;
		if (p->config.event)
			p->config.event(p->config.ctx, packet->hdr.type, event);
		ipc_free(event);
		return 0;
	default:
		return error_set(err, EPROTO, "%s: a request to the frontend", packet->row->name);
	}
}

static void peer_closed(struct peer *p)
{
	struct error err = ERROR_INIT;

	if (p->may_leave && !p->in_flight) {
		log_debug("%s has left as planned", p->config.name);
		watch_done(&p->watch);
		p->fd = -1;
		return;
	}
	error_set(&err, EPIPE, "%s is gone", p->config.name);
	peer_lost(p, &err);
}

static void peer_readable(void *ctx)
{
	struct peer *p = ctx;
	struct error err = ERROR_INIT;

	for (int i = 0; i < BATCH && p->fd >= 0; i++) {
		CLEANUP(ipc_packet_done) struct ipc_packet packet;
		int r;

		packet.fds.n = 0;
		r = channel_recv(p->fd, p->config.channel, MSG_DONTWAIT, &packet, &err);
		if (r == -EAGAIN)
			return;
		if (r == 0) {
			peer_closed(p);
			return;
		}
		if (r > 0)
			r = handle_packet(p, &packet, &err);
		if (r < 0) {
			error_wrap(&err, "%s is lost", p->config.name);
			peer_lost(p, &err);
			return;
		}
	}
}

int peer_init(struct peer *p, struct loop *loop, int fd, const struct peer_config *config,
	struct error *err)
{
	*p = (struct peer){ .config = *config, .loop = loop, .fd = fd };
	p->queue_last = &p->queue;
	timer_init(&p->unread, loop, peer_does_not_read, p);
	if (fd < 0)
		return 0;
	return watch_init(&p->watch, loop, fd, peer_readable, peer_writable, p, err);
}

static void free_calls(struct call *list)
{
	while (list) {
		struct call *next = list->next;

		call_free(list);
		list = next;
	}
}

void peer_done(struct peer *p)
{
	free_calls(p->in_flight);
	free_calls(p->queue);
	p->in_flight = p->queue = NULL;
	timer_done(&p->unread);
	watch_done(&p->watch);
}

static struct call *call_new(struct peer *p, const struct ipc_message *row,
	const ProtobufCMessage *request, size_t len)
{
	struct call *call = calloc(1, sizeof(*call) + sizeof(struct ipc_header) + len);
	struct ipc_header hdr = {
		.magic = IPC_MAGIC,
		.version = IPC_VERSION,
		.kind = IPC_REQUEST,
		.type = row->type,
		.len = (uint32_t)len,
	};

	if (!call)
		abort();
	if (++p->seq == 0)
		p->seq = 1;
	hdr.seq = p->seq;
	memcpy(call->packet, &hdr, sizeof(hdr));
	protobuf_c_message_pack(request, call->packet + sizeof(hdr));
	call->len = sizeof(hdr) + len;
	call->peer = p;
	call->row = row;
	call->seq = hdr.seq;
	timer_init(&call->deadline, p->loop, call_expired, call);
	return call;
}

int call_start(struct peer *p, uint16_t type, const ProtobufCMessage *request, int timeout_ms,
	call_fn fn, void *ctx, struct error *err)
{
	const struct ipc_message *row = ipc_channel_message(p->config.channel, type);
	size_t len = protobuf_c_message_get_packed_size(request);
	struct call *call;

	if (p->fd < 0)
		return error_set(err, EPIPE, "%s has left", p->config.name);
	if (len > IPC_PAYLOAD_MAX)
		return error_set(err, EMSGSIZE, "%s: %zu bytes for %s, the limit is %zu", row->name,
			len, p->config.name, IPC_PAYLOAD_MAX);
	if (p->n_queue >= PEER_QUEUE_MAX)
		return error_set(err, ENOBUFS, "%s has %u requests waiting", p->config.name,
			p->n_queue);
	call = call_new(p, row, request, len);
	call->fn = fn;
	call->ctx = ctx;
	call->timeout_ms = timeout_ms;
	timer_set(&call->deadline, timeout_ms);
	*p->queue_last = call;
	p->queue_last = &call->next;
	p->n_queue++;
	peer_pump(p);
	return 0;
}

void peer_fail_calls(struct peer *p, const struct error *err)
{
	uint32_t last = p->seq;
	struct call *call;

	/* What the callbacks ask anew has a higher number and is not meant. */
	while ((call = p->queue) && call->seq <= last) {
		unqueue(p, call);
		call_end(call, NULL, NULL, err);
		call_free(call);
	}
	for (call = p->in_flight; call; call = call->next)
		if (call->fn && call->seq <= last)
			call_end(call, NULL, NULL, err);
}
