#include "shim-frontend/ttrpc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/log.h"
#include "ipc/alloc.h"
#include "shim-frontend/errdefs.h"
#include "ttrpc.pb-c.h"

/* What a decoded message may cost beyond its size on the wire. */
#define ENVELOPE_EXTRA 65536
#define REQUEST_FACTOR 16
#define REQUEST_EXTRA  65536

/* One client. Freed only by sweep(), when nothing of it is on the stack. */
struct conn {
	struct server *server;
	struct conn *next;
	int fd;
	struct watch watch;
	struct timer frame_timer; /* set while a frame is incomplete */
	struct inbuf in;
	struct outbuf out;
	struct rpc *rpcs;
	unsigned n_rpcs;
	uint32_t last_stream;
	bool stalled; /* the client does not read: no more requests are taken */
	bool blocked; /* the socket is full: waiting to write */
	bool dead;
};

static void conn_kill(struct conn *c)
{
	c->dead = true;
	task_defer(&c->server->flush);
}

/* The end of an rpc: out of its connection, gone. */
static void rpc_free(struct rpc *rpc)
{
	if (rpc->conn) {
		*rpc->prev = rpc->next;
		if (rpc->next)
			rpc->next->prev = rpc->prev;
		rpc->conn->n_rpcs--;
	}
	timer_done(&rpc->timer);
	if (rpc->request)
		protobuf_c_message_free_unpacked(rpc->request, NULL);
	free(rpc);
}

static void conn_send(struct conn *c, uint32_t stream, const Ttrpc__Response *response)
{
	outbuf_frame(&c->out, TTRPC_RESPONSE, stream, &response->base);
	task_defer(&c->server->flush);
}

static void conn_send_status(struct conn *c, uint32_t stream, enum ttrpc_code code,
	const char *message)
{
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;
	Ttrpc__Status status = TTRPC__STATUS__INIT;
	char text[sizeof(((struct error *)0)->msg)];

	snprintf(text, sizeof(text), "%s", message);
	wire_clean(text);
	status.code = code;
	status.message = text;
	response.status = &status;
	conn_send(c, stream, &response);
}

void rpc_reply(struct rpc *rpc, const ProtobufCMessage *reply)
{
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;
	uint8_t small[1024];
	_cleanup_free_ uint8_t *large = NULL;
	size_t len;

	if (rpc->conn && reply) {
		len = protobuf_c_message_get_packed_size(reply);
		if (len > sizeof(small)) {
			large = malloc(len);
			if (!large)
				abort();
		}
		response.payload.data = large ? large : small;
		response.payload.len = protobuf_c_message_pack(reply, response.payload.data);
	}
	if (rpc->conn)
		conn_send(rpc->conn, rpc->stream, &response);
	rpc_free(rpc);
}

void rpc_reply_empty(struct rpc *rpc)
{
	rpc_reply(rpc, NULL);
}

void rpc_fail(struct rpc *rpc, const struct error *err)
{
	if (rpc->conn)
		conn_send_status(rpc->conn, rpc->stream, errdefs_code(err->code), err->msg);
	rpc_free(rpc);
}

static void rpc_timed_out(void *ctx)
{
	struct rpc *rpc = ctx;

	rpc->give_up(rpc->ctx, rpc, -ETIMEDOUT);
}

void rpc_park(struct rpc *rpc, rpc_give_up_fn give_up, void *ctx)
{
	rpc->give_up = give_up;
	rpc->ctx = ctx;
	protobuf_c_message_free_unpacked(rpc->request, NULL);
	rpc->request = NULL;
	if (rpc->deadline_ms)
		timer_set(&rpc->timer, clock_left_ms(rpc->deadline_ms));
}

int rpc_left_ms(const struct rpc *rpc, int ms)
{
	int left;

	if (!rpc->deadline_ms)
		return ms;
	left = clock_left_ms(rpc->deadline_ms);
	return left < ms ? left : ms;
}

static struct rpc *rpc_new(struct conn *c, const struct rpc_method *method, uint32_t stream,
	int64_t timeout_nano)
{
	struct rpc *rpc = calloc(1, sizeof(*rpc));

	if (!rpc)
		abort();
	rpc->server = c->server;
	rpc->conn = c;
	rpc->method = method;
	rpc->stream = stream;
	if (timeout_nano > 0)
		rpc->deadline_ms = clock_ms() + timeout_nano / 1000000 + 1;
	timer_init(&rpc->timer, c->server->loop, rpc_timed_out, rpc);
	rpc->next = c->rpcs;
	rpc->prev = &c->rpcs;
	if (rpc->next)
		rpc->next->prev = &rpc->next;
	c->rpcs = rpc;
	c->n_rpcs++;
	return rpc;
}

/* From outside, bounded, every string whole. */
static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *d, const uint8_t *data,
	size_t len, size_t max)
{
	ProtobufCMessage *msg = capped_unpack(d, len, data, max);

	if (msg && !wire_strings_ok(d, data, len)) {
		protobuf_c_message_free_unpacked(msg, NULL);
		msg = NULL;
	}
	return msg;
}

static const struct rpc_method *find_method(const struct rpc_service *s, const char *name)
{
	for (size_t i = 0; i < s->n_methods; i++)
		if (strcmp(s->methods[i].name, name) == 0)
			return &s->methods[i];
	return NULL;
}

/* What is wrong with a call, before its own message is looked at: 0 or -errno. */
static int check_call(struct conn *c, const Ttrpc__Request *call, const struct rpc_method **method,
	struct error *err)
{
	const struct rpc_service *s = c->server->service;

	if (strcmp(call->service, s->name) != 0)
		return error_set(err, ENOSYS, "service %.128s is not served", call->service);
	*method = find_method(s, call->method);
	if (!*method || !(*method)->handle)
		return error_set(err, ENOSYS, "method %.128s is not served", call->method);
	if (call->payload.len > (*method)->request_max)
		return error_set(err, ENOBUFS, "%s: a request of %zu bytes, the limit is %zu",
			(*method)->name, call->payload.len, (*method)->request_max);
	if (c->n_rpcs >= TTRPC_RPCS_MAX)
		return error_set(err, ENOBUFS, "%u requests of this connection are unanswered",
			c->n_rpcs);
	return 0;
}

static void dispatch(struct conn *c, uint32_t stream, const Ttrpc__Request *call)
{
	const struct rpc_method *method = NULL;
	struct error err = ERROR_INIT;
	ProtobufCMessage *request;
	struct rpc *rpc;

	if (check_call(c, call, &method, &err) < 0) {
		conn_send_status(c, stream, errdefs_code(err.code), err.msg);
		return;
	}
	request = unpack(method->request, call->payload.data, call->payload.len,
		call->payload.len * REQUEST_FACTOR + REQUEST_EXTRA);
	if (!request) {
		error_set(&err, EINVAL, "%s: the request cannot be decoded", method->name);
		conn_send_status(c, stream, errdefs_code(err.code), err.msg);
		return;
	}
	rpc = rpc_new(c, method, stream, call->timeout_nano);
	rpc->request = request;
	method->handle(c->server->ctx, rpc);
}

static void request_frame(struct conn *c, const struct ttrpc_header *h, const uint8_t *data)
{
	Ttrpc__Request *call;

	if (h->stream % 2 != 1 || h->stream <= c->last_stream) {
		conn_send_status(c, h->stream, TTRPC_INVALID_ARGUMENT,
			"a stream id must be odd and higher than the last");
		return;
	}
	c->last_stream = h->stream;
	if (h->flags) {
		conn_send_status(c, h->stream, TTRPC_UNIMPLEMENTED, "streams are not served");
		return;
	}
	call = (Ttrpc__Request *)unpack(&ttrpc__request__descriptor, data, h->length,
		2 * (size_t)h->length + ENVELOPE_EXTRA);
	if (!call) {
		conn_send_status(c, h->stream, TTRPC_INVALID_ARGUMENT,
			"the ttRPC request cannot be decoded");
		return;
	}
	dispatch(c, h->stream, call);
	protobuf_c_message_free_unpacked(&call->base, NULL);
}

static void refused_frame(struct conn *c, const struct ttrpc_header *h, int why)
{
	char text[128];

	if (why == -EMSGSIZE)
		snprintf(text, sizeof(text), "message length %u exceeds the maximum of %u",
			h->length, TTRPC_DATA_MAX);
	else
		snprintf(text, sizeof(text), "message length %u: no buffer is free", h->length);
	conn_send_status(c, h->stream, TTRPC_RESOURCE_EXHAUSTED, text);
}

/* All complete frames, unless the client leaves too many answers unread. */
static void conn_process(struct conn *c)
{
	struct ttrpc_header h;
	const uint8_t *data;
	int r;

	while (!c->dead) {
		if (outbuf_size(&c->out) > TTRPC_OUT_HIGH) {
			c->stalled = true;
			watch_read(&c->watch, false);
			return;
		}
		r = inbuf_frame(&c->in, TTRPC_DATA_MAX, &h, &data);
		if (r == 0)
			break;
		if (r < 0)
			refused_frame(c, &h, r);
		else if (h.type == TTRPC_REQUEST)
			request_frame(c, &h, data);
		else if (h.type == TTRPC_DATA)
			conn_send_status(c, h.stream, TTRPC_INVALID_ARGUMENT,
				"data for a stream that is not open");
		/* Other types are for later versions of ttRPC: no answer. */
		timer_stop(&c->frame_timer);
	}
	if (!inbuf_partial(&c->in))
		timer_stop(&c->frame_timer);
	else if (!timer_is_set(&c->frame_timer))
		timer_set(&c->frame_timer, c->server->frame_timeout_ms);
}

static void conn_readable(void *ctx)
{
	struct conn *c = ctx;
	int n;

	if (c->dead)
		return;
	n = inbuf_fill(&c->in, c->fd);
	if (n == -EAGAIN)
		return;
	if (n <= 0) {
		conn_kill(c);
		return;
	}
	conn_process(c);
}

static void conn_flush(struct conn *c)
{
	int r;

	if (c->dead || outbuf_size(&c->out) == 0)
		return;
	r = outbuf_flush(&c->out, c->fd);
	if (r < 0 && r != -EAGAIN) {
		conn_kill(c);
		return;
	}
	if (c->blocked != (r == -EAGAIN)) {
		c->blocked = r == -EAGAIN;
		watch_write(&c->watch, c->blocked);
	}
	if (c->stalled && outbuf_size(&c->out) < TTRPC_OUT_LOW) {
		c->stalled = false;
		watch_read(&c->watch, true);
		conn_process(c);
	}
}

static void conn_writable(void *ctx)
{
	conn_flush(ctx);
}

static void conn_too_slow(void *ctx)
{
	struct conn *c = ctx;

	log_warn("a client did not complete a frame in %d ms, its connection is closed",
		c->server->frame_timeout_ms);
	conn_kill(c);
}

/* The client has gone: parked requests end now, the others when they are answered. */
static void conn_abandon(struct conn *c)
{
	struct rpc *rpc;

	while ((rpc = c->rpcs)) {
		c->rpcs = rpc->next;
		if (rpc->next)
			rpc->next->prev = &c->rpcs;
		rpc->conn = NULL;
		if (rpc->give_up)
			rpc->give_up(rpc->ctx, rpc, -ECANCELED);
	}
}

static void conn_free(struct conn *c)
{
	conn_abandon(c);
	watch_done(&c->watch);
	timer_done(&c->frame_timer);
	inbuf_done(&c->in);
	outbuf_done(&c->out);
	fd_close(&c->fd);
	c->server->n_conns--;
	free(c);
}

static void sweep(struct server *s)
{
	for (struct conn **p = &s->conns; *p;) {
		struct conn *c = *p;

		if (!c->dead) {
			p = &c->next;
			continue;
		}
		*p = c->next;
		conn_free(c);
	}
}

static void flush_all(void *ctx)
{
	struct server *s = ctx;

	for (struct conn *c = s->conns; c; c = c->next)
		if (!c->blocked)
			conn_flush(c);
	sweep(s);
}

void server_flush(struct server *s)
{
	for (struct conn *c = s->conns; c; c = c->next)
		conn_flush(c);
}

static bool is_root(int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.uid == 0;
}

static void conn_new(struct server *s, int fd_consume)
{
	struct conn *c = calloc(1, sizeof(*c));
	struct error err = ERROR_INIT;

	if (!c)
		abort();
	c->server = s;
	c->fd = fd_consume;
	if (watch_init(&c->watch, s->loop, c->fd, conn_readable, conn_writable, c, &err) < 0) {
		log_error("serve a connection: %s", err.msg);
		fd_close(&c->fd);
		free(c);
		return;
	}
	timer_init(&c->frame_timer, s->loop, conn_too_slow, c);
	c->next = s->conns;
	s->conns = c;
	s->n_conns++;
}

static void refuse_conn(struct server *s, int *fd, const char *why)
{
	/* The first, then every 1,000th: a flood of connections is no flood of lines. */
	if (s->refused++ % 1000 == 0)
		log_warn("connection refused: %s (%llu so far)", why,
			(unsigned long long)s->refused);
	fd_close(fd);
}

static void accept_ready(void *ctx)
{
	struct server *s = ctx;

	for (int i = 0; i < TTRPC_CONNECTIONS_MAX; i++) {
		_cleanup_close_ int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
			return;
		if (fd < 0) {
			/* Out of fds or memory: not again at once, the listener stays readable. */
			log_error("accept: %s", strerrordesc_np(errno));
			watch_read(&s->watch, false);
			timer_set(&s->pause, 1000);
			return;
		}
		if (!is_root(fd))
			refuse_conn(s, &fd, "the client is not root");
		else if (s->n_conns >= TTRPC_CONNECTIONS_MAX)
			refuse_conn(s, &fd, "too many connections");
		else
			conn_new(s, fd_steal(&fd));
	}
}

static void accept_again(void *ctx)
{
	struct server *s = ctx;

	watch_read(&s->watch, true);
}

int server_start(struct server *s, struct loop *loop, int fd, const struct rpc_service *service,
	void *ctx, int frame_timeout_ms, struct error *err)
{
	*s = (struct server){
		.loop = loop,
		.fd = fd,
		.service = service,
		.ctx = ctx,
		.frame_timeout_ms = frame_timeout_ms,
	};
	task_init(&s->flush, loop, flush_all, s);
	timer_init(&s->pause, loop, accept_again, s);
	return watch_init(&s->watch, loop, fd, accept_ready, NULL, s, err);
}

void server_fail_all(struct server *s, const struct error *err)
{
	for (struct conn *c = s->conns; c; c = c->next)
		for (struct rpc *rpc = c->rpcs, *next; rpc; rpc = next) {
			next = rpc->next;
			if (!rpc->give_up)
				rpc_fail(rpc, err);
		}
}

void server_done(struct server *s)
{
	watch_done(&s->watch);
	timer_done(&s->pause);
	for (struct conn *c = s->conns; c; c = c->next)
		c->dead = true;
	sweep(s);
	task_cancel(&s->flush);
}
