/*
 * Update: what a container may use changes while it runs. A limit that is raised
 * beyond what the VM has makes the VM larger first: it is to have what all its
 * containers may use and what a VM needs itself, as at its start. Only when the
 * guest uses what was plugged in is the container's limit set.
 *
 * A VM never shrinks: the guest need not give back what it has, and an emulated CPU
 * stays where it is. So a step that fails leaves what has been
 * plugged in where it is, counted, for the next Update; the limits are the old ones.
 * They run one after another, because each counts on what the others have done.
 */
#include <errno.h>
#include <stdlib.h>

#include "common/log.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/vmmd.pb-c.h"
#include "shim-frontend/errdefs.h"
#include "shim-frontend/frontend.h"

#define QUEUE_MAX     16

#define LIMITS_MS     5000
#define PLUG_MS       10000
#define ONLINE_MS     15000 /* the guest has 10 s */
#define UPDATE_MS     10000

#define BLOCK_MIB     128    /* what memory is plugged in by */
#define PERIOD_US     100000 /* the kernel's, of a quota without one */
#define PERIOD_MAX_US 1000000

struct update_flow {
	struct rpc_flow op; /* first */
	struct update_flow *next;
	uint32_t index;             /* of the container */
	struct limits limits;       /* what the request changes; then, what will hold */
	uint64_t vcpus, memory_mib; /* what the VM is to have */
};

static struct update_flow *update_flow_of(struct flow *f)
{
	return (struct update_flow *)f;
}

static struct container *container_of_flow(struct flow *f)
{
	struct container *c =
		table_find_index(&rpc_flow_of(f)->fe->table, update_flow_of(f)->index);

	if (!c && !f->err.code)
		error_set(&f->err, EBUSY, "the container has been deleted");
	return c;
}

static int left_ms(struct flow *f, int ms)
{
	return rpc_left_ms(rpc_flow_of(f)->rpc, frontend_ms(rpc_flow_of(f)->fe, ms));
}

/* ---- what the VM is to have ---- */

static uint64_t round_up(uint64_t value, uint64_t step)
{
	return value / step + (value % step != 0);
}

static uint64_t millicpus(const struct limits *l)
{
	uint64_t period = l->cpu_period > 0 ? (uint64_t)l->cpu_period : PERIOD_US;
	uint64_t quota = l->cpu_quota > 0 ? (uint64_t)l->cpu_quota : 0;

	if (period > PERIOD_MAX_US)
		period = PERIOD_MAX_US;
	/* More than any VM has stays so, and does not overflow. */
	if (quota / period > UINT32_MAX)
		quota = UINT32_MAX * period;
	return round_up(quota * 1000, period);
}

static uint64_t memory_mib(const struct limits *l)
{
	return l->memory > 0 ? round_up((uint64_t)l->memory, UINT64_C(1) << 20) : 0;
}

struct limits limits_told(const Ipc__Limits *m)
{
	return m ? (struct limits){ m->cpu_quota, m->cpu_period, m->memory } : (struct limits){ 0 };
}

static struct limits changed(struct limits l, const struct limits *by)
{
	if (by->cpu_quota)
		l.cpu_quota = by->cpu_quota;
	if (by->cpu_period)
		l.cpu_period = by->cpu_period;
	if (by->memory)
		l.memory = by->memory;
	return l;
}

struct need {
	uint64_t millicpus, memory_mib;
};

/* What the VM itself needs, and the others in it: those that have ended use nothing. */
static struct need add_up(const struct frontend *fe, const struct container *except)
{
	struct need sum = { fe->settings.overhead_millicpus, fe->settings.overhead_memory_mib };

	for (const struct container *c = fe->table.first; c; c = c->next) {
		if (c == except || c->init.exit.seen)
			continue;
		sum.millicpus += millicpus(&c->limits);
		sum.memory_mib += memory_mib(&c->limits);
	}
	return sum;
}

static enum step_result step_size(struct flow *f)
{
	struct update_flow *uf = update_flow_of(f);
	const struct frontend *fe = uf->op.fe;
	struct container *c = container_of_flow(f);
	struct limits limits;
	struct need others;

	if (!c)
		return STEP_FAIL;
	limits = changed(c->limits, &uf->limits);
	others = add_up(fe, c);
	/* Of what is not raised the VM has as much as before. */
	if (millicpus(&limits) > millicpus(&c->limits))
		uf->vcpus = round_up(others.millicpus + millicpus(&limits), 1000);
	if (memory_mib(&limits) > memory_mib(&c->limits))
		uf->memory_mib = others.memory_mib + memory_mib(&limits);
	uf->limits = limits;
	if (uf->vcpus > fe->settings.max_vcpus) {
		error_set(&f->err, ENOSPC,
			"with this limit the VM would need %llu CPUs: max_vcpus is %u",
			(unsigned long long)uf->vcpus, fe->settings.max_vcpus);
		return STEP_FAIL;
	}
	if (uf->memory_mib > fe->settings.max_memory_mib) {
		error_set(&f->err, ENOSPC,
			"with this limit the VM would need %llu MiB of memory: max_memory_mib is "
			"%u",
			(unsigned long long)uf->memory_mib, fe->settings.max_memory_mib);
		return STEP_FAIL;
	}
	return STEP_DONE;
}

/* Whole blocks: what is within the maximum must fit. */
static uint32_t blocks_mib(uint64_t more)
{
	return (uint32_t)round_up(more, BLOCK_MIB) * BLOCK_MIB;
}

void update_room(const struct settings *s, Ipc__VmmdLaunch *request)
{
	if (s->max_vcpus > s->vcpus)
		request->max_vcpus = s->max_vcpus;
	if (s->max_memory_mib > s->memory_mib)
		request->max_memory_mib =
			s->memory_mib + blocks_mib(s->max_memory_mib - s->memory_mib);
}

/* ---- steps ---- */

static void limits_read(struct flow *f, const ProtobufCMessage *reply)
{
	update_flow_of(f)->limits = limits_told(((const Ipc__AgentdLimitsReply *)reply)->limits);
}

/* Hands the request's document to agentd, under a number that it returns; 0: flow.err says why not. */
static uint32_t send_text(struct flow *f, int ms)
{
	struct frontend *fe = rpc_flow_of(f)->fe;
	const Containerd__UpdateTaskRequest *r =
		(Containerd__UpdateTaskRequest *)rpc_flow_of(f)->rpc->request;
	uint32_t number = ++fe->table.last_process;

	return agentd_send_text(fe, number, r->resources, ms, &f->err) < 0 ? 0 : number;
}

static enum step_result step_limits(struct flow *f)
{
	Ipc__AgentdLimits request = IPC__AGENTD_LIMITS__INIT;
	int ms = left_ms(f, LIMITS_MS);

	request.text = send_text(f, ms);
	if (!request.text)
		return STEP_FAIL;
	return flow_call(f, &rpc_flow_of(f)->fe->agentd, AGENTD_LIMITS, &request.base, ms,
		limits_read);
}

static void memory_plugged(struct flow *f, const ProtobufCMessage *reply)
{
	struct frontend *fe = rpc_flow_of(f)->fe;
	struct growth *g = &fe->growth;

	(void)reply;
	g->plugged_mib += blocks_mib(update_flow_of(f)->memory_mib - fe->settings.memory_mib -
		g->plugged_mib);
	g->online = false;
}

static enum step_result step_memory(struct flow *f)
{
	struct frontend *fe = rpc_flow_of(f)->fe;
	struct growth *g = &fe->growth;
	Ipc__VmmdAddMemory request = IPC__VMMD_ADD_MEMORY__INIT;
	uint64_t want = update_flow_of(f)->memory_mib;
	uint64_t has = (uint64_t)fe->settings.memory_mib + g->plugged_mib;

	if (vm_check(fe, &f->err) < 0)
		return STEP_FAIL;
	if (want <= has)
		return STEP_DONE;
	request.index = ++g->last_index;
	request.mib = blocks_mib(want - has);
	return flow_call(f, &fe->vmmd, VMMD_ADD_MEMORY, &request.base, left_ms(f, PLUG_MS),
		memory_plugged);
}

static int plug_next_cpu(struct flow *f, struct error *err);

static void cpu_plugged(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *failure)
{
	struct flow *f = ctx;
	struct growth *g = &rpc_flow_of(f)->fe->growth;
	struct error err = ERROR_INIT;

	(void)reply;
	(void)fds;
	if (failure) {
		flow_resume(f, failure);
		return;
	}
	g->plugged_cpus++;
	g->online = false;
	if (plug_next_cpu(f, &err) <= 0)
		flow_resume(f, err.code ? &err : NULL);
}

/* 1: it is on its way; 0: the VM has enough; -errno with err */
static int plug_next_cpu(struct flow *f, struct error *err)
{
	struct frontend *fe = rpc_flow_of(f)->fe;
	struct growth *g = &fe->growth;
	Ipc__VmmdAddCpu request = IPC__VMMD_ADD_CPU__INIT;
	int r;

	if (update_flow_of(f)->vcpus <= (uint64_t)fe->settings.vcpus + g->plugged_cpus)
		return 0;
	request.index = ++g->last_index;
	r = call_start(&fe->vmmd, VMMD_ADD_CPU, &request.base, left_ms(f, PLUG_MS), cpu_plugged, f,
		err);
	return r < 0 ? r : 1;
}

static enum step_result step_cpus(struct flow *f)
{
	int r = vm_check(rpc_flow_of(f)->fe, &f->err);

	if (r == 0)
		r = plug_next_cpu(f, &f->err);
	return r < 0 ? STEP_FAIL : r > 0 ? STEP_WAIT : STEP_DONE;
}

static void is_online(struct flow *f, const ProtobufCMessage *reply)
{
	struct frontend *fe = rpc_flow_of(f)->fe;

	(void)reply;
	fe->growth.online = true;
	log_info("the VM has %u CPUs and %u MiB now", fe->settings.vcpus + fe->growth.plugged_cpus,
		fe->settings.memory_mib + fe->growth.plugged_mib);
}

static enum step_result step_online(struct flow *f)
{
	struct frontend *fe = rpc_flow_of(f)->fe;
	Ipc__AgentdOnline request = IPC__AGENTD_ONLINE__INIT;

	if (fe->growth.online)
		return STEP_DONE;
	if (vm_check(fe, &f->err) < 0)
		return STEP_FAIL;
	request.vcpus = fe->settings.vcpus + fe->growth.plugged_cpus;
	request.plugged_mib = fe->growth.plugged_mib;
	return flow_call(f, &fe->agentd, AGENTD_ONLINE, &request.base, left_ms(f, ONLINE_MS),
		is_online);
}

static void is_set(struct flow *f, const ProtobufCMessage *reply)
{
	struct container *c =
		table_find_index(&rpc_flow_of(f)->fe->table, update_flow_of(f)->index);

	(void)reply;
	if (c)
		c->limits = update_flow_of(f)->limits;
}

static enum step_result step_set(struct flow *f)
{
	Ipc__AgentdUpdate request = IPC__AGENTD_UPDATE__INIT;
	int ms = left_ms(f, UPDATE_MS);

	if (!container_of_flow(f) || vm_check(rpc_flow_of(f)->fe, &f->err) < 0)
		return STEP_FAIL;
	request.index = update_flow_of(f)->index;
	request.text = send_text(f, ms);
	if (!request.text)
		return STEP_FAIL;
	return flow_call(f, &rpc_flow_of(f)->fe->agentd, AGENTD_UPDATE, &request.base, ms, is_set);
}

static const struct flow_step steps[] = {
	{ "read the limits", step_limits, NULL },
	{ "size the VM", step_size, NULL },
	{ "plug memory in", step_memory, NULL },
	{ "plug CPUs in", step_cpus, NULL },
	{ "let the guest use them", step_online, NULL },
	{ "set the limits", step_set, NULL },
};

/* ---- one after another ---- */

static void finished(struct flow *f);

static void begin(struct frontend *fe, struct update_flow *uf)
{
	fe->growth.running = uf;
	flow_start(&uf->op.flow, fe->loop, steps, ARRAY_SIZE(steps), finished);
}

static void finished(struct flow *f)
{
	struct update_flow *uf = update_flow_of(f);
	struct frontend *fe = uf->op.fe;
	const struct container *c = table_find_index(&fe->table, uf->index);
	struct update_flow *next = fe->growth.queue;

	if (f->err.code) {
		errdefs_foreign(&f->err);
		error_wrap(&f->err, "update %s", c ? c->id : "a container");
		log_warn("%s", f->err.msg);
		rpc_fail(uf->op.rpc, &f->err);
	} else {
		rpc_reply_empty(uf->op.rpc);
	}
	free(uf);
	fe->growth.running = NULL;
	if (next) {
		fe->growth.queue = next->next;
		fe->growth.n_queue--;
		begin(fe, next);
	}
}

void update_start(struct frontend *fe, struct rpc *rpc, struct container *c)
{
	struct update_flow **last = &fe->growth.queue, *uf;
	struct error err = ERROR_INIT;

	if (fe->growth.n_queue >= QUEUE_MAX) {
		error_set(&err, ENOBUFS, "update %s: %d others are waiting", c->id, QUEUE_MAX);
		rpc_fail(rpc, &err);
		return;
	}
	uf = calloc(1, sizeof(*uf));
	if (!uf)
		abort();
	uf->op.fe = fe;
	uf->op.rpc = rpc;
	uf->index = c->index;
	if (!fe->growth.running) {
		begin(fe, uf);
		return;
	}
	while (*last)
		last = &(*last)->next;
	*last = uf;
	fe->growth.n_queue++;
}
