/* Headers, kinds and fds: what is wrong before anybody looks at the payload. */
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/proc/common_role.h"
#include "tests/proc/hostile.h"
#include "tests/unit/common_kinds.h"

/* The cases of a table for all rows that may come from there. */
static unsigned run_table(const struct hostile_target *t, const struct hostile_case *cases, size_t n)
{
	unsigned ran = 0;

	for (size_t i = 0; i < t->channel->n_messages; i++)
		if (hostile_may_send(t, &t->channel->messages[i]))
			for (size_t k = 0; k < n; k++)
				ran += (unsigned)hostile_case(t, &t->channel->messages[i], &cases[k]);
	return ran;
}

static void say(const struct hostile_target *t, unsigned n, const char *what)
{
	printf("         %s: %u cases of %s\n", t->name, n, what);
	CHECK(n > 0);
}

/* ---- A1 to A5 ---- */

#define SPOIL(name)                                                                         \
	static bool spoil_##name(struct hostile_packet *p, const struct ipc_message *row, \
		const void *arg)

#define UNUSED (void)row, (void)arg

SPOIL(cut)
{
	size_t len = *(const size_t *)arg;

	(void)row;
	if (len == p->len)
		return false;
	p->len = len;
	return true;
}

SPOIL(len)
{
	UNUSED;
	p->hdr.len += *(const uint32_t *)arg;
	return true;
}

SPOIL(len_max)
{
	UNUSED;
	p->hdr.len = UINT32_MAX;
	return true;
}

/* As long as arg says, and the header agrees. */
SPOIL(long)
{
	size_t len = *(const size_t *)arg;

	(void)row;
	memset(p->bytes + p->len, 0, len - p->len);
	p->len = len;
	p->hdr.len = (uint32_t)(len - sizeof(p->hdr));
	return true;
}

SPOIL(trailing)
{
	UNUSED;
	p->bytes[p->len++] = 0;
	return true;
}

SPOIL(reserved)
{
	(void)row;
	p->hdr.reserved = *(const uint8_t *)arg;
	return true;
}

SPOIL(version)
{
	(void)row;
	p->hdr.version = *(const uint8_t *)arg;
	return true;
}

SPOIL(magic)
{
	UNUSED;
	p->hdr.magic++;
	return true;
}

SPOIL(magic_swapped)
{
	UNUSED;
	p->hdr.magic = (uint16_t)(p->hdr.magic << 8 | p->hdr.magic >> 8);
	return true;
}

SPOIL(type)
{
	(void)row;
	p->hdr.type = *(const uint16_t *)arg;
	return true;
}

static const size_t no_byte = 0, one_byte = 1, half_header = sizeof(struct ipc_header) - 1,
		    header_only = sizeof(struct ipc_header), just_too_long = IPC_PACKET_MAX + 1,
		    far_too_long = 4 * IPC_PACKET_MAX;
static const uint32_t one_more = 1, one_less = UINT32_MAX;
static const uint8_t bit_0 = 1, bit_7 = 0x80, version_0 = 0, version_2 = IPC_VERSION + 1;
static const uint16_t type_0 = 0, type_100 = 100, type_last = UINT16_MAX;

#define BAD_HEADER "a header with magic"

static const struct hostile_case framing[] = {
	{ "A1", "no byte at all", "a packet of 0 bytes", HOSTILE_LOST, spoil_cut, &no_byte, NULL },
	{ "A1", "one byte", "a packet of 1 bytes", HOSTILE_LOST, spoil_cut, &one_byte, NULL },
	{ "A1", "half a header", "a packet of 15 bytes", HOSTILE_LOST, spoil_cut, &half_header, NULL },
	{ "A1", "a header alone", "0 bytes of payload, the header says", HOSTILE_LOST, spoil_cut,
		&header_only, NULL },
	{ "A2", "len + 1", "the header says", HOSTILE_LOST, spoil_len, &one_more, NULL },
	{ "A2", "len - 1", "the header says", HOSTILE_LOST, spoil_len, &one_less, NULL },
	{ "A2", "len of 4 GiB", "the header says", HOSTILE_LOST, spoil_len_max, NULL, NULL },
	{ "A3", "16,385 bytes", "a packet longer than 16384", HOSTILE_LOST, spoil_long,
		&just_too_long, NULL },
	{ "A3", "64 KiB", "a packet longer than 16384", HOSTILE_LOST, spoil_long, &far_too_long,
		NULL },
	{ "A4", "a trailing byte", "the header says", HOSTILE_LOST, spoil_trailing, NULL, NULL },
	{ "A4", "reserved 1", BAD_HEADER, HOSTILE_LOST, spoil_reserved, &bit_0, NULL },
	{ "A4", "reserved 0x80", BAD_HEADER, HOSTILE_LOST, spoil_reserved, &bit_7, NULL },
	{ "A5", "version + 1", BAD_HEADER, HOSTILE_LOST, spoil_version, &version_2, NULL },
	{ "A5", "version 0", BAD_HEADER, HOSTILE_LOST, spoil_version, &version_0, NULL },
	{ "A5", "magic + 1", BAD_HEADER, HOSTILE_LOST, spoil_magic, NULL, NULL },
	{ "A5", "magic swapped", BAD_HEADER, HOSTILE_LOST, spoil_magic_swapped, NULL, NULL },
	{ "A5", "type 0", "unknown type 0", HOSTILE_LOST, spoil_type, &type_0, NULL },
	{ "A5", "type 100", "unknown type 100", HOSTILE_LOST, spoil_type, &type_100, NULL },
	{ "A5", "type 0xffff", "unknown type 65535", HOSTILE_LOST, spoil_type, &type_last, NULL },
};

/* A header is read before anybody knows the row. */
void hostile_framing(const struct hostile_target *t)
{
	say(t, hostile_in_turn(t, framing, ARRAY_SIZE(framing), NULL), "framing");
}

/* ---- A5, A7: kinds and numbers ---- */

/* What a role says to a packet that could come, but not from there, or not now. */
#define UNPERMITTED                                                                \
	"does not belong to it|unpermitted request|a request to the frontend|which was not asked|" \
	"an error that cannot be decoded|expected anything: |exec without complete arguments|unexpected|"           \
	"an error where an answer was expected|that is not a|instead of starting it|"           \
	"belong to it"

SPOIL(kind)
{
	uint8_t kind = *(const uint8_t *)arg;

	(void)row;
	if (kind == p->hdr.kind)
		return false;
	p->hdr.kind = kind;
	return true;
}

/* The kind and the number that goes with it. */
SPOIL(kind_and_seq)
{
	uint8_t kind = *(const uint8_t *)arg;

	(void)row;
	if (kind == p->hdr.kind || (p->hdr.kind == IPC_REPLY && kind == IPC_ERROR))
		return false;
	p->hdr.kind = kind;
	p->hdr.seq = kind == IPC_EVENT ? 0 : HOSTILE_SEQ;
	return true;
}

SPOIL(seq)
{
	UNUSED;
	p->hdr.seq = p->hdr.seq == 0 ? 1 : 0;
	return true;
}

/* An answer to another question. */
SPOIL(seq_of_another)
{
	(void)row;
	if (p->hdr.kind != IPC_REPLY)
		return false;
	p->hdr.seq += *(const uint32_t *)arg;
	return p->hdr.seq != 0;
}

SPOIL(error_to_another)
{
	static const uint8_t payload[] = { 0x08, 5, 0x12, 1, 'x' }; /* EIO, "x" */

	UNUSED;
	if (p->hdr.kind != IPC_REPLY)
		return false;
	p->hdr.kind = IPC_ERROR;
	p->hdr.seq += 7;
	while (p->n_fds > 0)
		close(p->fds[--p->n_fds]);
	p->hdr.nfds = 0;
	hostile_set_payload(p, payload, sizeof(payload));
	return true;
}

SPOIL(error_payload)
{
	UNUSED;
	if (p->hdr.kind != IPC_REPLY)
		return false;
	p->hdr.kind = IPC_ERROR;
	while (p->n_fds > 0)
		close(p->fds[--p->n_fds]);
	p->hdr.nfds = 0;
	hostile_set_payload(p, "\xff\xff", 2);
	return true;
}

static const uint8_t kind_0 = 0, kind_5 = IPC_EVENT + 1, kind_255 = 255, a_request = IPC_REQUEST,
		     a_reply = IPC_REPLY, an_error = IPC_ERROR, an_event = IPC_EVENT;

static const struct hostile_case kinds[] = {
	{ "A5", "kind 0", UNPERMITTED, HOSTILE_LOST, spoil_kind, &kind_0, NULL },
	{ "A5", "kind 5", UNPERMITTED, HOSTILE_LOST, spoil_kind, &kind_5, NULL },
	{ "A5", "kind 255", UNPERMITTED, HOSTILE_LOST, spoil_kind, &kind_255, NULL },
	{ "A5", "as a request", UNPERMITTED, HOSTILE_LOST, spoil_kind_and_seq, &a_request, NULL },
	{ "A7", "as a reply", UNPERMITTED, HOSTILE_LOST, spoil_kind_and_seq, &a_reply, NULL },
	{ "A7", "as an error", UNPERMITTED, HOSTILE_LOST, spoil_kind_and_seq, &an_error, NULL },
	{ "A5", "as an event", UNPERMITTED, HOSTILE_LOST, spoil_kind_and_seq, &an_event, NULL },
	{ "A5", "an event's kind, its own number", UNPERMITTED, HOSTILE_LOST, spoil_kind, &an_event,
		NULL },
	{ "A5", "0 where a number belongs, or one where none does", UNPERMITTED, HOSTILE_LOST,
		spoil_seq, NULL, NULL },
	{ "A7", "an answer to the next question", UNPERMITTED, HOSTILE_LOST, spoil_seq_of_another,
		&one_more, NULL },
	{ "A7", "an answer to the last question", UNPERMITTED, HOSTILE_LOST, spoil_seq_of_another,
		&one_less, NULL },
	{ "A7", "an error to another question", UNPERMITTED, HOSTILE_LOST, spoil_error_to_another,
		NULL, NULL },
	{ "A7", "an error that is no message", UNPERMITTED, HOSTILE_LOST, spoil_error_payload, NULL,
		NULL },
};

/* A message of the table that never comes from this end. */
static unsigned wrong_side(const struct hostile_target *t)
{
	static struct hostile_target other;
	const struct hostile_case c = { "A6", "from the wrong end", UNPERMITTED, HOSTILE_LOST, NULL,
		NULL, NULL };
	unsigned n = 0;

	/* Its packet is made as the right end would make it. */
	other = *t;
	other.asker = !t->asker;
	other.events = !t->events;
	other.adjust = NULL;
	for (size_t i = 0; i < t->channel->n_messages; i++)
		if (!hostile_may_send(t, &t->channel->messages[i]) &&
			hostile_may_send(&other, &t->channel->messages[i]))
			n += (unsigned)hostile_case(&other, &t->channel->messages[i], &c);
	return n;
}

void hostile_kinds(const struct hostile_target *t)
{
	say(t, run_table(t, kinds, ARRAY_SIZE(kinds)) + wrong_side(t), "kinds and numbers");
}

/* ---- B3 to B7: how many fds, and how they are sent ---- */

/* So many that the header announces; nothing else is wrong. */
static bool set_fds(struct hostile_packet *p, size_t n)
{
	if (n == p->n_fds)
		return false;
	while (p->n_fds > n)
		close(p->fds[--p->n_fds]);
	while (p->n_fds < n) {
		p->fds[p->n_fds] = make_kind(FD_ANY);
		CHECK(p->fds[p->n_fds] >= 0);
		p->n_fds++;
	}
	p->hdr.nfds = (uint8_t)n;
	return true;
}

SPOIL(no_fds)
{
	UNUSED;
	return set_fds(p, 0);
}

SPOIL(fds_less)
{
	UNUSED;
	return p->n_fds > 1 && set_fds(p, p->n_fds - 1);
}

SPOIL(fds_more)
{
	(void)row;
	return set_fds(p, p->n_fds + *(const size_t *)arg);
}

SPOIL(fds_total)
{
	(void)row;
	return set_fds(p, *(const size_t *)arg);
}

/* The right ones, wrongly announced. */
SPOIL(nfds)
{
	(void)row;
	p->hdr.nfds = (uint8_t)(p->hdr.nfds + *(const uint32_t *)arg);
	return true;
}

SPOIL(two_lists)
{
	UNUSED;
	/* The kernel makes one of them: seen only by their number. */
	p->n_first = p->n_fds ? p->n_fds : 1;
	return set_fds(p, p->n_fds ? 2 * p->n_fds : 2);
}

SPOIL(credentials)
{
	UNUSED;
	p->credentials = true;
	return true;
}

SPOIL(if_fds)
{
	UNUSED;
	return p->n_fds > 0;
}

/* On the role's own end of the channel, as if it had wanted to know. */
static void set_option(const struct hostile_end *end, int option)
{
	int pidfd = (int)syscall(SYS_pidfd_open, end->pid, 0), on = 1;
	int sock = (int)syscall(SYS_pidfd_getfd, pidfd, end->number, 0);

	CHECK(sock >= 0);
	CHECK_INT(setsockopt(sock, SOL_SOCKET, option, &on, sizeof(on)), 0);
	close(sock);
	close(pidfd);
}

static void pass_credentials(const struct hostile_end *end)
{
	set_option(end, SO_PASSCRED);
}

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif

static void pass_pidfd(const struct hostile_end *end)
{
	set_option(end, SO_PASSPIDFD);
}

static int lowest_free(int pid)
{
	char path[64];
	int fd = 0;

	do
		snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd++);
	while (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0);
	return fd - 1;
}

/* Not one free number is left, from now on. By one of the same uid: root may lack SYS_RESOURCE. */
static void no_free_number(const struct hostile_end *end)
{
	const rlim_t n = (rlim_t)lowest_free(end->pid);
	const struct rlimit none = { n, n };
	char text[64];
	uid_t uid;
	pid_t pid;

	proc_status(end->pid, "Uid", text, sizeof(text));
	uid = (uid_t)strtoul(text, NULL, 10);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		_exit(setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0 ||
			prlimit(end->pid, RLIMIT_NOFILE, &none, NULL) < 0);
	CHECK_INT(test_wait(pid, 5000), 0);
}

#define FDS_LOST "fds were lost on the way"
#define FDS_COUNT "fds came"
#define OTHER_CONTROL "control data other than one list of fds"

static const size_t nine = 9, most = 253;
static const size_t plus_one = 1, plus_two = 2;

#define FDS_MORE 0 /* what every row is tried with */

static const struct hostile_case fds[] = {
	{ "B3", "an fd more", FDS_COUNT "|expected ", HOSTILE_LOST, spoil_fds_more, &plus_one, NULL },
	{ "B3", "no fd", FDS_COUNT, HOSTILE_LOST, spoil_no_fds, NULL, NULL },
	{ "B3", "an fd less", FDS_COUNT, HOSTILE_LOST, spoil_fds_less, NULL, NULL },
	{ "B3", "two fds more", FDS_COUNT, HOSTILE_LOST, spoil_fds_more, &plus_two, NULL },
	{ "B3", "nine fds", FDS_LOST, HOSTILE_LOST, spoil_fds_total, &nine, NULL },
	{ "B3", "253 fds", FDS_LOST, HOSTILE_LOST, spoil_fds_total, &most, NULL },
	{ "B3", "nfds + 1", FDS_COUNT, HOSTILE_LOST, spoil_nfds, &one_more, NULL },
	{ "B3", "nfds - 1", FDS_COUNT, HOSTILE_LOST, spoil_nfds, &one_less, NULL },
	{ "B5", "no free number", FDS_LOST, HOSTILE_LOST, spoil_if_fds, NULL, no_free_number },
	{ "B6", "two lists", FDS_COUNT "|expected ", HOSTILE_LOST, spoil_two_lists, NULL, NULL },
	{ "B6", "credentials", OTHER_CONTROL, HOSTILE_LOST, spoil_credentials, NULL,
		pass_credentials },
	{ "B6", "a pidfd", OTHER_CONTROL, HOSTILE_LOST, NULL, NULL, pass_pidfd },
};

/* ---- B8 to B10: each fd replaced ---- */

static int pipe_end(int which)
{
	int p[2];

	CHECK(pipe2(p, O_CLOEXEC) == 0);
	close(p[!which]);
	return p[which];
}

static int unix_socket(int type)
{
	return socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
}

static int seqpacket_end(void)
{
	int p[2];

	test_pair(p);
	close(p[1]);
	return p[0];
}

static int reopened(int fd, int flags)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	close(fd);
	return again;
}

static int dev_null(void) { return open("/dev/null", O_RDWR | O_CLOEXEC); }
static int dev_zero(void) { return open("/dev/zero", O_RDONLY | O_CLOEXEC); }
static int pipe_read(void) { return pipe_end(0); }
static int pipe_write(void) { return pipe_end(1); }
static int fifo_rw(void) { return make_kind(FD_FIFO_RW); }
static int fifo_path(void) { return reopened(make_kind(FD_FIFO_RW), O_PATH); }
static int file_ro(void) { return make_kind(FD_REGULAR_RO); }
static int file_rw(void) { return memfd_create("x", MFD_CLOEXEC); }
static int file_wo(void) { return reopened(memfd_create("x", MFD_CLOEXEC), O_WRONLY); }
static int file_append(void) { return make_kind(FD_REGULAR_APPEND); }
static int file_path(void) { return make_kind(FD_PATH); }
static int directory(void) { return open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC); }
static int directory_path(void) { return open("/", O_PATH | O_DIRECTORY | O_CLOEXEC); }
static int stream(void) { return make_kind(FD_UNIX_STREAM); }
static int stream_alone(void) { return unix_socket(SOCK_STREAM); }
static int listener(void) { return make_kind(FD_UNIX_LISTENER); }
static int dgram(void) { return unix_socket(SOCK_DGRAM); }
static int inet(void) { return socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0); }
static int vsock_alone(void) { return socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0); }
static int netlink(void) { return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0); }
static int an_epoll(void) { return epoll_create1(EPOLL_CLOEXEC); }
static int an_eventfd(void) { return eventfd(0, EFD_CLOEXEC); }
static int a_pidfd(void) { return (int)syscall(SYS_pidfd_open, getpid(), 0); }
static int tap(void) { return make_kind(FD_TAP); }
static int block(void) { return make_kind(FD_BLOCK); }

/* Whatever an fd can be. The kinds that would take it; FD_NONE: none of those a row names. */
static const struct thing {
	const char *what;
	int (*make)(void); /* -1: not on this machine */
	enum fd_kind is;
} things[] = {
	{ "/dev/null", dev_null, FD_NONE },
	{ "/dev/zero", dev_zero, FD_NONE },
	{ "a pipe's reading end", pipe_read, FD_FIFO_RO },
	{ "a pipe's writing end", pipe_write, FD_PIPE_W },
	{ "a FIFO", fifo_rw, FD_FIFO_RW },
	{ "a FIFO's path", fifo_path, FD_NONE },
	{ "a file, for reading", file_ro, FD_REGULAR_RO },
	{ "a file, for reading and writing", file_rw, FD_NONE },
	{ "a file, for writing", file_wo, FD_NONE },
	{ "a file, for appending", file_append, FD_REGULAR_APPEND },
	{ "a file's path", file_path, FD_PATH },
	{ "a directory", directory, FD_NONE },
	{ "a directory's path", directory_path, FD_NONE },
	{ "a stream", stream, FD_UNIX_STREAM },
	{ "a stream that leads nowhere", stream_alone, FD_NONE },
	{ "a listening socket", listener, FD_UNIX_LISTENER },
	{ "a datagram socket", dgram, FD_UNIX_DGRAM },
	{ "an end of a channel", seqpacket_end, FD_NONE },
	{ "a TCP socket", inet, FD_NONE },
	{ "a vsock stream that leads nowhere", vsock_alone, FD_NONE },
	{ "a netlink socket", netlink, FD_NONE },
	{ "an epoll", an_epoll, FD_NONE },
	{ "an eventfd", an_eventfd, FD_NONE },
	{ "a pidfd", a_pidfd, FD_NONE },
	{ "a tap", tap, FD_TAP },
	{ "a block device", block, FD_BLOCK },
};

struct replacement {
	const struct thing *thing;
	size_t at;
};

SPOIL(replace)
{
	const struct replacement *r = arg;
	int fd;

	(void)row;
	if (r->at >= p->n_fds)
		return false;
	fd = r->thing->make();
	if (fd < 0)
		return false;
	close(p->fds[r->at]);
	p->fds[r->at] = fd;
	return true;
}

static unsigned replace_each(const struct hostile_target *t, const struct ipc_message *row)
{
	unsigned n = 0;

	for (size_t at = 0; at < row->nfds; at++)
		for (size_t i = 0; i < ARRAY_SIZE(things); i++) {
			const struct replacement r = { &things[i], at };
			char what[80];
			const struct hostile_case c = { "B8-B10", what, "expected ", HOSTILE_LOST,
				spoil_replace, &r, NULL };

			if (row->fds[at] == FD_ANY || kind_is_also(things[i].is, row->fds[at]))
				continue;
			snprintf(what, sizeof(what), "fd %zu is %s", at, things[i].what);
			n += (unsigned)hostile_case(t, row, &c);
		}
	return n;
}

static bool has_fds(const struct hostile_target *t, const struct ipc_message *row)
{
	return row->nfds > 0 && (row->event || !t->asker);
}

static bool has_no_fds(const struct hostile_target *t, const struct ipc_message *row)
{
	return !has_fds(t, row);
}

void hostile_fds(const struct hostile_target *t)
{
	unsigned n = hostile_in_turn(t, fds, ARRAY_SIZE(fds), has_no_fds);

	for (size_t i = 0; i < t->channel->n_messages; i++) {
		const struct ipc_message *row = &t->channel->messages[i];

		if (!hostile_may_send(t, row))
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(fds); k++)
			if (has_fds(t, row) || k == FDS_MORE)
				n += (unsigned)hostile_case(t, row, &fds[k]);
		if (has_fds(t, row))
			n += replace_each(t, row);
	}
	say(t, n, "fds");
}
