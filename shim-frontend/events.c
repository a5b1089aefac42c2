#include "shim-frontend/events.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/fd.h"
#include "common/fdio.h"
#include "common/log.h"
#include "ipc/alloc.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/tables.h"
#include "shim-frontend/proto/events.pb-c.h"
#include "ttrpc.pb-c.h"

#define ANSWER_MAX 65536

struct queued_event {
	struct queued_event *next;
	bool is_exit;
	const char *topic;
	size_t len;
	uint8_t request[]; /* a packed ForwardRequest */
};

static void events_pump(void *ctx);

static void drop_first(struct events *e)
{
	struct queued_event *q = e->first;

	e->first = q->next;
	if (!e->first)
		e->last = &e->first;
	e->n--;
	e->bytes -= q->len;
	e->refusals = 0;
	free(q);
}

/* The oldest that is not an exit, nor on its way; else the oldest not on its way. */
static void drop_one(struct events *e)
{
	struct queued_event **start = e->in_flight ? &e->first->next : &e->first;
	struct queued_event **p = start, *q;

	while (*p && (*p)->is_exit)
		p = &(*p)->next;
	if (!*p)
		p = start;
	q = *p;
	if (!q)
		return;
	*p = q->next;
	if (!*p)
		e->last = p;
	e->n--;
	e->bytes -= q->len;
	e->dropped++;
	log_warn("%u events wait for containerd: %s dropped, %llu so far", e->n, q->topic,
		(unsigned long long)e->dropped);
	free(q);
}

static void try_later(struct events *e)
{
	timer_set(&e->retry, e->retry_ms);
	e->retry_ms *= 2;
	if (e->retry_ms > EVENTS_RETRY_MAX_MS)
		e->retry_ms = EVENTS_RETRY_MAX_MS;
}

static void disconnect(struct events *e, const char *why)
{
	log_warn("events: %s; %u unsent", why, e->n);
	watch_done(&e->watch);
	fd_close(&e->fd);
	inbuf_done(&e->in);
	outbuf_done(&e->out);
	timer_stop(&e->ack);
	e->in_flight = false;
	e->stream = 0;
	/* With nothing to send there is nothing to connect for, and no timer. */
	if (!events_idle(e))
		try_later(e);
}

static void acknowledged(struct events *e)
{
	e->in_flight = false;
	timer_stop(&e->ack);
	e->retry_ms = EVENTS_RETRY_MIN_MS;
	drop_first(e);
	task_defer(&e->pump);
}

/* containerd says no. That may pass (it is starting), or be for ever. */
static void refused(struct events *e, const Ttrpc__Status *status)
{
	log_warn("events: containerd refuses %s: %.200s (code %d)", e->first->topic,
		status->message, status->code);
	if (++e->refusals >= EVENTS_REFUSALS_MAX) {
		e->dropped++;
		acknowledged(e);
		return;
	}
	e->in_flight = false;
	timer_stop(&e->ack);
	try_later(e);
}

/* 0, or -EPROTO: not what a server sends. */
static int handle_answer(struct events *e, const struct ttrpc_header *h, const uint8_t *data)
{
	Ttrpc__Response *response;

	if (!e->in_flight || h->stream != e->stream || h->type != TTRPC_RESPONSE)
		return -EPROTO;
	response = (Ttrpc__Response *)capped_unpack(&ttrpc__response__descriptor, h->length, data,
		2 * (size_t)h->length + 4096);
	if (!response)
		return -EPROTO;
	if (response->status && response->status->code != TTRPC_OK)
		refused(e, response->status);
	else
		acknowledged(e);
	protobuf_c_message_free_unpacked(&response->base, NULL);
	return 0;
}

static void readable(void *ctx)
{
	struct events *e = ctx;
	struct ttrpc_header h;
	const uint8_t *data;
	int r = inbuf_fill(&e->in, e->fd);

	if (r == -EAGAIN)
		return;
	if (r <= 0) {
		disconnect(e, "containerd has closed the connection");
		return;
	}
	while ((r = inbuf_frame(&e->in, ANSWER_MAX, &h, &data)) == 1)
		if (handle_answer(e, &h, data) < 0) {
			r = -EPROTO;
			break;
		}
	if (r < 0)
		disconnect(e, "containerd's answer is not one");
}

static void flush(struct events *e)
{
	int r = outbuf_flush(&e->out, e->fd);

	if (r < 0 && r != -EAGAIN) {
		disconnect(e, "the connection to containerd is dead");
		return;
	}
	watch_write(&e->watch, r == -EAGAIN);
}

static void writable(void *ctx)
{
	flush(ctx);
}

static void no_answer(void *ctx)
{
	disconnect(ctx, "containerd does not answer");
}

/* Takes the fd. */
static void connected(struct events *e, int fd)
{
	struct error err = ERROR_INIT;

	e->fd = fd;
	if (watch_init(&e->watch, e->loop, e->fd, readable, writable, e, &err) < 0) {
		log_error("events: %s", err.msg);
		fd_close(&e->fd);
		e->enabled = false;
	}
}

static void opened(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct events *e = ctx;

	e->opening = false;
	if (err) {
		log_warn("events: connect to containerd again: %s; %u unsent", err->msg, e->n);
		if (!events_idle(e))
			try_later(e);
		return;
	}
	(void)reply;
	connected(e, fdlist_steal(fds, 0));
	task_defer(&e->pump);
}

static void reopen(struct events *e)
{
	Ipc__MountdOpenEvents request = IPC__MOUNTD_OPEN_EVENTS__INIT;
	struct error err = ERROR_INIT;

	if (e->opening)
		return;
	if (call_start(e->mountd, MOUNTD_OPEN_EVENTS, &request.base, EVENTS_OPEN_MS, opened, e,
		    &err) < 0) {
		log_warn("events: %s", err.msg);
		try_later(e);
		return;
	}
	e->opening = true;
}

static void send_first(struct events *e)
{
	Ttrpc__Request call = TTRPC__REQUEST__INIT;

	call.service = (char *)"containerd.services.events.ttrpc.v1.Events";
	call.method = (char *)"Forward";
	call.payload.data = e->first->request;
	call.payload.len = e->first->len;
	call.timeout_nano = (int64_t)EVENTS_ACK_MS * 1000000;
	/* Odd, rising; a new connection begins at 1. */
	e->stream = e->stream ? e->stream + 2 : 1;
	outbuf_frame(&e->out, TTRPC_REQUEST, e->stream, &call.base);
	e->in_flight = true;
	timer_set(&e->ack, EVENTS_ACK_MS);
	flush(e);
}

static void events_pump(void *ctx)
{
	struct events *e = ctx;

	if (events_idle(e)) {
		if (e->drained)
			e->drained(e->ctx);
		return;
	}
	if (e->in_flight || timer_is_set(&e->retry))
		return;
	if (e->fd < 0)
		reopen(e);
	else
		send_first(e);
}

static void retry_now(void *ctx)
{
	task_defer(&((struct events *)ctx)->pump);
}

void events_hurry(struct events *e)
{
	if (!timer_is_set(&e->retry))
		return;
	timer_stop(&e->retry);
	e->retry_ms = EVENTS_RETRY_MIN_MS;
	task_defer(&e->pump);
}

static bool is_socket(int fd)
{
	struct stat st;

	return fd >= 0 && fd_stat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
}

void events_init(struct events *e, struct loop *loop, int fd_consume, struct peer *mountd,
	const char *namespace)
{
	*e = (struct events){
		.loop = loop,
		.mountd = mountd,
		.namespace = namespace,
		.fd = -1,
		.retry_ms = EVENTS_RETRY_MIN_MS,
	};
	e->last = &e->first;
	timer_init(&e->retry, loop, retry_now, e);
	timer_init(&e->ack, loop, no_answer, e);
	task_init(&e->pump, loop, events_pump, e);
	e->enabled = is_socket(fd_consume);
	if (e->enabled)
		connected(e, fd_consume);
	else
		fd_close(&fd_consume);
}

void events_done(struct events *e)
{
	while (e->first)
		drop_first(e);
	watch_done(&e->watch);
	fd_close(&e->fd);
	inbuf_done(&e->in);
	outbuf_done(&e->out);
	timer_done(&e->retry);
	timer_done(&e->ack);
	task_cancel(&e->pump);
}

static struct queued_event *pack(struct events *e, const char *topic, const char *type,
	const ProtobufCMessage *event)
{
	Containerd__ForwardRequest request = CONTAINERD__FORWARD_REQUEST__INIT;
	Containerd__Envelope envelope = CONTAINERD__ENVELOPE__INIT;
	Containerd__Timestamp now = CONTAINERD__TIMESTAMP__INIT;
	Containerd__Any any = CONTAINERD__ANY__INIT;
	_cleanup_free_ uint8_t *value = malloc(protobuf_c_message_get_packed_size(event) + 1);
	struct queued_event *q;
	struct timespec ts;
	size_t len;

	if (!value)
		abort();
	clock_gettime(CLOCK_REALTIME, &ts);
	now.seconds = ts.tv_sec;
	now.nanos = (int32_t)ts.tv_nsec;
	any.type_url = (char *)type;
	any.value.data = value;
	any.value.len = protobuf_c_message_pack(event, value);
	envelope.timestamp = &now;
	envelope.namespace_ = (char *)e->namespace;
	envelope.topic = (char *)topic;
	envelope.event = &any;
	request.envelope = &envelope;
	len = protobuf_c_message_get_packed_size(&request.base);
	q = calloc(1, sizeof(*q) + len);
	if (!q)
		abort();
	q->topic = topic;
	q->is_exit = strcmp(topic, "/tasks/exit") == 0;
	q->len = protobuf_c_message_pack(&request.base, q->request);
	return q;
}

void events_publish(struct events *e, const char *topic, const char *type,
	const ProtobufCMessage *event)
{
	struct queued_event *q;

	if (!e->enabled)
		return;
	q = pack(e, topic, type, event);
	while (e->n > 0 && (e->n >= EVENTS_MAX || e->bytes + q->len > EVENTS_BYTES_MAX)) {
		unsigned had = e->n;

		drop_one(e);
		if (e->n == had)
			break;
	}
	*e->last = q;
	e->last = &q->next;
	e->n++;
	e->bytes += q->len;
	task_defer(&e->pump);
}
