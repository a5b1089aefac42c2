/*
 * The pod's network on its way from netd to the guest. netd leaves before the
 * container runs, so what it has scanned is kept here, packed, until the guest's
 * agent can be told.
 */
#pragma once

#include "ipc/tables.h"
#include "ipc/vmmd.pb-c.h"
#include "shim-frontend/flow.h"

/* Eight links; 1,024 routes and as many neighbours, 64 to a part. */
#define NETWORK_PARTS_MAX 40
/* Ports for links that come late: each is a device that the guest's kernel must set up at every start. */
#define NETWORK_LATE_MAX 4

struct network {
	bool may_come; /* there was no link at Create: netd waits for Start */
	struct error failed; /* code set: links that came late could not be given to the VM */
	uint32_t n_links, n_parts;
	/* Of the calls of one step: how many are answered; the next: 1: asked, 0: none is left, -errno. */
	unsigned at;
	int (*next)(struct flow *f, struct error *err);
	unsigned seen; /* links that a part has described: a mask */
	struct {
		size_t len;
		uint8_t *data; /* ipc.NetworkPart */
	} part[NETWORK_PARTS_MAX];
	struct {
		uint8_t mac[6];
		uint32_t mtu;
	} nic[NETWORK_LINKS_MAX];
};

void network_done(struct network *n);

/* Steps of the first Create, or of the Start that follows it: of an rpc_flow. */
enum step_result network_step_scan(struct flow *f);   /* what is there */
enum step_result network_step_attach(struct flow *f); /* netd hands it to vmmd, and leaves */
enum step_result network_step_plug(struct flow *f);   /* into a VM that runs */
enum step_result network_step_guest(struct flow *f);  /* the guest's agent is told */

/* For LAUNCH. list and nics have room for NETWORK_LINKS_MAX, and live as long as request. */
void network_fill(struct network *n, Ipc__VmmdLaunch *request, Ipc__VmmdLaunch__Nic *nics,
	Ipc__VmmdLaunch__Nic **list);
