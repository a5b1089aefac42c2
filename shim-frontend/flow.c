#include "shim-frontend/flow.h"

#include <errno.h>

#include "common/log.h"

/* How step `at` ended, going forward. */
static void step_ended(struct flow *f, enum step_result result)
{
	bool unknown;

	if (result == STEP_DONE) {
		f->at++;
		if (f->at == f->n_steps)
			f->done = true;
		return;
	}
	unknown = f->err.code == ETIMEDOUT;
	error_wrap(&f->err, "%s", f->steps[f->at].name);
	f->undoing = true;
	/* `at` counts down from here on: the steps below it are still to be undone. */
	if (unknown)
		f->at++;
	if (f->at == 0)
		f->done = true;
}

static void undo_ended(struct flow *f)
{
	if (--f->at == 0)
		f->done = true;
}

static enum step_result enter_step(struct flow *f)
{
	const struct flow_step *step;

	f->step_err.code = 0;
	f->reply = NULL;
	if (!f->undoing)
		return f->steps[f->at].run(f);
	step = &f->steps[f->at - 1];
	return step->undo ? step->undo(f) : STEP_DONE;
}

static void run(void *ctx)
{
	struct flow *f = ctx;

	while (!f->done) {
		enum step_result result = enter_step(f);

		if (result == STEP_WAIT)
			return;
		if (f->undoing)
			undo_ended(f);
		else
			step_ended(f, result);
	}
	f->finish(f);
}

/* What becomes of an error: it fails the flow, or is logged. */
static enum step_result step_failed(struct flow *f, const struct error *err)
{
	if (f->undoing)
		log_warn("undo of '%s': %s", f->steps[f->at - 1].name, err->msg);
	else if (f->lenient)
		log_warn("%s: %s", f->steps[f->at].name, err->msg);
	else
		f->err = *err;
	return f->undoing || f->lenient ? STEP_DONE : STEP_FAIL;
}

static void resumed(void *ctx)
{
	struct flow *f = ctx;
	enum step_result result = STEP_DONE;

	if (f->step_err.code)
		result = step_failed(f, &f->step_err);
	if (f->undoing)
		undo_ended(f);
	else
		step_ended(f, result);
	task_init(&f->task, f->task.loop, run, f);
	run(f);
}

void flow_start(struct flow *f, struct loop *loop, const struct flow_step *steps, unsigned n_steps,
	void (*finish)(struct flow *f))
{
	f->steps = steps;
	f->n_steps = n_steps;
	f->finish = finish;
	task_init(&f->task, loop, run, f);
	task_defer(&f->task);
}

void flow_resume(struct flow *f, const struct error *err)
{
	if (err)
		f->step_err = *err;
	task_init(&f->task, f->task.loop, resumed, f);
	task_defer(&f->task);
}

static void call_done(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct flow *f = ctx;

	(void)fds;
	if (reply && f->reply)
		f->reply(f, reply);
	flow_resume(f, err);
}

enum step_result flow_call(struct flow *f, struct peer *peer, uint16_t type,
	const ProtobufCMessage *request, int timeout_ms,
	void (*reply)(struct flow *f, const ProtobufCMessage *reply))
{
	struct error err = ERROR_INIT;

	f->reply = reply;
	if (call_start(peer, type, request, timeout_ms, call_done, f, &err) == 0)
		return STEP_WAIT;
	return step_failed(f, &err);
}
