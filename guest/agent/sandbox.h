/* Requests about the sandbox and the guest as a whole. */
#pragma once

#include <stdbool.h>

#include "rpc.h"

#define AGENT_VERSION "1.0.0"

/* Before anything can be plugged. */
void sandbox_init(void);
/* True once CreateSandbox was accepted: containers may follow. */
bool sandbox_exists(void);

rpc_handler create_sandbox, destroy_sandbox;
rpc_handler get_guest_details, online_cpu_mem;
rpc_handler health_check, health_version;
