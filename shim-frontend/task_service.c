/*
 * containerd.task.v2.Task. What can be answered from the table is answered
 * here and now; the rest goes to create.c, delete.c, or is one question to
 * agentd. The table of methods is at the end.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "ipc/agentd.pb-c.h"
#include "shim-frontend/errdefs.h"
#include "shim-frontend/frontend.h"
#include "shim-frontend/proto/events.pb-c.h"

#define START_MS  60000
#define SIGNAL_MS 3000
#define CLOSE_MS  3000

#define SMALL     4096
#define LARGE     (256U << 10)

/* A container that exists for everybody, and its init: there are no other processes yet. */
static struct container *find(struct frontend *fe, const char *id, const char *exec_id,
	struct error *err)
{
	struct container *c;

	if (id_check(id, err) < 0)
		return NULL;
	c = table_find(&fe->table, id);
	if (!c || c->state == CONTAINER_CREATING) {
		error_set(err, ENOENT, "container %s: not found", id);
		return NULL;
	}
	if (exec_id[0]) {
		error_set(err, ENOENT, "container %s: no process %.80s: not found", id, exec_id);
		return NULL;
	}
	return c;
}

static void handle_create(void *ctx, struct rpc *rpc)
{
	create_start(ctx, rpc);
}

static void handle_state(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	const Containerd__StateRequest *r = (Containerd__StateRequest *)rpc->request;
	Containerd__StateResponse reply = CONTAINERD__STATE_RESPONSE__INIT;
	Containerd__Timestamp at;
	struct error err = ERROR_INIT;
	struct container *c = find(fe, r->id, r->exec_id, &err);

	if (!c) {
		rpc_fail(rpc, &err);
		return;
	}
	reply.id = c->id;
	reply.bundle = c->bundle;
	reply.pid = fe->settings.task_pid;
	reply.status = container_status(c);
	reply.stdin = c->stdin_path;
	reply.stdout = c->stdout_path;
	reply.stderr = c->stderr_path;
	reply.terminal = c->terminal;
	if (c->exit.told) {
		exit_time(&c->exit, &at);
		reply.exit_status = c->exit.status;
		reply.exited_at = &at;
	}
	rpc_reply(rpc, &reply.base);
}

static void handle_wait(void *ctx, struct rpc *rpc)
{
	const Containerd__WaitRequest *r = (Containerd__WaitRequest *)rpc->request;
	struct error err = ERROR_INIT;
	struct container *c = find(ctx, r->id, r->exec_id, &err);

	if (!c) {
		rpc_fail(rpc, &err);
		return;
	}
	container_wait(c, rpc);
	if (c->exit.told)
		container_answer_waiters(c);
}

static void handle_pids(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	const Containerd__PidsRequest *r = (Containerd__PidsRequest *)rpc->request;
	Containerd__PidsResponse reply = CONTAINERD__PIDS_RESPONSE__INIT;
	Containerd__ProcessInfo info = CONTAINERD__PROCESS_INFO__INIT, *list[] = { &info };
	struct error err = ERROR_INIT;

	if (!find(fe, r->id, "", &err)) {
		rpc_fail(rpc, &err);
		return;
	}
	/* Also of a stopped one: containerd 1.7 takes an empty list for a leaked shim. */
	info.pid = fe->settings.task_pid;
	reply.n_processes = 1;
	reply.processes = list;
	rpc_reply(rpc, &reply.base);
}

static void handle_connect(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	const Containerd__ConnectRequest *r = (Containerd__ConnectRequest *)rpc->request;
	Containerd__ConnectResponse reply = CONTAINERD__CONNECT_RESPONSE__INIT;
	struct error err = ERROR_INIT;

	if (!find(fe, r->id, "", &err)) {
		rpc_fail(rpc, &err);
		return;
	}
	reply.shim_pid = fe->settings.task_pid;
	reply.task_pid = fe->settings.task_pid;
	reply.version = (char *)BULKHEAD_VERSION;
	rpc_reply(rpc, &reply.base);
}

/* An rpc that waits for agentd, about a process that may be gone when the answer comes. */
struct pending {
	struct frontend *fe;
	struct rpc *rpc;
	uint32_t process;
	uint32_t signal;
	struct vm_waiter vm_waiter;
};

static struct pending *pending_new(struct frontend *fe, struct rpc *rpc, const struct container *c)
{
	struct pending *p = calloc(1, sizeof(*p));

	if (!p)
		abort();
	p->fe = fe;
	p->rpc = rpc;
	p->process = c->process;
	return p;
}

static void publish_start(struct frontend *fe, struct container *c)
{
	Containerd__TaskStart event = CONTAINERD__TASK_START__INIT;

	event.container_id = c->id;
	event.pid = fe->settings.task_pid;
	events_publish(&fe->events, "/tasks/start", "containerd.events.TaskStart", &event.base);
}

static void start_answered(void *ctx, const ProtobufCMessage *answer, struct fdlist *fds,
	const struct error *err)
{
	struct pending *p = ctx;
	/* Nothing removes a container that is STARTING. */
	struct container *c = table_find_process(&p->fe->table, p->process);
	Containerd__StartResponse reply = CONTAINERD__START_RESPONSE__INIT;
	struct error said = ERROR_INIT;

	(void)answer;
	(void)fds;
	if (err) {
		said = *err;
		errdefs_foreign(&said);
		error_wrap(&said, "start %s", c->id);
		log_error("%s", said.msg);
		container_set_state(c, CONTAINER_CREATED);
		rpc_fail(p->rpc, &said);
	} else {
		container_set_state(c, CONTAINER_RUNNING);
		publish_start(p->fe, c);
		reply.pid = p->fe->settings.task_pid;
		rpc_reply(p->rpc, &reply.base);
	}
	exit_released(p->fe, c);
	free(p);
}

static void handle_start(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	const Containerd__StartRequest *r = (Containerd__StartRequest *)rpc->request;
	Ipc__AgentdStart request = IPC__AGENTD_START__INIT;
	struct error err = ERROR_INIT;
	struct container *c = find(fe, r->id, r->exec_id, &err);
	struct pending *p;

	if (c && (c->state != CONTAINER_CREATED || c->exit.seen)) {
		error_set(&err, EBUSY, "start %s: it is not in state created", c->id);
		c = NULL;
	}
	if (!c) {
		rpc_fail(rpc, &err);
		return;
	}
	p = pending_new(fe, rpc, c);
	request.index = c->index;
	container_set_state(c, CONTAINER_STARTING);
	if (call_start(&fe->agentd, AGENTD_START, &request.base,
		    rpc_left_ms(rpc, frontend_ms(fe, START_MS)), start_answered, p, &err) < 0)
		start_answered(p, NULL, NULL, &err);
}

static void vm_is_dead(void *ctx)
{
	struct pending *p = ctx;

	rpc_reply_empty(p->rpc);
	free(p);
}

/* Neither yes nor no: the guest, or the way to it, is silent. */
static bool is_silence(const struct error *err)
{
	switch (errdefs_code(err->code)) {
	case TTRPC_DEADLINE_EXCEEDED:
	case TTRPC_UNAVAILABLE:
		return true;
	default:
		return false;
	}
}

/*
 * A guest that does not answer is given up for SIGKILL, and for any signal to
 * the container that stands for the sandbox: the VM goes, and everybody in it.
 */
static bool gives_up_guest(const struct pending *p, const struct container *c)
{
	return p->signal == SIGKILL || strcmp(c->id, p->fe->settings.id) == 0;
}

static void signal_failed(struct pending *p, struct container *c, const struct error *err)
{
	struct error said = *err;

	if (is_silence(err) && gives_up_guest(p, c)) {
		vm_kill(p->fe, "the guest did not take a signal");
		vm_wait_dead(p->fe, &p->vm_waiter, vm_is_dead, p);
		return;
	}
	if (errdefs_code(err->code) == TTRPC_NOT_FOUND)
		error_set(&said, ESRCH, "process already finished");
	error_wrap(&said, "kill %s", c->id);
	rpc_fail(p->rpc, &said);
	free(p);
}

static void signal_answered(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct pending *p = ctx;
	struct container *c = table_find_process(&p->fe->table, p->process);

	(void)reply;
	(void)fds;
	/* What was to be reached is, whoever reached it. */
	if (err && c && !c->exit.seen) {
		signal_failed(p, c, err);
		return;
	}
	rpc_reply_empty(p->rpc);
	/* The guest tells the exit of what it has started; this one never was. */
	if (!err && c && c->state == CONTAINER_CREATED && p->signal == SIGKILL)
		exit_seen(p->fe, c, 128 + SIGKILL, 0);
	free(p);
}

static void handle_kill(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	const Containerd__KillRequest *r = (Containerd__KillRequest *)rpc->request;
	Ipc__AgentdSignal request = IPC__AGENTD_SIGNAL__INIT;
	struct error err = ERROR_INIT;
	struct container *c = find(fe, r->id, r->exec_id, &err);
	struct pending *p;

	if (c && (r->signal < 1 || r->signal > 64)) {
		error_set(&err, EINVAL, "kill %s: %u is no signal", c->id, r->signal);
		c = NULL;
	}
	if (c && c->exit.seen) {
		error_set(&err, ESRCH, "kill %s: process already finished", c->id);
		c = NULL;
	}
	if (!c) {
		rpc_fail(rpc, &err);
		return;
	}
	p = pending_new(fe, rpc, c);
	p->signal = r->signal;
	request.index = c->index;
	request.process = c->process;
	request.signal = r->signal;
	request.all = r->all;
	if (call_start(&fe->agentd, AGENTD_SIGNAL, &request.base, frontend_ms(fe, SIGNAL_MS),
		    signal_answered, p, &err) < 0)
		signal_answered(p, NULL, NULL, &err);
}

static void close_answered(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct pending *p = ctx;
	struct container *c = table_find_process(&p->fe->table, p->process);
	struct error said = ERROR_INIT;

	(void)reply;
	(void)fds;
	/* The stdin of what has ended is closed. */
	if (!err || !c || c->exit.seen) {
		rpc_reply_empty(p->rpc);
	} else {
		said = *err;
		errdefs_foreign(&said);
		error_wrap(&said, "close stdin of %s", c->id);
		rpc_fail(p->rpc, &said);
	}
	free(p);
}

static void handle_close_io(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	const Containerd__CloseIORequest *r = (Containerd__CloseIORequest *)rpc->request;
	Ipc__AgentdCloseStdin request = IPC__AGENTD_CLOSE_STDIN__INIT;
	struct error err = ERROR_INIT;
	struct container *c = find(fe, r->id, r->exec_id, &err);
	struct pending *p;

	if (!c) {
		rpc_fail(rpc, &err);
		return;
	}
	if (!r->stdin || !c->stdin_path[0] || c->exit.seen) {
		rpc_reply_empty(rpc);
		return;
	}
	p = pending_new(fe, rpc, c);
	request.index = c->index;
	request.process = c->process;
	if (call_start(&fe->agentd, AGENTD_CLOSE_STDIN, &request.base,
		    rpc_left_ms(rpc, frontend_ms(fe, CLOSE_MS)), close_answered, p, &err) < 0)
		close_answered(p, NULL, NULL, &err);
}

static void handle_delete(void *ctx, struct rpc *rpc)
{
	const Containerd__DeleteRequest *r = (Containerd__DeleteRequest *)rpc->request;
	struct error err = ERROR_INIT;
	struct container *c = find(ctx, r->id, r->exec_id, &err);
	bool may = c &&
		(c->state == CONTAINER_STOPPED || (c->state == CONTAINER_CREATED && !c->exit.seen));

	if (may) {
		delete_start(ctx, rpc, c);
		return;
	}
	if (c)
		error_set(&err, EBUSY, "delete %s: it is not stopped", c->id);
	rpc_fail(rpc, &err);
}

static bool is_empty(const struct table *t)
{
	for (const struct container *c = t->first; c; c = c->next)
		if (!c->gone)
			return false;
	return true;
}

static void handle_shutdown(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	const Containerd__ShutdownRequest *r = (Containerd__ShutdownRequest *)rpc->request;
	bool now = r->now;

	rpc_reply_empty(rpc);
	if (now || is_empty(&fe->table))
		shutdown_start(fe);
}

#define METHOD(name, message, handler, max)                               \
	{                                                                 \
#name, &containerd__##message##__descriptor, handler, max \
	}

static const struct rpc_method methods[] = {
	METHOD(State, state_request, handle_state, SMALL),
	METHOD(Wait, wait_request, handle_wait, SMALL),
	METHOD(Kill, kill_request, handle_kill, SMALL),
	METHOD(Start, start_request, handle_start, SMALL),
	METHOD(Create, create_task_request, handle_create, LARGE),
	METHOD(Delete, delete_request, handle_delete, SMALL),
	METHOD(Pids, pids_request, handle_pids, SMALL),
	METHOD(Connect, connect_request, handle_connect, SMALL),
	METHOD(CloseIO, close_iorequest, handle_close_io, SMALL),
	METHOD(Shutdown, shutdown_request, handle_shutdown, SMALL),
	{ .name = "Pause" },
	{ .name = "Resume" },
	{ .name = "Checkpoint" },
	{ .name = "Exec" },
	{ .name = "ResizePty" },
	{ .name = "Update" },
	{ .name = "Stats" },
};

const struct rpc_service task_service = {
	.name = "containerd.task.v2.Task",
	.methods = methods,
	.n_methods = ARRAY_SIZE(methods),
};
