/* One Create on its way. */
#pragma once

#include "shim-frontend/flow.h"
#include "shim-frontend/frontend.h"

#define MOUNTS_MAX 64

struct create_flow {
	struct rpc_flow op; /* first: see create_flow_of() */
	struct container *container;
	struct create_flow *next;
	struct vm_waiter vm_waiter;
	bool first; /* of the sandbox: starts the VM */
	bool pod;   /* others may come */
	int64_t agent_by; /* clock_ms() when the guest's agent must have said hello */
};

static inline struct create_flow *create_flow_of(struct flow *f)
{
	return (struct create_flow *)f;
}
