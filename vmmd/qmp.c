#include "vmmd/qmp.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "vmmd/json.h"

#define READ_SIZE 4096

void qmp_done(struct qmp *qmp)
{
	fd_close(&qmp->fd);
	free(steal(qmp->line));
	json_object_put(steal(qmp->result));
	qmp->len = qmp->size = 0;
}

static void cleanup_tokener(struct json_tokener **tokener)
{
	if (*tokener)
		json_tokener_free(*tokener);
}

/* ---- messages ---- */

/* Whether one more event may come now. */
static bool may_come(struct qmp *qmp)
{
	int64_t now = clock_ms(), more = (now - qmp->events_since) * QMP_EVENTS_RATE / 1000;

	if (more > 0) {
		qmp->events_since = now;
		qmp->events_left = more > QMP_EVENTS_BURST - qmp->events_left ?
			QMP_EVENTS_BURST :
			qmp->events_left + (unsigned)more;
	}
	if (qmp->events_left == 0)
		return false;
	qmp->events_left--;
	return true;
}

static int on_event(struct qmp *qmp, struct json_object *msg, struct error *err)
{
	struct json_object *name = json_member(msg, "event", json_type_string);

	if (!name)
		return error_set(err, EPROTO, "an event without a name");
	if (!may_come(qmp))
		return error_set(err, EPROTO, "more than %d events, and %d more each second",
			QMP_EVENTS_BURST, QMP_EVENTS_RATE);
	if (qmp->event)
		qmp->event(qmp->ctx, json_object_get_string(name),
			json_member(msg, "data", json_type_object));
	return 0;
}

/* QEMU's words go into our sentence, its class into our number. */
static void keep_failure(struct error *failure, const char *text, struct json_object *class)
{
	bool absent = class && strcmp(json_object_get_string(class), "DeviceNotFound") == 0;

	error_set(failure, absent ? ENODEV : EIO, "%.300s", *text ? text : "without a reason");
	for (char *c = failure->msg; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

/*
 * The id is a number of ours or it is none: json-c cuts what is too large for
 * 64 bits, and a negative one, to numbers that are never given.
 */
static int on_answer(struct qmp *qmp, struct json_object *msg, bool failed, struct error *err)
{
	struct json_object *id = json_member(msg, "id", json_type_int);
	struct json_object *error = json_member(msg, "error", json_type_object);
	struct json_object *desc = error ? json_member(error, "desc", json_type_string) : NULL;

	if (!id || qmp->waiting == 0 || json_object_get_uint64(id) != qmp->waiting)
		return error_set(err, EPROTO, "an answer to no command of ours");
	if (failed && !desc)
		return error_set(err, EPROTO, "an error without a description");
	qmp->waiting = 0;
	if (failed)
		keep_failure(&qmp->failure, json_object_get_string(desc),
			json_member(error, "class", json_type_string));
	else if (json_object_object_get_ex(msg, "return", &qmp->result))
		json_object_get(qmp->result);
	return 0;
}

/* What makes a message one of four kinds; QEMU sends exactly one of them. */
static int check_kind(struct json_object *msg, struct error *err)
{
	static const char *const kinds[] = { "QMP", "event", "return", "error" };
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		n += json_object_object_get_ex(msg, kinds[i], NULL) ? 1 : 0;
	if (n > 1)
		return error_set(err, EPROTO, "two messages in one");
	return 0;
}

static int on_message(struct qmp *qmp, struct json_object *msg, struct error *err)
{
	bool failed = json_object_object_get_ex(msg, "error", NULL);
	int r = check_kind(msg, err);

	if (r < 0)
		return r;
	if (!qmp->greeted) {
		if (!json_member(msg, "QMP", json_type_object))
			return error_set(err, EPROTO, "something else than a greeting");
		qmp->greeted = true;
		return 0;
	}
	if (json_object_object_get_ex(msg, "event", NULL))
		return on_event(qmp, msg, err);
	if (failed || json_object_object_get_ex(msg, "return", NULL))
		return on_answer(qmp, msg, failed, err);
	return error_set(err, EPROTO, "neither an answer nor an event");
}

/* ---- lines ---- */

/*
 * How many values there are at most, before any is made: three bytes of text
 * ("[],") can be 400 of memory.
 */
static bool too_many_values(const char *line, size_t len)
{
	unsigned n = 1;
	bool text = false;

	for (size_t i = 0; i < len && n <= QMP_VALUES_MAX; i++) {
		if (text && line[i] == '\\')
			i++;
		else if (line[i] == '"')
			text = !text;
		else if (!text && (line[i] == ',' || line[i] == '[' || line[i] == '{'))
			n++;
	}
	return n > QMP_VALUES_MAX;
}

static int on_line(struct qmp *qmp, const char *line, size_t len, struct error *err)
{
	CLEANUP(cleanup_tokener) struct json_tokener *tokener = json_tokener_new_ex(QMP_DEPTH_MAX);
	CLEANUP(cleanup_json) struct json_object *msg = NULL;
	enum json_tokener_error e;

	while (len > 0 && (line[len - 1] == '\r' || line[len - 1] == ' '))
		len--;
	if (len == 0)
		return 0;
	if (!tokener)
		return error_errno(err, ENOMEM, "a JSON parser");
	if (too_many_values(line, len))
		return error_set(err, EPROTO, "a line with more than %d values", QMP_VALUES_MAX);
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	msg = json_tokener_parse_ex(tokener, line, (int)len);
	e = json_tokener_get_error(tokener);
	if (e != json_tokener_success && e != json_tokener_continue)
		return error_set(err, EPROTO, "a line that is no JSON: %s",
			json_tokener_error_desc(e));
	if (e == json_tokener_continue || json_tokener_get_parse_end(tokener) != len)
		return error_set(err, EPROTO, "a line that is no JSON: not one whole value");
	if (!json_object_is_type(msg, json_type_object))
		return error_set(err, EPROTO, "a line that is no object");
	return on_message(qmp, msg, err);
}

static int make_room(struct qmp *qmp, struct error *err)
{
	size_t size = qmp->size ? 2 * qmp->size : 2 * READ_SIZE;
	char *line;

	/* First: there is room for up to twice that much. */
	if (qmp->len >= QMP_LINE_MAX)
		return error_set(err, EPROTO, "a line longer than %d bytes", QMP_LINE_MAX);
	if (qmp->size - qmp->len >= READ_SIZE)
		return 0;
	line = realloc(qmp->line, size);
	if (!line)
		return error_errno(err, ENOMEM, "a line of %zu bytes", size);
	qmp->line = line;
	qmp->size = size;
	return 0;
}

/* The last `fresh` bytes are new: only they can hold the end of a line. */
static int split(struct qmp *qmp, size_t fresh, struct error *err)
{
	char *start = qmp->line, *from = qmp->line + qmp->len - fresh, *end = qmp->line + qmp->len;
	char *nl;
	int r = 0;

	while (r == 0 && (nl = memchr(from, '\n', (size_t)(end - from)))) {
		r = on_line(qmp, start, (size_t)(nl - start), err);
		start = from = nl + 1;
	}
	qmp->len = (size_t)(end - start);
	memmove(qmp->line, start, qmp->len);
	return r;
}

int qmp_read(struct qmp *qmp, struct error *err)
{
	int r = make_room(qmp, err);
	ssize_t n;

	if (r < 0)
		return r;
	do
		n = read(qmp->fd, qmp->line + qmp->len, READ_SIZE);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return -EAGAIN;
	if (n < 0 && errno != ECONNRESET)
		return error_errno(err, errno, "read from QMP");
	if (n <= 0)
		return 0;
	qmp->len += (size_t)n;
	r = split(qmp, (size_t)n, err);
	return r < 0 ? error_wrap(err, "QMP") : 1;
}

/* ---- commands ---- */

/* The caller's; NULL: out of memory. */
static struct json_object *command_object(const char *command, struct json_object *arguments,
	uint64_t id)
{
	struct json_object *o = json_object_new_object();
	int r = o ? json_set_consume(o, "execute", json_object_new_string(command)) : -ENOMEM;

	if (r == 0 && arguments)
		r = json_set_consume(o, "arguments", json_object_get(arguments));
	if (r == 0)
		r = json_set_consume(o, "id", json_object_new_uint64(id));
	if (r == 0)
		return o;
	json_object_put(o);
	return NULL;
}

/*
 * One sendmsg(): the fd belongs to the first byte. QEMU has answered all that
 * came before, so its socket is empty; if there is no room, it has not read.
 */
static int send_line(int to, const char *line, size_t len, int fd, struct error *err)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { .buf = { 0 } };
	struct iovec iov[2] = {
		{ .iov_base = (void *)line, .iov_len = len },
		{ .iov_base = (void *)"\n", .iov_len = 1 },
	};
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	if (fd >= 0) {
		mh.msg_control = &control;
		mh.msg_controllen = sizeof(control.buf);
		*CMSG_FIRSTHDR(&mh) = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(sizeof(int)),
		};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), &fd, sizeof(int));
	}
	do
		n = sendmsg(to, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
		return error_set(err, EPIPE, "QEMU has closed its control connection");
	if (n < 0 && errno != EAGAIN)
		return error_errno(err, errno, "send");
	if (n != (ssize_t)len + 1)
		return error_set(err, EPROTO, "QEMU does not read what it is sent");
	return 0;
}

int qmp_send(struct qmp *qmp, const char *command, struct json_object *arguments, int fd,
	struct error *err)
{
	CLEANUP(cleanup_json) struct json_object *o = NULL;
	const char *line;
	size_t len;
	int r;

	if (qmp->fd < 0)
		return error_set(err, EPIPE, "QEMU's control connection is closed");
	if (qmp->waiting)
		return error_set(err, EBUSY, "%s: another command is in flight", command);
	o = command_object(command, arguments, qmp->next_id);
	line = o ? json_object_to_json_string_length(o,
			   JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len) :
		   NULL;
	if (!line)
		return error_errno(err, ENOMEM, "%s", command);
	if (len > QMP_COMMAND_MAX)
		return error_set(err, EMSGSIZE, "%s: %zu bytes of arguments, the limit is %d",
			command, len, QMP_COMMAND_MAX);
	r = send_line(qmp->fd, line, len, fd, err);
	if (r < 0)
		return error_wrap(err, "%s", command);
	qmp->waiting = qmp->next_id++;
	qmp->failure = (struct error)ERROR_INIT;
	json_object_put(steal(qmp->result));
	return 0;
}
