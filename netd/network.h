/*
 * What a pod's network namespace holds, as far as a guest can have it: links,
 * their addresses, the routes of table main and the permanent neighbours.
 * scan.c fills it, translate.c makes messages of it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "ipc/tables.h"

#define LINK_NAME_MAX 16 /* IFNAMSIZ */
#define LINK_KIND_MAX 32
#define MAC_SIZE      6

/* More than these is refused, with a sentence. */
#define LINK_ADDRESSES_MAX 32
#define ROUTES_MAX	   1024
#define NEIGHBORS_MAX	   1024

/* As it is on the wire. len 0: none; 4: IPv4; 16: IPv6. */
struct inet {
	uint8_t len;
	uint8_t bytes[16];
};

struct address {
	struct inet local, peer;
	uint8_t prefix, scope;
};

/* Both texts are printable ASCII here; a name with anything else has odd_name. */
struct link {
	unsigned ifindex;
	char name[LINK_NAME_MAX];
	char kind[LINK_KIND_MAX]; /* IFLA_INFO_KIND: "veth", ...; "" for a plain device */
	bool odd_name;
	bool ethernet;
	unsigned flags; /* IFF_* */
	uint32_t mtu;
	uint8_t mac[MAC_SIZE];
	size_t n_addresses;
	struct address addresses[LINK_ADDRESSES_MAX];
};

struct route {
	unsigned link; /* an index into links */
	bool ipv6, onlink;
	struct inet dest, gateway, source;
	uint8_t prefix, scope, protocol;
	uint32_t metric, mtu;
};

struct neighbor {
	unsigned link;
	struct inet address;
	uint8_t mac[MAC_SIZE];
};

struct network {
	uint32_t own_group; /* macvtaps of this group are netd's, not the pod's; 0: there are none */
	size_t n_links; /* how many there are: more than NETWORK_LINKS_MAX, and only the first are here */
	struct link links[NETWORK_LINKS_MAX];
	size_t n_routes, n_neighbors;
	size_t left_out; /* routes that a guest cannot be given: of another type, with several next hops */
	struct route routes[ROUTES_MAX];
	struct neighbor neighbors[NEIGHBORS_MAX];
};

/* "the link eth0 (veth)", "the links eth0 (veth), eth1 (vlan) and 7 more". Cut to fit. */
void network_describe(const struct network *n, char *text, size_t size);

/* Whether a link of this name is what a VM has: a namespace has one VM, the next would take its links. */
bool network_is_tap(const char *name);

/* Whether every link can be given to the VM: 0, or -EOPNOTSUPP with err naming link and kind. */
int network_check(const struct network *n, struct error *err);
