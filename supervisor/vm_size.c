#include "supervisor/vm_size.h"

#include <errno.h>

/* QEMU's memory is a number of pages that are 2 MiB large where the host has such. */
#define MEMORY_STEP_MIB 2

/* The kernel's, of cpu.cfs_period_us. */
#define PERIOD_MAX_US 1000000

static uint64_t round_up(uint64_t value, uint64_t step)
{
	return value / step + (value % step != 0);
}

static uint64_t bytes_to_mib(int64_t bytes)
{
	return round_up((uint64_t)bytes, (uint64_t)MEMORY_STEP_MIB << 20) * MEMORY_STEP_MIB;
}

/* What is more than the largest VM stays so, and does not overflow. */
static uint64_t millicpus(const struct spec *spec)
{
	uint64_t quota = (uint64_t)spec->cpu_quota, period = (uint64_t)spec->cpu_period;

	if (quota / period > VCPUS_MAX)
		quota = (VCPUS_MAX + 1) * period;
	return round_up(quota * 1000, period);
}

int vm_size(const struct config *config, const struct spec *spec, struct vm_size *ret,
	struct error *err)
{
	*ret = (struct vm_size){ .vcpus = config->vcpus, .memory_mib = config->memory_mib };
	if (spec->cpu_period > PERIOD_MAX_US)
		return error_set(err, ERANGE, "a CPU period of %lld us: the longest is %d",
			(long long)spec->cpu_period, PERIOD_MAX_US);
	if (spec->cpu_quota && spec->cpu_period)
		ret->vcpus = round_up(millicpus(spec) + config->overhead_millicpus, 1000);
	if (spec->memory_limit)
		ret->memory_mib = bytes_to_mib(spec->memory_limit) + config->overhead_memory_mib;
	if (spec->kind == CONTAINER_SINGLE && ret->vcpus < config->vcpus)
		ret->vcpus = config->vcpus;
	if (spec->kind == CONTAINER_SINGLE && ret->memory_mib < config->memory_mib)
		ret->memory_mib = config->memory_mib;
	ret->memory_mib += bytes_to_mib(spec->hugepages);
	ret->overhead_memory_mib = config->overhead_memory_mib + bytes_to_mib(spec->hugepages);
	if (ret->vcpus > VCPUS_MAX)
		return error_set(err, ERANGE,
			"a CPU limit of %lld us every %lld us: a VM has at most %d CPUs",
			(long long)spec->cpu_quota, (long long)spec->cpu_period, VCPUS_MAX);
	if (ret->memory_mib > MEMORY_MIB_MAX)
		return error_set(err, ERANGE,
			"a memory limit of %lld bytes and huge pages of %lld: a VM has at most %d MiB",
			(long long)spec->memory_limit, (long long)spec->hugepages, MEMORY_MIB_MAX);
	ret->max_vcpus = ret->vcpus > config->max_vcpus ? ret->vcpus : config->max_vcpus;
	ret->max_memory_mib = ret->memory_mib > config->max_memory_mib ? ret->memory_mib :
									 config->max_memory_mib;
	return 0;
}
