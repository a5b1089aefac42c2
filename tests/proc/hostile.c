#include "tests/proc/hostile.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/role.h"
#include "tests/proc/common_role.h"
#include "tests/unit/common_kinds.h"

#define DEADLINE_MS 10000

/* Where the case is, for a failure's message. */
static char place[512];

#define FAIL(fmt, ...) test_fail(__FILE__, __LINE__, "%s: " fmt, place __VA_OPT__(, ) __VA_ARGS__)

/* ---- packets ---- */

void hostile_packet_done(struct hostile_packet *p)
{
	for (size_t i = 0; i < p->n_fds; i++)
		close(p->fds[i]);
	p->n_fds = 0;
}

bool hostile_may_send(const struct hostile_target *t, const struct ipc_message *row)
{
	if (t->never_asked && t->never_asked(row))
		return false;
	return (row->event && t->events) || (t->asker ? row->request != NULL : row->reply != NULL);
}

static void fill_field(ProtobufCMessage *msg, const ProtobufCFieldDescriptor *f)
{
	void *member = (char *)msg + f->offset;
	bool repeated = f->label == PROTOBUF_C_LABEL_REPEATED;

	if (repeated) {
		*(size_t *)((char *)msg + f->quantifier_offset) = 1;
		*(void **)member = calloc(1, sizeof(void *));
		member = *(void **)member;
	}
	switch (f->type) {
	case PROTOBUF_C_TYPE_STRING:
		*(char **)member = strdup("a");
		break;
	case PROTOBUF_C_TYPE_BYTES:
		/* A MAC address, the one fixed size there is. */
		*(ProtobufCBinaryData *)member = (ProtobufCBinaryData){ 6, calloc(1, 6) };
		break;
	case PROTOBUF_C_TYPE_MESSAGE:
		*(ProtobufCMessage **)member = hostile_fill(f->descriptor);
		break;
	case PROTOBUF_C_TYPE_INT64:
	case PROTOBUF_C_TYPE_UINT64:
		*(uint64_t *)member = 1;
		break;
	case PROTOBUF_C_TYPE_INT32:
	case PROTOBUF_C_TYPE_UINT32:
	case PROTOBUF_C_TYPE_ENUM:
		*(uint32_t *)member = 1;
		break;
	case PROTOBUF_C_TYPE_BOOL:
		*(protobuf_c_boolean *)member = true;
		break;
	default:
		FAIL("field %s: its type is new here", f->name);
	}
}

ProtobufCMessage *hostile_fill(const ProtobufCMessageDescriptor *d)
{
	ProtobufCMessage *msg = calloc(1, d->sizeof_message);

	CHECK(msg);
	protobuf_c_message_init(d, msg);
	for (unsigned i = 0; i < d->n_fields; i++)
		fill_field(msg, &d->fields[i]);
	return msg;
}

void hostile_set_payload(struct hostile_packet *p, const void *data, size_t len)
{
	CHECK(sizeof(p->hdr) + len <= sizeof(p->bytes));
	memmove(p->bytes + sizeof(p->hdr), data, len);
	p->hdr.len = (uint32_t)len;
	p->len = sizeof(p->hdr) + len;
}

static int kind_of(const struct hostile_target *t, const struct ipc_message *row)
{
	if (row->event)
		return IPC_EVENT;
	return t->asker ? IPC_REQUEST : IPC_REPLY;
}

void hostile_good(const struct hostile_target *t, const struct ipc_message *row, uint32_t seq,
	struct hostile_packet *ret)
{
	int kind = kind_of(t, row);
	const ProtobufCMessageDescriptor *d = kind == IPC_EVENT	   ? row->event
		: kind == IPC_REQUEST ? row->request
				      : row->reply;
	ProtobufCMessage *msg = hostile_fill(d);
	uint8_t payload[IPC_PAYLOAD_MAX];

	if (t->adjust)
		t->adjust(row, msg);
	ret->n_fds = ret->n_first = 0;
	ret->credentials = false;
	ret->hdr = (struct ipc_header){ .magic = IPC_MAGIC, .version = IPC_VERSION,
		.kind = (uint8_t)kind, .type = row->type };
	if (kind != IPC_EVENT)
		ret->hdr.seq = kind == IPC_REQUEST ? HOSTILE_SEQ : seq;
	hostile_set_payload(ret, payload, protobuf_c_message_pack(msg, payload));
	protobuf_c_message_free_unpacked(msg, NULL);
	if (kind == IPC_REQUEST)
		return;
	for (size_t i = 0; i < row->min_fds; i++) {
		ret->fds[ret->n_fds] = make_kind(row->fds[i]);
		CHECK(ret->fds[ret->n_fds] >= 0);
		ret->n_fds++;
	}
	ret->hdr.nfds = row->min_fds;
}

static struct cmsghdr *add_control(struct msghdr *mh, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)(void *)((char *)mh->msg_control + mh->msg_controllen);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	mh->msg_controllen += CMSG_SPACE(len);
	return c;
}

static ssize_t send_packet(int fd, const struct hostile_packet *p)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(HOSTILE_FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(int)) +
			CMSG_SPACE(sizeof(struct ucred))];
	} control = { .buf = { 0 } };
	const struct ucred me = { .pid = getpid() };
	struct iovec iov = { .iov_base = (void *)p->bytes, .iov_len = p->len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control };
	size_t first = p->n_first ? p->n_first : p->n_fds;

	if (first > 0)
		add_control(&mh, SCM_RIGHTS, p->fds, first * sizeof(int));
	if (p->n_fds > first)
		add_control(&mh, SCM_RIGHTS, p->fds + first, (p->n_fds - first) * sizeof(int));
	if (p->credentials)
		add_control(&mh, SCM_CREDENTIALS, &me, sizeof(me));
	if (mh.msg_controllen == 0)
		mh.msg_control = NULL;
	return sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
}

bool hostile_try_send(int fd, const struct hostile_packet *p)
{
	return send_packet(fd, p) >= 0;
}

void hostile_send(int fd, const struct hostile_packet *p)
{
	if (send_packet(fd, p) != (ssize_t)p->len)
		FAIL("sendmsg: %s", strerror(errno));
}

/* What no channel has: whoever reads it is lost, and the log shows that it came so far. */
static void send_unknown(int fd)
{
	struct hostile_packet p = { .len = sizeof(struct ipc_header),
		.hdr = { .magic = IPC_MAGIC, .version = IPC_VERSION, .kind = IPC_EVENT,
			.type = UINT16_MAX } };

	send_packet(fd, &p); /* it may be gone */
}

/* ---- what becomes of the role ---- */

static bool any_of(const char *text, const char *alternatives)
{
	char copy[512], *save = NULL;

	snprintf(copy, sizeof(copy), "%s", alternatives);
	for (char *a = strtok_r(copy, "|", &save); a; a = strtok_r(NULL, "|", &save))
		if (strstr(text, a))
			return true;
	return false;
}

/* Of all that is in the log, the lines at this level or above it: how many; the last one. */
static unsigned count_lines(int log, char level, char *ret, size_t size)
{
	char line[2048];
	unsigned n = 0;
	ssize_t len;

	ret[0] = '\0';
	while ((len = recv(log, line, sizeof(line) - 1, MSG_DONTWAIT)) > 0) {
		line[len] = '\0';
		if (line[0] != '<' || line[2] != '>')
			FAIL("this is no log line: %s", line); /* a sanitizer's, say */
		if (line[1] <= level) {
			snprintf(ret, size, "%s", line);
			n++;
		}
	}
	return n;
}

static void check_log(int log, char level, const char *names, const char *why)
{
	char line[2048];
	unsigned n = count_lines(log, level, line, sizeof(line));

	if (n != 1)
		FAIL("%u lines in the log, the last: %s", n, line);
	if (why && !any_of(line, why))
		FAIL("the log says: %s, not: %s", line, why);
	if (why && !any_of(line, names))
		FAIL("the log does not name %s: %s", names, line);
}

/* The end and nothing before it. ECONNRESET, once: what we said was not read. */
static bool is_silent_end(int fd)
{
	char byte;
	ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);

	if (n < 0 && errno == ECONNRESET)
		n = recv(fd, &byte, 1, MSG_DONTWAIT);
	return n == 0;
}

void hostile_expect_lost(const struct hostile_end *end, const char *where, const char *names,
	const char *why, bool quiet)
{
	int status;

	if (where)
		snprintf(place, sizeof(place), "%s", where);
	status = test_wait(end->pid, DEADLINE_MS);
	if (status == -1)
		FAIL("it still runs");
	if (!WIFEXITED(status) || WEXITSTATUS(status) != ROLE_EXIT_FAILED) {
		char line[2048];

		count_lines(end->log, '7', line, sizeof(line));
		FAIL("wait status 0x%x; the log: %s", (unsigned)status, line);
	}
	check_log(end->log, '3', names, why);
	if (quiet && !is_silent_end(end->fd))
		FAIL("it has answered");
	for (size_t i = 0; end->others[i] > 0; i++)
		if (quiet && !is_silent_end(end->others[i]))
			FAIL("it has said something on another channel (%zu)", i);
}

static void expect_planned_end(const struct hostile_end *end)
{
	int status = test_wait(end->pid, DEADLINE_MS);

	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		FAIL("wait status 0x%x", (unsigned)status);
}

/* ---- cases ---- */

static char names_buf[128];

/* Either must be in the line. */
static const char *names(const struct hostile_target *t, const struct ipc_message *row)
{
	snprintf(names_buf, sizeof(names_buf), "%s|%s", t->channel->name, row->name);
	return names_buf;
}

/* Of one question, one answer at most. */
static void check_answers(const struct hostile_target *t, int fd)
{
	static struct ipc_packet answer;
	unsigned n = 0;

	while (channel_recv(fd, t->channel, MSG_DONTWAIT, &answer, NULL) == 1) {
		ipc_packet_done(&answer);
		n++;
	}
	if (n > 1)
		FAIL("%u answers", n);
}

static void conclude(const struct hostile_target *t, const struct ipc_message *row,
	const struct hostile_end *end, const char *why, bool quiet)
{
	if (t->lost) {
		t->lost(why);
		check_log(end->log, '4', names(t, row), why);
		t->down(false);
		return;
	}
	hostile_expect_lost(end, NULL, names(t, row), why, quiet);
	if (t->asker)
		check_answers(t, end->fd);
	if (t->after)
		t->after(row);
	t->down(true);
}

int hostile_case(const struct hostile_target *t, const struct ipc_message *row,
	const struct hostile_case *c)
{
	static struct hostile_packet p;
	struct hostile_end end = { .pid = -1 };
	bool applies;

	snprintf(place, sizeof(place), "%s, %s: %s %s", t->name, row->name, c->attack, c->what);
	hostile_good(t, row, 1, &p);
	applies = !c->spoil || c->spoil(&p, row, c->arg);
	hostile_packet_done(&p);
	if (!applies)
		return 0;
	t->up(row, &end);
	/* Again: only now is it known which number an answer must have. */
	hostile_good(t, row, end.seq, &p);
	if (c->spoil)
		c->spoil(&p, row, c->arg);
	if (c->prepare)
		c->prepare(&end);
	hostile_send(end.fd, &p);
	hostile_packet_done(&p);
	if (c->want == HOSTILE_EITHER)
		send_unknown(end.fd);
	if (t->poke)
		t->poke();
	conclude(t, row, &end, c->want == HOSTILE_EITHER ? NULL : c->why, c->want == HOSTILE_LOST);
	return 1;
}

unsigned hostile_in_turn(const struct hostile_target *t, const struct hostile_case *cases, size_t n,
	bool (*of)(const struct hostile_target *t, const struct ipc_message *row))
{
	size_t at = 0;
	unsigned ran = 0;

	for (size_t i = 0; i < n; i++) {
		int done = 0;

		for (size_t k = 0; k < t->channel->n_messages && !done; k++) {
			const struct ipc_message *row = &t->channel->messages[at];

			at = (at + 1) % t->channel->n_messages;
			if (hostile_may_send(t, row) && (!of || of(t, row)))
				done = hostile_case(t, row, &cases[i]);
		}
		ran += (unsigned)done;
	}
	return ran;
}

static void expect_answer(const struct hostile_target *t, const struct ipc_message *row,
	const struct hostile_end *end)
{
	static struct ipc_packet answer;
	struct pollfd pfd = { .fd = end->fd, .events = POLLIN };
	struct error err = ERROR_INIT;
	int r;

	if (poll(&pfd, 1, DEADLINE_MS) != 1)
		FAIL("no answer");
	r = channel_recv(end->fd, t->channel, MSG_DONTWAIT, &answer, &err);
	if (r == 0 && t->is_last && t->is_last(row))
		return; /* its end is the answer */
	if (r != 1)
		FAIL("no answer: %s", err.msg);
	if (answer.hdr.type != row->type || answer.hdr.seq != HOSTILE_SEQ ||
		(answer.hdr.kind != IPC_REPLY && answer.hdr.kind != IPC_ERROR))
		FAIL("kind %u, type %u, seq %u came", answer.hdr.kind, answer.hdr.type,
			answer.hdr.seq);
	ipc_packet_done(&answer);
}

static void valid(const struct hostile_target *t, const struct ipc_message *row)
{
	static struct hostile_packet p;
	struct hostile_end end = { .pid = -1 };

	snprintf(place, sizeof(place), "%s, %s: valid", t->name, row->name);
	t->up(row, &end);
	hostile_good(t, row, end.seq, &p);
	hostile_send(end.fd, &p);
	hostile_packet_done(&p);
	if (t->assist)
		t->assist(row);
	if (p.hdr.kind == IPC_REQUEST)
		expect_answer(t, row, &end);
	if (t->is_last && t->is_last(row)) {
		expect_planned_end(&end);
		t->down(true);
		return;
	}
	send_unknown(end.fd);
	hostile_expect_lost(&end, NULL, t->channel->name, "unknown type 65535", false);
	t->down(true);
}

void hostile_valid(const struct hostile_target *t)
{
	unsigned n = 0;

	for (size_t i = 0; i < t->channel->n_messages; i++) {
		if (!hostile_may_send(t, &t->channel->messages[i]))
			continue;
		valid(t, &t->channel->messages[i]);
		n++;
	}
	printf("         %s: %u valid messages\n", t->name, n);
	CHECK(n > 0);
}

static long rss_peak_kib(int pid)
{
	char text[64];

	proc_status(pid, "VmHWM", text, sizeof(text));
	return atol(text);
}

void hostile_deaf(const struct hostile_target *t, uint16_t type)
{
	static struct hostile_packet p;
	const struct ipc_message *row = ipc_channel_message(t->channel, type);
	struct hostile_end end = { .pid = -1 };
	struct pollfd pfd = { .events = POLLOUT };
	unsigned sent = 0;
	long before, after;

	snprintf(place, sizeof(place), "%s, %s: A11", t->name, row->name);
	t->up(row, &end);
	pfd.fd = end.fd;
	before = rss_peak_kib(end.pid);
	hostile_good(t, row, 0, &p);
	/* It takes none any more: its answers are stuck. */
	while (sent < 10000 && poll(&pfd, 1, 1000) == 1 && send_packet(end.fd, &p) > 0) {
		p.hdr.seq++;
		sent++;
	}
	if (sent == 10000)
		FAIL("it takes requests for ever");
	after = rss_peak_kib(end.pid);
#if !defined(__SANITIZE_ADDRESS__) /* it keeps what is freed */
	if (after - before > 1024)
		FAIL("%ld KiB for %u requests", after - before, sent);
#endif
	hostile_expect_lost(&end, NULL, "channel", "the peer does not read its channel", false);
	t->down(true);
	printf("         %s: %u unread answers to '%s', %ld KiB\n", t->name, sent, row->name,
		after - before);
}
