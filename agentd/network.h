/*
 * The pod's network, from the frontend's parts to the guest's agent:
 * UpdateInterface for each link, AddARPNeighbors, UpdateRoutes.
 */
#pragma once

#include <stdbool.h>

#include "agentd/agent_client.h"
#include "ipc/agentd.pb-c.h"

/* Eight links; 1,024 routes and as many neighbours, 64 to a part. */
#define NETWORK_PARTS_MAX 40

struct network {
	unsigned n_parts;
	Ipc__NetworkPart *part[NETWORK_PARTS_MAX];
	unsigned at; /* of the calls under way: part, then neighbours, then routes */
	struct agent_client *agent;
	void (*done)(void *ctx, const struct error *err);
	void *ctx;
};

/* Keeps a part. -EPROTO with err: no correct frontend sends this. */
int network_add(struct network *n, const Ipc__NetworkPart *part, struct error *err);

/* Tells the agent all of it; done is called once, later. 0, or -errno with err: it is not. */
int network_send(struct network *n, struct agent_client *agent,
	void (*done)(void *ctx, const struct error *err), void *ctx, struct error *err);

void network_done(struct network *n);
