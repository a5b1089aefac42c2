#include "agentd/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "agent.pb-c.h"
#include "common/log.h"
#include "ipc/tables.h"

#define NUD_PERMANENT_STATE 0x80 /* linux/neighbour.h: NUD_PERMANENT */

/* Texts of messages under construction: freed together. */
struct texts {
	size_t n, size;
	char **text;
};

static void texts_done(struct texts *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->text[i]);
	free(t->text);
}

/* Out of memory aborts: everything here is bounded by what the frontend may send. */
static void *need(void *p)
{
	if (!p)
		abort();
	return p;
}

static char *keep(struct texts *t, const char *text)
{
	if (t->n == t->size) {
		t->size = t->size ? 2 * t->size : 64;
		t->text = need(realloc(t->text, t->size * sizeof(*t->text)));
	}
	return t->text[t->n++] = need(strdup(text));
}

/* ---- texts of addresses ---- */

static bool is_inet(const ProtobufCBinaryData *a)
{
	return a->len == 4 || a->len == 16;
}

static char *inet_text(struct texts *t, const ProtobufCBinaryData *a)
{
	char text[INET6_ADDRSTRLEN] = "";

	if (is_inet(a))
		inet_ntop(a->len == 4 ? AF_INET : AF_INET6, a->data, text, sizeof(text));
	return keep(t, text);
}

static char *mac_text(struct texts *t, const ProtobufCBinaryData *m)
{
	char text[18];

	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", m->data[0], m->data[1],
		m->data[2], m->data[3], m->data[4], m->data[5]);
	return keep(t, text);
}

/* ---- parts ---- */

static bool is_good_link(const Ipc__NetworkLink *l)
{
	for (size_t i = 0; i < l->n_addresses; i++)
		if (!is_inet(&l->addresses[i]->address))
			return false;
	return l->index < NETWORK_LINKS_MAX && l->mac.len == 6 && l->name[0] &&
	       strlen(l->name) < IF_NAMESIZE;
}

int network_add(struct network *n, const Ipc__NetworkPart *part, struct error *err)
{
	size_t len;
	uint8_t *bytes;

	if (!part || n->n_parts == NETWORK_PARTS_MAX)
		return error_set(err, EPROTO, "%s", part ? "too many parts" : "an empty part");
	for (size_t i = 0; i < part->n_links; i++)
		if (!is_good_link(part->links[i]))
			return error_set(err, EPROTO, "a link that is none");
	for (size_t i = 0; i < part->n_neighbors; i++)
		if (part->neighbors[i]->mac.len != 6 || !is_inet(&part->neighbors[i]->address))
			return error_set(err, EPROTO, "a neighbour that is none");
	/* A copy of our own: the message goes when its handler returns. */
	len = ipc__network_part__get_packed_size(part);
	bytes = need(malloc(len + 1));
	ipc__network_part__pack(part, bytes);
	n->part[n->n_parts++] = need(ipc__network_part__unpack(NULL, len, bytes));
	free(bytes);
	return 0;
}

void network_done(struct network *n)
{
	for (unsigned i = 0; i < n->n_parts; i++)
		ipc__network_part__free_unpacked(n->part[i], NULL);
	*n = (struct network){ .n_parts = 0 };
}

/* The k-th link of all parts, or NULL. */
static const Ipc__NetworkLink *get_link(const struct network *n, unsigned k)
{
	for (unsigned i = 0; i < n->n_parts; i++) {
		if (k < n->part[i]->n_links)
			return n->part[i]->links[k];
		k -= (unsigned)n->part[i]->n_links;
	}
	return NULL;
}

/* The name of the link with this index; "" when no part has it: the agent says what is wrong. */
static char *link_name(const struct network *n, uint32_t index)
{
	const Ipc__NetworkLink *l;

	for (unsigned k = 0; (l = get_link(n, k)); k++)
		if (l->index == index)
			return l->name;
	return (char *)(uintptr_t)protobuf_c_empty_string;
}

/* ---- the calls ---- */

static int next(struct network *n, struct error *err);

static void finish(struct network *n, const struct error *err)
{
	void (*done)(void *ctx, const struct error *err) = n->done;
	void *ctx = n->ctx;

	network_done(n);
	done(ctx, err);
}

static void on_answer(void *ctx, ProtobufCMessage *reply, const struct error *failure)
{
	struct network *n = ctx;
	struct error err = ERROR_INIT;

	(void)reply;
	if (failure) {
		finish(n, failure);
		return;
	}
	n->at++;
	if (next(n, &err) < 0)
		finish(n, &err);
}

static int send_link(struct network *n, const Ipc__NetworkLink *l, struct error *err)
{
	CLEANUP(texts_done) struct texts t = { .n = 0 };
	Grpc__UpdateInterfaceRequest request = GRPC__UPDATE_INTERFACE_REQUEST__INIT;
	Types__Interface iface = TYPES__INTERFACE__INIT;
	_cleanup_free_ Types__IPAddress *address =
		need(calloc(l->n_addresses + 1, sizeof(*address)));
	_cleanup_free_ Types__IPAddress **list = need(calloc(l->n_addresses + 1, sizeof(*list)));
	char prefix[16];

	for (size_t i = 0; i < l->n_addresses; i++) {
		types__ipaddress__init(&address[i]);
		address[i].family = l->addresses[i]->address.len == 16 ? TYPES__IPFAMILY__v6
								       : TYPES__IPFAMILY__v4;
		address[i].address = inet_text(&t, &l->addresses[i]->address);
		snprintf(prefix, sizeof(prefix), "%u", l->addresses[i]->prefix);
		address[i].mask = keep(&t, prefix);
		address[i].scope = l->addresses[i]->scope;
		address[i].peer = inet_text(&t, &l->addresses[i]->peer);
		list[i] = &address[i];
	}
	iface.device = iface.name = l->name;
	iface.type = l->kind;
	iface.mtu = l->mtu;
	iface.hwaddr = mac_text(&t, &l->mac);
	iface.raw_flags = (uint32_t)((l->up ? IFF_UP : 0) | (l->noarp ? IFF_NOARP : 0));
	iface.n_ipaddresses = l->n_addresses;
	iface.ipaddresses = list;
	request.interface = &iface;
	return agent_call(n->agent, &agent_update_interface, &request.base, on_answer, n, NULL, err);
}

static int send_neighbors(struct network *n, size_t count, struct error *err)
{
	CLEANUP(texts_done) struct texts t = { .n = 0 };
	Grpc__AddARPNeighborsRequest request = GRPC__ADD_ARPNEIGHBORS_REQUEST__INIT;
	Grpc__ARPNeighbors neighbors = GRPC__ARPNEIGHBORS__INIT;
	_cleanup_free_ Types__ARPNeighbor *neighbor = need(calloc(count, sizeof(*neighbor)));
	_cleanup_free_ Types__IPAddress *address = need(calloc(count, sizeof(*address)));
	_cleanup_free_ Types__ARPNeighbor **list = need(calloc(count, sizeof(*list)));
	size_t at = 0;

	for (unsigned i = 0; i < n->n_parts; i++)
		for (size_t k = 0; k < n->part[i]->n_neighbors; k++, at++) {
			const Ipc__NetworkNeighbor *m = n->part[i]->neighbors[k];

			types__arpneighbor__init(&neighbor[at]);
			types__ipaddress__init(&address[at]);
			address[at].family = m->address.len == 16 ? TYPES__IPFAMILY__v6
								  : TYPES__IPFAMILY__v4;
			address[at].address = inet_text(&t, &m->address);
			neighbor[at].toipaddress = &address[at];
			neighbor[at].device = link_name(n, m->link);
			neighbor[at].lladdr = mac_text(&t, &m->mac);
			neighbor[at].state = NUD_PERMANENT_STATE;
			list[at] = &neighbor[at];
		}
	neighbors.n_arpneighbors = count;
	neighbors.arpneighbors = list;
	request.neighbors = &neighbors;
	return agent_call(n->agent, &agent_add_arp_neighbors, &request.base, on_answer, n, NULL,
		err);
}

static void fill_route(const struct network *n, const Ipc__NetworkRoute *m, Types__Route *r,
	struct texts *t)
{
	char dest[INET6_ADDRSTRLEN + 8] = "";

	types__route__init(r);
	if (is_inet(&m->dest))
		snprintf(dest, sizeof(dest), "%s/%u", inet_text(t, &m->dest), m->prefix);
	r->dest = keep(t, dest);
	r->gateway = inet_text(t, &m->gateway);
	r->source = inet_text(t, &m->source);
	r->device = link_name(n, m->link);
	r->scope = m->scope;
	r->family = m->ipv6 ? TYPES__IPFAMILY__v6 : TYPES__IPFAMILY__v4;
	r->flags = m->onlink ? RTNH_F_ONLINK : 0;
	r->mtu = m->mtu;
	r->metric = m->metric;
	r->protocol = m->protocol;
}

static int send_routes(struct network *n, size_t count, struct error *err)
{
	CLEANUP(texts_done) struct texts t = { .n = 0 };
	Grpc__UpdateRoutesRequest request = GRPC__UPDATE_ROUTES_REQUEST__INIT;
	Grpc__Routes routes = GRPC__ROUTES__INIT;
	_cleanup_free_ Types__Route *route = need(calloc(count + 1, sizeof(*route)));
	_cleanup_free_ Types__Route **list = need(calloc(count + 1, sizeof(*list)));
	size_t at = 0;

	for (unsigned i = 0; i < n->n_parts; i++)
		for (size_t k = 0; k < n->part[i]->n_routes; k++, at++) {
			fill_route(n, n->part[i]->routes[k], &route[at], &t);
			list[at] = &route[at];
		}
	routes.n_routes = count;
	routes.routes = list;
	request.routes = &routes;
	return agent_call(n->agent, &agent_update_routes, &request.base, on_answer, n, NULL, err);
}

static int next(struct network *n, struct error *err)
{
	size_t links = 0, neighbors = 0, routes = 0;

	for (unsigned i = 0; i < n->n_parts; i++) {
		links += n->part[i]->n_links;
		neighbors += n->part[i]->n_neighbors;
		routes += n->part[i]->n_routes;
	}
	if (n->at < links)
		return send_link(n, get_link(n, n->at), err);
	if (n->at == links && neighbors == 0)
		n->at++;
	if (n->at == links)
		return send_neighbors(n, neighbors, err);
	if (n->at == links + 1)
		return send_routes(n, routes, err);
	finish(n, NULL);
	return 0;
}

int network_send(struct network *n, struct agent_client *agent,
	void (*done)(void *ctx, const struct error *err), void *ctx, struct error *err)
{
	int r;

	n->at = 0;
	n->agent = agent;
	n->done = done;
	n->ctx = ctx;
	r = next(n, err);
	if (r < 0)
		network_done(n);
	return r;
}
