/*
 * Memory that ran out. Each client has its own way to hear of it, and each has it before the exit:
 * containerd an event, CRI-O a file `oom` in the container's bundle, which mountd makes.
 */
#include <stdlib.h>

#include "common/log.h"
#include "ipc/mountd.pb-c.h"
#include "shim-frontend/frontend.h"
#include "shim-frontend/proto/events.pb-c.h"

#define MARK_MS 1000 /* so long an exit waits for the file at most */

/* By index: the container may go while mountd is asked. */
struct marking {
	struct frontend *fe;
	uint32_t index;
};

static void marked(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct marking *m = ctx;
	struct container *c = table_find_index(&m->fe->table, m->index);

	(void)reply;
	(void)fds;
	if (err)
		log_warn("container %s: its bundle is not marked as out of memory: %s",
			c ? c->id : "", err->msg);
	if (c) {
		c->oom = OOM_MARKED;
		exit_marked(m->fe, c);
	}
	free(m);
}

static void mark(struct frontend *fe, struct container *c)
{
	Ipc__MountdMarkOom request = IPC__MOUNTD_MARK_OOM__INIT;
	struct marking *m = calloc(1, sizeof(*m));
	struct error err = ERROR_INIT;

	if (!m)
		abort();
	m->fe = fe;
	m->index = request.index = c->index;
	c->oom = OOM_MARKING;
	if (call_start(&fe->mountd, MOUNTD_MARK_OOM, &request.base, frontend_ms(fe, MARK_MS),
		    marked, m, &err) < 0)
		marked(m, NULL, NULL, &err);
}

void oom_seen(struct frontend *fe, struct container *c)
{
	Containerd__TaskOOM event = CONTAINERD__TASK_OOM__INIT;

	event.container_id = c->id;
	events_publish(&fe->events, "/tasks/oom", "containerd.events.TaskOOM", &event.base);
	if (c->oom == OOM_UNMARKED)
		mark(fe, c);
}
