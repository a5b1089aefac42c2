/* A network as messages. Pure. */
#pragma once

#include "ipc/netd.pb-c.h"
#include "netd/network.h"

#define PART_ITEMS_MAX 64 /* of routes or neighbours: with IPv6 everywhere still under IPC_PAYLOAD_MAX */

/* A part with room for what is in it. Its bytes are those of the network, which must live as long. */
struct part {
	Ipc__NetdPartReply reply;
	Ipc__NetworkPart msg;
	Ipc__NetworkLink link, *links[1];
	Ipc__NetworkAddress address[LINK_ADDRESSES_MAX], *addresses[LINK_ADDRESSES_MAX];
	Ipc__NetworkRoute route[PART_ITEMS_MAX], *routes[PART_ITEMS_MAX];
	Ipc__NetworkNeighbor neighbor[PART_ITEMS_MAX], *neighbors[PART_ITEMS_MAX];
};

/* One for each link, then routes and neighbours, so many to a part. */
unsigned network_parts(const struct network *n);

/* Fills *ret with part i of them. */
void network_part(const struct network *n, unsigned i, struct part *ret);
