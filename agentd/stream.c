#include "agentd/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "common/fd.h"
#include "common/fdio.h"
#include "common/log.h"

#define OUTPUT_PIECE ((size_t)64 << 10)
#define INPUT_PIECE  ((size_t)32 << 10)

/*
 * O_NONBLOCK belongs to the open file, which mountd has made and may still have: a mountd that has
 * been taken over can take it away again. So it is looked at whenever the FIFO is used.
 */
static void set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags >= 0 && !(flags & O_NONBLOCK))
		fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/* -- stdout, stderr */

static void read_next(struct output *o);

static void output_release(struct output *o)
{
	agent_call_cancel(&o->call);
	if (o->fd >= 0)
		event_del(&o->writable);
	fd_close(&o->fd);
	free(steal(o->data));
	o->len = o->sent = 0;
}

static void output_finish(struct output *o)
{
	if (o->done)
		return;
	o->done = true;
	output_release(o);
	o->ended(o->ctx);
}

/* Moves the piece into the FIFO; when it is through, asks for the next. */
static void write_out(struct output *o)
{
	while (o->fd >= 0 && o->sent < o->len) {
		ssize_t n;

		if (!o->is_file)
			set_nonblocking(o->fd);
		n = write(o->fd, o->data + o->sent, o->len - o->sent);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN && !o->is_file) {
			event_add(&o->writable, NULL);
			return;
		}
		if (n < 0) {
			/* The process must not stand still because nobody can hear it. */
			log_warn("%s of %s: %s; the rest is thrown away", o->name,
				o->owner->container, strerrordesc_np(errno));
			fd_close(&o->fd);
			break;
		}
		o->sent += (size_t)n;
		o->moved += (uint64_t)n;
	}
	free(steal(o->data));
	o->len = o->sent = 0;
	read_next(o);
}

static void on_writable(evutil_socket_t fd, short events, void *arg)
{
	(void)fd;
	(void)events;
	write_out(arg);
}

static void on_read(void *ctx, ProtobufCMessage *message, const struct error *err)
{
	struct output *o = ctx;
	Grpc__ReadStreamResponse *reply = (Grpc__ReadStreamResponse *)message;

	o->call = NULL;
	if (err) {
		log_debug("%s of %s: %s", o->name, o->owner->container, err->msg);
		output_finish(o);
		return;
	}
	if (reply->data.len > OUTPUT_PIECE) {
		struct error reason = ERROR_INIT;

		error_set(&reason, EPROTO, "%zu bytes of %s, %zu were asked for", reply->data.len,
			o->name, OUTPUT_PIECE);
		agent_client_lose(o->owner->agent, &reason);
		output_finish(o);
		return;
	}
	if (reply->data.len == 0) {
		output_finish(o);
		return;
	}
	o->len = reply->data.len;
	o->moved += o->len;
	o->data = steal(reply->data.data);
	reply->data.len = 0;
	write_out(o);
}

static void read_next(struct output *o)
{
	Grpc__ReadStreamRequest request = GRPC__READ_STREAM_REQUEST__INIT;
	struct error err = ERROR_INIT;

	request.container_id = (char *)o->owner->container;
	request.exec_id = (char *)o->owner->exec;
	request.len = OUTPUT_PIECE;
	if (agent_call(o->owner->agent, o->method, &request.base, on_read, o, &o->call, &err) < 0) {
		log_warn("%s of %s: %s", o->name, o->owner->container, err.msg);
		output_finish(o);
	}
}

void output_init(struct output *o, const struct stream_owner *owner,
	const struct agent_method *method, const char *name, int fd_consume,
	void (*ended)(void *ctx), void *ctx)
{
	struct stat st;

	*o = (struct output){
		.owner = owner,
		.method = method,
		.name = name,
		.fd = fd_consume,
		.ended = ended,
		.ctx = ctx,
	};
	if (o->fd < 0)
		return;
	o->is_file = fd_stat(o->fd, &st) == 0 && S_ISREG(st.st_mode);
	event_assign(&o->writable, owner->base, o->fd, EV_WRITE, on_writable, o);
}

void output_start(struct output *o)
{
	if (!o->done)
		read_next(o);
}

bool output_is_blocked(const struct output *o)
{
	return o->len > o->sent;
}

void output_give_up(struct output *o)
{
	if (o->done)
		return;
	if (output_is_blocked(o))
		log_warn("%s of %s: nobody reads it; %zu bytes and what follows are thrown away",
			o->name, o->owner->container, o->len - o->sent);
	else
		log_warn("%s of %s: another process holds it open; not waiting for its end",
			o->name, o->owner->container);
	output_finish(o);
}

void output_done(struct output *o)
{
	o->done = true;
	output_release(o);
}

/* -- stdin */

static void write_next(struct input *in);

static void on_close_stdin(void *ctx, ProtobufCMessage *reply, const struct error *err)
{
	(void)ctx;
	(void)reply;
	if (err)
		log_debug("%s", err->msg);
}

/* The guest is told; the answer matters to nobody. */
static void tell_end(struct input *in)
{
	Grpc__CloseStdinRequest request = GRPC__CLOSE_STDIN_REQUEST__INIT;
	struct error err = ERROR_INIT;

	request.container_id = (char *)in->owner->container;
	request.exec_id = (char *)in->owner->exec;
	if (agent_call(in->owner->agent, &agent_close_stdin, &request.base, on_close_stdin, NULL,
		    NULL, &err) < 0)
		log_debug("stdin of %s: %s", in->owner->container, err.msg);
}

static void on_stdin(evutil_socket_t fd, short events, void *arg)
{
	static uint8_t buf[INPUT_PIECE];
	struct input *in = arg;
	ssize_t n;

	(void)fd;
	(void)events;
	set_nonblocking(in->fd);
	n = read(in->fd, buf, sizeof(buf));
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		event_add(&in->readable, NULL);
		return;
	}
	if (n > 0)
		in->data = malloc((size_t)n);
	if (n <= 0 || !in->data) {
		input_done(in);
		tell_end(in);
		return;
	}
	memcpy(in->data, buf, (size_t)n);
	in->len = (size_t)n;
	in->sent = 0;
	write_next(in);
}

static void on_written(void *ctx, ProtobufCMessage *message, const struct error *err)
{
	struct input *in = ctx;
	const Grpc__WriteStreamResponse *reply = (const Grpc__WriteStreamResponse *)message;

	in->call = NULL;
	if (err) {
		/* Most often: the process has closed its stdin. Its writers get EPIPE. */
		log_debug("stdin of %s: %s", in->owner->container, err->msg);
		input_done(in);
		return;
	}
	if (reply->len == 0 || reply->len > in->len - in->sent) {
		struct error reason = ERROR_INIT;

		error_set(&reason, EPROTO, "%u bytes of stdin taken, %zu were sent", reply->len,
			in->len - in->sent);
		agent_client_lose(in->owner->agent, &reason);
		input_done(in);
		return;
	}
	in->sent += reply->len;
	write_next(in);
}

static void write_next(struct input *in)
{
	Grpc__WriteStreamRequest request = GRPC__WRITE_STREAM_REQUEST__INIT;
	struct error err = ERROR_INIT;

	if (in->sent == in->len) {
		free(steal(in->data));
		in->len = in->sent = 0;
		event_add(&in->readable, NULL);
		return;
	}
	request.container_id = (char *)in->owner->container;
	request.exec_id = (char *)in->owner->exec;
	request.data.data = in->data + in->sent;
	request.data.len = in->len - in->sent;
	if (agent_call(in->owner->agent, &agent_write_stdin, &request.base, on_written, in,
		    &in->call, &err) < 0) {
		log_debug("stdin of %s: %s", in->owner->container, err.msg);
		input_done(in);
	}
}

void input_init(struct input *in, const struct stream_owner *owner, int fd_consume,
	int spare_consume)
{
	*in = (struct input){ .owner = owner, .fd = fd_consume, .spare = spare_consume };
	if (in->fd < 0)
		return;
	event_assign(&in->readable, owner->base, in->fd, EV_READ, on_stdin, in);
}

void input_start(struct input *in)
{
	if (in->fd >= 0)
		event_add(&in->readable, NULL);
	else
		tell_end(in);
}

void input_close(struct input *in)
{
	in->closed = true;
	fd_close(&in->spare);
}

void input_done(struct input *in)
{
	agent_call_cancel(&in->call);
	if (in->fd >= 0)
		event_del(&in->readable);
	fd_close(&in->fd);
	fd_close(&in->spare);
	free(steal(in->data));
	in->len = in->sent = 0;
}
