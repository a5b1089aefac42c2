#include "ipc/channel.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/clock.h"
#include "common/fdio.h"
#include "ipc/alloc.h"
#include "ipc/common.pb-c.h"

#ifndef SCM_PIDFD
#define SCM_PIDFD 4
#endif

const struct ipc_message *ipc_channel_message(const struct ipc_channel *def, uint16_t type)
{
	for (size_t i = 0; i < def->n_messages; i++)
		if (def->messages[i].type == type)
			return &def->messages[i];
	return NULL;
}

void ipc_packet_done(struct ipc_packet *p)
{
	fdlist_done(&p->fds);
}

/* Every fd that came, whatever else is wrong with the message. -EPROTO: more than SCM_RIGHTS. */
static int take_fds(struct msghdr *mh, struct fdlist *fds)
{
	int r = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t n, had = fds->n;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			r = -EPROTO;
		/* A pidfd is an fd too, and would stay. */
		if (c->cmsg_level != SOL_SOCKET ||
			(c->cmsg_type != SCM_RIGHTS && c->cmsg_type != SCM_PIDFD))
			continue;
		n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (fdlist_add_consume(fds, fd) < 0)
				r = -EPROTO;
		}
		if (had > 0)
			r = -EPROTO; /* a second SCM_RIGHTS */
	}
	return r;
}

/* The fds a packet of this kind may carry: with the reply for a request, else with the event. */
static int check_fds(struct ipc_packet *p, struct error *err)
{
	const struct ipc_message *row = p->row;
	bool carries = p->hdr.kind == IPC_EVENT || p->hdr.kind == IPC_REPLY;
	size_t max = carries ? row->nfds : 0, min = carries ? row->min_fds : 0;

	if (p->fds.n != p->hdr.nfds)
		return error_set(err, EPROTO, "%s: %zu fds came, the header says %u", row->name,
			p->fds.n, p->hdr.nfds);
	if (p->fds.n < min || p->fds.n > max)
		return error_set(err, EPROTO, "%s: %zu fds came, %zu to %zu belong to it",
			row->name, p->fds.n, min, max);
	for (size_t i = 0; i < p->fds.n; i++)
		if (fd_check_kind(p->fds.fd[i], row->fds[i], err) < 0) {
			error_wrap(err, "%s: fd %zu", row->name, i);
			return -EPROTO;
		}
	return 0;
}

static int check_header(const struct ipc_channel *def, struct ipc_packet *p, size_t len,
	struct error *err)
{
	const struct ipc_header *h = &p->hdr;
	bool fits;

	if (len < sizeof(*h))
		return error_set(err, EPROTO, "a packet of %zu bytes", len);
	if (h->magic != IPC_MAGIC || h->version != IPC_VERSION || h->reserved)
		return error_set(err, EPROTO, "a header with magic 0x%x, version %u, reserved %u",
			h->magic, h->version, h->reserved);
	if (h->len != len - sizeof(*h))
		return error_set(err, EPROTO, "%zu bytes of payload, the header says %u",
			len - sizeof(*h), h->len);
	p->row = ipc_channel_message(def, h->type);
	if (!p->row)
		return error_set(err, EPROTO, "unknown type %u", h->type);
	switch (h->kind) {
	case IPC_REQUEST:
		fits = p->row->request && h->seq != 0;
		break;
	case IPC_REPLY:
	case IPC_ERROR:
		fits = p->row->reply && h->seq != 0;
		break;
	case IPC_EVENT:
		fits = p->row->event && h->seq == 0;
		break;
	default:
		fits = false;
	}
	if (!fits)
		return error_set(err, EPROTO, "%s: kind %u with seq %u does not belong to it",
			p->row->name, h->kind, h->seq);
	return 0;
}

/* The end and an empty packet look the same to recvmsg(). */
static bool peer_closed(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLRDHUP };

	return fd_poll(&pfd, 1, 0) != 0;
}

int channel_recv(int fd, const struct ipc_channel *def, int flags, struct ipc_packet *p,
	struct error *err)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(FDLIST_MAX * sizeof(int))];
	} control;
	struct iovec iov[2] = {
		{ .iov_base = &p->hdr, .iov_len = sizeof(p->hdr) },
		{ .iov_base = p->payload, .iov_len = sizeof(p->payload) },
	};
	struct msghdr mh = {
		.msg_iov = iov,
		.msg_iovlen = 2,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	ssize_t n;
	int r;

	p->fds = (struct fdlist)FDLIST_INIT;
	p->row = NULL;
	/* ECONNRESET, once: the peer died with mail unread. What it has said before still comes. */
	do
		n = recvmsg(fd, &mh, flags | MSG_CMSG_CLOEXEC);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0) {
		if (errno == EAGAIN)
			return -EAGAIN;
		return error_errno(err, errno, "%s: recvmsg", def->name);
	}

	r = take_fds(&mh, &p->fds);
	if (n == 0 && mh.msg_controllen == 0 && !(mh.msg_flags & MSG_CTRUNC) && peer_closed(fd))
		return 0;
	if (r < 0)
		error_set(err, EPROTO, "control data other than one list of fds");
	else if (mh.msg_flags & MSG_TRUNC)
		r = error_set(err, EPROTO, "a packet longer than %d bytes", IPC_PACKET_MAX);
	else if (mh.msg_flags & MSG_CTRUNC)
		r = error_set(err, EPROTO,
			"fds were lost on the way: too many, no free number, or refused by an LSM");
	if (r == 0)
		r = check_header(def, p, (size_t)n, err);
	if (r == 0)
		r = check_fds(p, err);
	if (r < 0) {
		ipc_packet_done(p);
		error_wrap(err, "channel %s", def->name);
		return -EPROTO;
	}
	return 1;
}

/* sendmsg() that waits for room until the deadline. */
static int send_packet(int fd, const struct msghdr *mh, int timeout_ms, struct error *err)
{
	int64_t deadline = clock_ms() + timeout_ms;

	for (;;) {
		struct pollfd pfd = { .fd = fd, .events = POLLOUT };
		int left;

		if (sendmsg(fd, mh, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno == EINTR)
			continue;
		if (errno == ECONNRESET)
			errno = EPIPE;
		if (errno != EAGAIN)
			return error_errno(err, errno, "send");
		left = clock_left_ms(deadline);
		if (left == 0)
			return error_set(err, ETIMEDOUT, "the peer does not read its channel");
		if (fd_poll(&pfd, 1, left) < 0 && errno != EINTR)
			return error_errno(err, errno, "poll");
	}
}

static int send_parts(int fd, struct ipc_header *hdr, void *payload, const int *fds, size_t nfds,
	int timeout_ms, struct error *err)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(FDLIST_MAX * sizeof(int))];
	} control;
	struct iovec iov[2] = {
		{ .iov_base = hdr, .iov_len = sizeof(*hdr) },
		{ .iov_base = payload, .iov_len = hdr->len },
	};
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };

	if (nfds > FDLIST_MAX)
		return error_set(err, EINVAL, "%zu fds in one message", nfds);
	if (nfds > 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(nfds * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(nfds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, nfds * sizeof(int));
	}
	return send_packet(fd, &mh, timeout_ms, err);
}

int channel_send(int fd, const struct ipc_channel *def, enum ipc_kind kind, uint16_t type,
	uint32_t seq, const ProtobufCMessage *payload, const int *fds, size_t nfds, int timeout_ms,
	struct error *err)
{
	uint8_t buf[IPC_PAYLOAD_MAX];
	size_t len = protobuf_c_message_get_packed_size(payload);
	struct ipc_header hdr = {
		.magic = IPC_MAGIC,
		.version = IPC_VERSION,
		.kind = (uint8_t)kind,
		.type = type,
		.nfds = (uint8_t)nfds,
		.seq = seq,
		.len = (uint32_t)len,
	};
	const struct ipc_message *row = ipc_channel_message(def, type);
	int r;

	if (len > sizeof(buf))
		return error_set(err, EMSGSIZE, "%s: a message of %zu bytes, the limit is %zu",
			row ? row->name : def->name, len, sizeof(buf));
	protobuf_c_message_pack(payload, buf);
	r = send_parts(fd, &hdr, buf, fds, nfds, timeout_ms, err);
	if (r < 0)
		error_wrap(err, "channel %s", def->name);
	return r;
}

int channel_send_error(int fd, uint16_t type, uint32_t seq, const struct error *error,
	int timeout_ms, struct error *err)
{
	uint8_t buf[sizeof(error->msg) + 32];
	Ipc__Error msg = IPC__ERROR__INIT;
	struct ipc_header hdr = {
		.magic = IPC_MAGIC,
		.version = IPC_VERSION,
		.kind = IPC_ERROR,
		.type = type,
		.seq = seq,
	};

	msg.code = error->code;
	msg.message = (char *)error->msg;
	hdr.len = (uint32_t)ipc__error__pack(&msg, buf);
	return send_parts(fd, &hdr, buf, NULL, 0, timeout_ms, err);
}

/*
 * Our own encoder must give the same bytes again. What it would not write is
 * no accident: a text with a NUL inside, which every reader would see cut
 * short, a field given twice, a number longer than it needs to be.
 */
static bool is_canonical(const ProtobufCMessage *msg, const uint8_t *data, size_t len)
{
	uint8_t again[IPC_PAYLOAD_MAX];

	if (protobuf_c_message_get_packed_size(msg) != len)
		return false;
	protobuf_c_message_pack(msg, again);
	return memcmp(again, data, len) == 0;
}

/* NULL with err; the caller's otherwise. */
static ProtobufCMessage *unpack_strict(const struct ipc_packet *p,
	const ProtobufCMessageDescriptor *d, struct error *err)
{
	ProtobufCMessage *msg = capped_unpack(d, p->hdr.len, p->payload, 16 * IPC_PACKET_MAX);

	if (!msg) {
		error_set(err, EPROTO, "%s: a payload that is not a %s", p->row->name, d->name);
		return NULL;
	}
	if (message_has_unknown_fields(msg))
		error_set(err, EPROTO, "%s: a %s with unknown fields", p->row->name, d->name);
	else if (!is_canonical(msg, p->payload, p->hdr.len))
		error_set(err, EPROTO, "%s: a %s in another encoding than ours", p->row->name,
			d->name);
	else
		return msg;
	ipc_free(msg);
	return NULL;
}

static const ProtobufCMessageDescriptor *descriptor(const struct ipc_packet *p)
{
	switch (p->hdr.kind) {
	case IPC_REQUEST:
		return p->row->request;
	case IPC_REPLY:
		return p->row->reply;
	case IPC_EVENT:
		return p->row->event;
	default:
		return NULL;
	}
}

ProtobufCMessage *ipc_decode(const struct ipc_packet *p, struct error *err)
{
	const ProtobufCMessageDescriptor *d = descriptor(p);

	if (!d) {
		error_set(err, EPROTO, "%s: an error where an answer was expected", p->row->name);
		return NULL;
	}
	return unpack_strict(p, d, err);
}

void ipc_free(ProtobufCMessage *msg)
{
	if (msg)
		protobuf_c_message_free_unpacked(msg, NULL);
}

int ipc_decode_error(const struct ipc_packet *p, struct error *ret)
{
	Ipc__Error *msg;

	if (p->hdr.kind != IPC_ERROR)
		return -EPROTO;
	msg = (Ipc__Error *)unpack_strict(p, &ipc__error__descriptor, NULL);
	if (!msg)
		return -EPROTO;
	error_set(ret, msg->code, "%s", msg->message);
	ipc_free(&msg->base);
	return 0;
}
