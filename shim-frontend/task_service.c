/*
 * containerd.task.v2.Task. What can be answered from the table is answered
 * here and now; the rest goes to create.c, delete.c, or is one question to
 * agentd. The table of methods is at the end.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
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

/* With a document in it that goes to agentd. */
#define EXEC_REQUEST_MAX (AGENTD_TEXT_MAX + LARGE)

struct container *find_container(struct frontend *fe, const char *id, struct error *err)
{
	struct container *c;

	if (id_check(id, err) < 0)
		return NULL;
	c = table_find(&fe->table, id);
	if (!c || c->init.state == PROCESS_CREATING) {
		error_set(err, ENOENT, "container %s: not found", id);
		return NULL;
	}
	return c;
}

struct process *find_process(struct frontend *fe, const char *id, const char *exec_id,
	struct error *err)
{
	struct container *c = find_container(fe, id, err);
	struct process *p;

	if (!c)
		return NULL;
	p = exec_id[0] ? container_find_exec(c, exec_id) : &c->init;
	if (!p || p->state == PROCESS_CREATING) {
		error_set(err, ENOENT, "container %s: no process %.80s: not found", id, exec_id);
		return NULL;
	}
	return p;
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
	struct process *p = find_process(fe, r->id, r->exec_id, &err);

	if (!p) {
		rpc_fail(rpc, &err);
		return;
	}
	reply.id = p->container->id;
	reply.bundle = p->container->bundle;
	reply.pid = fe->settings.task_pid;
	reply.status = process_status(p);
	reply.stdin = p->stdin_path;
	reply.stdout = p->stdout_path;
	reply.stderr = p->stderr_path;
	reply.terminal = p->terminal;
	reply.exec_id = p->exec_id;
	if (p->exit.told) {
		exit_time(&p->exit, &at);
		reply.exit_status = p->exit.status;
		reply.exited_at = &at;
	}
	rpc_reply(rpc, &reply.base);
}

static void handle_wait(void *ctx, struct rpc *rpc)
{
	const Containerd__WaitRequest *r = (Containerd__WaitRequest *)rpc->request;
	struct error err = ERROR_INIT;
	struct process *p = find_process(ctx, r->id, r->exec_id, &err);

	if (!p) {
		rpc_fail(rpc, &err);
		return;
	}
	process_wait(p, rpc);
	if (p->exit.told)
		process_answer_waiters(p);
}

static void handle_connect(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	const Containerd__ConnectRequest *r = (Containerd__ConnectRequest *)rpc->request;
	Containerd__ConnectResponse reply = CONTAINERD__CONNECT_RESPONSE__INIT;
	struct error err = ERROR_INIT;

	if (!find_container(fe, r->id, &err)) {
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

static struct pending *pending_new(struct frontend *fe, struct rpc *rpc, const struct process *of)
{
	struct pending *p = calloc(1, sizeof(*p));

	if (!p)
		abort();
	p->fe = fe;
	p->rpc = rpc;
	p->process = of->number;
	return p;
}

static void publish_start(struct frontend *fe, struct process *p)
{
	Containerd__TaskStart event = CONTAINERD__TASK_START__INIT;

	event.container_id = p->container->id;
	event.pid = fe->settings.task_pid;
	events_publish(&fe->events, "/tasks/start", "containerd.events.TaskStart", &event.base);
}

static void start_answered(void *ctx, const ProtobufCMessage *answer, struct fdlist *fds,
	const struct error *err)
{
	struct pending *p = ctx;
	/* Nothing removes an init that is STARTING. */
	struct process *of = table_find_process(&p->fe->table, p->process);
	Containerd__StartResponse reply = CONTAINERD__START_RESPONSE__INIT;
	struct error said = ERROR_INIT;

	(void)answer;
	(void)fds;
	if (err) {
		said = *err;
		errdefs_foreign(&said);
		error_wrap(&said, "start %s", process_name(of));
		log_error("%s", said.msg);
		process_set_state(of, PROCESS_CREATED);
		rpc_fail(p->rpc, &said);
	} else {
		process_set_state(of, PROCESS_RUNNING);
		publish_start(p->fe, of);
		reply.pid = p->fe->settings.task_pid;
		rpc_reply(p->rpc, &reply.base);
	}
	exit_released(p->fe, of);
	free(p);
}

static void start_in_guest(void *ctx, const struct error *err)
{
	struct pending *p = ctx;
	Ipc__AgentdStart request = IPC__AGENTD_START__INIT;
	struct error failure = ERROR_INIT;

	if (err) {
		start_answered(p, NULL, NULL, err);
		return;
	}
	request.index = table_find_process(&p->fe->table, p->process)->container->index;
	if (call_start(&p->fe->agentd, AGENTD_START, &request.base,
		    rpc_left_ms(p->rpc, frontend_ms(p->fe, START_MS)), start_answered, p,
		    &failure) < 0)
		start_answered(p, NULL, NULL, &failure);
}

/* An exec needs a container that takes it, an init the network of its pod. */
static int check_start(const struct frontend *fe, const struct process *of, struct error *err)
{
	const struct container *c = of->container;

	if (of->state != PROCESS_CREATED || of->exit.seen)
		return error_set(err, EBUSY, "start %s: it is not in state created",
			process_name(of));
	if (process_is_init(of) && fe->network.failed.code) {
		*err = fe->network.failed;
		return error_wrap(err, "start %s", process_name(of));
	}
	if (process_is_init(of))
		return 0;
	if (c->init.exit.seen || c->init.state >= PROCESS_STOPPED)
		return error_set(err, EBUSY, "start %s: the container is stopped", process_name(of));
	if (c->pause != CONTAINER_NOT_PAUSED)
		return error_set(err, EBUSY, "start %s: the container is paused", process_name(of));
	return 0;
}

static void handle_start(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	const Containerd__StartRequest *r = (Containerd__StartRequest *)rpc->request;
	struct error err = ERROR_INIT;
	struct process *of = find_process(fe, r->id, r->exec_id, &err);
	struct pending *p;

	if (!of || check_start(fe, of, &err) < 0) {
		rpc_fail(rpc, &err);
		return;
	}
	if (!process_is_init(of)) {
		exec_run(fe, rpc, of);
		return;
	}
	p = pending_new(fe, rpc, of);
	process_set_state(of, PROCESS_STARTING);
	if (fe->network.may_come)
		late_links_start(fe, rpc, start_in_guest, p);
	else
		start_in_guest(p, NULL);
}

static void handle_exec(void *ctx, struct rpc *rpc)
{
	struct error err = ERROR_INIT;
	struct container *c =
		find_container(ctx, ((Containerd__ExecProcessRequest *)rpc->request)->id, &err);

	if (c)
		exec_start(ctx, rpc, c);
	else
		rpc_fail(rpc, &err);
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
static bool gives_up_guest(const struct pending *p, const struct process *of)
{
	return p->signal == SIGKILL || (process_is_init(of) &&
		strcmp(of->container->id, p->fe->settings.id) == 0);
}

static void signal_failed(struct pending *p, struct process *of, const struct error *err)
{
	struct error said = *err;

	if (is_silence(err) && gives_up_guest(p, of)) {
		vm_kill(p->fe, "the guest did not take a signal");
		vm_wait_dead(p->fe, &p->vm_waiter, vm_is_dead, p);
		return;
	}
	if (errdefs_code(err->code) == TTRPC_NOT_FOUND)
		error_set(&said, ESRCH, "process already finished");
	error_wrap(&said, "kill %s", process_name(of));
	rpc_fail(p->rpc, &said);
	free(p);
}

static void signal_answered(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct pending *p = ctx;
	struct process *of = table_find_process(&p->fe->table, p->process);

	(void)reply;
	(void)fds;
	/* What was to be reached is, whoever reached it. */
	if (err && of && !of->exit.seen) {
		signal_failed(p, of, err);
		return;
	}
	rpc_reply_empty(p->rpc);
	/* The guest tells the exit of what it has started; this one never was. */
	if (!err && of && process_is_init(of) && of->state == PROCESS_CREATED &&
		p->signal == SIGKILL)
		exit_seen(p->fe, of, 128 + SIGKILL, 0);
	free(p);
}

static int check_kill(const struct process *of, uint32_t signal, bool all, struct error *err)
{
	if (signal < 1 || signal > 64)
		return error_set(err, EINVAL, "kill %s: %u is no signal", process_name(of), signal);
	/* In a pod that shares its PID namespace others may outlive the init. */
	if (of->exit.seen && !all)
		return error_set(err, ESRCH, "kill %s: process already finished", process_name(of));
	if (!process_is_init(of) && of->state != PROCESS_RUNNING)
		return error_set(err, EBUSY, "kill %s: it is not started", process_name(of));
	return 0;
}

static void handle_kill(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	const Containerd__KillRequest *r = (Containerd__KillRequest *)rpc->request;
	Ipc__AgentdSignal request = IPC__AGENTD_SIGNAL__INIT;
	struct error err = ERROR_INIT;
	struct process *of = find_process(fe, r->id, r->exec_id, &err);
	bool all = r->all && of && process_is_init(of);
	struct pending *p;

	if (!of || check_kill(of, r->signal, all, &err) < 0) {
		rpc_fail(rpc, &err);
		return;
	}
	p = pending_new(fe, rpc, of);
	p->signal = r->signal;
	request.index = of->container->index;
	request.process = of->number;
	request.signal = r->signal;
	request.all = all;
	if (call_start(&fe->agentd, AGENTD_SIGNAL, &request.base, frontend_ms(fe, SIGNAL_MS),
		    signal_answered, p, &err) < 0)
		signal_answered(p, NULL, NULL, &err);
}

static void close_answered(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct pending *p = ctx;
	struct process *of = table_find_process(&p->fe->table, p->process);
	struct error said = ERROR_INIT;

	(void)reply;
	(void)fds;
	/* The stdin of what has ended is closed. */
	if (!err || !of || of->exit.seen) {
		rpc_reply_empty(p->rpc);
	} else {
		said = *err;
		errdefs_foreign(&said);
		error_wrap(&said, "close stdin of %s", process_name(of));
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
	struct process *of = find_process(fe, r->id, r->exec_id, &err);
	struct pending *p;

	if (!of) {
		rpc_fail(rpc, &err);
		return;
	}
	if (!r->stdin || !of->stdin_path[0] || of->exit.seen) {
		rpc_reply_empty(rpc);
		return;
	}
	p = pending_new(fe, rpc, of);
	request.index = of->container->index;
	request.process = of->number;
	if (call_start(&fe->agentd, AGENTD_CLOSE_STDIN, &request.base,
		    rpc_left_ms(rpc, frontend_ms(fe, CLOSE_MS)), close_answered, p, &err) < 0)
		close_answered(p, NULL, NULL, &err);
}

static void handle_delete(void *ctx, struct rpc *rpc)
{
	const Containerd__DeleteRequest *r = (Containerd__DeleteRequest *)rpc->request;
	struct error err = ERROR_INIT;
	struct process *p = find_process(ctx, r->id, r->exec_id, &err);
	bool may = p &&
		(p->state == PROCESS_STOPPED || (p->state == PROCESS_CREATED && !p->exit.seen));

	if (may && process_is_init(p)) {
		delete_start(ctx, rpc, p->container);
		return;
	}
	if (may) {
		exec_delete(ctx, rpc, p);
		return;
	}
	if (p)
		error_set(&err, EBUSY, "delete %s: it is not stopped", process_name(p));
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
	METHOD(Exec, exec_process_request, handle_exec, EXEC_REQUEST_MAX),
	METHOD(ResizePty, resize_pty_request, handle_resize, SMALL),
	METHOD(Pause, pause_request, handle_pause, SMALL),
	METHOD(Resume, resume_request, handle_resume, SMALL),
	METHOD(Update, update_task_request, handle_update, EXEC_REQUEST_MAX),
	METHOD(Stats, stats_request, handle_stats, SMALL),
	{ .name = "Checkpoint" },
};

const struct rpc_service task_service = {
	.name = "containerd.task.v2.Task",
	.methods = methods,
	.n_methods = ARRAY_SIZE(methods),
};
