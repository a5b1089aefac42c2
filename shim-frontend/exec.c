/*
 * Exec: a further process of a container. Its spec is looked at when it is
 * added, so that what is wrong with it is said then. Its streams are opened and
 * the guest hears of it when it is started: not before, because ctr is ready to
 * tell of the end of its input only when Exec has been answered. Every step
 * looks the process up again: its container may have been deleted meanwhile.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/mountd.pb-c.h"
#include "shim-frontend/errdefs.h"
#include "shim-frontend/flow.h"
#include "shim-frontend/frontend.h"
#include "shim-frontend/proto/events.pb-c.h"

#define STDIO_MS 5000
#define EXEC_MS  5000
#define UNDO_MS  5000
#define START_MS 60000

/* How an exec ended that could not be started. */
#define STATUS_NOT_STARTED 255

struct exec_flow {
	struct flow flow; /* first */
	struct frontend *fe;
	struct rpc *rpc;
	uint32_t index, process;
};

static struct process *process_of(struct flow *f)
{
	struct exec_flow *ef = (struct exec_flow *)f;
	struct process *p = table_find_process(&ef->fe->table, ef->process);

	if (!p && !f->err.code)
		error_set(&f->err, EBUSY, "the container has been deleted");
	return p;
}

static enum step_result step_begin(struct flow *f)
{
	(void)f;
	return STEP_DONE;
}

static int remove_exec(struct frontend *fe, uint32_t index, uint32_t process, call_fn fn, void *ctx,
	struct error *err)
{
	Ipc__AgentdRemoveExec request = IPC__AGENTD_REMOVE_EXEC__INIT;

	request.index = index;
	request.process = process;
	return call_start(&fe->agentd, AGENTD_REMOVE_EXEC, &request.base, frontend_ms(fe, UNDO_MS),
		fn, ctx, err);
}

static void undone(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	(void)reply;
	(void)fds;
	flow_resume(ctx, err);
}

/* What agentd has of it: streams, text, the process itself. */
static enum step_result undo_begin(struct flow *f)
{
	struct exec_flow *ef = (struct exec_flow *)f;
	struct error err = ERROR_INIT;

	if (remove_exec(ef->fe, ef->index, ef->process, undone, f, &err) == 0)
		return STEP_WAIT;
	log_warn("%s", err.msg);
	return STEP_DONE;
}

static enum step_result step_stdio(struct flow *f)
{
	struct exec_flow *ef = (struct exec_flow *)f;
	const struct process *p = process_of(f);
	Ipc__MountdOpenStdio request = IPC__MOUNTD_OPEN_STDIO__INIT;

	if (!p)
		return STEP_FAIL;
	if (!p->stdin_path[0] && !p->stdout_path[0] && !p->stderr_path[0])
		return STEP_DONE;
	request.process = p->number;
	request.stdin = p->stdin_path;
	request.stdout = p->stdout_path;
	request.stderr = p->stderr_path;
	return flow_call(f, &ef->fe->mountd, MOUNTD_OPEN_STDIO, &request.base,
		rpc_left_ms(ef->rpc, frontend_ms(ef->fe, STDIO_MS)), NULL);
}

int agentd_send_text(struct frontend *fe, uint32_t number, const Containerd__Any *any, int ms,
	struct error *err)
{
	size_t len = any ? any->value.len : 0, at = 0;

	if (len == 0)
		return error_set(err, EINVAL, "it is empty");
	if (len > AGENTD_TEXT_MAX)
		return error_set(err, E2BIG, "%zu bytes, the limit is %zu", len, AGENTD_TEXT_MAX);
	while (at < len) {
		Ipc__AgentdText request = IPC__AGENTD_TEXT__INIT;
		size_t part = len - at < AGENTD_TEXT_PART ? len - at : AGENTD_TEXT_PART;
		int r;

		request.number = number;
		request.data.data = any->value.data + at;
		request.data.len = part;
		/* One that fails is missed by the request that follows, which fails too. */
		r = call_start(&fe->agentd, AGENTD_TEXT, &request.base, ms, NULL, NULL, err);
		if (r < 0)
			return r;
		at += part;
	}
	return 0;
}

static enum step_result step_exec(struct flow *f)
{
	struct exec_flow *ef = (struct exec_flow *)f;
	const struct process *p = process_of(f);
	const Containerd__ExecProcessRequest *r = (Containerd__ExecProcessRequest *)ef->rpc->request;
	Ipc__AgentdExec request = IPC__AGENTD_EXEC__INIT;
	int ms = rpc_left_ms(ef->rpc, frontend_ms(ef->fe, EXEC_MS));

	if (!p || agentd_send_text(ef->fe, p->number, r->spec, ms, &f->err) < 0)
		return STEP_FAIL;
	request.index = ef->index;
	request.process = p->number;
	request.terminal = p->terminal;
	return flow_call(f, &ef->fe->agentd, AGENTD_EXEC, &request.base, ms, NULL);
}

static const struct flow_step add_steps[] = {
	{ "begin", step_begin, undo_begin },
	{ "hand over its process", step_exec, NULL },
};

static enum step_result step_run(struct flow *f)
{
	struct exec_flow *ef = (struct exec_flow *)f;
	const struct process *p = process_of(f);
	Ipc__AgentdStartExec request = IPC__AGENTD_START_EXEC__INIT;

	if (!p)
		return STEP_FAIL;
	request.index = ef->index;
	request.process = p->number;
	request.stdin = p->stdin_path[0] != '\0';
	request.stdout = p->stdout_path[0] != '\0';
	request.stderr = p->stderr_path[0] != '\0';
	return flow_call(f, &ef->fe->agentd, AGENTD_START_EXEC, &request.base,
		rpc_left_ms(ef->rpc, frontend_ms(ef->fe, START_MS)), NULL);
}

static const struct flow_step start_steps[] = {
	{ "begin", step_begin, undo_begin },
	{ "open stdio", step_stdio, NULL },
	{ "start it in the guest", step_run, NULL },
};

static void added(struct frontend *fe, struct process *p)
{
	Containerd__TaskExecAdded event = CONTAINERD__TASK_EXEC_ADDED__INIT;

	process_set_state(p, PROCESS_CREATED);
	event.container_id = p->container->id;
	event.exec_id = p->exec_id;
	events_publish(&fe->events, "/tasks/exec-added", "containerd.events.TaskExecAdded",
		&event.base);
}

static void add_finished(struct flow *f)
{
	struct exec_flow *ef = (struct exec_flow *)f;
	const Containerd__ExecProcessRequest *r = (Containerd__ExecProcessRequest *)ef->rpc->request;
	struct process *p = process_of(f);

	if (!f->err.code) {
		added(ef->fe, p);
		rpc_reply_empty(ef->rpc);
	} else {
		errdefs_foreign(&f->err);
		error_wrap(&f->err, "exec %.80s in %.80s", r->exec_id, r->id);
		log_warn("%s", f->err.msg);
		rpc_fail(ef->rpc, &f->err);
		if (p)
			exec_free(p);
	}
	free(ef);
}

static int check(struct frontend *fe, struct container *c, const Containerd__ExecProcessRequest *r,
	struct error *err)
{
	if (id_check(r->exec_id, err) < 0)
		return -err->code;
	if (container_find_exec(c, r->exec_id))
		return error_set(err, EEXIST, "it exists already");
	if (c->n_execs >= EXECS_MAX)
		return error_set(err, ENOSPC, "the container has %d others", EXECS_MAX);
	if ((c->init.state != PROCESS_CREATED && c->init.state != PROCESS_RUNNING) ||
		c->init.exit.seen || c->pause != CONTAINER_NOT_PAUSED)
		return error_set(err, EBUSY, "the container is %s",
			c->init.exit.seen			       ? "stopped" :
				c->pause != CONTAINER_NOT_PAUSED ? "paused" :
								   "not running");
	if (fe->vm.state != VM_UP)
		return error_set(err, EHOSTDOWN, "the VM is gone: %.400s", fe->vm.text);
	return 0;
}

void exec_start(struct frontend *fe, struct rpc *rpc, struct container *c)
{
	const Containerd__ExecProcessRequest *r = (Containerd__ExecProcessRequest *)rpc->request;
	struct error err = ERROR_INIT;
	struct exec_flow *ef;

	if (check(fe, c, r, &err) < 0) {
		error_wrap(&err, "exec %.80s in %s", r->exec_id, c->id);
		rpc_fail(rpc, &err);
		return;
	}
	ef = calloc(1, sizeof(*ef));
	if (!ef)
		abort();
	ef->fe = fe;
	ef->rpc = rpc;
	ef->index = c->index;
	ef->process = exec_new(&fe->table, c, r)->number;
	flow_start(&ef->flow, fe->loop, add_steps, ARRAY_SIZE(add_steps), add_finished);
}

static void started(struct frontend *fe, struct process *p, struct rpc *rpc)
{
	Containerd__TaskExecStarted event = CONTAINERD__TASK_EXEC_STARTED__INIT;
	Containerd__StartResponse reply = CONTAINERD__START_RESPONSE__INIT;

	process_set_state(p, PROCESS_RUNNING);
	event.container_id = p->container->id;
	event.exec_id = p->exec_id;
	event.pid = fe->settings.task_pid;
	events_publish(&fe->events, "/tasks/exec-started", "containerd.events.TaskExecStarted",
		&event.base);
	reply.pid = fe->settings.task_pid;
	rpc_reply(rpc, &reply.base);
	exit_released(fe, p);
}

/* Nothing of it ran, so nobody is told of an exit but who waits for one. */
static void not_started(struct process *p)
{
	process_set_state(p, PROCESS_STOPPED);
	p->exit.seen = p->exit.told = true;
	p->exit.status = STATUS_NOT_STARTED;
	p->exit.at_ns = realtime_ns();
	process_answer_waiters(p);
}

static void start_finished(struct flow *f)
{
	struct exec_flow *ef = (struct exec_flow *)f;
	struct process *p = process_of(f);

	if (!f->err.code) {
		started(ef->fe, p, ef->rpc);
	} else {
		errdefs_foreign(&f->err);
		error_wrap(&f->err, "start %s", p ? process_name(p) : "an exec");
		log_warn("%s", f->err.msg);
		if (p)
			not_started(p);
		rpc_fail(ef->rpc, &f->err);
	}
	free(ef);
}

void exec_run(struct frontend *fe, struct rpc *rpc, struct process *p)
{
	struct exec_flow *ef = calloc(1, sizeof(*ef));

	if (!ef)
		abort();
	ef->fe = fe;
	ef->rpc = rpc;
	ef->index = p->container->index;
	ef->process = p->number;
	process_set_state(p, PROCESS_STARTING);
	flow_start(&ef->flow, fe->loop, start_steps, ARRAY_SIZE(start_steps), start_finished);
}

/* One that never ran ends here, as an init does that is deleted before its start. */
static void end_waiters(struct process *p)
{
	if (!p->exit.seen) {
		p->exit.status = 137;
		p->exit.at_ns = realtime_ns();
	}
	process_answer_waiters(p);
}

void exec_delete(struct frontend *fe, struct rpc *rpc, struct process *p)
{
	Containerd__DeleteResponse reply = CONTAINERD__DELETE_RESPONSE__INIT;
	struct error err = ERROR_INIT;
	Containerd__Timestamp at;

	end_waiters(p);
	exit_time(&p->exit, &at);
	reply.pid = fe->settings.task_pid;
	reply.exit_status = p->exit.status;
	reply.exited_at = &at;
	rpc_reply(rpc, &reply.base);
	if (fe->vm.state == VM_UP &&
		remove_exec(fe, p->container->index, p->number, NULL, NULL, &err) < 0)
		log_warn("delete %s: %s", process_name(p), err.msg);
	exec_free(p);
}

void exec_delete_all(struct frontend *fe, struct container *c)
{
	exit_execs(fe, c);
	while (c->execs) {
		end_waiters(c->execs);
		exec_free(c->execs);
	}
}
