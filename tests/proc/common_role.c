#include "tests/proc/common_role.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fds.h"
#include "tests/lib/void.h"

void need_root(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		test_skip("needs root");
}

int void_start(void)
{
	return test_void_shared(NULL);
}

struct started role_start(const char *binary, int number_of_void, int number_of_extra, int extra)
{
	int ctl[2], log[2], channel[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int nothing = void_start();
	char uid[32];
	const char *args[] = { uid, NULL };
	struct started r;

	snprintf(uid, sizeof(uid), "uid=%u", TEST_UID);
	test_pair(ctl);
	test_pair(channel);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, log) == 0);

	struct test_fd fds[] = {
		{ 0, null }, { 1, null }, { 2, log[1] }, { FD_CTL, ctl[1] }, { 4, channel[1] },
		{ number_of_void, nothing }, { number_of_extra, extra }, { -1, -1 },
	};
	r = (struct started){
		.pid = test_spawn(binary, args, fds),
		.ctl = ctl[0],
		.log = log[0],
		.channel = channel[0],
	};
	close(ctl[1]);
	close(log[1]);
	close(channel[1]);
	close(nothing);
	close(null);
	return r;
}

static int wait_readable(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, ms);
}

void role_lock(struct started *r)
{
	struct ctl_msg msg;

	CHECK_INT(wait_readable(r->ctl, 5000), 1);
	CHECK_INT(ctl_recv(r->ctl, MSG_DONTWAIT, &msg), 1);
	if (msg.type != CTL_READY)
		test_fail(__FILE__, __LINE__, "control message %u: %s", msg.type, msg.text);
	CHECK_INT(ctl_send(r->ctl, CTL_LOCK, ROLE_SUPERVISOR, 0, NULL), 0);
}

struct started role_up(const char *binary, int number_of_void, int number_of_extra, int extra)
{
	struct started r = role_start(binary, number_of_void, number_of_extra, extra);

	role_lock(&r);
	return r;
}

int role_ends(struct started *r, int ms)
{
	int status = test_wait(r->pid, ms);

	r->pid = -1;
	return status;
}

void role_close(struct started *r)
{
	if (r->pid > 0) {
		kill(r->pid, SIGKILL);
		waitpid(r->pid, NULL, 0);
		r->pid = -1;
	}
	fd_close(&r->ctl);
	fd_close(&r->log);
	fd_close(&r->channel);
}

void role_log_contains(struct started *r, const char *text)
{
	char line[2048];
	ssize_t n;

	while (wait_readable(r->log, 2000) == 1) {
		n = recv(r->log, line, sizeof(line) - 1, MSG_DONTWAIT);
		if (n <= 0)
			break;
		line[n] = '\0';
		if (strstr(line, text))
			return;
	}
	test_fail(__FILE__, __LINE__, "no log line says '%s'", text);
}

int role_ask(struct started *r, const struct ipc_channel *def, uint16_t type,
	const ProtobufCMessage *request, struct error *err)
{
	static uint32_t seq;
	struct ipc_packet p;

	seq++;
	if (channel_send(r->channel, def, IPC_REQUEST, type, seq, request, NULL, 0, 5000, err) < 0)
		test_fail(__FILE__, __LINE__, "%s", err->msg);
	CHECK_INT(wait_readable(r->channel, 10000), 1);
	if (channel_recv(r->channel, def, MSG_DONTWAIT, &p, err) != 1)
		test_fail(__FILE__, __LINE__, "no answer: %s", err->msg);
	CHECK_INT(p.hdr.seq, seq);
	CHECK_INT(p.hdr.type, type);
	if (p.hdr.kind == IPC_REPLY) {
		ipc_packet_done(&p);
		return 0;
	}
	CHECK_INT(p.hdr.kind, IPC_ERROR);
	CHECK_INT(ipc_decode_error(&p, err), 0);
	ipc_packet_done(&p);
	return err->code;
}

struct hostile {
	const char *what;
	const char *log; /* a part of the line that says so */
	void (*spoil)(uint8_t *packet, size_t *len);
	int n_fds;
};

static struct ipc_header *header(uint8_t *packet)
{
	return (struct ipc_header *)(void *)packet;
}

static void spoil_one_byte(uint8_t *packet, size_t *len)
{
	(void)packet;
	*len = 1;
}
static void spoil_empty(uint8_t *packet, size_t *len)
{
	(void)packet;
	*len = 0;
}
static void spoil_half_header(uint8_t *packet, size_t *len)
{
	(void)packet;
	*len = sizeof(struct ipc_header) - 1;
}
static void spoil_len_more(uint8_t *packet, size_t *len)
{
	(void)len;
	header(packet)->len++;
}
static void spoil_trailing(uint8_t *packet, size_t *len)
{
	packet[(*len)++] = 0;
}
static void spoil_too_long(uint8_t *packet, size_t *len)
{
	*len = IPC_PACKET_MAX + 1;
	header(packet)->len = IPC_PAYLOAD_MAX + 1;
}
static void spoil_magic(uint8_t *packet, size_t *len)
{
	(void)len;
	header(packet)->magic++;
}
static void spoil_version(uint8_t *packet, size_t *len)
{
	(void)len;
	header(packet)->version++;
}
static void spoil_reserved(uint8_t *packet, size_t *len)
{
	(void)len;
	header(packet)->reserved = 1;
}
static void spoil_type_zero(uint8_t *packet, size_t *len)
{
	(void)len;
	header(packet)->type = 0;
}
static void spoil_type_last(uint8_t *packet, size_t *len)
{
	(void)len;
	header(packet)->type = UINT16_MAX;
}
static void spoil_kind_zero(uint8_t *packet, size_t *len)
{
	(void)len;
	header(packet)->kind = 0;
}
static void spoil_kind_reply(uint8_t *packet, size_t *len)
{
	(void)len;
	header(packet)->kind = IPC_REPLY;
}
static void spoil_kind_error(uint8_t *packet, size_t *len)
{
	(void)len;
	header(packet)->kind = IPC_ERROR;
}
static void spoil_kind_event(uint8_t *packet, size_t *len)
{
	(void)len;
	header(packet)->kind = IPC_EVENT;
	header(packet)->seq = 0;
}
static void spoil_seq(uint8_t *packet, size_t *len)
{
	(void)len;
	header(packet)->seq = 0;
}
static void spoil_nfds(uint8_t *packet, size_t *len)
{
	(void)len;
	header(packet)->nfds = 1;
}
static void spoil_unknown_field(uint8_t *packet, size_t *len)
{
	/* field 15, varint 1 */
	packet[(*len)++] = 15 << 3;
	packet[(*len)++] = 1;
	header(packet)->len += 2;
}
static void spoil_not_a_message(uint8_t *packet, size_t *len)
{
	packet[(*len)++] = 0xff;
	header(packet)->len++;
}
static void spoil_nothing(uint8_t *packet, size_t *len)
{
	(void)packet;
	(void)len;
}

static const struct hostile hostile[] = {
	{ "empty", "a packet of 0 bytes", spoil_empty, 0 },
	{ "one byte", "a packet of 1 bytes", spoil_one_byte, 0 },
	{ "half a header", "a packet of 15 bytes", spoil_half_header, 0 },
	{ "len + 1", "the header says", spoil_len_more, 0 },
	{ "trailing byte", "the header says", spoil_trailing, 0 },
	{ "16,385 bytes", "a packet longer than", spoil_too_long, 0 },
	{ "magic", "a header with magic", spoil_magic, 0 },
	{ "version", "a header with magic", spoil_version, 0 },
	{ "reserved", "a header with magic", spoil_reserved, 0 },
	{ "type 0", "unknown type", spoil_type_zero, 0 },
	{ "type 0xffff", "unknown type", spoil_type_last, 0 },
	{ "kind 0", "does not belong to it", spoil_kind_zero, 0 },
	{ "a reply", "unpermitted request", spoil_kind_reply, 0 },
	{ "an error", "unpermitted request", spoil_kind_error, 0 },
	{ "an event", "does not belong to it", spoil_kind_event, 0 },
	{ "seq 0", "does not belong to it", spoil_seq, 0 },
	{ "nfds without fds", "fds came, the header says", spoil_nfds, 0 },
	{ "an fd", "fds came, the header says", spoil_nothing, 1 },
	{ "an fd that is announced", "belong to it", spoil_nfds, 1 },
	{ "nine fds", "fds were lost on the way", spoil_nothing, 9 },
	{ "unknown field", "with unknown fields", spoil_unknown_field, 0 },
	{ "no message", "that is not a", spoil_not_a_message, 0 },
};

static void send_raw(int fd, const uint8_t *packet, size_t len, int n_fds)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(16 * sizeof(int))];
	} control = { .buf = { 0 } };
	struct iovec iov = { .iov_base = (void *)packet, .iov_len = len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n_fds > 0) {
		struct cmsghdr *c;

		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE((size_t)n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN((size_t)n_fds * sizeof(int)) };
		for (int i = 0; i < n_fds; i++)
			memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &fd, sizeof(int));
	}
	CHECK_INT(sendmsg(fd, &mh, MSG_NOSIGNAL), (long long)len);
}

void role_is_lost_on_hostile_packets(struct started (*up)(void), const struct ipc_channel *def,
	uint16_t type, const ProtobufCMessage *request)
{
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		static uint8_t packet[IPC_PACKET_MAX + 64];
		struct ipc_header h = { .magic = IPC_MAGIC, .version = IPC_VERSION,
			.kind = IPC_REQUEST, .type = type, .seq = 1 };
		struct started r = up();
		size_t len = sizeof(h);
		int status;

		h.len = (uint32_t)protobuf_c_message_pack(request, packet + len);
		len += h.len;
		memcpy(packet, &h, sizeof(h));
		hostile[i].spoil(packet, &len);
		send_raw(r.channel, packet, len, hostile[i].n_fds);
		status = role_ends(&r, 5000);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 70)
			test_fail(__FILE__, __LINE__, "%s, %s: wait status 0x%x", def->name,
				hostile[i].what, (unsigned)status);
		role_log_contains(&r, hostile[i].log);
		role_close(&r);
	}
}

void proc_status(int pid, const char *key, char *ret, size_t size)
{
	char path[64], line[4096];
	size_t len = strlen(key);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	CHECK(f);
	ret[0] = '\0';
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, key, len) == 0 && line[len] == ':') {
			line[strcspn(line, "\n")] = '\0';
			snprintf(ret, size, "%s", line + len + 1 + (line[len + 1] == '\t'));
		}
	fclose(f);
}

static void check_status(int pid, const char *key, const char *want)
{
	char got[4096];

	proc_status(pid, key, got, sizeof(got));
	if (strcmp(got, want) != 0)
		test_fail(__FILE__, __LINE__, "%s is '%s', not '%s'", key, got, want);
}

/* What systemd sends at shutdown, and what a peer that has gone would cost. */
static void check_ignored(int pid)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGTERM, SIGPIPE };
	char text[64];

	proc_status(pid, "SigIgn", text, sizeof(text));
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		if (!(strtoull(text, NULL, 16) >> (ignored[i] - 1) & 1))
			test_fail(__FILE__, __LINE__, "signal %d is not ignored", ignored[i]);
}

void check_shut_in(int pid, uid_t uid, unsigned long long caps)
{
	static const char *const empty[] = { "CapInh", "CapBnd", "CapAmb" };
	char text[128];

	snprintf(text, sizeof(text), "%u\t%u\t%u\t%u", uid, uid, uid, uid);
	check_status(pid, "Uid", text);
	check_status(pid, "Gid", text);
	check_status(pid, "Groups", " ");
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
		check_status(pid, empty[i], "0000000000000000");
	snprintf(text, sizeof(text), "%016llx", caps);
	check_status(pid, "CapPrm", text);
	check_status(pid, "CapEff", text);
	check_status(pid, "NoNewPrivs", "1");
	check_status(pid, "Seccomp", "2");
	check_status(pid, "Threads", "1");
	check_ignored(pid);
}

bool same_namespace(int pid, int other, const char *kind)
{
	char path[64];
	struct stat a, b;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, kind);
	CHECK(stat(path, &a) == 0);
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", other, kind);
	CHECK(stat(path, &b) == 0);
	return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}
