#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "rpc.h"

#define STATS_MAX  96 /* lines of memory.stat that are told */
#define DEPTH_MAX  8
#define PROCS_TEXT (256 << 10)

char *cgroup_path(const char *id, const char *name)
{
	return xasprintf(CGROUP_ROOT "/%s/%s", id, name);
}

int cgroup_write(const char *id, const char *name, const char *text)
{
	_cleanup_free_ char *path = cgroup_path(id, name);

	return file_write(path, text);
}

void cgroup_wait_empty(const char *name)
{
	_cleanup_free_ char *path = cgroup_path(name, "cgroup.events");
	char text[256];

	while (file_read(path, text, sizeof(text)) > 0 && flat_key(text, "populated"))
		sleep_ms(2);
}

static bool read_text(const char *id, const char *name, char *buf, size_t size)
{
	_cleanup_free_ char *path = cgroup_path(id, name);

	buf[0] = '\0';
	return file_read(path, buf, size) > 0;
}

/* A file of one number; "max" is the largest, no file is 0. */
static uint64_t read_number(const char *id, const char *name)
{
	char text[64];

	if (!read_text(id, name, text, sizeof(text)))
		return 0;
	return strncmp(text, "max", 3) == 0 ? UINT64_MAX : strtoull(text, NULL, 10);
}

/* -- statistics */

/* "key value" lines. The keys point into text. */
static size_t parse_stats(char *text, Grpc__Uint64Entry *entries, Grpc__Uint64Entry **list)
{
	size_t n = 0;
	char *save = NULL;

	for (char *line = strtok_r(text, "\n", &save); line && n < STATS_MAX;
	        line = strtok_r(NULL, "\n", &save)) {
		char *space = strchr(line, ' ');

		if (!space)
			continue;
		*space = '\0';
		grpc__uint64_entry__init(&entries[n]);
		entries[n].key = line;
		entries[n].value = strtoull(space + 1, NULL, 10);
		list[n] = &entries[n];
		n++;
	}
	return n;
}

void cgroup_reply_stats(uint32_t stream, const char *id)
{
	Grpc__StatsContainerResponse response = GRPC__STATS_CONTAINER_RESPONSE__INIT;
	Grpc__CgroupStats stats = GRPC__CGROUP_STATS__INIT;
	Grpc__CpuStats cpu = GRPC__CPU_STATS__INIT;
	Grpc__CpuUsage usage = GRPC__CPU_USAGE__INIT;
	Grpc__ThrottlingData throttling = GRPC__THROTTLING_DATA__INIT;
	Grpc__MemoryStats memory = GRPC__MEMORY_STATS__INIT;
	Grpc__MemoryData used = GRPC__MEMORY_DATA__INIT, swap = GRPC__MEMORY_DATA__INIT;
	Grpc__PidsStats pids = GRPC__PIDS_STATS__INIT;
	Grpc__Uint64Entry entries[STATS_MAX], *list[STATS_MAX];
	char text[8192], cpu_text[1024], events[512];

	if (!read_text(id, "cpu.stat", cpu_text, sizeof(cpu_text))) {
		rpc_fail(stream, CODE_FAILED_PRECONDITION, "container %s has no cgroup", id);
		return;
	}
	usage.total_usage = flat_key(cpu_text, "usage_usec") * 1000;
	usage.usage_in_usermode = flat_key(cpu_text, "user_usec") * 1000;
	usage.usage_in_kernelmode = flat_key(cpu_text, "system_usec") * 1000;
	throttling.periods = flat_key(cpu_text, "nr_periods");
	throttling.throttled_periods = flat_key(cpu_text, "nr_throttled");
	throttling.throttled_time = flat_key(cpu_text, "throttled_usec") * 1000;
	cpu.cpu_usage = &usage;
	cpu.throttling_data = &throttling;
	used.usage = read_number(id, "memory.current");
	used.limit = read_number(id, "memory.max");
	used.max_usage = read_number(id, "memory.peak");
	(void)read_text(id, "memory.events", events, sizeof(events));
	used.failcnt = flat_key(events, "max");
	swap.usage = read_number(id, "memory.swap.current");
	swap.limit = read_number(id, "memory.swap.max");
	(void)read_text(id, "memory.stat", text, sizeof(text));
	memory.cache = flat_key(text, "file");
	memory.usage = &used;
	memory.swap_usage = &swap;
	memory.use_hierarchy = true;
	memory.stats = list;
	memory.n_stats = parse_stats(text, entries, list);
	pids.current = read_number(id, "pids.current");
	pids.limit = read_number(id, "pids.max");
	stats.cpu_stats = &cpu;
	stats.memory_stats = &memory;
	stats.pids_stats = &pids;
	response.cgroup_stats = &stats;
	rpc_reply(stream, &response.base);
}

/* -- the processes */

static void each_of_file(const char *path, cgroup_process *fn, void *ctx)
{
	char *text = xcalloc(1, PROCS_TEXT), *save = NULL;

	(void)file_read(path, text, PROCS_TEXT);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		pid_t pid = (pid_t)strtol(line, NULL, 10);

		/* 0: a process of another pid namespace, which no container's is from here. */
		if (pid > 1)
			fn(pid, ctx);
	}
	free(text);
}

static void each_of_dir(const char *dir, unsigned int depth, cgroup_process *fn, void *ctx)
{
	_cleanup_free_ char *procs = xasprintf("%s/cgroup.procs", dir);
	DIR *d = opendir(dir);
	const struct dirent *e;

	each_of_file(procs, fn, ctx);
	while (d && depth < DEPTH_MAX && (e = readdir(d))) {
		_cleanup_free_ char *sub = NULL;

		if (e->d_type != DT_DIR || e->d_name[0] == '.')
			continue;
		sub = xasprintf("%s/%s", dir, e->d_name);
		each_of_dir(sub, depth + 1, fn, ctx);
	}
	if (d)
		closedir(d);
}

void cgroup_each(const char *id, cgroup_process *fn, void *ctx)
{
	_cleanup_free_ char *dir = xasprintf(CGROUP_ROOT "/%s", id);

	each_of_dir(dir, 0, fn, ctx);
}

struct signalled {
	int signal;
	unsigned int n;
};

static void signal_one(pid_t pid, void *ctx)
{
	struct signalled *s = ctx;

	if (kill(pid, s->signal) == 0)
		s->n++;
}

unsigned int cgroup_signal(const char *id, int signal)
{
	struct signalled s = { .signal = signal };

	cgroup_each(id, signal_one, &s);
	return s.n;
}

/* -- limits */

/*
 * -1 and the like mean none, and so does the largest number there is, which is what cgroup v1 says
 * where there is none. The kernel rounds memory down to pages.
 */
static int check_limit(const char *id, const char *name, int64_t want, uint64_t unit,
        struct error *err)
{
	uint64_t is = read_number(id, name);
	bool none = want < 0 || (uint64_t)want / unit == INT64_MAX / unit;
	uint64_t should = none ? UINT64_MAX : (uint64_t)want / unit * unit;

	if (is == should)
		return 0;
	return error_set(err, CODE_INTERNAL, "%s is %llu, not %lld, though it was written", name,
	        (unsigned long long)is, (long long)want);
}

/* "quota period" */
static int check_cpu(const char *id, const Grpc__LinuxCPU *cpu, struct error *err)
{
	char text[64], quota[32] = "";
	unsigned long long period = 0;
	bool none = cpu->quota < 0;

	if (cpu->quota == 0 && cpu->period == 0)
		return 0;
	if (!read_text(id, "cpu.max", text, sizeof(text)) ||
	        sscanf(text, "%31s %llu", quota, &period) != 2)
		return error_set(err, CODE_INTERNAL, "cpu.max cannot be read");
	if ((cpu->period && period != cpu->period) || (none && strcmp(quota, "max") != 0) ||
	        (cpu->quota > 0 && strtoll(quota, NULL, 10) != cpu->quota))
		return error_set(err, CODE_INTERNAL,
		        "cpu.max is %s %llu, not %lld %llu, though it was written", quota, period,
		        (long long)cpu->quota, (unsigned long long)cpu->period);
	return 0;
}

int cgroup_check_limits(const char *id, const Grpc__LinuxResources *want, struct error *err)
{
	if (want->memory && want->memory->limit != 0 &&
	        check_limit(id, "memory.max", want->memory->limit, 4096, err) < 0)
		return -1;
	if (want->memory && want->memory->reservation != 0 &&
	        check_limit(id, "memory.low", want->memory->reservation, 4096, err) < 0)
		return -1;
	if (want->pids && want->pids->limit != 0 &&
	        check_limit(id, "pids.max", want->pids->limit, 1, err) < 0)
		return -1;
	return want->cpu ? check_cpu(id, want->cpu, err) : 0;
}
