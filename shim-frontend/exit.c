#include <stdlib.h>

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

void exit_tell(struct frontend *fe, struct container *c)
{
	Containerd__TaskExit event = CONTAINERD__TASK_EXIT__INIT;
	Containerd__Timestamp at;

	exit_time(&c->exit, &at);
	event.container_id = c->id;
	event.id = c->id;
	event.pid = fe->settings.task_pid;
	event.exit_status = c->exit.status;
	event.exited_at = &at;
	c->exit.told = true;
	events_publish(&fe->events, "/tasks/exit", "containerd.events.TaskExit", &event.base);
	container_answer_waiters(c);
	if (fe->shutting_down)
		task_defer(&fe->shutdown);
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
	container_set_state(r->c, CONTAINER_STOPPED);
	exit_tell(r->fe, r->c);
	free(r);
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
	request.status = c->exit.status;
	request.exited_at_ns = c->exit.at_ns;
	if (call_start(&fe->persistd, PERSISTD_RECORD, &request.base, frontend_ms(fe, RECORD_MS),
		    recorded, r, &err) < 0)
		recorded(r, NULL, NULL, &err);
}

void exit_seen(struct frontend *fe, struct container *c, uint32_t status, int64_t at_ns)
{
	if (c->exit.seen)
		return;
	c->exit.seen = true;
	c->exit.status = status;
	c->exit.at_ns = at_ns > 0 ? at_ns : realtime_ns();
	log_info("container %s: exited with status %u", c->id, status);
	/* Create or Start is answered first: exit_released(). */
	if (c->state == CONTAINER_CREATED || c->state == CONTAINER_RUNNING)
		record(fe, c);
}

void exit_released(struct frontend *fe, struct container *c)
{
	if (c->exit.seen)
		record(fe, c);
}

void exit_all(struct frontend *fe)
{
	int64_t now = realtime_ns();

	for (struct container *c = fe->table.first; c; c = c->next)
		if (c->state == CONTAINER_CREATED || c->state == CONTAINER_STARTING ||
			c->state == CONTAINER_RUNNING)
			exit_seen(fe, c, STATUS_KILLED, now);
}
