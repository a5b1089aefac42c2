/* The QMP client, against bytes. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/lib/test.h"
#include "vmmd/lines.h"
#include "vmmd/qmp.h"

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": [\"oob\"]}}\r\n"

struct side {
	struct qmp qmp;
	int qemu;
	char events[256];
};

static void note_event(void *ctx, const char *event, struct json_object *data)
{
	struct side *s = ctx;
	size_t used = strlen(s->events);

	snprintf(s->events + used, sizeof(s->events) - used, "%s%s ", event, data ? "+" : "");
}

static void start(struct side *s)
{
	int fds[2];

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	*s = (struct side){ .qmp = QMP_INIT, .qemu = fds[1] };
	s->qmp.fd = fds[0];
	s->qmp.event = note_event;
	s->qmp.ctx = s;
}

static void end(struct side *s)
{
	qmp_done(&s->qmp);
	qmp_done(&s->qmp);
	fd_close(&s->qemu);
}

static void put(struct side *s, const char *text)
{
	CHECK_INT(write(s->qemu, text, strlen(text)), strlen(text));
}

/* Reads until there is nothing more. */
static int drain(struct side *s, struct error *err)
{
	int r;

	do
		r = qmp_read(&s->qmp, err);
	while (r == 1);
	return r;
}

TEST (greeting_events_answers) {
	struct side s;
	struct error err = ERROR_INIT;
	char line[128] = "";

	start(&s);
	CHECK_INT(drain(&s, &err), -EAGAIN);
	put(&s, GREETING);
	CHECK_INT(drain(&s, &err), -EAGAIN);
	CHECK(s.qmp.greeted);
	CHECK_INT(qmp_send(&s.qmp, "cont", NULL, -1, &err), 0);
	CHECK(read(s.qemu, line, sizeof(line) - 1) > 0);
	CHECK_STR(line, "{\"execute\":\"cont\",\"id\":1}\n");
	CHECK(qmp_send(&s.qmp, "stop", NULL, -1, &err) == -EBUSY);
	put(&s,
		"{\"event\": \"RESUME\", \"timestamp\": {}}\r\n{\"return\": {}, \"id\": 1}\r\n"
		"{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\r\n");
	CHECK_INT(drain(&s, &err), -EAGAIN);
	CHECK_INT(s.qmp.waiting, 0);
	CHECK_INT(s.qmp.failure.code, 0);
	CHECK_STR(s.events, "RESUME SHUTDOWN+ ");
	fd_close(&s.qemu);
	CHECK_INT(drain(&s, &err), 0);
	end(&s);
}

TEST (byte_by_byte) {
	static const char text[] = GREETING "{\"event\": \"A\"}\n\n\r\n{\"event\": \"B\"}\r\n";
	struct side s;

	start(&s);
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		CHECK_INT(write(s.qemu, text + i, 1), 1);
		CHECK_INT(drain(&s, NULL), -EAGAIN);
	}
	CHECK_STR(s.events, "A B ");
	end(&s);
}

TEST (long_but_legal_line) {
	struct side s;
	static char line[1000 * 1024];
	size_t sent = 0, len;

	start(&s);
	put(&s, GREETING);
	memset(line, 'x', sizeof(line));
	memcpy(line, "{\"event\": \"", 11);
	memcpy(line + sizeof(line) - 3, "\"}\n", 3);
	for (len = sizeof(line); sent < len;) {
		ssize_t n = write(s.qemu, line + sent, len - sent);

		if (n > 0)
			sent += (size_t)n;
		CHECK_INT(drain(&s, NULL), -EAGAIN);
	}
	CHECK_INT(strlen(s.events), sizeof(s.events) - 1);
	end(&s);
}

/* It ends after QMP_LINE_MAX bytes and what one read brings, not where the buffer does. */
TEST (line_without_end) {
	static char piece[10000]; /* no multiple of what is read at once: nor is the line then */
	struct error err = ERROR_INIT;
	struct side s;
	size_t sent = 0;
	int r = -EAGAIN;

	start(&s);
	memset(piece, ' ', sizeof(piece));
	while (r == -EAGAIN && sent < 2 * QMP_LINE_MAX) {
		ssize_t n = write(s.qemu, piece, sizeof(piece));

		CHECK(n > 0);
		sent += (size_t)n;
		r = drain(&s, &err);
	}
	CHECK_INT(r, -EPROTO);
	CHECK_CONTAINS(err.msg, "a line longer than 1048576 bytes");
	CHECK(sent >= QMP_LINE_MAX && sent <= QMP_LINE_MAX + sizeof(piece));
	end(&s);
}

static void expect_lost(const char *text, const char *sentence)
{
	struct error err = ERROR_INIT;
	struct side s;

	start(&s);
	put(&s, text);
	CHECK_INT(drain(&s, &err), -EPROTO);
	CHECK_CONTAINS(err.msg, sentence);
	end(&s);
}

TEST (what_is_no_qmp) {
	char deep[200];

	expect_lost("hello\n", "no JSON");
	expect_lost("{\"QMP\": {}\n", "no JSON");
	expect_lost("{\"QMP\": {}} {}\n", "no JSON");
	expect_lost("[]\n", "no object");
	expect_lost("null\n", "no JSON");
	expect_lost("{\"QMP\": 1}\n", "something else than a greeting");
	expect_lost("{\"return\": {}}\n", "something else than a greeting");
	expect_lost(GREETING GREETING, "neither an answer nor an event");
	expect_lost(GREETING "{}\n", "neither an answer nor an event");
	expect_lost(GREETING "{\"event\": \"A\", \"return\": {}}\n", "two messages in one");
	expect_lost(GREETING "{\"event\": 1}\n", "an event without a name");
	expect_lost(GREETING "{\"return\": {}}\n", "an answer to no command of ours");
	expect_lost(GREETING "{\"return\": {}, \"id\": 1}\n", "an answer to no command of ours");
	memset(deep, '[', sizeof(deep));
	strcpy(deep + 100, "\n");
	expect_lost(deep, "nesting too deep");
}

TEST (events_within_a_bound) {
	struct error err = ERROR_INIT;
	struct side s;
	int n = 0, r = -EAGAIN;

	start(&s);
	s.qmp.event = NULL;
	put(&s, GREETING);
	while (r == -EAGAIN && n < 2 * QMP_EVENTS_BURST) {
		put(&s, "{\"event\": \"A\"}\n");
		n++;
		r = drain(&s, &err);
	}
	CHECK_INT(r, -EPROTO);
	CHECK_CONTAINS(err.msg, "more than 10000 events");
	CHECK(n > QMP_EVENTS_BURST);
	end(&s);
}

TEST (a_line_of_many_values) {
	static char line[4 * QMP_VALUES_MAX];

	strcpy(line, "{\"QMP\": {}, \"a\": [");
	for (int i = 0; i < QMP_VALUES_MAX; i++)
		strcat(line + 3 * i, "[],");
	strcat(line, "1]}\n");
	expect_lost(line, "a line with more than 16384 values");
}

TEST (commas_in_texts_are_no_values) {
	static char line[4 * QMP_VALUES_MAX];
	struct side s;

	start(&s);
	strcpy(line, "{\"QMP\": {}, \"a\": \"\\\"");
	for (int i = 0; i < QMP_VALUES_MAX; i++)
		strcat(line + i, ",[");
	strcat(line, "\"}\n");
	put(&s, line);
	CHECK_INT(drain(&s, NULL), -EAGAIN);
	CHECK(s.qmp.greeted);
	end(&s);
}

TEST (a_command_with_arguments_and_an_fd) {
	struct json_object *arguments = json_object_new_object();
	struct error err = ERROR_INIT;
	char line[256] = "";
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { line, sizeof(line) - 1 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control) };
	struct side s;
	int fd;

	start(&s);
	put(&s, GREETING);
	CHECK_INT(drain(&s, NULL), -EAGAIN);
	json_object_object_add(arguments, "fdname", json_object_new_string("q,\"\n0"));
	CHECK_INT(qmp_send(&s.qmp, "getfd", arguments, s.qemu, &err), 0);
	json_object_put(arguments);
	CHECK(recvmsg(s.qemu, &mh, MSG_CMSG_CLOEXEC) > 0);
	CHECK_STR(line,
		"{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"q,\\\"\\n0\"},\"id\":1}\n");
	CHECK_INT(CMSG_FIRSTHDR(&mh)->cmsg_type, SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(fd));
	close(fd);
	put(&s, "{\"return\": [1, {\"a\": 2}], \"id\": 1}\n");
	CHECK_INT(drain(&s, &err), -EAGAIN);
	CHECK(json_object_is_type(s.qmp.result, json_type_array));
	end(&s);
}

TEST (a_command_that_is_too_long) {
	static char text[QMP_COMMAND_MAX];
	struct json_object *arguments = json_object_new_object();
	struct error err = ERROR_INIT;
	struct side s;

	start(&s);
	memset(text, 'x', sizeof(text) - 1);
	json_object_object_add(arguments, "a", json_object_new_string(text));
	CHECK_INT(qmp_send(&s.qmp, "getfd", arguments, -1, &err), -EMSGSIZE);
	json_object_put(arguments);
	end(&s);
}

TEST (nul_bytes) {
	struct error err = ERROR_INIT;
	struct side s;

	start(&s);
	CHECK_INT(write(s.qemu, "{\"QMP\": {}}\0{}\n", 15), 15);
	CHECK_INT(drain(&s, &err), -EPROTO);
	end(&s);
}

static void expect_answer_lost(const char *answer)
{
	struct error err = ERROR_INIT;
	struct side s;

	start(&s);
	put(&s, GREETING);
	CHECK_INT(drain(&s, &err), -EAGAIN);
	CHECK_INT(qmp_send(&s.qmp, "cont", NULL, -1, &err), 0);
	put(&s, answer);
	CHECK_INT(drain(&s, &err), -EPROTO);
	end(&s);
}

TEST (answers_of_wrong_shape) {
	expect_answer_lost("{\"return\": {}, \"id\": 2}\n");
	expect_answer_lost("{\"return\": {}, \"id\": \"1\"}\n");
	expect_answer_lost("{\"return\": {}, \"id\": -1}\n");
	expect_answer_lost("{\"error\": {}, \"id\": 1}\n");
	expect_answer_lost("{\"error\": 1, \"id\": 1}\n");
	expect_answer_lost("{\"return\": {}, \"id\": 1}\n{\"return\": {}, \"id\": 1}\n");
}

TEST (error_answer) {
	struct side s;

	start(&s);
	put(&s, GREETING);
	CHECK_INT(drain(&s, NULL), -EAGAIN);
	CHECK_INT(qmp_send(&s.qmp, "cont", NULL, -1, NULL), 0);
	put(&s, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no\\n\"}, \"id\": 1}\n");
	CHECK_INT(drain(&s, NULL), -EAGAIN);
	CHECK_INT(s.qmp.waiting, 0);
	CHECK_INT(s.qmp.failure.code, EIO);
	CHECK_STR(s.qmp.failure.msg, "no?");
	end(&s);
}

TEST (command_to_a_closed_qemu) {
	struct error err = ERROR_INIT;
	struct qmp qmp = QMP_INIT;

	CHECK_INT(qmp_send(&qmp, "cont", NULL, -1, &err), -EPIPE);
	qmp_done(&qmp);
}

/* ---- stderr ---- */

static char seen[2048];

static void note_line(const char *line)
{
	size_t used = strlen(seen);

	snprintf(seen + used, sizeof(seen) - used, "[%s]", line);
}

TEST (lines_of_stderr) {
	struct lines l = { .len = 0 };
	static char flood[100000];

	lines_feed(&l, "one\ntw", 6, note_line);
	lines_feed(&l, "o\r\n\n\x1b[31mthree", 14, note_line);
	CHECK_STR(seen, "[one][two]");
	CHECK_STR(l.last, "two");
	lines_end(&l, note_line);
	CHECK_STR(l.last, "?[31mthree");
	lines_end(&l, note_line);
	CHECK_STR(seen, "[one][two][?[31mthree]");

	memset(flood, 'x', sizeof(flood));
	lines_feed(&l, flood, sizeof(flood), note_line);
	lines_end(&l, note_line);
	CHECK_INT(strlen(l.last), LINE_SIZE - 1);
}
