#include "shim-frontend/process.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "shim-frontend/container.h"

static const struct {
	const char *name;
	Containerd__Status shown;
	unsigned next; /* a mask */
} states[] = {
#define TO(state) (1U << PROCESS_##state)
	[PROCESS_CREATING] = { "creating", CONTAINERD__STATUS__UNKNOWN, TO(CREATED) },
	[PROCESS_CREATED] = { "created", CONTAINERD__STATUS__CREATED,
		TO(STARTING) | TO(STOPPED) | TO(DELETING) },
	[PROCESS_STARTING] = { "starting", CONTAINERD__STATUS__CREATED,
		TO(RUNNING) | TO(CREATED) | TO(STOPPED) },
	[PROCESS_RUNNING] = { "running", CONTAINERD__STATUS__RUNNING, TO(STOPPED) },
	[PROCESS_STOPPED] = { "stopped", CONTAINERD__STATUS__STOPPED, TO(DELETING) },
	[PROCESS_DELETING] = { "deleting", CONTAINERD__STATUS__STOPPED, 0 },
#undef TO
};

static char *copy(const char *text)
{
	char *s = strdup(text);

	if (!s)
		abort();
	return s;
}

void process_init(struct process *p, struct container *c, const char *exec_id, uint32_t number,
	const struct process_stdio *stdio)
{
	assert(strlen(exec_id) <= ID_MAX);
	*p = (struct process){
		.container = c,
		.stdin_path = copy(stdio->in),
		.stdout_path = copy(stdio->out),
		.stderr_path = copy(stdio->err),
		.terminal = stdio->terminal,
		.number = number,
	};
	strcpy(p->exec_id, exec_id);
}

void process_done(struct process *p)
{
	assert(!p->waiters);
	free(p->stdin_path);
	free(p->stdout_path);
	free(p->stderr_path);
}

const char *process_name(const struct process *p)
{
	static char name[2 * ID_MAX + 16];

	if (process_is_init(p))
		return p->container->id;
	snprintf(name, sizeof(name), "exec %s of %s", p->exec_id, p->container->id);
	return name;
}

void process_set_state(struct process *p, enum process_state state)
{
	assert(states[p->state].next & (1U << state));
	log_info("%s%s: %s -> %s", process_is_init(p) ? "container " : "", process_name(p),
		states[p->state].name, states[state].name);
	p->state = state;
}

Containerd__Status process_status(const struct process *p)
{
	if (p->state == PROCESS_RUNNING && p->container->pause == CONTAINER_PAUSED)
		return CONTAINERD__STATUS__PAUSED;
	if (p->state == PROCESS_RUNNING && p->container->pause == CONTAINER_PAUSING)
		return CONTAINERD__STATUS__PAUSING;
	return states[p->state].shown;
}

static void waiter_remove(struct rpc *rpc)
{
	*rpc->wait_prev = rpc->wait_next;
	if (rpc->wait_next)
		rpc->wait_next->wait_prev = rpc->wait_prev;
}

static void waiter_gives_up(void *ctx, struct rpc *rpc, int why)
{
	struct process *p = ctx;
	struct error err = ERROR_INIT;

	waiter_remove(rpc);
	error_set(&err, -why, "wait for %s: the deadline has passed", process_name(p));
	rpc_fail(rpc, &err);
}

void process_wait(struct process *p, struct rpc *rpc)
{
	rpc_park(rpc, waiter_gives_up, p);
	rpc->wait_next = p->waiters;
	rpc->wait_prev = &p->waiters;
	if (rpc->wait_next)
		rpc->wait_next->wait_prev = &rpc->wait_next;
	p->waiters = rpc;
}

void exit_time(const struct process_exit *exit, Containerd__Timestamp *t)
{
	containerd__timestamp__init(t);
	t->seconds = exit->at_ns / 1000000000;
	t->nanos = (int32_t)(exit->at_ns % 1000000000);
}

void process_answer_waiters(struct process *p)
{
	Containerd__WaitResponse reply = CONTAINERD__WAIT_RESPONSE__INIT;
	Containerd__Timestamp at;

	exit_time(&p->exit, &at);
	reply.exit_status = p->exit.status;
	reply.exited_at = &at;
	while (p->waiters) {
		struct rpc *rpc = p->waiters;

		waiter_remove(rpc);
		rpc_reply(rpc, &reply.base);
	}
}
