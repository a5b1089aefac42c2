/* Pause, Resume, Stats, ResizePty: each is one question to agentd. Update is a flow, in update.c. */
#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "ipc/agentd.pb-c.h"
#include "shim-frontend/errdefs.h"
#include "shim-frontend/frontend.h"
#include "shim-frontend/metrics.h"
#include "shim-frontend/proto/events.pb-c.h"

#define PAUSE_MS  5000
#define STATS_MS  5000
#define RESIZE_MS 3000

/* An rpc that waits for agentd, about a container that may be gone when the answer comes. */
struct question {
	struct frontend *fe;
	struct rpc *rpc;
	uint32_t index;
	const char *what; /* "pause": for the sentence */
};

static struct question *question_new(struct frontend *fe, struct rpc *rpc,
	const struct container *c, const char *what)
{
	struct question *q = calloc(1, sizeof(*q));

	if (!q)
		abort();
	*q = (struct question){ .fe = fe, .rpc = rpc, .index = c->index, .what = what };
	return q;
}

/* Answers and frees. */
static void question_fail(struct question *q, const struct error *err)
{
	const struct container *c = table_find_index(&q->fe->table, q->index);
	struct error said = *err;

	errdefs_foreign(&said);
	error_wrap(&said, "%s %s", q->what, c ? c->id : "a container");
	log_warn("%s", said.msg);
	rpc_fail(q->rpc, &said);
	free(q);
}

static void question_done(struct question *q)
{
	rpc_reply_empty(q->rpc);
	free(q);
}

/* Its container, when it is in the guest and lives; else the rpc has failed. */
static struct container *living(struct frontend *fe, struct rpc *rpc, const char *id,
	const char *what, bool created_too)
{
	struct error err = ERROR_INIT;
	struct container *c = find_container(fe, id, &err);

	if (c && (c->init.exit.seen ||
			 !(c->init.state == PROCESS_RUNNING ||
				 (created_too && c->init.state == PROCESS_CREATED)))) {
		error_set(&err, EBUSY, "%s %s: it is %s", what, id,
			c->init.exit.seen || c->init.state > PROCESS_RUNNING ? "stopped" :
									       "not running");
		c = NULL;
	}
	if (!c)
		rpc_fail(rpc, &err);
	return c;
}

/* -- Pause, Resume */

static void publish_pause(struct frontend *fe, struct container *c, bool paused)
{
	Containerd__TaskPaused event = CONTAINERD__TASK_PAUSED__INIT;

	event.container_id = c->id;
	if (paused)
		events_publish(&fe->events, "/tasks/paused", "containerd.events.TaskPaused",
			&event.base);
	else /* has the same one field */
		events_publish(&fe->events, "/tasks/resumed", "containerd.events.TaskResumed",
			&event.base);
}

/* From one state by another to a third. */
struct pause_way {
	const char *what;
	enum container_pause from, by, to;
	uint16_t type;
};

static const struct pause_way ways[] = {
	{ "pause", CONTAINER_NOT_PAUSED, CONTAINER_PAUSING, CONTAINER_PAUSED, AGENTD_PAUSE },
	{ "resume", CONTAINER_PAUSED, CONTAINER_RESUMING, CONTAINER_NOT_PAUSED, AGENTD_RESUME },
};

static void pause_answered(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct question *q = ctx;
	struct container *c = table_find_index(&q->fe->table, q->index);
	const struct pause_way *way = c && c->pause == CONTAINER_RESUMING ? &ways[1] : &ways[0];

	(void)reply;
	(void)fds;
	if (c)
		c->pause = err ? way->from : way->to;
	if (err) {
		question_fail(q, err);
		return;
	}
	if (c && !c->init.exit.seen)
		publish_pause(q->fe, c, way->to == CONTAINER_PAUSED);
	question_done(q);
}

static void go(struct frontend *fe, struct rpc *rpc, const char *id, const struct pause_way *way)
{
	struct container *c = living(fe, rpc, id, way->what, false);
	Ipc__AgentdPause request = IPC__AGENTD_PAUSE__INIT;
	Ipc__AgentdResume resume = IPC__AGENTD_RESUME__INIT;
	struct error err = ERROR_INIT;
	struct question *q;

	if (!c)
		return;
	if (c->pause != way->from) {
		error_set(&err, EBUSY, "%s %s: it is %s", way->what, id,
			c->pause == CONTAINER_NOT_PAUSED ? "not paused" :
			c->pause == CONTAINER_PAUSED	 ? "paused already" :
							   "being paused or resumed");
		rpc_fail(rpc, &err);
		return;
	}
	q = question_new(fe, rpc, c, way->what);
	c->pause = way->by;
	request.index = resume.index = c->index;
	if (call_start(&fe->agentd, way->type,
		    way->type == AGENTD_PAUSE ? &request.base : &resume.base,
		    rpc_left_ms(rpc, frontend_ms(fe, PAUSE_MS)), pause_answered, q, &err) < 0)
		pause_answered(q, NULL, NULL, &err);
}

void handle_pause(void *ctx, struct rpc *rpc)
{
	go(ctx, rpc, ((Containerd__PauseRequest *)rpc->request)->id, &ways[0]);
}

void handle_resume(void *ctx, struct rpc *rpc)
{
	go(ctx, rpc, ((Containerd__ResumeRequest *)rpc->request)->id, &ways[1]);
}

/* -- Update */

void handle_update(void *ctx, struct rpc *rpc)
{
	struct container *c = living(ctx, rpc, ((Containerd__UpdateTaskRequest *)rpc->request)->id,
		"update", true);

	if (c)
		update_start(ctx, rpc, c);
}

/* -- Stats */

static void stats_answered(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct question *q = ctx;

	(void)fds;
	if (err) {
		question_fail(q, err);
		return;
	}
	metrics_reply(q->rpc, (const Ipc__AgentdStatsReply *)reply, q->fe->settings.cgroups_v1);
	free(q);
}

void handle_stats(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	struct container *c =
		living(fe, rpc, ((Containerd__StatsRequest *)rpc->request)->id, "stats of", true);
	Ipc__AgentdStats request = IPC__AGENTD_STATS__INIT;
	struct error err = ERROR_INIT;
	struct question *q;

	if (!c)
		return;
	q = question_new(fe, rpc, c, "stats of");
	request.index = c->index;
	if (call_start(&fe->agentd, AGENTD_STATS, &request.base,
		    rpc_left_ms(rpc, frontend_ms(fe, STATS_MS)), stats_answered, q, &err) < 0)
		question_fail(q, &err);
}

/* -- ResizePty */

static void resized(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct question *q = ctx;

	(void)reply;
	(void)fds;
	if (err)
		question_fail(q, err);
	else
		question_done(q);
}

void handle_resize(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	const Containerd__ResizePtyRequest *r = (Containerd__ResizePtyRequest *)rpc->request;
	Ipc__AgentdResize request = IPC__AGENTD_RESIZE__INIT;
	struct error err = ERROR_INIT;
	struct process *p = find_process(fe, r->id, r->exec_id, &err);
	struct question *q;

	if (p && p->terminal && p->exit.seen) {
		error_set(&err, EBUSY, "resize %s: it is stopped", process_name(p));
		p = NULL;
	}
	if (!p) {
		rpc_fail(rpc, &err);
		return;
	}
	if (!p->terminal) {
		rpc_reply_empty(rpc);
		return;
	}
	q = question_new(fe, rpc, p->container, "resize the terminal of");
	request.index = p->container->index;
	request.process = p->number;
	request.width = r->width;
	request.height = r->height;
	if (call_start(&fe->agentd, AGENTD_RESIZE, &request.base,
		    rpc_left_ms(rpc, frontend_ms(fe, RESIZE_MS)), resized, q, &err) < 0)
		question_fail(q, &err);
}
