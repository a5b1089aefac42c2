#include "vmmd/qmp.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/io.h"

#define READ_SIZE 4096

void qmp_done(struct qmp *qmp)
{
	fd_close(&qmp->fd);
	free(steal(qmp->line));
	qmp->len = qmp->size = 0;
}

static void cleanup_json(struct json_object **json)
{
	json_object_put(*json);
}

static void cleanup_tokener(struct json_tokener **tokener)
{
	if (*tokener)
		json_tokener_free(*tokener);
}

/* ---- messages ---- */

static struct json_object *member(struct json_object *o, const char *key, enum json_type type)
{
	struct json_object *value;

	if (!json_object_object_get_ex(o, key, &value) || !json_object_is_type(value, type))
		return NULL;
	return value;
}

static int on_event(struct qmp *qmp, struct json_object *msg, struct error *err)
{
	struct json_object *name = member(msg, "event", json_type_string);

	if (!name)
		return error_set(err, EPROTO, "an event without a name");
	if (qmp->event)
		qmp->event(qmp->ctx, json_object_get_string(name),
			member(msg, "data", json_type_object));
	return 0;
}

/* QEMU's words go into our sentence. */
static void keep_failure(struct error *failure, const char *text)
{
	error_set(failure, EIO, "%.300s", text);
	for (char *c = failure->msg; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

static int on_answer(struct qmp *qmp, struct json_object *msg, bool failed, struct error *err)
{
	struct json_object *id = member(msg, "id", json_type_int);
	struct json_object *error = member(msg, "error", json_type_object);
	struct json_object *desc = error ? member(error, "desc", json_type_string) : NULL;

	if (!id || qmp->waiting == 0 || json_object_get_uint64(id) != qmp->waiting)
		return error_set(err, EPROTO, "an answer to no command of ours");
	if (failed && !desc)
		return error_set(err, EPROTO, "an error without a description");
	qmp->waiting = 0;
	if (failed)
		keep_failure(&qmp->failure, json_object_get_string(desc));
	return 0;
}

static int on_message(struct qmp *qmp, struct json_object *msg, struct error *err)
{
	bool failed = json_object_object_get_ex(msg, "error", NULL);

	if (!qmp->greeted) {
		if (!member(msg, "QMP", json_type_object))
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

int qmp_send(struct qmp *qmp, const char *command, struct error *err)
{
	char line[128];
	int n, r;

	if (qmp->fd < 0)
		return error_set(err, EPIPE, "QEMU's control connection is closed");
	if (qmp->waiting)
		return error_set(err, EBUSY, "%s: another command is in flight", command);
	n = snprintf(line, sizeof(line), "{\"execute\":\"%s\",\"id\":%llu}\n", command,
		(unsigned long long)qmp->next_id);
	/* The socket is empty, or QEMU does not read it: then it is lost anyway. */
	r = write_full(qmp->fd, line, (size_t)n);
	if (r < 0)
		return error_errno(err, -r, "%s", command);
	qmp->waiting = qmp->next_id++;
	qmp->failure = (struct error)ERROR_INIT;
	return 0;
}
