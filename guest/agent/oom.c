#include "oom.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>

#include "cgroup.h"
#include "container.h"
#include "table.h"

static uint32_t oom_parked; /* the GetOOMEvent that waits, or 0 */
static bool oom_asked;	     /* somebody listens, and will ask again */

static bool oom_answer(struct container *c)
{
	Grpc__OOMEvent event = GRPC__OOMEVENT__INIT;

	if (!c->oom_pending || !oom_parked)
		return false;
	event.container_id = c->id;
	rpc_reply(oom_parked, &event.base);
	oom_parked = 0;
	c->oom_pending = false;
	for (struct process *p = c->processes; p; p = p->next)
		if (p->held)
			process_tell(p);
	return true;
}

void oom_check(struct container *c)
{
	char text[512];
	ssize_t n;
	uint64_t kills;

	if (c->memory_events.fd < 0)
		return;
	/* From offset 0 it also re-arms the notification. */
	n = pread(c->memory_events.fd, text, sizeof(text) - 1, 0);
	if (n < 0) /* the cgroup is gone */
		return;
	text[n] = '\0';
	kills = flat_key(text, "oom_kill");
	if (kills == c->oom_kills)
		return;
	c->oom_kills = kills;
	c->oom_pending = true;
	log_line("container %s: a process was killed, out of memory", c->id);
	(void)oom_answer(c);
}

static void oom_ready(struct watch *w, uint32_t events)
{
	struct container *c = container_of(w, struct container, memory_events);

	(void)events;
	oom_check(c);
}

void oom_watch(struct container *c)
{
	_cleanup_free_ char *path = cgroup_path(c->id, "memory.events");

	c->memory_events.fd = open(path, O_RDONLY | O_CLOEXEC);
	c->memory_events.ready = oom_ready;
	if (c->memory_events.fd < 0) {
		log_line("container %s: no events of its memory: %s", c->id, strerror(errno));
		return;
	}
	oom_check(c);
	watch_set(&c->memory_events, EPOLLPRI);
}

bool oom_untold(const struct container *c)
{
	return c->oom_pending && oom_asked;
}

void get_oom_event(uint32_t stream, const ProtobufCMessage *request)
{
	(void)request;
	if (oom_parked) {
		rpc_fail(stream, CODE_FAILED_PRECONDITION, "another request waits for this event");
		return;
	}
	oom_parked = stream;
	oom_asked = true;
	for (struct container *c = containers; c; c = c->next)
		if (oom_answer(c))
			return;
}
