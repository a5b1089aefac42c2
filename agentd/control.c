/* What is done to a container as a whole: pause, resume, update; what it uses; memory that ran out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "agentd/verbs.h"
#include "common/clock.h"
#include "common/log.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/metrics.h"
#include "ipc/tables.h"

/* -- PAUSE, RESUME */

int handle_pause(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	Grpc__PauseContainerRequest request = GRPC__PAUSE_CONTAINER_REQUEST__INIT;
	struct container *c;
	int r = get_container(a, ((const Ipc__AgentdPause *)message)->index, &c, err);

	if (r < 0)
		return r;
	request.container_id = c->id;
	return agent_call(a->agent, &agent_pause_container, &request.base, on_answer, req, NULL, err);
}

int handle_resume(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	Grpc__ResumeContainerRequest request = GRPC__RESUME_CONTAINER_REQUEST__INIT;
	struct container *c;
	int r = get_container(a, ((const Ipc__AgentdResume *)message)->index, &c, err);

	if (r < 0)
		return r;
	request.container_id = c->id;
	return agent_call(a->agent, &agent_resume_container, &request.base, on_answer, req, NULL,
		err);
}

/* -- LIMITS, ONLINE, UPDATE */

#define PAGE 4096

Ipc__Limits limits_of(const Grpc__LinuxResources *r)
{
	Ipc__Limits limits = IPC__LIMITS__INIT;

	if (r && r->cpu) {
		limits.cpu_quota = r->cpu->quota;
		/* The kernel takes a second at most. */
		limits.cpu_period = r->cpu->period > INT32_MAX ? INT32_MAX : (int64_t)r->cpu->period;
	}
	if (r && r->memory)
		limits.memory = r->memory->limit;
	/* The largest number of whole pages is what cgroup v1 says where there is none. */
	if (limits.memory >= INT64_MAX / PAGE * PAGE)
		limits.memory = -1;
	return limits;
}

/* Not the frontend's fault: there was no room for it, and it was told so. */
static int text_missing(uint32_t number, struct error *err)
{
	return error_set(err, ENOBUFS, "text %u did not come", number);
}

int handle_limits(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdLimits *m = (const Ipc__AgentdLimits *)message;
	Ipc__AgentdLimitsReply reply = IPC__AGENTD_LIMITS_REPLY__INIT;
	Grpc__LinuxResources *resources = NULL;
	size_t len = 0;
	_cleanup_free_ char *text = texts_take(&a->texts, m->text, &len);
	Ipc__Limits limits;
	int r;

	if (!text)
		return text_missing(m->text, err);
	r = oci_parse_resources(text, len, &resources, err);
	if (r < 0)
		return r;
	limits = limits_of(resources);
	grpc__linux_resources__free_unpacked(resources, NULL);
	reply.limits = &limits;
	request_reply(req, &reply.base);
	return 0;
}

int handle_online(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdOnline *m = (const Ipc__AgentdOnline *)message;
	Grpc__OnlineCPUMemRequest request = GRPC__ONLINE_CPUMEM_REQUEST__INIT;

	request.wait = true;
	request.nb_cpus = m->vcpus;
	request.cpu_only = m->plugged_mib == 0;
	request.plugged_mib = m->plugged_mib;
	return agent_call(a->agent, &agent_online_cpu_mem, &request.base, on_answer, req, NULL, err);
}

int handle_update(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdUpdate *m = (const Ipc__AgentdUpdate *)message;
	Grpc__UpdateContainerRequest request = GRPC__UPDATE_CONTAINER_REQUEST__INIT;
	size_t len = 0;
	_cleanup_free_ char *text = texts_take(&a->texts, m->text, &len);
	struct container *c;
	int r;

	if (!text)
		return text_missing(m->text, err);
	r = get_container(a, m->index, &c, err);
	if (r == 0)
		r = oci_parse_resources(text, len, &request.resources, err);
	if (r < 0)
		return r;
	request.container_id = c->id;
	r = agent_call(a->agent, &agent_update_container, &request.base, on_answer, req, NULL, err);
	grpc__linux_resources__free_unpacked(request.resources, NULL);
	return r;
}

/* -- STATS */

static void set_cpu(Ipc__AgentdStatsReply *reply, const Grpc__CpuStats *cpu)
{
	if (cpu && cpu->cpu_usage) {
		reply->cpu_total_ns = cpu->cpu_usage->total_usage;
		reply->cpu_user_ns = cpu->cpu_usage->usage_in_usermode;
		reply->cpu_kernel_ns = cpu->cpu_usage->usage_in_kernelmode;
	}
	if (cpu && cpu->throttling_data) {
		reply->periods = cpu->throttling_data->periods;
		reply->throttled_periods = cpu->throttling_data->throttled_periods;
		reply->throttled_ns = cpu->throttling_data->throttled_time;
	}
}

static void set_memory(Ipc__AgentdStatsReply *reply, const Grpc__MemoryStats *memory)
{
	if (memory && memory->usage) {
		reply->memory_usage = memory->usage->usage;
		reply->memory_limit = memory->usage->limit;
		reply->memory_max_usage = memory->usage->max_usage;
	}
	if (memory && memory->swap_usage) {
		reply->swap_usage = memory->swap_usage->usage;
		reply->swap_limit = memory->swap_usage->limit;
	}
}

/* Of the guest's keys those that we know, each once; what else it says goes nowhere. */
static void reply_stats(struct request *req, const Grpc__CgroupStats *stats)
{
	Ipc__AgentdStatsReply__Value values[METRIC_END], *list[METRIC_END];
	Ipc__AgentdStatsReply reply = IPC__AGENTD_STATS_REPLY__INIT;
	const Grpc__MemoryStats *memory = stats->memory_stats;

	if (stats->pids_stats) {
		reply.pids_current = stats->pids_stats->current;
		reply.pids_limit = stats->pids_stats->limit;
	}
	set_cpu(&reply, stats->cpu_stats);
	set_memory(&reply, memory);
	for (unsigned key = 1; memory && key < METRIC_END; key++) {
		for (size_t i = 0; i < memory->n_stats; i++) {
			if (strcmp(memory->stats[i]->key, metric_names[key]) != 0)
				continue;
			ipc__agentd_stats_reply__value__init(&values[key]);
			values[key].key = key;
			values[key].value = memory->stats[i]->value;
			list[reply.n_memory++] = &values[key];
			break;
		}
	}
	reply.memory = list;
	request_reply(req, &reply.base);
}

static void on_stats(void *ctx, ProtobufCMessage *message, const struct error *err)
{
	const Grpc__StatsContainerResponse *response = (const Grpc__StatsContainerResponse *)message;
	struct error none = ERROR_INIT;

	if (err) {
		request_fail(ctx, err);
	} else if (!response->cgroup_stats) {
		error_set(&none, EIO, "the guest says nothing about its cgroup");
		request_fail(ctx, &none);
	} else {
		reply_stats(ctx, response->cgroup_stats);
	}
}

int handle_stats(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	Grpc__StatsContainerRequest request = GRPC__STATS_CONTAINER_REQUEST__INIT;
	struct container *c;
	int r = get_container(a, ((const Ipc__AgentdStats *)message)->index, &c, err);

	if (r < 0)
		return r;
	request.container_id = c->id;
	return agent_call(a->agent, &agent_stats_container, &request.base, on_stats, req, NULL, err);
}

/* -- memory that ran out */

/* News of it that come faster than this wait: each is an event for containerd. */
#define OOM_PAUSE_US 100000

static void oom_ask(struct agentd *a);

static void on_oom_pause(evutil_socket_t fd, short events, void *arg)
{
	(void)fd;
	(void)events;
	oom_ask(arg);
}

static struct container *container_by_id(struct agentd *a, const char *id)
{
	for (struct container *c = a->containers; c; c = c->next)
		if (strcmp(c->id, id) == 0)
			return c;
	return NULL;
}

static void on_oom(void *ctx, ProtobufCMessage *message, const struct error *err)
{
	const struct timeval pause = { .tv_usec = OOM_PAUSE_US };
	Ipc__AgentdOom event = IPC__AGENTD_OOM__INIT;
	struct agentd *a = ctx;
	int64_t now = clock_us();
	const struct container *c;

	if (err) {
		if (!agent_client_lost(a->agent))
			log_warn("the guest does not tell when memory runs out: %s", err->msg);
		return;
	}
	c = container_by_id(a, ((const Grpc__OOMEvent *)message)->container_id);
	if (c) {
		log_info("%s: the guest has killed a process, out of memory", c->id);
		event.index = c->index;
		agentd_tell(a, AGENTD_OOM, &event.base);
	}
	if (now - a->oom_at_us < OOM_PAUSE_US)
		evtimer_add(&a->oom_timer, &pause);
	else
		oom_ask(a);
	a->oom_at_us = now;
}

static void oom_ask(struct agentd *a)
{
	Grpc__GetOOMEventRequest request = GRPC__GET_OOMEVENT_REQUEST__INIT;
	struct error err = ERROR_INIT;

	if (agent_call(a->agent, &agent_get_oom_event, &request.base, on_oom, a, NULL, &err) < 0)
		log_debug("memory that runs out: %s", err.msg);
}

void oom_listen(struct agentd *a)
{
	evtimer_assign(&a->oom_timer, a->base, on_oom_pause, a);
	oom_ask(a);
}
