/* Processes that are added to a container, and the size of a terminal. */
#include <errno.h>
#include <stdlib.h>

#include "agentd/verbs.h"
#include "common/log.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/tables.h"

/*
 * The agent forks for each start, and refuses more than a few at once. The
 * others wait here.
 */
#define STARTING_MAX 8

int handle_text(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdText *m = (const Ipc__AgentdText *)message;
	int r = texts_add(&a->texts, m->number, m->data.data, m->data.len, err);

	if (r == -EPROTO)
		return BROKEN;
	if (r == 0)
		request_reply(req, NULL);
	return r;
}

/* -- EXEC */

static struct process **find_exec(struct container *c, uint32_t number)
{
	struct process **at = &c->execs;

	while (*at && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

static void exec_drop(struct container *c, struct process **at)
{
	struct process *p = *at;

	*at = p->next;
	c->n_execs--;
	process_free(p);
}

void execs_drop(struct agentd *a, struct container *c)
{
	(void)a;
	while (c->execs)
		exec_drop(c, &c->execs);
}

/* What mountd and the frontend have sent ahead of it. */
static void drop_sent(struct agentd *a, uint32_t process)
{
	inbox_drop(&a->inbox, MOUNTD_AGENTD_STDIN, process);
	inbox_drop(&a->inbox, MOUNTD_AGENTD_STDOUT, process);
	inbox_drop(&a->inbox, MOUNTD_AGENTD_STDERR, process);
	inbox_drop(&a->inbox, MOUNTD_AGENTD_STDOUT_FILE, process);
	inbox_drop(&a->inbox, MOUNTD_AGENTD_STDERR_FILE, process);
	free(texts_take(&a->texts, process, NULL));
}

/* Takes spec. Its streams come when it is started. */
static int exec_add(struct agentd *a, struct container *c, const Ipc__AgentdExec *m,
	Grpc__Process *spec_consume)
{
	struct process_fds fds = PROCESS_FDS_INIT;
	const struct stream_owner owner = { .base = a->base, .agent = a->agent, .container = c->id };
	struct process *p = process_new(&owner, m->process, m->terminal, &fds, on_exited, a);

	if (!p) {
		grpc__process__free_unpacked(spec_consume, NULL);
		return -ENOMEM;
	}
	/* One truth about the terminal: the one the streams are relayed by. */
	spec_consume->terminal = m->terminal;
	if (process_set_exec(p, spec_consume) < 0) {
		process_free(p);
		return -ENOMEM;
	}
	p->next = c->execs;
	c->execs = p;
	c->n_execs++;
	return 0;
}

static int take_process(struct agentd *a, uint32_t number, Grpc__Process **ret, struct error *err)
{
	size_t len = 0;
	_cleanup_free_ char *text = texts_take(&a->texts, number, &len);

	/* Not the frontend's fault: there was no room for it, and it was told so. */
	if (!text)
		return error_set(err, ENOBUFS, "the text of process %u did not come", number);
	return oci_parse_process(text, len, ret, err);
}

int handle_exec(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdExec *m = (const Ipc__AgentdExec *)message;
	Grpc__Process *spec;
	struct container *c;
	int r;

	if (process_exists(a, m->process)) {
		error_set(err, EPROTO, "process %u exists", m->process);
		return BROKEN;
	}
	r = take_process(a, m->process, &spec, err);
	if (r < 0)
		return r;
	r = get_container(a, m->index, &c, err);
	if (r == 0 && c->state == CONTAINER_CREATING)
		r = error_set(err, EBUSY, "container %s is not created yet", c->id);
	if (r == 0 && c->n_execs >= EXECS_MAX)
		r = error_set(err, ENOSPC, "container %s has %d processes", c->id, EXECS_MAX);
	if (r < 0) {
		grpc__process__free_unpacked(spec, NULL);
		return r;
	}
	if (exec_add(a, c, m, spec) < 0)
		return error_errno(err, ENOMEM, "process %u", m->process);
	request_reply(req, NULL);
	return 0;
}

int handle_remove_exec(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdRemoveExec *m = (const Ipc__AgentdRemoveExec *)message;
	struct container *c;
	struct process **at;

	if (agentd_drain_mountd(a, err) < 0)
		return BROKEN;
	drop_sent(a, m->process);
	if (get_container(a, m->index, &c, NULL) == 0) {
		at = find_exec(c, m->process);
		if (*at)
			exec_drop(c, at);
	}
	request_reply(req, NULL);
	return 0;
}

/* -- START_EXEC */

static struct process *exec_of(struct request *req)
{
	struct container *c;

	if (get_container(req->agentd, req->index, &c, NULL) < 0)
		return NULL;
	return *find_exec(c, req->process);
}

/* It will not be started again. */
static void exec_forget(struct request *req)
{
	struct container *c;
	struct process **at;

	if (get_container(req->agentd, req->index, &c, NULL) < 0)
		return;
	at = find_exec(c, req->process);
	if (*at)
		exec_drop(c, at);
}

static void start_next(struct agentd *a);

/* It runs: what was needed to start it is not needed again. */
static void exec_runs(struct process *p)
{
	uint32_t width = p->spec->consolesize ? p->spec->consolesize->width : 0;
	uint32_t height = p->spec->consolesize ? p->spec->consolesize->height : 0;
	struct error err = ERROR_INIT;

	grpc__process__free_unpacked(steal(p->spec), NULL);
	process_start(p);
	/* Asked for while it was started. */
	if (p->terminal && (p->size.width != width || p->size.height != height) &&
		p->size.width > 0 && process_send_size(p, NULL, NULL, &err) < 0)
		log_debug("%s", err.msg);
}

static void on_exec_started(void *ctx, ProtobufCMessage *reply, const struct error *err)
{
	struct request *req = ctx;
	struct agentd *a = req->agentd;
	struct process *p = exec_of(req);

	a->n_starting--;
	/* Its FIFOs close with it: their readers wait for that before they delete it. */
	if (p && err)
		exec_forget(req);
	/* The answer first: nobody hears of an exit before the start. */
	on_answer(ctx, reply, err);
	if (p && !err)
		exec_runs(p);
	start_next(a);
}

/* The size that was asked for before its start becomes the one it starts with. */
static int set_console_size(struct process *p)
{
	if (!p->terminal || p->size.width == 0)
		return 0;
	if (!p->spec->consolesize) {
		p->spec->consolesize = calloc(1, sizeof(*p->spec->consolesize));
		if (!p->spec->consolesize)
			return -ENOMEM;
		grpc__box__init(p->spec->consolesize);
	}
	p->spec->consolesize->width = p->size.width;
	p->spec->consolesize->height = p->size.height;
	return 0;
}

static int send_exec(struct agentd *a, struct request *req, struct error *err)
{
	Grpc__ExecProcessRequest request = GRPC__EXEC_PROCESS_REQUEST__INIT;
	struct process *p = exec_of(req);
	int r;

	if (!p)
		return error_set(err, ESRCH, "process %u is gone", req->process);
	if (set_console_size(p) < 0)
		return error_errno(err, ENOMEM, "process %u", req->process);
	request.container_id = (char *)p->owner.container;
	request.exec_id = p->exec_id;
	request.process = p->spec;
	r = agent_call(a->agent, &agent_exec_process, &request.base, on_exec_started, req, NULL,
		err);
	if (r < 0)
		exec_forget(req);
	else
		a->n_starting++;
	return r;
}

static struct request *oldest_queued(struct agentd *a)
{
	struct request *oldest = NULL;

	for (struct request *req = a->requests; req; req = req->next)
		if (req->queued)
			oldest = req;
	return oldest;
}

static void start_next(struct agentd *a)
{
	struct request *req;

	while (a->n_starting < STARTING_MAX && (req = oldest_queued(a))) {
		struct error err = ERROR_INIT;

		req->queued = false;
		if (send_exec(a, req, &err) < 0)
			request_fail(req, &err);
	}
}

int handle_start_exec(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdStartExec *m = (const Ipc__AgentdStartExec *)message;
	CLEANUP(process_fds_done) struct process_fds fds = PROCESS_FDS_INIT;
	const struct wanted_streams want = { m->process, m->stdin, m->stdout, m->stderr };
	struct process *p;
	int r;

	if (agentd_drain_mountd(a, err) < 0)
		return BROKEN;
	/* First the fds, so that none is left behind by a failure below. */
	r = take_fds(a, &want, &fds, err);
	if (r != 0)
		return r;
	req->index = m->index;
	req->process = m->process;
	p = exec_of(req);
	if (!p)
		return error_set(err, ESRCH, "container %u has no process %u", m->index, m->process);
	if (p->state != PROCESS_ADDED)
		return error_set(err, EBUSY, "process %u is started already", m->process);
	p->state = PROCESS_STARTING;
	process_set_fds(p, &fds);
	if (a->n_starting < STARTING_MAX)
		return send_exec(a, req, err);
	req->queued = true;
	return 0;
}

/* -- RESIZE */

static void on_resized(void *ctx, ProtobufCMessage *reply, const struct error *err)
{
	/* What has ended has no size. */
	if (err && (err->code == ENOENT || err->code == EINVAL))
		err = NULL;
	on_answer(ctx, reply, err);
}

int handle_resize(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdResize *m = (const Ipc__AgentdResize *)message;
	struct container *c;
	struct process *p;

	if (m->width > UINT16_MAX || m->height > UINT16_MAX)
		return error_set(err, EINVAL, "a terminal of %u x %u", m->width, m->height);
	p = get_container(a, m->index, &c, NULL) == 0 ? find_process(c, m->process) : NULL;
	if (!p || !p->terminal || p->waited) {
		request_reply(req, NULL);
		return 0;
	}
	p->size.width = m->width;
	p->size.height = m->height;
	if (p->exec_id && p->state != PROCESS_STARTED) {
		request_reply(req, NULL);
		return 0;
	}
	return process_send_size(p, on_resized, req, err);
}
