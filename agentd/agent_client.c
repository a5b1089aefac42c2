#include "agentd/agent_client.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <event2/event_struct.h>

#include "agent.pb-c.h"
#include "agentd/text.h"
#include "bulkhead.pb-c.h"
#include "common/clock.h"
#include "common/fd.h"
#include "common/fdio.h"
#include "ipc/alloc.h"
#include "ipc/ttrpc.h"
#include "ttrpc.pb-c.h"

/* Answered late or never, an entry stays until the answer comes: this is how many may. */
#define CALLS_MAX 8192
#define BUCKETS	  256

/* What may wait for the agent to read it. One CreateContainer is 4 MiB at most. */
#define OUT_BYTES_MAX ((size_t)32 << 20)

/* Of one message inside a frame; of the frame's own envelope, which holds those bytes once more. */
#define MESSAGE_MEMORY_MAX  ((size_t)64 << 20)
#define ENVELOPE_MEMORY_MAX ((size_t)16 << 20)

#define READ_SIZE	  ((size_t)64 << 10)
#define READS_PER_TURN	  16
#define AGENT_MESSAGE_MAX 320

#define SECONDS(n) ((n) * 1000)

#define KATA(...) { "grpc.AgentService", __VA_ARGS__ }
#define OURS(...) { "bulkhead.AgentService", __VA_ARGS__ } /* ipc/agent/bulkhead.proto */

const struct agent_method agent_create_sandbox =
	KATA("CreateSandbox", &grpc__empty__descriptor, SECONDS(60));
const struct agent_method agent_update_interface =
	KATA("UpdateInterface", &types__interface__descriptor, SECONDS(10));
const struct agent_method agent_add_arp_neighbors =
	KATA("AddARPNeighbors", &grpc__empty__descriptor, SECONDS(10));
const struct agent_method agent_update_routes =
	KATA("UpdateRoutes", &grpc__routes__descriptor, SECONDS(10));
const struct agent_method agent_create_container =
	KATA("CreateContainer", &grpc__empty__descriptor, SECONDS(60));
const struct agent_method agent_start_container =
	KATA("StartContainer", &grpc__empty__descriptor, SECONDS(60));
const struct agent_method agent_remove_container =
	KATA("RemoveContainer", &grpc__empty__descriptor, SECONDS(12));
const struct agent_method agent_signal_process =
	KATA("SignalProcess", &grpc__empty__descriptor, SECONDS(3));
const struct agent_method agent_close_stdin =
	KATA("CloseStdin", &grpc__empty__descriptor, SECONDS(10));
const struct agent_method agent_exec_process =
	KATA("ExecProcess", &grpc__empty__descriptor, SECONDS(60));
const struct agent_method agent_tty_win_resize =
	KATA("TtyWinResize", &grpc__empty__descriptor, SECONDS(10));
const struct agent_method agent_pause_container =
	KATA("PauseContainer", &grpc__empty__descriptor, SECONDS(10));
const struct agent_method agent_resume_container =
	KATA("ResumeContainer", &grpc__empty__descriptor, SECONDS(10));
const struct agent_method agent_update_container =
	KATA("UpdateContainer", &grpc__empty__descriptor, SECONDS(60));
const struct agent_method agent_online_cpu_mem =
	KATA("OnlineCPUMem", &grpc__empty__descriptor, SECONDS(12));
const struct agent_method agent_stats_container =
	KATA("StatsContainer", &grpc__stats_container_response__descriptor, SECONDS(10));
const struct agent_method agent_get_oom_event = KATA("GetOOMEvent", &grpc__oomevent__descriptor, 0);
const struct agent_method agent_list_processes =
	OURS("ListProcesses", &bulkhead__list_processes_response__descriptor, SECONDS(1));
/* These wait for a process, which may do nothing for years. */
const struct agent_method agent_wait_process =
	KATA("WaitProcess", &grpc__wait_process_response__descriptor, 0);
const struct agent_method agent_read_stdout =
	KATA("ReadStdout", &grpc__read_stream_response__descriptor, 0);
const struct agent_method agent_read_stderr =
	KATA("ReadStderr", &grpc__read_stream_response__descriptor, 0);
const struct agent_method agent_write_stdin =
	KATA("WriteStdin", &grpc__write_stream_response__descriptor, 0);

struct agent_call {
	struct agent_call *next; /* in its bucket */
	struct agent_client *client;
	uint32_t stream;
	const struct agent_method *method;
	struct event timer;
	agent_reply_fn *fn; /* NULL: nobody waits, the answer is dropped when it comes */
	void *ctx;
};

struct frame {
	struct frame *next;
	size_t len, sent;
	uint8_t bytes[];
};

struct agent_client {
	int fd;
	struct event_base *base;
	struct event readable, writable;
	const struct agent_ops *ops;
	void *ctx;
	bool hello;
	int send_errno; /* noted by agent_call(), acted on by the loop */
	struct error lost;

	struct agent_call *calls[BUCKETS];
	unsigned n_calls;
	int64_t idle_since_us, idle_us; /* while no call is pending, since the hello */
	uint32_t last_stream;

	/* Bytes that came and are not a whole frame yet. */
	uint8_t *in;
	size_t in_len, in_size;

	struct frame *out, **out_tail;
	size_t out_bytes;
};

/* -- pending calls */

static struct agent_call **find_call(struct agent_client *c, uint32_t stream)
{
	struct agent_call **at = &c->calls[(stream >> 1) % BUCKETS];

	while (*at && (*at)->stream != stream)
		at = &(*at)->next;
	return at;
}

/* Odd, and not that of a call that still waits: ids come again after 2^31 calls. */
static uint32_t next_stream(struct agent_client *c)
{
	do
		c->last_stream = c->last_stream == 0 ? 1 : c->last_stream + 2;
	while (*find_call(c, c->last_stream));
	return c->last_stream;
}

static void call_added(struct agent_client *c)
{
	if (c->n_calls++ == 0)
		c->idle_us += clock_us() - c->idle_since_us;
}

static void call_removed(struct agent_client *c)
{
	if (--c->n_calls == 0)
		c->idle_since_us = clock_us();
}

int64_t agent_client_idle_us(const struct agent_client *c)
{
	return c->idle_us + (c->n_calls == 0 && c->hello ? clock_us() - c->idle_since_us : 0);
}

unsigned agent_client_unanswered(const struct agent_client *c)
{
	return c->n_calls;
}

static void call_free(struct agent_client *c, struct agent_call **at)
{
	struct agent_call *call = *at;

	*at = call->next;
	event_del(&call->timer);
	call_removed(c);
	free(call);
}

static void call_finish(struct agent_call *call, ProtobufCMessage *reply, const struct error *err)
{
	agent_reply_fn *fn = call->fn;

	call->fn = NULL;
	event_del(&call->timer);
	if (fn)
		fn(call->ctx, reply, err);
}

static void on_deadline(evutil_socket_t fd, short events, void *arg)
{
	struct agent_call *call = arg;
	struct error err = ERROR_INIT;

	(void)fd;
	(void)events;
	error_set(&err, ETIMEDOUT, "the guest's agent did not answer %s within %d s",
		call->method->name, call->method->timeout_ms / 1000);
	/* The entry stays: its answer, should it come, belongs to a question we did ask. */
	call_finish(call, NULL, &err);
}

static void fail_all(struct agent_client *c)
{
	struct error err = ERROR_INIT;

	error_set(&err, ENOTCONN, "the guest's agent is lost: %s", c->lost.msg);
	for (size_t i = 0; i < BUCKETS; i++) {
		while (c->calls[i]) {
			struct agent_call *call = c->calls[i];

			/* Out of the table first: a callback may cancel other calls, not this. */
			c->calls[i] = call->next;
			call_removed(c);
			call_finish(call, NULL, &err);
			free(call);
		}
	}
}

/* -- the end */

static void drop_buffers(struct agent_client *c)
{
	free(steal(c->in));
	c->in_len = c->in_size = 0;
	while (c->out) {
		struct frame *f = c->out;

		c->out = f->next;
		free(f);
	}
	c->out_tail = &c->out;
	c->out_bytes = 0;
}

static void close_stream(struct agent_client *c)
{
	if (c->fd < 0)
		return;
	event_del(&c->readable);
	event_del(&c->writable);
	fd_close(&c->fd);
}

const struct error *agent_client_lost(const struct agent_client *c)
{
	return c->lost.code ? &c->lost : NULL;
}

void agent_client_lose(struct agent_client *c, const struct error *reason)
{
	if (c->lost.code)
		return;
	c->lost = *reason;
	close_stream(c);
	drop_buffers(c);
	fail_all(c);
	c->ops->lost(c->ctx, &c->lost);
}

void agent_client_free(struct agent_client *c)
{
	if (!c)
		return;
	close_stream(c);
	drop_buffers(c);
	for (size_t i = 0; i < BUCKETS; i++)
		while (c->calls[i])
			call_free(c, &c->calls[i]);
	free(c);
}

/* -- frames in */

static int take_hello(struct agent_client *c, const struct ttrpc_header *h, const uint8_t *data,
	struct error *err)
{
	char text[64];

	text_clean(text, sizeof(text), (const char *)data, h->length);
	if (h->type != TTRPC_HELLO || h->stream != 0 || h->flags != 0)
		return error_set(err, EPROTO,
			"the guest's agent began with a frame of type 0x%02x instead of a hello",
			h->type);
	if (h->length != strlen(AGENT_HELLO) || memcmp(data, AGENT_HELLO, h->length) != 0)
		return error_set(err, EPROTO,
			"the guest's agent says hello as \"%s\", this version speaks %s", text,
			AGENT_HELLO);
	c->hello = true;
	c->idle_since_us = clock_us();
	c->ops->hello(c->ctx);
	return 0;
}

/* google.rpc.Code to errno: what the frontend maps on. */
static int status_errno(int code)
{
	static const int table[] = {
		[TTRPC_INVALID_ARGUMENT] = EINVAL,
		[TTRPC_DEADLINE_EXCEEDED] = ETIMEDOUT,
		[TTRPC_NOT_FOUND] = ENOENT,
		[TTRPC_ALREADY_EXISTS] = EEXIST,
		[TTRPC_PERMISSION_DENIED] = EACCES,
		[TTRPC_RESOURCE_EXHAUSTED] = ENOSPC,
		[TTRPC_FAILED_PRECONDITION] = EBUSY,
		[TTRPC_UNIMPLEMENTED] = ENOSYS,
	};

	if (code > 0 && (size_t)code < ARRAY_SIZE(table) && table[code])
		return table[code];
	return EIO;
}

static void take_status(struct agent_call *call, const Ttrpc__Status *status)
{
	char message[AGENT_MESSAGE_MAX];
	struct error err = ERROR_INIT;

	text_clean(message, sizeof(message), status->message, strlen(status->message));
	error_set(&err, status_errno(status->code), "the guest's agent, %s: %s",
		call->method->name, message[0] ? message : "failed without a reason");
	call_finish(call, NULL, &err);
}

static int take_payload(struct agent_call *call, const ProtobufCBinaryData *payload,
	struct error *err)
{
	ProtobufCMessage *reply = capped_unpack(call->method->reply, payload->len, payload->data,
		MESSAGE_MEMORY_MAX);

	if (!reply)
		return error_set(err, EPROTO, "the answer to %s cannot be decoded",
			call->method->name);
	call_finish(call, reply, NULL);
	protobuf_c_message_free_unpacked(reply, NULL);
	return 0;
}

static int take_response(struct agent_client *c, const struct ttrpc_header *h, const uint8_t *data,
	struct error *err)
{
	struct agent_call **at = find_call(c, h->stream);
	struct agent_call *call = *at;
	Ttrpc__Response *response;
	int r = 0;

	if (h->type != TTRPC_RESPONSE || h->flags != 0)
		return error_set(err, EPROTO, "a frame of type 0x%02x, flags 0x%02x", h->type,
			h->flags);
	if (!call)
		return error_set(err, EPROTO, "an answer to no question, stream %u", h->stream);
	*at = call->next;
	call_removed(c);

	response = (Ttrpc__Response *)capped_unpack(&ttrpc__response__descriptor, h->length, data,
		ENVELOPE_MEMORY_MAX);
	if (!response)
		r = error_set(err, EPROTO, "the answer to %s cannot be decoded",
			call->method->name);
	else if (response->status && response->status->code != TTRPC_OK)
		take_status(call, response->status);
	else
		r = take_payload(call, &response->payload, err);
	if (response)
		ttrpc__response__free_unpacked(response, NULL);
	if (r < 0)
		call_finish(call, NULL, err);
	free(call);
	return r;
}

/* Handles every whole frame in the buffer and moves what is left to its front. */
static int take_frames(struct agent_client *c, struct error *err)
{
	size_t at = 0;
	int r = 0;

	while (r == 0 && c->fd >= 0 && c->in_len - at >= TTRPC_HEADER_LEN) {
		struct ttrpc_header h = ttrpc_header_read(c->in + at);

		if (h.length > TTRPC_DATA_MAX)
			return error_set(err, EPROTO, "a frame of %u bytes, the limit is %u",
				h.length, TTRPC_DATA_MAX);
		if (!c->hello && h.length > READ_SIZE)
			return error_set(err, EPROTO, "a hello of %u bytes", h.length);
		if (c->in_len - at - TTRPC_HEADER_LEN < h.length)
			break;
		r = (c->hello ? take_response : take_hello)(c, &h, c->in + at + TTRPC_HEADER_LEN,
			err);
		at += TTRPC_HEADER_LEN + h.length;
	}
	if (c->fd < 0) /* lost meanwhile: the buffer is gone */
		return 0;
	if (at > 0)
		memmove(c->in, c->in + at, c->in_len - at);
	c->in_len -= at;
	return r;
}

/* Room for one more read. Grows with what has come, never by what a header announces. */
static int grow(struct agent_client *c, struct error *err)
{
	size_t size = c->in_len + c->in_len / 2 + READ_SIZE;
	uint8_t *p;

	if (c->in_len == 0 && c->in_size > 4 * READ_SIZE) {
		free(steal(c->in));
		c->in_size = 0;
	}
	if (c->in_size - c->in_len >= READ_SIZE)
		return 0;
	p = realloc(c->in, size);
	if (!p)
		return error_errno(err, ENOMEM, "read from the guest's agent");
	c->in = p;
	c->in_size = size;
	return 0;
}

/* 1: more may be there; 0: not now; -errno with err. */
static int read_some(struct agent_client *c, struct error *err)
{
	struct iovec iov;
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;
	int r = grow(c, err);

	if (r < 0)
		return r;
	iov = (struct iovec){ .iov_base = c->in + c->in_len, .iov_len = READ_SIZE };
	/* The other side may have made the socket blocking. Control data has no room: dropped. */
	n = recvmsg(c->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		return error_set(err, ECONNRESET, "its stream ended%s",
			c->in_len > 0 ? " inside a frame" : "");
	if (n < 0)
		return error_errno(err, errno, "read");
	c->in_len += (size_t)n;
	r = take_frames(c, err);
	return r < 0 ? r : c->fd >= 0 && n == (ssize_t)READ_SIZE;
}

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
	struct agent_client *c = arg;
	struct error err = ERROR_INIT;
	int r = 1;

	(void)fd;
	(void)events;
	for (int i = 0; r > 0 && i < READS_PER_TURN; i++)
		r = read_some(c, &err);
	if (r == 0 && c->send_errno)
		r = error_errno(&err, c->send_errno, "write");
	if (r < 0)
		agent_client_lose(c, &err);
}

/* -- frames out */

static void flush(struct agent_client *c)
{
	while (c->out) {
		struct frame *f = c->out;
		ssize_t n = fd_send(c->fd, f->bytes + f->sent, f->len - f->sent);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			event_add(&c->writable, NULL);
			return;
		}
		if (n < 0) {
			/* We may be inside agent_call(): let the loop see it, after what came. */
			c->send_errno = errno;
			event_active(&c->readable, EV_READ, 0);
			return;
		}
		f->sent += (size_t)n;
		c->out_bytes -= (size_t)n;
		if (f->sent < f->len)
			continue;
		c->out = f->next;
		if (!c->out)
			c->out_tail = &c->out;
		free(f);
	}
}

static void on_writable(evutil_socket_t fd, short events, void *arg)
{
	(void)fd;
	(void)events;
	flush(arg);
}

/* The frame of one request: header, envelope, message. */
static struct frame *make_frame(const struct agent_method *method, uint32_t stream,
	const ProtobufCMessage *message, struct error *err)
{
	Ttrpc__Request request = TTRPC__REQUEST__INIT;
	_cleanup_free_ uint8_t *payload = NULL;
	struct ttrpc_header h = { .stream = stream, .type = TTRPC_REQUEST };
	size_t len = protobuf_c_message_get_packed_size(message);
	struct frame *f;

	request.service = (char *)method->service;
	request.method = (char *)method->name;
	request.timeout_nano = (int64_t)method->timeout_ms * 1000000;
	payload = len <= TTRPC_DATA_MAX ? malloc(len ? len : 1) : NULL;
	request.payload = (ProtobufCBinaryData){ .data = payload, .len = len };
	len = ttrpc__request__get_packed_size(&request);
	if (len > TTRPC_DATA_MAX) {
		error_set(err, EMSGSIZE, "%s: %zu bytes for the guest's agent, the limit is %u",
			method->name, len, TTRPC_DATA_MAX);
		return NULL;
	}
	f = malloc(sizeof(*f) + TTRPC_HEADER_LEN + len);
	if (!payload || !f) {
		free(f);
		error_errno(err, ENOMEM, "%s", method->name);
		return NULL;
	}
	protobuf_c_message_pack(message, payload);
	h.length = (uint32_t)len;
	ttrpc_header_write(&h, f->bytes);
	ttrpc__request__pack(&request, f->bytes + TTRPC_HEADER_LEN);
	f->next = NULL;
	f->sent = 0;
	f->len = TTRPC_HEADER_LEN + len;
	return f;
}

static void enqueue(struct agent_client *c, struct frame *f)
{
	bool idle = !c->out;

	*c->out_tail = f;
	c->out_tail = &f->next;
	c->out_bytes += f->len;
	if (idle)
		flush(c);
}

static int may_call(struct agent_client *c, const struct agent_method *method, struct error *err)
{
	if (c->lost.code)
		return error_set(err, ENOTCONN, "the guest's agent is lost: %s", c->lost.msg);
	if (!c->hello)
		return error_set(err, ENOTCONN, "%s: the guest's agent has not said hello",
			method->name);
	if (c->n_calls >= CALLS_MAX)
		return error_set(err, EBUSY, "%s: the guest's agent leaves %u requests unanswered",
			method->name, c->n_calls);
	if (c->out_bytes > OUT_BYTES_MAX)
		return error_set(err, EBUSY, "%s: the guest's agent leaves %zu bytes unread",
			method->name, c->out_bytes);
	return 0;
}

static void start_deadline(struct agent_call *call)
{
	const struct timeval tv = {
		.tv_sec = call->method->timeout_ms / 1000,
		.tv_usec = call->method->timeout_ms % 1000 * 1000,
	};

	evtimer_assign(&call->timer, call->client->base, on_deadline, call);
	if (call->method->timeout_ms > 0)
		evtimer_add(&call->timer, &tv);
}

int agent_call(struct agent_client *c, const struct agent_method *method,
	const ProtobufCMessage *request, agent_reply_fn *fn, void *ctx, struct agent_call **ret,
	struct error *err)
{
	_cleanup_free_ struct agent_call *call = NULL;
	struct agent_call **bucket;
	struct frame *f;
	int r = may_call(c, method, err);

	if (r < 0)
		return r;
	call = calloc(1, sizeof(*call));
	if (!call)
		return error_errno(err, ENOMEM, "%s", method->name);
	*call = (struct agent_call){
		.client = c,
		.stream = next_stream(c),
		.method = method,
		.fn = fn,
		.ctx = ctx,
	};
	f = make_frame(method, call->stream, request, err);
	if (!f)
		return -err->code;
	start_deadline(call);
	bucket = find_call(c, call->stream);
	*bucket = call;
	call_added(c);
	if (ret)
		*ret = call;
	call = NULL;
	enqueue(c, f);
	return 0;
}

void agent_call_cancel(struct agent_call **call)
{
	if (!*call)
		return;
	(*call)->fn = NULL;
	event_del(&(*call)->timer);
	*call = NULL;
}

struct agent_client *agent_client_new(struct event_base *base, int fd_consume,
	const struct agent_ops *ops, void *ctx)
{
	_cleanup_close_ int fd = fd_consume;
	struct agent_client *c = calloc(1, sizeof(*c));

	if (!c)
		return NULL;
	*c = (struct agent_client){
		.fd = fd_steal(&fd),
		.base = base,
		.ops = ops,
		.ctx = ctx,
	};
	c->out_tail = &c->out;
	event_assign(&c->readable, base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
	event_assign(&c->writable, base, c->fd, EV_WRITE, on_writable, c);
	event_add(&c->readable, NULL);
	return c;
}
