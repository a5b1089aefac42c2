#include "agentd/process.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/fd.h"
#include "common/log.h"

/*
 * How long an output may stand still after the process has ended. Quiet: the
 * guest has nothing to say, so somebody else holds the pipe open. Blocked:
 * there are bytes, but the FIFO's reader does not take them.
 */
#define TICK_MS	      500
#define QUIET_TICKS   4
#define BLOCKED_TICKS 20

#define STATUS_UNKNOWN 255

static void maybe_exited(struct process *p)
{
	if (!p->waited || p->told || !p->out.done || !p->err.done)
		return;
	p->told = true;
	event_del(&p->settle);
	input_done(&p->in);
	p->exited(p->ctx, p);
}

static void on_output_ended(void *ctx)
{
	maybe_exited(ctx);
}

/* Has this output stood still for too long? */
static bool stands_still(struct process *p, int i, const struct output *o)
{
	if (o->done)
		return false;
	if (o->moved != p->still[i].moved) {
		p->still[i].moved = o->moved;
		p->still[i].ticks = 0;
		return false;
	}
	return ++p->still[i].ticks >= (output_is_blocked(o) ? BLOCKED_TICKS : QUIET_TICKS);
}

static void schedule_settle(struct process *p)
{
	const struct timeval tv = { .tv_usec = TICK_MS * 1000 };

	if (!p->told)
		evtimer_add(&p->settle, &tv);
}

static void on_settle(evutil_socket_t fd, short events, void *arg)
{
	struct process *p = arg;
	bool out = stands_still(p, 0, &p->out), err = stands_still(p, 1, &p->err);

	(void)fd;
	(void)events;
	if (out)
		output_give_up(&p->out);
	if (err)
		output_give_up(&p->err);
	schedule_settle(p);
}

static int64_t realtime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void on_wait(void *ctx, ProtobufCMessage *message, const struct error *err)
{
	struct process *p = ctx;
	const Grpc__WaitProcessResponse *reply = (const Grpc__WaitProcessResponse *)message;

	p->wait = NULL;
	/* Then the VM is killed and the frontend says how its processes ended. */
	if (agent_client_lost(p->owner.agent))
		return;
	if (reply && (reply->status < 0 || reply->status > 255)) {
		struct error reason = ERROR_INIT;

		error_set(&reason, EPROTO, "an exit status of %d", reply->status);
		agent_client_lose(p->owner.agent, &reason);
		return;
	}
	if (err)
		log_warn("%s: its exit status is not known: %s", p->owner.container, err->msg);
	p->waited = true;
	p->status = reply ? (uint32_t)reply->status : STATUS_UNKNOWN;
	p->exited_at_ns = realtime_ns();
	p->still[0].moved = p->out.moved;
	p->still[1].moved = p->err.moved;
	maybe_exited(p);
	schedule_settle(p);
}

static void start_wait(struct process *p)
{
	Grpc__WaitProcessRequest request = GRPC__WAIT_PROCESS_REQUEST__INIT;
	struct error err = ERROR_INIT;

	request.container_id = (char *)p->owner.container;
	request.exec_id = (char *)p->owner.exec;
	if (agent_call(p->owner.agent, &agent_wait_process, &request.base, on_wait, p, &p->wait,
		    &err) < 0)
		log_warn("%s: its exit status will not be known: %s", p->owner.container, err.msg);
}

void process_start(struct process *p)
{
	p->state = PROCESS_STARTED;
	/* First of all, so that no exit is missed. */
	start_wait(p);
	output_start(&p->out);
	if (p->terminal)
		output_done(&p->err);
	else
		output_start(&p->err);
	input_start(&p->in);
}

void process_set_fds(struct process *p, struct process_fds *fds)
{
	bool closed = p->in.closed;

	output_init(&p->out, &p->owner, &agent_read_stdout, "stdout", fd_steal(&fds->out),
		on_output_ended, p);
	output_init(&p->err, &p->owner, &agent_read_stderr, "stderr", fd_steal(&fds->err),
		on_output_ended, p);
	input_init(&p->in, &p->owner, fd_steal(&fds->in), fd_steal(&fds->spare));
	if (closed)
		input_close(&p->in);
}

struct process *process_new(const struct stream_owner *owner, uint32_t number, bool terminal,
	struct process_fds *fds, void (*exited)(void *ctx, const struct process *p), void *ctx)
{
	struct process *p = calloc(1, sizeof(*p));

	if (!p) {
		process_fds_done(fds);
		return NULL;
	}
	*p = (struct process){
		.number = number,
		.terminal = terminal,
		.owner = *owner,
		.exited = exited,
		.ctx = ctx,
	};
	process_set_fds(p, fds);
	evtimer_assign(&p->settle, owner->base, on_settle, p);
	return p;
}

void process_free(struct process *p)
{
	if (!p)
		return;
	event_del(&p->settle);
	agent_call_cancel(&p->wait);
	output_done(&p->out);
	output_done(&p->err);
	input_done(&p->in);
	if (p->spec)
		grpc__process__free_unpacked(p->spec, NULL);
	free(p->exec_id);
	free(p);
}

int process_set_exec(struct process *p, Grpc__Process *spec_consume)
{
	char name[16];

	snprintf(name, sizeof(name), "x%u", p->number);
	p->spec = spec_consume;
	p->exec_id = strdup(name);
	if (!p->exec_id)
		return -ENOMEM;
	p->owner.exec = p->exec_id;
	return 0;
}

static void nobody_cares(void *ctx, ProtobufCMessage *reply, const struct error *err)
{
	(void)ctx;
	(void)reply;
	if (err)
		log_debug("resize: %s", err->msg);
}

int process_send_size(struct process *p, agent_reply_fn *fn, void *ctx, struct error *err)
{
	Grpc__TtyWinResizeRequest request = GRPC__TTY_WIN_RESIZE_REQUEST__INIT;

	request.container_id = (char *)p->owner.container;
	request.exec_id = (char *)p->owner.exec;
	request.row = p->size.height;
	request.column = p->size.width;
	return agent_call(p->owner.agent, &agent_tty_win_resize, &request.base,
		fn ? fn : nobody_cares, ctx, NULL, err);
}

void process_fds_done(struct process_fds *fds)
{
	fd_close(&fds->in);
	fd_close(&fds->spare);
	fd_close(&fds->out);
	fd_close(&fds->err);
}
