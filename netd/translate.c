#include "netd/translate.h"

#include <net/if.h>

static ProtobufCBinaryData bytes_of(const struct inet *i)
{
	return (ProtobufCBinaryData){ i->len, (uint8_t *)(uintptr_t)i->bytes };
}

static ProtobufCBinaryData mac_of(const uint8_t mac[MAC_SIZE])
{
	return (ProtobufCBinaryData){ MAC_SIZE, (uint8_t *)(uintptr_t)mac };
}

static void add_link(const struct network *n, unsigned i, struct part *p)
{
	const struct link *l = &n->links[i];

	ipc__network_link__init(&p->link);
	p->link.index = i;
	p->link.name = (char *)(uintptr_t)l->name;
	p->link.kind = (char *)(uintptr_t)l->kind;
	p->link.mac = mac_of(l->mac);
	p->link.mtu = l->mtu;
	p->link.up = l->flags & IFF_UP;
	p->link.noarp = l->flags & IFF_NOARP;
	for (size_t k = 0; k < l->n_addresses; k++) {
		ipc__network_address__init(&p->address[k]);
		p->address[k].address = bytes_of(&l->addresses[k].local);
		p->address[k].peer = bytes_of(&l->addresses[k].peer);
		p->address[k].prefix = l->addresses[k].prefix;
		p->address[k].scope = l->addresses[k].scope;
		p->addresses[k] = &p->address[k];
	}
	p->link.n_addresses = l->n_addresses;
	p->link.addresses = p->addresses;
	p->links[0] = &p->link;
	p->msg.n_links = 1;
	p->msg.links = p->links;
}

static void add_route(const struct route *r, struct part *p)
{
	Ipc__NetworkRoute *m = &p->route[p->msg.n_routes];

	ipc__network_route__init(m);
	m->link = r->link;
	m->ipv6 = r->ipv6;
	m->dest = bytes_of(&r->dest);
	m->prefix = r->prefix;
	m->gateway = bytes_of(&r->gateway);
	m->source = bytes_of(&r->source);
	m->scope = r->scope;
	m->metric = r->metric;
	m->mtu = r->mtu;
	m->onlink = r->onlink;
	m->protocol = r->protocol;
	p->routes[p->msg.n_routes++] = m;
	p->msg.routes = p->routes;
}

static void add_neighbor(const struct neighbor *n, struct part *p)
{
	Ipc__NetworkNeighbor *m = &p->neighbor[p->msg.n_neighbors];

	ipc__network_neighbor__init(m);
	m->link = n->link;
	m->address = bytes_of(&n->address);
	m->mac = mac_of(n->mac);
	p->neighbors[p->msg.n_neighbors++] = m;
	p->msg.neighbors = p->neighbors;
}

static size_t parts_of(size_t items)
{
	return (items + PART_ITEMS_MAX - 1) / PART_ITEMS_MAX;
}

unsigned network_parts(const struct network *n)
{
	return (unsigned)(n->n_links + parts_of(n->n_routes) + parts_of(n->n_neighbors));
}

void network_part(const struct network *n, unsigned i, struct part *ret)
{
	size_t part = i, routes = parts_of(n->n_routes);

	ipc__netd_part_reply__init(&ret->reply);
	ipc__network_part__init(&ret->msg);
	ret->reply.part = &ret->msg;
	if (part < n->n_links) {
		add_link(n, i, ret);
		return;
	}
	part -= n->n_links;
	if (part < routes) {
		for (size_t k = part * PART_ITEMS_MAX;
			k < n->n_routes && k < (part + 1) * PART_ITEMS_MAX; k++)
			add_route(&n->routes[k], ret);
		return;
	}
	part -= routes;
	for (size_t k = part * PART_ITEMS_MAX;
		k < n->n_neighbors && k < (part + 1) * PART_ITEMS_MAX; k++)
		add_neighbor(&n->neighbors[k], ret);
}
