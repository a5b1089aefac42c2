/*
 * The event loop: watches, timers and tasks on one thread. libevent is used in
 * loop.c and nowhere else.
 *
 * A callback is never entered from the call that registered it. What must not
 * happen under a caller's feet (resuming a flow, freeing a connection) is put
 * off with task_defer() and runs when the current round of callbacks is done.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct loop;

struct loop *loop_new(struct error *err);
void loop_free(struct loop *l);

/* Until loop_stop(). Fails only when libevent does. */
int loop_run(struct loop *l, struct error *err);
void loop_stop(struct loop *l);

typedef void (*loop_fn)(void *ctx);

/* An fd that is watched for reading, writing, or neither. Borrows the fd. */
struct watch {
	void *read, *write; /* struct event */
};

int watch_init(struct watch *w, struct loop *l, int fd, loop_fn on_read, loop_fn on_write,
	void *ctx, struct error *err);
void watch_done(struct watch *w);
void watch_read(struct watch *w, bool on);
void watch_write(struct watch *w, bool on);

/* Fires once, ms after timer_set(). */
struct timer {
	struct loop *loop;
	loop_fn fn;
	void *ctx;
	void *event; /* made by the first timer_set() */
};

void timer_init(struct timer *t, struct loop *l, loop_fn fn, void *ctx);
void timer_done(struct timer *t);
void timer_set(struct timer *t, int ms);
void timer_stop(struct timer *t);
bool timer_is_set(const struct timer *t);

/* Runs once, after the callbacks of this round. Deferring it twice is once. */
struct task {
	struct loop *loop;
	loop_fn fn;
	void *ctx;
	struct task *next;
	bool queued;
};

void task_init(struct task *t, struct loop *l, loop_fn fn, void *ctx);
void task_defer(struct task *t);
void task_cancel(struct task *t);
