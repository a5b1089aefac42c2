/*
 * Delete: what is left of a container goes, in the guest and on the host. Its
 * answer is in memory and does not wait for that longer than DELETE_MS; a step
 * that fails is logged and stops nothing.
 *
 * Shutdown: the VM is stopped, the last events leave, and the supervisor ends
 * everything.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/fds.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/persistd.pb-c.h"
#include "ipc/vmmd.pb-c.h"
#include "shim-frontend/flow.h"
#include "shim-frontend/frontend.h"
#include "shim-frontend/proto/events.pb-c.h"

#define DELETE_MS   2800
#define RECORD_MS   2000
#define REMOVE_MS   10000
#define UNMOUNT_MS  30000
#define STOP_MS     1000
#define SHUTDOWN_MS 2200

struct delete_flow {
	struct flow flow; /* first */
	struct frontend *fe;
	struct rpc *rpc; /* NULL: answered */
	struct container *container;
	struct timer answer_by;
	bool was_stopped;
};

static enum step_result step_record(struct flow *f)
{
	struct delete_flow *df = (struct delete_flow *)f;
	struct container *c = df->container;
	Ipc__PersistdRecord request = IPC__PERSISTD_RECORD__INIT;

	if (df->was_stopped)
		return STEP_DONE;
	request.id = c->id;
	request.status = c->init.exit.status;
	request.exited_at_ns = c->init.exit.at_ns;
	return flow_call(f, &df->fe->persistd, PERSISTD_RECORD, &request.base,
		frontend_ms(df->fe, RECORD_MS), NULL);
}

static enum step_result step_guest(struct flow *f)
{
	struct delete_flow *df = (struct delete_flow *)f;
	Ipc__AgentdRemove request = IPC__AGENTD_REMOVE__INIT;

	if (df->fe->vm.state != VM_UP)
		return STEP_DONE;
	request.index = df->container->index;
	return flow_call(f, &df->fe->agentd, AGENTD_REMOVE, &request.base,
		frontend_ms(df->fe, REMOVE_MS), NULL);
}

static enum step_result step_disks(struct flow *f)
{
	struct delete_flow *df = (struct delete_flow *)f;

	return disks_step_unplug(df->fe, df->container, f);
}

static enum step_result step_unmount(struct flow *f)
{
	struct delete_flow *df = (struct delete_flow *)f;
	Ipc__MountdRemoveContainer request = IPC__MOUNTD_REMOVE_CONTAINER__INIT;
	struct disks_list disks;

	request.index = df->container->index;
	disks_forget(df->fe, df->container, &request, &disks);
	return flow_call(f, &df->fe->mountd, MOUNTD_REMOVE_CONTAINER, &request.base,
		frontend_ms(df->fe, UNMOUNT_MS), NULL);
}

static const struct flow_step steps[] = {
	{ "record its exit", step_record, NULL },
	{ "remove it from the guest", step_guest, NULL },
	{ "take its disks from the VM", step_disks, NULL },
	{ "unmount its root file system", step_unmount, NULL },
};

static void publish_delete(struct frontend *fe, const struct container *c)
{
	Containerd__TaskDelete event = CONTAINERD__TASK_DELETE__INIT;
	Containerd__Timestamp at;

	exit_time(&c->init.exit, &at);
	event.container_id = (char *)c->id;
	event.pid = fe->settings.task_pid;
	event.exit_status = c->init.exit.status;
	event.exited_at = &at;
	events_publish(&fe->events, "/tasks/delete", "containerd.events.TaskDelete", &event.base);
}

/* Once. From then on the container does not exist for anybody else. */
static void answer(struct delete_flow *df)
{
	Containerd__DeleteResponse reply = CONTAINERD__DELETE_RESPONSE__INIT;
	struct container *c = df->container;
	Containerd__Timestamp at;

	if (!df->rpc)
		return;
	if (!c->init.exit.told)
		exit_tell(df->fe, &c->init);
	publish_delete(df->fe, c);
	c->gone = true;
	exit_time(&c->init.exit, &at);
	reply.pid = df->fe->settings.task_pid;
	reply.exit_status = c->init.exit.status;
	reply.exited_at = &at;
	rpc_reply(df->rpc, &reply.base);
	df->rpc = NULL;
}

static void answer_now(void *ctx)
{
	struct delete_flow *df = ctx;

	log_warn("delete %s: '%s' takes more than %d ms, it goes on after the answer",
		df->container->id, steps[df->flow.at].name, DELETE_MS);
	answer(df);
}

static void finished(struct flow *f)
{
	struct delete_flow *df = (struct delete_flow *)f;

	disks_gone(df->fe, df->container);
	answer(df);
	timer_done(&df->answer_by);
	container_free(&df->fe->table, df->container);
	free(df);
}

void delete_start(struct frontend *fe, struct rpc *rpc, struct container *c)
{
	struct delete_flow *df = calloc(1, sizeof(*df));

	if (!df)
		abort();
	df->fe = fe;
	df->rpc = rpc;
	df->container = c;
	df->was_stopped = c->init.state == PROCESS_STOPPED;
	df->flow.lenient = true;
	/* One that never ran ends here, killed with its container. */
	if (!df->was_stopped) {
		c->init.exit.seen = true;
		c->init.exit.status = 137;
		c->init.exit.at_ns = realtime_ns();
	}
	/* After the last of these containerd runs `delete`, which ends us with what is unsent. */
	events_hurry(&fe->events);
	exec_delete_all(fe, c);
	process_set_state(&c->init, PROCESS_DELETING);
	timer_init(&df->answer_by, fe->loop, answer_now, df);
	timer_set(&df->answer_by, frontend_ms(fe, DELETE_MS));
	flow_start(&df->flow, fe->loop, steps, ARRAY_SIZE(steps), finished);
}

static bool exits_pending(const struct frontend *fe)
{
	for (const struct container *c = fe->table.first; c; c = c->next)
		if (c->init.exit.seen && !c->init.exit.told)
			return true;
	return false;
}

static void shutdown_end(struct frontend *fe)
{
	struct error err = ERROR_INIT;

	error_set(&err, ESHUTDOWN, "the sandbox has shut down");
	server_fail_all(&fe->server, &err);
	server_flush(&fe->server);
	if (!events_idle(&fe->events))
		log_warn("%u events did not reach containerd", fe->events.n);
	log_info("shut down");
	ctl_send(FD_CTL, CTL_STOP, ROLE_FRONTEND, 0, NULL);
	fe->exit_status = 0;
	loop_stop(fe->loop);
}

static void shutdown_check(void *ctx)
{
	struct frontend *fe = ctx;

	if (fe->vm_stop_answered && !exits_pending(fe) && events_idle(&fe->events))
		shutdown_end(fe);
}

static void shutdown_too_long(void *ctx)
{
	shutdown_end(ctx);
}

static void vm_stop_answered(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct frontend *fe = ctx;

	(void)reply;
	(void)fds;
	fe->vm_stop_answered = true;
	/* The supervisor ends it with everything else. */
	if (err)
		log_warn("shut down: stop the VM: %s", err->msg);
	else
		vm_stopped(fe);
	task_defer(&fe->shutdown);
}

void shutdown_start(struct frontend *fe)
{
	Ipc__VmmdStop request = IPC__VMMD_STOP__INIT;
	struct error err = ERROR_INIT;

	if (fe->shutting_down)
		return;
	log_info("shutting down");
	fe->shutting_down = true;
	task_init(&fe->shutdown, fe->loop, shutdown_check, fe);
	timer_init(&fe->shutdown_timer, fe->loop, shutdown_too_long, fe);
	timer_set(&fe->shutdown_timer, SHUTDOWN_MS);
	fe->events.drained = shutdown_check;
	fe->events.ctx = fe;
	fe->vm.asked = true;
	fe->vm_stop_answered = fe->vm.state != VM_UP ||
		call_start(&fe->vmmd, VMMD_STOP, &request.base, frontend_ms(fe, STOP_MS),
			vm_stop_answered, fe, &err) < 0;
	task_defer(&fe->shutdown);
}
