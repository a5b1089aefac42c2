/*
 * Every rule of the channels, for every message of every table: a packet that
 * fits is taken; spoiled in any one way it is -EPROTO, and no fd is left.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "ipc/channel.h"
#include "ipc/common.pb-c.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/pair.h"
#include "ipc/persistd.pb-c.h"
#include "ipc/tables.h"
#include "tests/lib/test.h"
#include "tests/unit/common_kinds.h"

#define RAW_MAX (IPC_PACKET_MAX + 64)
#define FDS_MAX 20

/* A packet before it is sent: bytes, and the fds to go with it. */
struct raw {
	size_t len;
	union {
		struct ipc_header hdr;
		uint8_t bytes[RAW_MAX];
	};
	size_t n_fds;
	int fds[FDS_MAX];
};

static int pair[2];

static void raw_done(struct raw *p)
{
	for (size_t i = 0; i < p->n_fds; i++)
		close(p->fds[i]);
	p->n_fds = 0;
}

static void add_fd(struct raw *p, enum fd_kind kind)
{
	CHECK(p->n_fds < FDS_MAX);
	p->fds[p->n_fds] = make_kind(kind);
	if (p->fds[p->n_fds] < 0)
		test_skip(fd_kind_name(kind));
	p->n_fds++;
}

static bool permits(const struct ipc_message *row, int kind)
{
	switch (kind) {
	case IPC_REQUEST:
		return row->request;
	case IPC_REPLY:
	case IPC_ERROR:
		return row->reply;
	case IPC_EVENT:
		return row->event;
	default:
		return false;
	}
}

static bool machine_has(enum fd_kind kind)
{
	int fd = make_kind(kind);
	bool has = fd >= 0;

	fd_close(&fd);
	return has;
}

/* Of those that may be left out, only what this machine can make. */
static size_t fds_of(const struct ipc_message *row, int kind)
{
	size_t n = kind == IPC_REPLY || kind == IPC_EVENT ? row->nfds : 0;

	while (n > row->min_fds && !machine_has(row->fds[n - 1]))
		n--;
	return n;
}

/* The empty message, which every descriptor has, with the right fds. */
static void good(struct raw *p, const struct ipc_message *row, int kind)
{
	*p = (struct raw){ .len = sizeof(struct ipc_header) };
	p->hdr = (struct ipc_header){ .magic = IPC_MAGIC, .version = IPC_VERSION,
		.kind = (uint8_t)kind, .type = row->type,
		.nfds = (uint8_t)fds_of(row, kind), .seq = kind == IPC_EVENT ? 0 : 1 };
	for (size_t i = 0; i < fds_of(row, kind); i++)
		add_fd(p, row->fds[i]);
}

/* As one SCM_RIGHTS, or split into two. */
static ssize_t send_raw(const struct raw *p, size_t first)
{
	union {
		struct cmsghdr align;
		char buf[2 * CMSG_SPACE(FDS_MAX * sizeof(int))];
	} control = { .buf = { 0 } };
	struct iovec iov = { .iov_base = (void *)p->bytes, .iov_len = p->len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	size_t counts[2] = { first, p->n_fds - first }, at = 0;
	struct cmsghdr *c;

	mh.msg_control = &control;
	mh.msg_controllen = sizeof(control);
	c = CMSG_FIRSTHDR(&mh);
	mh.msg_controllen = 0;
	for (size_t i = 0; i < 2; i++) {
		if (counts[i] == 0)
			continue;
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(counts[i] * sizeof(int));
		memcpy(CMSG_DATA(c), p->fds + at, counts[i] * sizeof(int));
		at += counts[i];
		mh.msg_controllen += CMSG_SPACE(counts[i] * sizeof(int));
		c = (struct cmsghdr *)(void *)(control.buf + mh.msg_controllen);
	}
	if (mh.msg_controllen == 0)
		mh.msg_control = NULL;
	return sendmsg(pair[0], &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static struct ipc_packet packet;

/* Sends it, closes our copies, receives: the result, with the fds that came still in packet. */
static int deliver(struct raw *p, const struct ipc_channel *def, struct error *err)
{
	CHECK_INT(send_raw(p, p->n_fds), (long long)p->len);
	raw_done(p);
	return channel_recv(pair[1], def, MSG_DONTWAIT, &packet, err);
}

typedef void (*row_fn)(const struct ipc_channel *def, const struct ipc_message *row, int kind);

/* For every message and every kind that may carry it, on a new pair. */
static void for_each(row_fn fn)
{
	int n = 0;

	for (size_t c = 0; ipc_channels[c]; c++)
		for (size_t i = 0; i < ipc_channels[c]->n_messages; i++)
			for (int kind = IPC_REQUEST; kind <= IPC_EVENT; kind++) {
				if (!permits(&ipc_channels[c]->messages[i], kind))
					continue;
				test_pair(pair);
				fn(ipc_channels[c], &ipc_channels[c]->messages[i], kind);
				close(pair[0]);
				close(pair[1]);
				n++;
			}
	CHECK(n > 20);
}

/* *p is lost: -EPROTO, the sentence says why, not one fd more than before. */
static void lost(struct raw *p, const struct ipc_channel *def, const struct ipc_message *row,
	const char *why)
{
	int before = test_count_fds() - (int)p->n_fds, r;
	struct error err = ERROR_INIT;

	r = deliver(p, def, &err);
	if (r != -EPROTO || !strstr(err.msg, why) || !strstr(err.msg, def->name))
		test_fail(__FILE__, __LINE__, "%s %s: %d %s, not: %s", def->name, row->name, r,
			err.msg, why);
	if (test_count_fds() != before)
		test_fail(__FILE__, __LINE__, "%s %s: %d fds more after: %s", def->name, row->name,
			test_count_fds() - before, why);
}

static void check_good(const struct ipc_channel *def, const struct ipc_message *row, int kind)
{
	struct error err = ERROR_INIT;
	struct raw p;
	int r;

	good(&p, row, kind);
	r = deliver(&p, def, &err);
	if (r != 1)
		test_fail(__FILE__, __LINE__, "%s %s: %d %s", def->name, row->name, r, err.msg);
	CHECK(packet.row == row && packet.hdr.kind == kind);
	CHECK_INT(packet.fds.n, fds_of(row, kind));
	for (size_t i = 0; i < packet.fds.n; i++)
		CHECK(fcntl(packet.fds.fd[i], F_GETFD) == FD_CLOEXEC);
	if (kind == IPC_ERROR) {
		CHECK(!ipc_decode(&packet, &err));
		CHECK_INT(ipc_decode_error(&packet, &err), 0);
	} else {
		ProtobufCMessage *m = ipc_decode(&packet, &err);

		CHECK(m);
		CHECK_INT(ipc_decode_error(&packet, &err), -EPROTO);
		ipc_free(m);
	}
	ipc_packet_done(&packet);
	/* some of its fds may go first */
	CHECK_INT(channel_recv(pair[1], def, MSG_DONTWAIT, &packet, &err), -EAGAIN);
}

TEST(what_fits_is_taken)
{
	for_each(check_good);
}

static void check_sizes(const struct ipc_channel *def, const struct ipc_message *row, int kind)
{
	struct raw p;

	for (size_t len = 0; len < sizeof(struct ipc_header); len++) {
		char why[64];

		good(&p, row, kind);
		p.len = len;
		snprintf(why, sizeof(why), "a packet of %zu bytes", len);
		lost(&p, def, row, why);
	}
	good(&p, row, kind);
	p.hdr.len = 1;
	lost(&p, def, row, "the header says 1");
	good(&p, row, kind);
	p.hdr.len = UINT32_MAX;
	lost(&p, def, row, "the header says 4294967295");
	good(&p, row, kind);
	p.len++;
	lost(&p, def, row, "1 bytes of payload, the header says 0");
	good(&p, row, kind);
	p.len = IPC_PACKET_MAX + 1;
	p.hdr.len = IPC_PAYLOAD_MAX + 1;
	lost(&p, def, row, "longer than 16384 bytes");
	good(&p, row, kind);
	p.len = IPC_PACKET_MAX + 1;
	p.hdr.len = IPC_PAYLOAD_MAX;
	lost(&p, def, row, "longer than 16384 bytes");
}

TEST(wrong_sizes)
{
	for_each(check_sizes);
}

static void check_header(const struct ipc_channel *def, const struct ipc_message *row, int kind)
{
	static const uint16_t types[] = { 0, 100, 0xffff };
	static const uint8_t kinds[] = { 0, 5, 255 };
	struct raw p;

	good(&p, row, kind);
	p.hdr.magic ^= 1;
	lost(&p, def, row, "a header with magic");
	good(&p, row, kind);
	p.hdr.version++;
	lost(&p, def, row, "version 2");
	good(&p, row, kind);
	p.hdr.reserved = 1;
	lost(&p, def, row, "reserved 1");
	good(&p, row, kind);
	p.hdr.seq = !p.hdr.seq;
	lost(&p, def, row, "does not belong to it");
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		good(&p, row, kind);
		p.hdr.type = types[i];
		lost(&p, def, row, "unknown type");
	}
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		good(&p, row, kind);
		p.hdr.kind = kinds[i];
		lost(&p, def, row, "does not belong to it");
	}
	for (int other = IPC_REQUEST; other <= IPC_EVENT; other++) {
		if (permits(row, other))
			continue;
		good(&p, row, kind);
		p.hdr.kind = (uint8_t)other;
		lost(&p, def, row, "does not belong to it");
	}
}

TEST(wrong_headers)
{
	for_each(check_header);
}

static void check_fd_counts(const struct ipc_channel *def, const struct ipc_message *row, int kind)
{
	size_t n = fds_of(row, kind);
	struct raw p;

	for (size_t more = 1; more <= FDLIST_MAX - n; more++) {
		good(&p, row, kind);
		for (size_t i = 0; i < more; i++)
			add_fd(&p, n ? row->fds[0] : FD_ANY);
		lost(&p, def, row, "fds came, the header says");
		good(&p, row, kind);
		for (size_t i = 0; i < more; i++)
			add_fd(&p, n ? row->fds[0] : FD_ANY);
		p.hdr.nfds = (uint8_t)p.n_fds;
		lost(&p, def, row, n && p.n_fds <= row->nfds ? "expected " : "belong to it");
	}
	for (size_t total = FDLIST_MAX + 1; total <= FDS_MAX; total++) {
		good(&p, row, kind);
		while (p.n_fds < total)
			add_fd(&p, FD_ANY);
		lost(&p, def, row, "fds were lost on the way");
	}
	good(&p, row, kind);
	p.hdr.nfds++;
	lost(&p, def, row, "fds came, the header says");
	if (n == 0)
		return;
	good(&p, row, kind);
	close(p.fds[--p.n_fds]);
	lost(&p, def, row, "fds came, the header says");
	if (row->min_fds == n) {
		good(&p, row, kind);
		close(p.fds[--p.n_fds]);
		p.hdr.nfds--;
		lost(&p, def, row, "belong to it");
	}
}

TEST(too_many_and_too_few_fds)
{
	for_each(check_fd_counts);
}

static void check_fd_kinds(const struct ipc_channel *def, const struct ipc_message *row, int kind)
{
	struct raw p;

	for (size_t i = 0; i < fds_of(row, kind); i++)
		for (int wrong = FD_REGULAR_RO; wrong <= FD_ANY; wrong++) {
			int fd = make_kind((enum fd_kind)wrong);

			if (fd < 0 || row->fds[i] == FD_ANY ||
				kind_is_also((enum fd_kind)wrong, row->fds[i])) {
				fd_close(&fd);
				continue;
			}
			good(&p, row, kind);
			close(p.fds[i]);
			p.fds[i] = fd;
			lost(&p, def, row, "expected ");
		}
}

TEST(fds_of_the_wrong_kind)
{
	for_each(check_fd_kinds);
}

/* The kernel makes one list of two: it must be as long as it should be all the same. */
static void check_two_lists(const struct ipc_channel *def, const struct ipc_message *row, int kind)
{
	int before = test_count_fds();
	struct error err = ERROR_INIT;
	struct raw p;

	good(&p, row, kind);
	while (p.n_fds < fds_of(row, kind) + 2)
		add_fd(&p, FD_ANY);
	CHECK_INT(send_raw(&p, 1), (long long)p.len);
	raw_done(&p);
	CHECK_INT(channel_recv(pair[1], def, MSG_DONTWAIT, &packet, &err), -EPROTO);
	CHECK_INT(test_count_fds(), before);
}

TEST(two_lists_of_fds)
{
	for_each(check_two_lists);
}

/* What the kernel adds when the receiving end has been told to want it. */
static void check_other_control(const struct ipc_channel *def, const struct ipc_message *row,
	int kind)
{
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
	static const int options[] = { SO_PASSCRED, SO_TIMESTAMP, SO_PASSPIDFD };
	const int on = 1, off = 0;
	struct raw p;

	for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
		if (setsockopt(pair[1], SOL_SOCKET, options[i], &on, sizeof(on)) < 0)
			continue;
		good(&p, row, kind);
		lost(&p, def, row, options[i] == SO_TIMESTAMP ? "control data" : "");
		setsockopt(pair[1], SOL_SOCKET, options[i], &off, sizeof(off));
	}
}

TEST(other_control_data)
{
	for_each(check_other_control);
}

static void limit_fds(rlim_t n)
{
	struct rlimit rl;

	CHECK(getrlimit(RLIMIT_NOFILE, &rl) == 0);
	rl.rlim_cur = n;
	CHECK(setrlimit(RLIMIT_NOFILE, &rl) == 0);
}

/* The lowest number that is free, and so the limit at which no fd fits. */
static int lowest_free(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0);
	close(fd);
	return fd;
}

static void check_no_numbers_left(const struct ipc_channel *def, const struct ipc_message *row,
	int kind)
{
	int before = test_count_fds();
	struct rlimit saved;

	CHECK(getrlimit(RLIMIT_NOFILE, &saved) == 0);
	for (size_t room = 0; room < fds_of(row, kind); room++) {
		struct error err = ERROR_INIT;
		struct raw p;
		int r;

		good(&p, row, kind);
		CHECK_INT(send_raw(&p, p.n_fds), (long long)p.len);
		raw_done(&p);
		limit_fds((rlim_t)lowest_free() + room);
		r = channel_recv(pair[1], def, MSG_DONTWAIT, &packet, &err);
		limit_fds(saved.rlim_cur);
		CHECK_INT(r, -EPROTO);
		CHECK_CONTAINS(err.msg, "no free number");
		CHECK_INT(test_count_fds(), before);
	}
}

TEST(a_receiver_without_free_numbers)
{
	for_each(check_no_numbers_left);
}

/* Payloads that are no message of the row, or not as our own side would write it. */
static void undecodable(const struct ipc_channel *def, const struct ipc_message *row, int kind,
	const char *payload, size_t len)
{
	int before = test_count_fds();
	struct error err = ERROR_INIT;
	struct raw p;

	good(&p, row, kind);
	memcpy(p.bytes + p.len, payload, len);
	p.len += len;
	p.hdr.len = (uint32_t)len;
	CHECK_INT(deliver(&p, def, &err), 1);
	if (kind == IPC_ERROR)
		CHECK_INT(ipc_decode_error(&packet, &err), -EPROTO);
	else if (ipc_decode(&packet, &err))
		test_fail(__FILE__, __LINE__, "%s %s: decoded", def->name, row->name);
	ipc_packet_done(&packet);
	CHECK_INT(test_count_fds(), before);
}

static void check_payload(const struct ipc_channel *def, const struct ipc_message *row, int kind)
{
	static char big[IPC_PAYLOAD_MAX];

	undecodable(def, row, kind, "\xff", 1);
	undecodable(def, row, kind, "\0", 1);
	undecodable(def, row, kind, "\0\0", 2);
	/* field 1000, of each wire type */
	undecodable(def, row, kind, "\xc0\x3e\x01", 3);
	undecodable(def, row, kind, "\xc2\x3e\x01x", 4);
	undecodable(def, row, kind, "\xc5\x3e\x01\x02\x03\x04", 6);
	undecodable(def, row, kind, "\xc3\x3e\xc4\x3e", 4);
	/* as many unknown fields as fit */
	for (size_t i = 0; i + 1 < sizeof(big); i += 2)
		memcpy(big + i, "\x78\x00", 2);
	undecodable(def, row, kind, big, sizeof(big));
}

TEST(payloads_that_are_not_ours)
{
	for_each(check_payload);
}

static const struct ipc_message *row_of(const struct ipc_channel *def, uint16_t type)
{
	const struct ipc_message *row = ipc_channel_message(def, type);

	CHECK(row);
	return row;
}

TEST(other_encodings_of_the_same_message)
{
	static const struct {
		const char *what;
		const char *data;
		size_t len;
	} bad[] = {
		{ "a NUL in a text", "\x0a\x03" "a\0b", 5 },
		{ "a NUL at its end", "\x0a\x02" "a\0", 4 },
		{ "twice", "\x0a\x01" "a\x0a\x01" "b", 6 },
		{ "a zero that is written", "\x10\x00", 2 },
		{ "an empty text that is written", "\x0a\x00", 2 },
		{ "a number longer than it is", "\x10\x81\x00", 3 },
		{ "another order", "\x10\x01\x0a\x01" "a", 5 },
		{ "a number cut to 32 bits", "\x10\x81\x80\x80\x80\x10", 6 },
	};
	const struct ipc_message *row = row_of(&ipc_frontend_persistd, PERSISTD_RECORD);

	test_pair(pair);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		undecodable(&ipc_frontend_persistd, row, IPC_REQUEST, bad[i].data, bad[i].len);
	close(pair[0]);
	close(pair[1]);
}

TEST(bombs_within_one_packet)
{
	static char big[IPC_PAYLOAD_MAX];
	const struct ipc_message *row = row_of(&ipc_frontend_mountd, MOUNTD_ADD_CONTAINER);

	test_pair(pair);
	for (size_t i = 0; i + 1 < sizeof(big); i += 2)
		memcpy(big + i, "\x1a\x00", 2);
	undecodable(&ipc_frontend_mountd, row, IPC_REQUEST, big, sizeof(big) / 2 * 2);
	close(pair[0]);
	close(pair[1]);
}

TEST(the_end_and_an_empty_packet)
{
	const struct ipc_channel *def = &ipc_frontend_netd;
	struct error err = ERROR_INIT;

	test_pair(pair);
	CHECK_INT(send(pair[0], "", 0, 0), 0);
	CHECK_INT(channel_recv(pair[1], def, 0, &packet, &err), -EPROTO);
	CHECK_CONTAINS(err.msg, "a packet of 0 bytes");
	CHECK_INT(channel_recv(pair[1], def, MSG_DONTWAIT, &packet, &err), -EAGAIN);
	close(pair[0]);
	CHECK_INT(channel_recv(pair[1], def, 0, &packet, &err), 0);
	CHECK_INT(channel_recv(pair[1], def, MSG_DONTWAIT, &packet, &err), 0);
	close(pair[1]);
	CHECK_INT(channel_recv(-1, def, 0, &packet, &err), -EBADF);
}

TEST(the_last_words_of_a_peer_are_heard)
{
	const struct ipc_channel *def = &ipc_frontend_netd;
	Ipc__Empty m = IPC__EMPTY__INIT;
	struct error err = ERROR_INIT;

	test_pair(pair);
	CHECK_INT(channel_send(pair[1], def, IPC_REQUEST, NETD_SCAN, 7, &m.base, NULL, 0, 0, &err), 0);
	CHECK_INT(channel_send(pair[0], def, IPC_REPLY, NETD_SCAN, 7, &m.base, NULL, 0, 0, &err), 0);
	close(pair[0]); /* with the request unread: the other end gets ECONNRESET first */
	CHECK_INT(channel_recv(pair[1], def, MSG_DONTWAIT, &packet, &err), 1);
	CHECK_INT(packet.hdr.seq, 7);
	ipc_packet_done(&packet);
	CHECK_INT(channel_recv(pair[1], def, MSG_DONTWAIT, &packet, &err), 0);
	close(pair[1]);
}

TEST(sending)
{
	const struct ipc_channel *def = &ipc_frontend_persistd;
	Ipc__PersistdRecord m = IPC__PERSISTD_RECORD__INIT;
	static char text[IPC_PAYLOAD_MAX + 10];
	struct error err = ERROR_INIT;
	int64_t begin;
	int many[FDLIST_MAX + 1] = { 0 }, n = 0;

	test_pair(pair);
	/* exactly as large as fits: 3 bytes for field and length */
	memset(text, 'x', sizeof(text));
	text[IPC_PAYLOAD_MAX - 3] = '\0';
	m.id = text;
	CHECK_INT(channel_send(pair[0], def, IPC_REQUEST, PERSISTD_RECORD, 1, &m.base, NULL, 0, 0,
			  &err), 0);
	CHECK_INT(channel_recv(pair[1], def, MSG_DONTWAIT, &packet, &err), 1);
	CHECK_INT(packet.hdr.len, IPC_PAYLOAD_MAX);
	text[IPC_PAYLOAD_MAX - 3] = 'x';
	text[IPC_PAYLOAD_MAX - 2] = '\0';
	CHECK_INT(channel_send(pair[0], def, IPC_REQUEST, PERSISTD_RECORD, 1, &m.base, NULL, 0, 0,
			  &err), -EMSGSIZE);
	CHECK_CONTAINS(err.msg, "record: a message of 16369 bytes, the limit is 16368");
	m.id = NULL;
	CHECK_INT(channel_send(pair[0], def, IPC_REQUEST, PERSISTD_RECORD, 1, &m.base, many,
			  FDLIST_MAX + 1, 0, NULL), -EINVAL);

	/* A peer that does not read. */
	while (n < 10000 && channel_send(pair[0], def, IPC_REQUEST, PERSISTD_RECORD, 1, &m.base,
				    NULL, 0, 0, NULL) == 0)
		n++;
	CHECK(n < 1000);
	begin = clock_ms();
	CHECK_INT(channel_send(pair[0], def, IPC_REQUEST, PERSISTD_RECORD, 1, &m.base, NULL, 0,
			  300, NULL), -ETIMEDOUT);
	CHECK(clock_ms() - begin >= 299 && clock_ms() - begin < 2000);
	close(pair[1]);
	CHECK_INT(channel_send(pair[0], def, IPC_REQUEST, PERSISTD_RECORD, 1, &m.base, NULL, 0,
			  300, NULL), -EPIPE);
	close(pair[0]);
}

TEST(an_error_crosses_unchanged)
{
	const struct ipc_channel *def = &ipc_frontend_netd;
	struct error err = ERROR_INIT, sent, got = ERROR_INIT;

	test_pair(pair);
	error_set(&sent, ENOSPC, "%0511d", 7);
	CHECK_INT(channel_send_error(pair[0], NETD_SCAN, 3, &sent, 0, &err), 0);
	CHECK_INT(channel_recv(pair[1], def, 0, &packet, &err), 1);
	CHECK_INT(ipc_decode_error(&packet, &got), 0);
	CHECK_INT(got.code, ENOSPC);
	CHECK_STR(got.msg, sent.msg);
	/* one that is none is still an error at the other side */
	sent = (struct error)ERROR_INIT;
	CHECK_INT(channel_send_error(pair[0], NETD_SCAN, 3, &sent, 0, &err), 0);
	CHECK_INT(channel_recv(pair[1], def, 0, &packet, &err), 1);
	CHECK_INT(ipc_decode_error(&packet, &got), 0);
	CHECK_INT(got.code, EIO);
	close(pair[0]);
	close(pair[1]);
}

static bool refuses_fds(int fd)
{
	int value = 1;
	socklen_t len = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, 83, &value, &len) < 0)
		test_skip("no SO_PASSRIGHTS in this kernel");
	return value == 0;
}

TEST(pairs_refuse_what_the_table_does_not_have)
{
	for (size_t c = 0; ipc_channels[c]; c++) {
		const struct ipc_channel *def = ipc_channels[c];
		struct error err = ERROR_INIT;
		int type, flags;
		socklen_t len = sizeof(type);

		CHECK_INT(channel_pair(def, pair, &err), 0);
		for (int i = 0; i < 2; i++) {
			CHECK(getsockopt(pair[i], SOL_SOCKET, SO_TYPE, &type, &len) == 0);
			CHECK_INT(type, SOCK_SEQPACKET);
			flags = fcntl(pair[i], F_GETFD);
			CHECK_INT(flags, FD_CLOEXEC);
		}
		CHECK_INT(refuses_fds(pair[0]), !ipc_fds_to_asker(def));
		CHECK_INT(refuses_fds(pair[1]), !ipc_fds_from_asker(def));
		close(pair[0]);
		close(pair[1]);
	}
	CHECK(ipc_fds_from_asker(&ipc_mountd_agentd) && !ipc_fds_to_asker(&ipc_mountd_agentd));
	CHECK(ipc_fds_to_asker(&ipc_frontend_mountd) && !ipc_fds_from_asker(&ipc_frontend_mountd));
}

TEST(an_fd_on_a_channel_without_fds_fails_at_the_sender)
{
	struct error err = ERROR_INIT;
	struct raw p = { .len = 20 };

	CHECK_INT(channel_pair(&ipc_frontend_persistd, pair, &err), 0);
	if (!refuses_fds(pair[1]))
		test_fail(__FILE__, __LINE__, "takes fds");
	add_fd(&p, FD_ANY);
	CHECK_INT(send_raw(&p, 1), -1);
	CHECK_INT(errno, EPERM);
	raw_done(&p);
	CHECK_INT(send(pair[0], "x", 1, 0), 1);
	close(pair[0]);
	close(pair[1]);
}

/* Fields whose type leads back to a message that is being looked at. */
static void no_way_back(const ProtobufCMessageDescriptor *d, unsigned depth)
{
	static const ProtobufCMessageDescriptor *path[32];

	if (!d)
		return;
	CHECK(depth < ARRAY_SIZE(path));
	for (unsigned i = 0; i < depth; i++)
		if (path[i] == d)
			test_fail(__FILE__, __LINE__, "%s contains itself", d->name);
	path[depth] = d;
	for (unsigned i = 0; i < d->n_fields; i++)
		if (d->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
			no_way_back(d->fields[i].descriptor, depth + 1);
}

TEST(no_message_contains_itself)
{
	no_way_back(&ipc__error__descriptor, 0);
	for (size_t c = 0; ipc_channels[c]; c++)
		for (size_t i = 0; i < ipc_channels[c]->n_messages; i++) {
			const struct ipc_message *row = &ipc_channels[c]->messages[i];

			no_way_back(row->request, 0);
			no_way_back(row->reply, 0);
			no_way_back(row->event, 0);
		}
}

TEST(the_tables_are_sound)
{
	for (size_t c = 0; ipc_channels[c]; c++)
		for (size_t i = 0; i < ipc_channels[c]->n_messages; i++) {
			const struct ipc_message *row = &ipc_channels[c]->messages[i];

			CHECK(row->type != 0 && row->name);
			CHECK(!row->request == !row->reply);
			CHECK(!row->request != !row->event);
			CHECK(row->min_fds <= row->nfds && row->nfds <= FDLIST_MAX);
			for (size_t f = 0; f < row->nfds; f++)
				CHECK(row->fds[f] != FD_NONE);
			CHECK(ipc_channel_message(ipc_channels[c], row->type) == row);
		}
}
