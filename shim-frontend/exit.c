#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "ipc/persistd.pb-c.h"
#include "shim-frontend/frontend.h"
#include "shim-frontend/proto/events.pb-c.h"

#define RECORD_MS 2000

/* QEMU's end is nobody's exit status: 128 + SIGKILL. */
#define STATUS_KILLED 137

struct recording {
	struct frontend *fe;
	struct container *c;
};

/* A pod is over with the container that holds it: whatever else still runs in it ends too. */
static void end_of_pod(struct frontend *fe, const struct process *p)
{
	if (!process_is_init(p) || strcmp(p->container->id, fe->settings.id) != 0)
		return;
	for (struct container *c = fe->table.first; c; c = c->next)
		if (c != p->container && c->init.state != PROCESS_STOPPED && !c->gone) {
			vm_kill(fe, "the container that holds the pod has ended");
			return;
		}
}

void exit_tell(struct frontend *fe, struct process *p)
{
	Containerd__TaskExit event = CONTAINERD__TASK_EXIT__INIT;
	Containerd__Timestamp at;

	exit_time(&p->exit, &at);
	event.container_id = p->container->id;
	event.id = process_is_init(p) ? p->container->id : p->exec_id;
	event.pid = fe->settings.task_pid;
	event.exit_status = p->exit.status;
	event.exited_at = &at;
	p->exit.told = true;
	events_publish(&fe->events, "/tasks/exit", "containerd.events.TaskExit", &event.base);
	process_answer_waiters(p);
	end_of_pod(fe, p);
	if (fe->shutting_down)
		task_defer(&fe->shutdown);
}

static void ended(struct frontend *fe, struct process *p)
{
	process_set_state(p, PROCESS_STOPPED);
	exit_tell(fe, p);
}

static void recorded(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct recording *r = ctx;

	(void)reply;
	(void)fds;
	/* Not to tell it at all would be worse than not to have it on disk. */
	if (err)
		log_error("container %s: its exit could not be recorded: %s", r->c->id, err->msg);
	r->c->init.exit.recorded = true;
	if (r->c->oom != OOM_MARKING)
		ended(r->fe, &r->c->init);
	free(r);
}

void exit_marked(struct frontend *fe, struct container *c)
{
	if (c->init.exit.recorded && !c->init.exit.told)
		ended(fe, &c->init);
}

static void record(struct frontend *fe, struct container *c)
{
	Ipc__PersistdRecord request = IPC__PERSISTD_RECORD__INIT;
	struct recording *r = calloc(1, sizeof(*r));
	struct error err = ERROR_INIT;

	if (!r)
		abort();
	r->fe = fe;
	r->c = c;
	request.id = c->id;
	request.status = c->init.exit.status;
	request.exited_at_ns = c->init.exit.at_ns;
	if (call_start(&fe->persistd, PERSISTD_RECORD, &request.base, frontend_ms(fe, RECORD_MS),
		    recorded, r, &err) < 0)
		recorded(r, NULL, NULL, &err);
}

/* Nobody asks how an exec ended once we are gone: it is not recorded. */
static void go_on(struct frontend *fe, struct process *p)
{
	if (process_is_init(p))
		record(fe, p->container);
	else
		ended(fe, p);
}

void exit_seen(struct frontend *fe, struct process *p, uint32_t status, int64_t at_ns)
{
	if (p->exit.seen)
		return;
	p->exit.seen = true;
	p->exit.status = status;
	p->exit.at_ns = at_ns > 0 ? at_ns : realtime_ns();
	log_info("%s%s: exited with status %u", process_is_init(p) ? "container " : "",
		process_name(p), status);
	/* Create or Start is answered first: exit_released(). */
	if (p->state == PROCESS_CREATED || p->state == PROCESS_RUNNING)
		go_on(fe, p);
}

void exit_released(struct frontend *fe, struct process *p)
{
	if (p->exit.seen)
		go_on(fe, p);
}

void exit_execs(struct frontend *fe, struct container *c)
{
	int64_t now = realtime_ns();

	for (struct process *p = c->execs; p; p = p->next)
		if (p->state == PROCESS_STARTING || p->state == PROCESS_RUNNING)
			exit_seen(fe, p, STATUS_KILLED, now);
}

void exit_all(struct frontend *fe)
{
	int64_t now = realtime_ns();

	for (struct container *c = fe->table.first; c; c = c->next) {
		/* What was not started yet has not run out of anything. */
		if (fe->vm.oom && c->init.state == PROCESS_RUNNING && !c->init.exit.seen)
			oom_seen(fe, c);
		exit_execs(fe, c);
		if (c->init.state == PROCESS_CREATED || c->init.state == PROCESS_STARTING ||
			c->init.state == PROCESS_RUNNING)
			exit_seen(fe, &c->init, STATUS_KILLED, now);
	}
}
