#include "shim-frontend/loop.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>

struct loop {
	struct event_base *base;
	struct task *first, **last;
	bool stop;
};

struct loop *loop_new(struct error *err)
{
	struct loop *l = calloc(1, sizeof(*l));
	struct event_config *config = event_config_new();

	if (!l || !config)
		abort();
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
	event_config_set_flag(config, EVENT_BASE_FLAG_IGNORE_ENV);
	l->base = event_base_new_with_config(config);
	event_config_free(config);
	if (!l->base) {
		error_errno(err, errno, "make an event base");
		free(l);
		return NULL;
	}
	l->last = &l->first;
	return l;
}

void loop_free(struct loop *l)
{
	if (!l)
		return;
	event_base_free(l->base);
	free(l);
}

static void run_tasks(struct loop *l)
{
	while (l->first && !l->stop) {
		struct task *t = l->first;

		l->first = t->next;
		if (!l->first)
			l->last = &l->first;
		t->queued = false;
		t->fn(t->ctx);
	}
}

int loop_run(struct loop *l, struct error *err)
{
	for (;;) {
		run_tasks(l);
		if (l->stop)
			return 0;
		if (event_base_loop(l->base, EVLOOP_ONCE) < 0)
			return error_errno(err, errno, "event loop");
	}
}

void loop_stop(struct loop *l)
{
	l->stop = true;
	event_base_loopbreak(l->base);
}

/* libevent's callbacks have arguments of its own; ours have one. */
struct callback {
	loop_fn fn;
	void *ctx;
	struct event *event;
};

static void fire(evutil_socket_t fd, short what, void *data)
{
	struct callback *cb = data;

	(void)fd;
	(void)what;
	cb->fn(cb->ctx);
}

static struct callback *callback_new(struct loop *l, int fd, short what, loop_fn fn, void *ctx)
{
	struct callback *cb = calloc(1, sizeof(*cb));

	if (!cb)
		abort();
	cb->fn = fn;
	cb->ctx = ctx;
	cb->event = event_new(l->base, fd, what, fire, cb);
	if (!cb->event)
		abort();
	return cb;
}

static void callback_free(struct callback *cb)
{
	if (!cb)
		return;
	event_free(cb->event);
	free(cb);
}

int watch_init(struct watch *w, struct loop *l, int fd, loop_fn on_read, loop_fn on_write,
	void *ctx, struct error *err)
{
	struct callback *reader = callback_new(l, fd, EV_READ | EV_PERSIST, on_read, ctx);

	w->read = reader;
	w->write = on_write ? callback_new(l, fd, EV_WRITE | EV_PERSIST, on_write, ctx) : NULL;
	if (event_add(reader->event, NULL) < 0) {
		int code = errno;

		watch_done(w);
		return error_errno(err, code, "watch fd %d", fd);
	}
	return 0;
}

void watch_done(struct watch *w)
{
	callback_free(w->read);
	callback_free(w->write);
	w->read = NULL;
	w->write = NULL;
}

static void event_switch(struct callback *cb, bool on)
{
	if (!cb)
		return;
	if (on)
		event_add(cb->event, NULL);
	else
		event_del(cb->event);
}

void watch_read(struct watch *w, bool on)
{
	event_switch(w->read, on);
}

void watch_write(struct watch *w, bool on)
{
	event_switch(w->write, on);
}

void timer_init(struct timer *t, struct loop *l, loop_fn fn, void *ctx)
{
	*t = (struct timer){ .loop = l, .fn = fn, .ctx = ctx };
}

void timer_done(struct timer *t)
{
	callback_free(t->event);
	t->event = NULL;
}

void timer_set(struct timer *t, int ms)
{
	const struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000 };
	struct callback *cb;

	if (!t->event)
		t->event = callback_new(t->loop, -1, 0, t->fn, t->ctx);
	cb = t->event;
	event_add(cb->event, &tv);
}

void timer_stop(struct timer *t)
{
	struct callback *cb = t->event;

	if (cb)
		event_del(cb->event);
}

bool timer_is_set(const struct timer *t)
{
	const struct callback *cb = t->event;

	return cb && event_pending(cb->event, EV_TIMEOUT, NULL);
}

void task_init(struct task *t, struct loop *l, loop_fn fn, void *ctx)
{
	*t = (struct task){ .loop = l, .fn = fn, .ctx = ctx };
}

void task_defer(struct task *t)
{
	if (t->queued)
		return;
	t->queued = true;
	t->next = NULL;
	*t->loop->last = t;
	t->loop->last = &t->next;
}

void task_cancel(struct task *t)
{
	struct loop *l = t->loop;

	if (!t->queued)
		return;
	for (struct task **p = &l->first; *p; p = &(*p)->next)
		if (*p == t) {
			*p = t->next;
			if (!*p)
				l->last = p;
			break;
		}
	t->queued = false;
}
