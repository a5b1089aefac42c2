/* What a container uses, as containerd reads it. */
#pragma once

#include "ipc/agentd.pb-c.h"
#include "shim-frontend/ttrpc.h"

/* Answers Stats: as a host with cgroup v1 would say it, or one with v2. */
void metrics_reply(struct rpc *rpc, const Ipc__AgentdStatsReply *stats, bool v1);
