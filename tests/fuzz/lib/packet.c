#include "tests/fuzz/lib/packet.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/common.pb-c.h"
#include "tests/fuzz/lib/sim.h"

/* More than a packet may have, so that one that is cut is seen too. */
#define SEND_MAX (IPC_PACKET_MAX + 64)
#define FDS_MAX	 12

/* ---- one fd of each kind, made once ---- */

static int kept(int fd)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, SIM_FD_OURS + 100);

	SIM_CHECK(moved >= 0);
	close(fd);
	return moved;
}

static int reopened(int fd, int flags)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	SIM_CHECK(again >= 0);
	return kept(again);
}

static int make_socket(int type, bool listening)
{
	const struct sockaddr_un any = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	/* a name that the kernel chooses */
	SIM_CHECK(bind(fd, (const struct sockaddr *)&any, sizeof(any.sun_family)) == 0);
	SIM_CHECK(!listening || listen(fd, 1) == 0);
	return kept(fd);
}

static int samples[FD_ANY + 1], odd[4];

static void make_samples(void)
{
	int file = memfd_create("sample", MFD_CLOEXEC), pair[2];

	SIM_CHECK(file >= 0 && write(file, "{}", 2) == 2);
	samples[FD_REGULAR_RO] = reopened(file, O_RDONLY);
	samples[FD_REGULAR_APPEND] = reopened(file, O_WRONLY | O_APPEND);
	samples[FD_PATH] = reopened(file, O_PATH);
	samples[FD_ANY] = odd[0] = kept(file);
	SIM_CHECK(pipe2(pair, O_CLOEXEC) == 0);
	samples[FD_FIFO_RW] = reopened(pair[0], O_RDWR);
	samples[FD_FIFO_RO] = kept(pair[0]);
	samples[FD_PIPE_W] = kept(pair[1]);
	SIM_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	samples[FD_UNIX_STREAM] = samples[FD_STREAM] = kept(pair[0]);
	close(pair[1]);
	samples[FD_UNIX_LISTENER] = make_socket(SOCK_STREAM, true);
	samples[FD_UNIX_DGRAM] = make_socket(SOCK_DGRAM, false);
	samples[FD_TAP] = samples[FD_VHOST_NET] = samples[FD_BLOCK] = samples[FD_NONE] = -1;
	odd[1] = kept(open("/dev/null", O_RDWR | O_CLOEXEC));
	odd[2] = kept(eventfd(0, EFD_CLOEXEC));
	odd[3] = kept(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int sample(enum fd_kind kind)
{
	if (!samples[FD_ANY])
		make_samples();
	return samples[kind] >= 0 ? samples[kind] : odd[1];
}

static int sample_of(uint8_t number)
{
	unsigned n = number % (FD_ANY + 1 + ARRAY_SIZE(odd));

	return n <= FD_ANY ? sample((enum fd_kind)n) : odd[n - FD_ANY - 1];
}

/* ---- a packet ---- */

struct out {
	uint8_t bytes[SEND_MAX];
	size_t len;
	int fds[FDS_MAX];
	size_t n_fds;
};

static void transmit(int fd, const struct out *o)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)o->bytes, .iov_len = o->len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (o->n_fds > 0) {
		struct cmsghdr *c = &control.align;

		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(o->n_fds * sizeof(int));
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(o->n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), o->fds, o->n_fds * sizeof(int));
	}
	/* Full, or the role has gone: it does not arrive. */
	sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void add_fds(const struct peer_end *p, struct out *o, const struct ipc_message *row,
	uint8_t kind)
{
	if (!row || (kind != IPC_EVENT && kind != IPC_REPLY))
		return;
	for (size_t i = 0; i < row->nfds; i++) {
		int fd = p->fd_for ? p->fd_for(p->ctx, row->type, i) : -1;

		o->fds[o->n_fds++] = fd >= 0 ? fd : sample(row->fds[i]);
	}
}

static void add_odd_fds(struct out *o, struct bytes *in)
{
	size_t n = in_u8(in) % (FDS_MAX + 1);

	for (size_t i = 0; i < n; i++)
		o->fds[o->n_fds++] = sample_of(in_u8(in));
}

static void put(struct out *o, const struct ipc_header *hdr, const uint8_t *payload, size_t len)
{
	memcpy(o->bytes, hdr, sizeof(*hdr));
	memcpy(o->bytes + sizeof(*hdr), payload, len);
	o->len = sizeof(*hdr) + len;
}

/* Type and number of what is answered. False: nothing was asked. */
static bool take_asked(struct peer_end *p, bool newest, struct ipc_header *hdr)
{
	unsigned at = newest ? p->n_asked - 1 : 0;

	if (p->n_asked == 0)
		return false;
	hdr->type = p->asked[at].type;
	hdr->seq = p->asked[at].seq;
	p->n_asked--;
	memmove(&p->asked[at], &p->asked[at + 1], (p->n_asked - at) * sizeof(p->asked[0]));
	return true;
}

static void fill_header(struct peer_end *p, uint8_t shape, struct bytes *in, struct ipc_header *hdr)
{
	static const uint8_t kinds[] = { IPC_REQUEST, IPC_EVENT, IPC_REPLY, IPC_ERROR };
	bool asks = (shape & SHAPE_KIND) == SHAPE_REQUEST;
	size_t row;

	*hdr = (struct ipc_header){ .magic = IPC_MAGIC, .version = IPC_VERSION };
	hdr->kind = kinds[shape & SHAPE_KIND];
	hdr->seq = asks ? ++p->seq : 0;
	if (hdr->kind == IPC_REPLY || hdr->kind == IPC_ERROR) {
		peer_read(p);
		if (take_asked(p, shape & SHAPE_NEWEST, hdr))
			return;
		hdr->seq = 1;
	}
	/* One more than there are: a row that does not exist. */
	row = in_u8(in) % (p->channel->n_messages + 1);
	hdr->type = row < p->channel->n_messages ? p->channel->messages[row].type : UINT16_MAX;
}

void peer_send(struct peer_end *p, struct bytes *in)
{
	static struct out o;
	uint8_t shape = in_u8(in), value = 0, more = 0;
	size_t at = 0;
	struct ipc_header hdr;
	const uint8_t *payload;
	size_t len;

	o.n_fds = 0;
	if (shape & SHAPE_RAW) {
		if (shape & SHAPE_FDS)
			add_odd_fds(&o, in);
		payload = in_bytes(in, sizeof(o.bytes), &o.len);
		memcpy(o.bytes, payload, o.len);
		if (p->fd >= 0)
			transmit(p->fd, &o);
		return;
	}
	fill_header(p, shape, in, &hdr);
	if (shape & SHAPE_FDS)
		add_odd_fds(&o, in);
	else
		add_fds(p, &o, ipc_channel_message(p->channel, hdr.type), hdr.kind);
	if (shape & SHAPE_SEQ)
		hdr.seq = in_u8(in);
	if (shape & SHAPE_REPEAT)
		more = in_u8(in);
	if (shape & SHAPE_HEADER) {
		at = in_u8(in) % sizeof(hdr);
		value = in_u8(in);
	}
	payload = in_bytes(in, sizeof(o.bytes) - sizeof(hdr), &len);
	hdr.nfds = (uint8_t)o.n_fds;
	hdr.len = (uint32_t)len;
	if (shape & SHAPE_HEADER)
		((uint8_t *)&hdr)[at] = value;
	for (;;) {
		put(&o, &hdr, payload, len);
		if (p->fd >= 0)
			transmit(p->fd, &o);
		if (more-- == 0)
			return;
		if (hdr.kind == IPC_REQUEST)
			hdr.seq = ++p->seq;
	}
}

static void send_message(struct peer_end *p, struct ipc_header *hdr, const ProtobufCMessage *msg)
{
	static struct out o;
	uint8_t payload[IPC_PAYLOAD_MAX];

	SIM_CHECK(protobuf_c_message_get_packed_size(msg) <= sizeof(payload));
	o.n_fds = 0;
	add_fds(p, &o, ipc_channel_message(p->channel, hdr->type), hdr->kind);
	hdr->magic = IPC_MAGIC;
	hdr->version = IPC_VERSION;
	hdr->nfds = (uint8_t)o.n_fds;
	hdr->len = (uint32_t)protobuf_c_message_pack(msg, payload);
	put(&o, hdr, payload, hdr->len);
	if (p->fd >= 0)
		transmit(p->fd, &o);
}

void peer_ask(struct peer_end *p, uint16_t type, const ProtobufCMessage *msg)
{
	struct ipc_header hdr = { .kind = IPC_REQUEST, .type = type, .seq = ++p->seq };

	send_message(p, &hdr, msg);
}

void peer_tell(struct peer_end *p, uint16_t type, const ProtobufCMessage *msg)
{
	struct ipc_header hdr = { .kind = IPC_EVENT, .type = type };

	send_message(p, &hdr, msg);
}

void peer_answer_all(struct peer_end *p)
{
	const Ipc__Empty empty = IPC__EMPTY__INIT;
	struct ipc_header hdr = { .kind = IPC_REPLY };

	peer_read(p);
	/* All fields of any reply may be missing: an empty one is each of them. */
	while (take_asked(p, false, &hdr)) {
		send_message(p, &hdr, &empty.base);
		hdr = (struct ipc_header){ .kind = IPC_REPLY };
	}
}

/* ---- what comes ---- */

void peer_read(struct peer_end *p)
{
	static struct ipc_packet packet;
	struct error err = ERROR_INIT;

	/* By the same code as everybody's: whatever a role sends is right. */
	while (p->fd >= 0) {
		int r = channel_recv(p->fd, p->channel, MSG_DONTWAIT, &packet, &err);

		if (r == 0 || r == -EAGAIN)
			return;
		if (r < 0)
			fprintf(stderr, "%s\n", err.msg);
		SIM_CHECK(r == 1);
		if (packet.hdr.kind == IPC_REQUEST && p->n_asked < ASKED_MAX) {
			p->asked[p->n_asked].type = packet.hdr.type;
			p->asked[p->n_asked++].seq = packet.hdr.seq;
		}
		if (p->fds_came)
			p->fds_came(p->ctx, &packet.hdr, packet.payload, &packet.fds);
		ipc_packet_done(&packet);
	}
}

void peer_open(struct peer_end *p, const struct ipc_channel *channel, int at)
{
	*p = (struct peer_end){ .channel = channel, .fd = sim_pair(SOCK_SEQPACKET, at) };
}

void peer_close(struct peer_end *p)
{
	sim_close(&p->fd);
}

void ctl_say(int fd, struct bytes *in)
{
	struct ctl_msg msg = { .type = in_u8(in) };
	const uint8_t *raw;
	size_t len;

	if (msg.type & 0x80) {
		raw = in_bytes(in, sizeof(msg) + 8, &len);
		if (fd >= 0)
			send(fd, raw, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		return;
	}
	msg.role = in_u8(in);
	msg.status = (int16_t)in_u16(in);
	in_text(in, msg.text, sizeof(msg.text));
	if (msg.role & 0x80)
		memset(msg.text, 'x', sizeof(msg.text));
	msg.role &= 0x7f;
	if (fd >= 0)
		send(fd, &msg, sizeof(msg), MSG_DONTWAIT | MSG_NOSIGNAL);
}
