#include "shim-frontend/container.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

static const struct {
	const char *name;
	Containerd__Status shown;
	unsigned next; /* a mask */
} states[] = {
#define TO(state) (1U << CONTAINER_##state)
	[CONTAINER_CREATING] = { "creating", CONTAINERD__STATUS__UNKNOWN, TO(CREATED) },
	[CONTAINER_CREATED] = { "created", CONTAINERD__STATUS__CREATED,
		TO(STARTING) | TO(STOPPED) | TO(DELETING) },
	[CONTAINER_STARTING] = { "starting", CONTAINERD__STATUS__CREATED,
		TO(RUNNING) | TO(CREATED) },
	[CONTAINER_RUNNING] = { "running", CONTAINERD__STATUS__RUNNING, TO(STOPPED) },
	[CONTAINER_STOPPED] = { "stopped", CONTAINERD__STATUS__STOPPED, TO(DELETING) },
	[CONTAINER_DELETING] = { "deleting", CONTAINERD__STATUS__STOPPED, 0 },
#undef TO
};

int id_check(const char *id, struct error *err)
{
	size_t len = strnlen(id, ID_MAX + 1);

	if (len == 0)
		return error_set(err, EINVAL, "the id is empty");
	if (len > ID_MAX)
		return error_set(err, EINVAL, "the id is longer than %d characters", ID_MAX);
	if (!id_is_valid(id))
		return error_set(err, EINVAL,
			"the id '%s' is not of the form [A-Za-z0-9][A-Za-z0-9._-]*", id);
	return 0;
}

static char *copy(const char *text)
{
	char *s = strdup(text);

	if (!s)
		abort();
	return s;
}

struct container *container_new(struct table *t, const Containerd__CreateTaskRequest *request)
{
	struct container *c = calloc(1, sizeof(*c));

	if (!c)
		abort();
	assert(strlen(request->id) <= ID_MAX);
	strcpy(c->id, request->id);
	c->bundle = copy(request->bundle);
	c->stdin_path = copy(request->stdin);
	c->stdout_path = copy(request->stdout);
	c->stderr_path = copy(request->stderr);
	c->terminal = request->terminal;
	c->index = ++t->last_index;
	c->process = ++t->last_process;
	c->next = t->first;
	t->first = c;
	t->n++;
	return c;
}

void container_free(struct table *t, struct container *c)
{
	assert(!c->waiters);
	for (struct container **p = &t->first; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			t->n--;
			break;
		}
	free(c->bundle);
	free(c->stdin_path);
	free(c->stdout_path);
	free(c->stderr_path);
	free(c);
}

struct container *table_find(struct table *t, const char *id)
{
	for (struct container *c = t->first; c; c = c->next)
		if (!c->gone && strcmp(c->id, id) == 0)
			return c;
	return NULL;
}

struct container *table_find_process(struct table *t, uint32_t process)
{
	for (struct container *c = t->first; c; c = c->next)
		if (c->process == process)
			return c;
	return NULL;
}

void container_set_state(struct container *c, enum container_state state)
{
	assert(states[c->state].next & (1U << state));
	log_info("container %s: %s -> %s", c->id, states[c->state].name, states[state].name);
	c->state = state;
}

Containerd__Status container_status(const struct container *c)
{
	return states[c->state].shown;
}

static void waiter_remove(struct rpc *rpc)
{
	*rpc->wait_prev = rpc->wait_next;
	if (rpc->wait_next)
		rpc->wait_next->wait_prev = rpc->wait_prev;
}

static void waiter_gives_up(void *ctx, struct rpc *rpc, int why)
{
	struct container *c = ctx;
	struct error err = ERROR_INIT;

	waiter_remove(rpc);
	error_set(&err, -why, "wait for %s: the deadline has passed", c->id);
	rpc_fail(rpc, &err);
}

void container_wait(struct container *c, struct rpc *rpc)
{
	rpc_park(rpc, waiter_gives_up, c);
	rpc->wait_next = c->waiters;
	rpc->wait_prev = &c->waiters;
	if (rpc->wait_next)
		rpc->wait_next->wait_prev = &rpc->wait_next;
	c->waiters = rpc;
}

void exit_time(const struct container_exit *exit, Containerd__Timestamp *t)
{
	containerd__timestamp__init(t);
	t->seconds = exit->at_ns / 1000000000;
	t->nanos = (int32_t)(exit->at_ns % 1000000000);
}

void container_answer_waiters(struct container *c)
{
	Containerd__WaitResponse reply = CONTAINERD__WAIT_RESPONSE__INIT;
	Containerd__Timestamp at;

	exit_time(&c->exit, &at);
	reply.exit_status = c->exit.status;
	reply.exited_at = &at;
	while (c->waiters) {
		struct rpc *rpc = c->waiters;

		waiter_remove(rpc);
		rpc_reply(rpc, &reply.base);
	}
}
