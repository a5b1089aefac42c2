/*
 * How large a VM is at boot. A pod gets what the kubelet says it may use, and
 * what a VM needs for itself on top (the keys overhead_*), as its cgroup is
 * limited to that; without a limit the defaults of the configuration. A single
 * container gets no less than those: nobody limits the sandbox's cgroup. Its huge
 * pages, which are its own and no memory to its limit, come on top.
 *
 * And how large it may become while it runs; what starts larger does not grow.
 */
#pragma once

#include <stdint.h>

#include "supervisor/config.h"
#include "supervisor/spec.h"

struct vm_size {
	uint64_t vcpus;
	uint64_t memory_mib;
	uint64_t max_vcpus;
	uint64_t max_memory_mib;
	uint64_t overhead_memory_mib; /* what of it no memory limit counts: what the VM needs, huge pages */
};

/* 0, or -ERANGE with err: more than a VM can have, or a kernel takes. */
int vm_size(const struct config *config, const struct spec *spec, struct vm_size *ret,
	struct error *err);
