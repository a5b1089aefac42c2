#include "ipc/serve.h"

#include <errno.h>
#include <sys/socket.h>

#include "common/fdio.h"
#include "common/log.h"
#include "ipc/common.pb-c.h"

static const struct helper_request *find(const struct helper *h, uint16_t type)
{
	for (size_t i = 0; i < h->n_requests; i++)
		if (h->requests[i].type == type)
			return &h->requests[i];
	return NULL;
}

static int answer(struct helper *h, const struct ipc_packet *p, const struct helper_request *row,
	const ProtobufCMessage *request, struct error *err)
{
	Ipc__Empty empty = IPC__EMPTY__INIT;
	const ProtobufCMessage *reply = &empty.base;
	CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;
	struct error failure = ERROR_INIT;

	if (row->handle(h, request, &reply, &fds, &failure) < 0) {
		log_warn("%s: %s", p->row->name, failure.msg);
		return channel_send_error(h->fd, p->hdr.type, p->hdr.seq, &failure,
			IPC_SEND_TIMEOUT_MS, err);
	}
	if (row->then)
		h->state = row->then;
	return channel_send(h->fd, h->channel, IPC_REPLY, p->hdr.type, p->hdr.seq, reply, fds.fd,
		fds.n, IPC_SEND_TIMEOUT_MS, err);
}

/* 1: served; 0: the frontend is gone; -errno: protocol broken or answer not sent */
static int serve_one(struct helper *h, struct error *err)
{
	CLEANUP(ipc_packet_done) struct ipc_packet packet = { .fds = FDLIST_INIT };
	const struct helper_request *row;
	ProtobufCMessage *request;
	int r;

	r = channel_recv(h->fd, h->channel, MSG_DONTWAIT, &packet, err);
	if (r == -EAGAIN)
		return 1;
	if (r <= 0)
		return r;
	row = find(h, packet.hdr.type);
	if (!row || packet.hdr.kind != IPC_REQUEST || !(row->states & h->state))
		return error_set(err, EPROTO, "unpermitted request '%s' in state 0x%x",
			packet.row->name, h->state);
	request = ipc_decode(&packet, err);
	if (!request)
		return -EPROTO;
	r = answer(h, &packet, row, request, err);
	ipc_free(request);
	return r < 0 ? r : 1;
}

int helper_serve(struct helper *h, struct error *err)
{
	struct pollfd pfds[1 + HELPER_SOURCES_MAX];
	int r;

	while (!h->done) {
		pfds[0] = (struct pollfd){ .fd = h->fd, .events = POLLIN };
		for (size_t i = 0; i < HELPER_SOURCES_MAX; i++)
			pfds[1 + i] = (struct pollfd){
				.fd = h->sources[i].ready ? h->sources[i].fd : -1,
				.events = h->sources[i].events,
			};
		if (fd_poll(pfds, ARRAY_SIZE(pfds), -1) < 0) {
			if (errno == EINTR)
				continue;
			return error_errno(err, errno, "poll");
		}
		for (size_t i = 0; i < HELPER_SOURCES_MAX && !h->done; i++) {
			if (!pfds[1 + i].revents)
				continue;
			r = h->sources[i].ready(h, &h->sources[i], pfds[1 + i].revents, err);
			if (r < 0)
				return r;
		}
		if (pfds[0].revents && !h->done) {
			r = serve_one(h, err);
			if (r <= 0)
				return r;
		}
	}
	return 0;
}
