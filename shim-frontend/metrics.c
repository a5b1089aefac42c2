#include "shim-frontend/metrics.h"

#include <stdlib.h>

#include "ipc/metrics.h"
#include "shim-frontend/proto/metrics.pb-c.h"
#include "shim-frontend/proto/task.pb-c.h"

#define NS_PER_US 1000

static void reply_with(struct rpc *rpc, const char *type, const ProtobufCMessage *metrics)
{
	Containerd__StatsResponse reply = CONTAINERD__STATS_RESPONSE__INIT;
	Containerd__Any any = CONTAINERD__ANY__INIT;
	_cleanup_free_ uint8_t *value = malloc(protobuf_c_message_get_packed_size(metrics) + 1);

	if (!value)
		abort();
	any.type_url = (char *)type;
	any.value.data = value;
	any.value.len = protobuf_c_message_pack(metrics, value);
	reply.stats = &any;
	rpc_reply(rpc, &reply.base);
}

/* By its number; 0 when the guest did not say it. */
static uint64_t value_of(const Ipc__AgentdStatsReply *s, enum metric key)
{
	for (size_t i = 0; i < s->n_memory; i++)
		if (s->memory[i]->key == key)
			return s->memory[i]->value;
	return 0;
}

static void reply_v2(struct rpc *rpc, const Ipc__AgentdStatsReply *s, Containerd__PidsStat *pids)
{
	Containerd__MetricsV2 m = CONTAINERD__METRICS_V2__INIT;
	Containerd__CpuStatV2 cpu = CONTAINERD__CPU_STAT_V2__INIT;
	Containerd__MemoryStatV2 memory = CONTAINERD__MEMORY_STAT_V2__INIT;

	cpu.usage_usec = s->cpu_total_ns / NS_PER_US;
	cpu.user_usec = s->cpu_user_ns / NS_PER_US;
	cpu.system_usec = s->cpu_kernel_ns / NS_PER_US;
	cpu.nr_periods = s->periods;
	cpu.nr_throttled = s->throttled_periods;
	cpu.throttled_usec = s->throttled_ns / NS_PER_US;
	for (unsigned key = 1; key < METRIC_END; key++) {
		const ProtobufCFieldDescriptor *f =
			protobuf_c_message_descriptor_get_field(memory.base.descriptor, key);

		*(uint64_t *)(void *)((char *)&memory + f->offset) = value_of(s, key);
	}
	memory.usage = s->memory_usage;
	memory.usage_limit = s->memory_limit;
	memory.swap_usage = s->swap_usage;
	memory.swap_limit = s->swap_limit;
	m.pids = pids;
	m.cpu = &cpu;
	m.memory = &memory;
	reply_with(rpc, "io.containerd.cgroups.v2.Metrics", &m.base);
}

static void set_memory_v1(Containerd__MemoryStatV1 *m, const Ipc__AgentdStatsReply *s)
{
	m->cache = m->total_cache = value_of(s, METRIC_FILE);
	m->rss = m->total_rss = value_of(s, METRIC_ANON);
	m->mapped_file = value_of(s, METRIC_FILE_MAPPED);
	m->dirty = value_of(s, METRIC_FILE_DIRTY);
	m->writeback = value_of(s, METRIC_FILE_WRITEBACK);
	m->pg_fault = value_of(s, METRIC_PGFAULT);
	m->pg_maj_fault = value_of(s, METRIC_PGMAJFAULT);
	m->inactive_anon = value_of(s, METRIC_INACTIVE_ANON);
	m->active_anon = value_of(s, METRIC_ACTIVE_ANON);
	m->inactive_file = m->total_inactive_file = value_of(s, METRIC_INACTIVE_FILE);
	m->active_file = value_of(s, METRIC_ACTIVE_FILE);
	m->unevictable = value_of(s, METRIC_UNEVICTABLE);
	m->hierarchical_memory_limit = s->memory_limit;
	m->hierarchical_swap_limit = s->swap_limit;
}

static void reply_v1(struct rpc *rpc, const Ipc__AgentdStatsReply *s, Containerd__PidsStat *pids)
{
	Containerd__MetricsV1 m = CONTAINERD__METRICS_V1__INIT;
	Containerd__CpuStatV1 cpu = CONTAINERD__CPU_STAT_V1__INIT;
	Containerd__CpuUsageV1 cpu_usage = CONTAINERD__CPU_USAGE_V1__INIT;
	Containerd__ThrottleV1 throttling = CONTAINERD__THROTTLE_V1__INIT;
	Containerd__MemoryStatV1 memory = CONTAINERD__MEMORY_STAT_V1__INIT;
	Containerd__MemoryEntryV1 usage = CONTAINERD__MEMORY_ENTRY_V1__INIT;
	Containerd__MemoryEntryV1 swap = CONTAINERD__MEMORY_ENTRY_V1__INIT;

	cpu_usage.total = s->cpu_total_ns;
	cpu_usage.kernel = s->cpu_kernel_ns;
	cpu_usage.user = s->cpu_user_ns;
	throttling.periods = s->periods;
	throttling.throttled_periods = s->throttled_periods;
	throttling.throttled_time = s->throttled_ns;
	cpu.usage = &cpu_usage;
	cpu.throttling = &throttling;
	set_memory_v1(&memory, s);
	usage.usage = s->memory_usage;
	usage.limit = s->memory_limit;
	usage.max = s->memory_max_usage;
	/* v1 counts memory and swap together. */
	swap.usage = s->memory_usage + s->swap_usage;
	swap.limit = s->swap_limit;
	memory.usage = &usage;
	memory.swap = &swap;
	m.pids = pids;
	m.cpu = &cpu;
	m.memory = &memory;
	reply_with(rpc, "io.containerd.cgroups.v1.Metrics", &m.base);
}

void metrics_reply(struct rpc *rpc, const Ipc__AgentdStatsReply *stats, bool v1)
{
	Containerd__PidsStat pids = CONTAINERD__PIDS_STAT__INIT;

	pids.current = stats->pids_current;
	pids.limit = stats->pids_limit;
	if (v1)
		reply_v1(rpc, stats, &pids);
	else
		reply_v2(rpc, stats, &pids);
}
