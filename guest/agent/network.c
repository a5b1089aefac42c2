#include "network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "job.h"
#include "netlink.h"

#define MAC_SIZE  6
#define LINKS_MAX 64
#define LIST_MAX  4096 /* what ListInterfaces and ListRoutes tell at most */

#define LINK_WAIT_MS 10000
#define LINK_POLL_MS 10

struct inet {
	uint8_t family, len;
	uint8_t bytes[16];
};

/* -- texts */

static int parse_inet(const char *text, struct inet *ret)
{
	*ret = (struct inet){ .family = AF_INET, .len = 4 };
	if (inet_pton(AF_INET, text, ret->bytes) == 1)
		return 0;
	*ret = (struct inet){ .family = AF_INET6, .len = 16 };
	return inet_pton(AF_INET6, text, ret->bytes) == 1 ? 0 : -1;
}

/* "0" to the family's width, nothing else. */
static int parse_prefix(const char *text, const struct inet *of, uint8_t *ret)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n > of->len * 8U)
		return -1;
	*ret = (uint8_t)n;
	return 0;
}

static int parse_mac(const char *text, uint8_t ret[MAC_SIZE])
{
	int end = 0;

	if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &ret[0], &ret[1], &ret[2],
	            &ret[3], &ret[4], &ret[5], &end) != MAC_SIZE ||
	        text[end])
		return -1;
	return 0;
}

/* -- links */

struct found_link {
	unsigned int ifindex, flags;
	uint32_t mtu;
	char name[IF_NAMESIZE];
	uint8_t mac[MAC_SIZE];
};

struct links {
	size_t n;
	struct found_link link[LINKS_MAX];
};

static void take_link(void *ctx, const struct nlmsghdr *h)
{
	const struct ifinfomsg *info = NLMSG_DATA(h);
	const struct rtattr *tb[IFLA_MAX + 1];
	struct links *links = ctx;
	struct found_link *l;

	if (h->nlmsg_type != RTM_NEWLINK || (info->ifi_flags & IFF_LOOPBACK) ||
	        links->n == LINKS_MAX)
		return;
	nl_attributes(h, sizeof(*info), tb, IFLA_MAX);
	if (!tb[IFLA_IFNAME] || !tb[IFLA_ADDRESS] || RTA_PAYLOAD(tb[IFLA_ADDRESS]) != MAC_SIZE)
		return;
	l = &links->link[links->n++];
	*l = (struct found_link){
		.ifindex = (unsigned int)info->ifi_index,
		.flags = info->ifi_flags,
		.mtu = nl_u32(tb[IFLA_MTU]),
	};
	(void)snprintf(l->name, sizeof(l->name), "%s", (const char *)RTA_DATA(tb[IFLA_IFNAME]));
	memcpy(l->mac, RTA_DATA(tb[IFLA_ADDRESS]), MAC_SIZE);
}

static int read_links(struct links *ret, struct error *err)
{
	const struct ifinfomsg info = { .ifi_family = AF_UNSPEC };
	struct nl_request r;

	ret->n = 0;
	nl_begin(&r, RTM_GETLINK, 0, &info, sizeof(info));
	errno = -nl_dump(&r, take_link, ret);
	return errno ? error_errno(err, "list the links") : 0;
}

static const struct found_link *link_by_mac(const struct links *links, const uint8_t *mac)
{
	for (size_t i = 0; i < links->n; i++)
		if (memcmp(links->link[i].mac, mac, MAC_SIZE) == 0)
			return &links->link[i];
	return NULL;
}

static const struct found_link *link_by_name(const struct links *links, const char *name)
{
	for (size_t i = 0; i < links->n; i++)
		if (strcmp(links->link[i].name, name) == 0)
			return &links->link[i];
	return NULL;
}

static int get_link(const struct links *links, const char *name, unsigned int *ret,
        struct error *err)
{
	const struct found_link *l = link_by_name(links, name);

	if (!l)
		return error_set(err, CODE_NOT_FOUND, "there is no link %.32s", name);
	*ret = l->ifindex;
	return 0;
}

static int set_flags(unsigned int ifindex, unsigned int flags, unsigned int change)
{
	const struct ifinfomsg info = {
		.ifi_index = (int)ifindex,
		.ifi_flags = flags,
		.ifi_change = change,
	};
	struct nl_request r;

	nl_begin(&r, RTM_NEWLINK, 0, &info, sizeof(info));
	return nl_ask(&r);
}

static int set_name_and_mtu(const struct found_link *l, const Types__Interface *want)
{
	const struct ifinfomsg info = { .ifi_index = (int)l->ifindex };
	struct nl_request r;

	nl_begin(&r, RTM_NEWLINK, 0, &info, sizeof(info));
	if (strcmp(l->name, want->name) != 0)
		nl_put(&r, IFLA_IFNAME, want->name, strlen(want->name) + 1);
	if (want->mtu > 0)
		nl_put_u32(&r, IFLA_MTU, (uint32_t)want->mtu);
	return nl_ask(&r);
}

/* The addresses are those we are told: the kernel adds none. Fails where there is no IPv6. */
static void no_own_address(unsigned int ifindex)
{
	const struct ifinfomsg info = { .ifi_index = (int)ifindex };
	const uint8_t none = IN6_ADDR_GEN_MODE_NONE;
	struct nl_request r;
	size_t spec, inet6;

	nl_begin(&r, RTM_NEWLINK, 0, &info, sizeof(info));
	spec = nl_nest(&r, IFLA_AF_SPEC);
	inet6 = nl_nest(&r, AF_INET6);
	nl_put(&r, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
	nl_end_nest(&r, inet6);
	nl_end_nest(&r, spec);
	(void)nl_ask(&r);
}

/* Its prefix's route is one of UpdateRoutes, if the pod has it. Nobody else can have the address. */
static int add_address(unsigned int ifindex, const Types__IPAddress *a, struct error *err)
{
	struct ifaddrmsg info = { .ifa_index = ifindex };
	struct inet local, peer = { .len = 0 };
	struct nl_request r;

	if (parse_inet(a->address, &local) < 0 || parse_prefix(a->mask, &local, &info.ifa_prefixlen) < 0 ||
	        (*a->peer && (parse_inet(a->peer, &peer) < 0 || peer.len != local.len)))
		return error_set(err, CODE_INVALID_ARGUMENT, "the address %.64s/%.16s is none",
		        a->address, a->mask);
	info.ifa_family = local.family;
	info.ifa_scope = (uint8_t)a->scope;
	nl_begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &info, sizeof(info));
	nl_put(&r, IFA_LOCAL, local.bytes, local.len);
	nl_put(&r, IFA_ADDRESS, peer.len ? peer.bytes : local.bytes, local.len);
	nl_put_u32(&r, IFA_FLAGS,
	        IFA_F_PERMANENT | IFA_F_NOPREFIXROUTE | (local.len == 16 ? IFA_F_NODAD : 0));
	errno = -nl_ask(&r);
	return errno ? error_errno(err, "add the address %.64s/%.16s", a->address, a->mask) : 0;
}

static int update(const Types__Interface *want, const struct found_link *l, struct error *err)
{
	const unsigned int noarp = want->raw_flags & IFF_NOARP;

	/* A link that is up keeps its name. */
	errno = -set_flags(l->ifindex, 0, IFF_UP);
	if (!errno)
		errno = -set_name_and_mtu(l, want);
	if (errno)
		return error_errno(err, "rename %s to %.32s with an MTU of %llu", l->name,
		        want->name, (unsigned long long)want->mtu);
	no_own_address(l->ifindex);
	errno = -set_flags(l->ifindex, noarp | (want->raw_flags & IFF_UP), IFF_NOARP | IFF_UP);
	if (errno)
		return error_errno(err, "bring %.32s up", want->name);
	for (size_t i = 0; i < want->n_ipaddresses; i++)
		if (add_address(l->ifindex, want->ipaddresses[i], err) < 0)
			return -1;
	return 0;
}

/* By its MAC address: -1 with *err set also when there is no such link yet. */
static int find_and_update(const Types__Interface *want, struct error *err)
{
	const struct found_link *l;
	static struct links links;
	uint8_t mac[MAC_SIZE];

	if (parse_mac(want->hwaddr, mac) < 0 || read_links(&links, err) < 0)
		return -1;
	l = link_by_mac(&links, mac);
	if (!l)
		return error_set(err, CODE_NOT_FOUND, "no link has the MAC address %.32s",
		        want->hwaddr);
	return update(want, l, err);
}

/* In a child: a NIC that has just been plugged in takes its time to show. */
static int wait_and_update(const void *arg, struct job_report *report, struct error *err)
{
	int r = -1;

	(void)report;
	err->code = CODE_NOT_FOUND;
	for (int ms = 0; r < 0 && err->code == CODE_NOT_FOUND && ms < LINK_WAIT_MS;
	        ms += LINK_POLL_MS) {
		(void)usleep(LINK_POLL_MS * 1000);
		r = find_and_update(arg, err);
	}
	return r;
}

static void wait_done(
        void *owner, uint32_t stream, struct job_report *report, const struct error *err)
{
	(void)report;
	if (err)
		rpc_reply_error(stream, err);
	else
		rpc_reply(stream, owner);
	protobuf_c_message_free_unpacked(owner, NULL);
}

/* Of a message that is freed when its handler returns. */
static Types__Interface *copy_of(const Types__Interface *i)
{
	size_t len = types__interface__get_packed_size(i);
	uint8_t *bytes = malloc(len + 1);
	Types__Interface *copy = NULL;

	if (bytes) {
		types__interface__pack(i, bytes);
		copy = types__interface__unpack(NULL, len, bytes);
	}
	free(bytes);
	return copy;
}

static void update_when_there(uint32_t stream, const Types__Interface *want)
{
	const struct job_spec spec = {
		.work = wait_and_update,
		.arg = want,
		.timeout_s = 2 * LINK_WAIT_MS / 1000,
		.done = wait_done,
		.owner = copy_of(want),
		.stream = stream,
	};
	struct error err;

	if (!spec.owner) {
		rpc_fail(stream, CODE_INTERNAL, "out of memory");
	} else if (!job_start(&spec, &err)) {
		rpc_reply_error(stream, &err);
		protobuf_c_message_free_unpacked(spec.owner, NULL);
	}
}

void update_interface(uint32_t stream, const ProtobufCMessage *message)
{
	const Types__Interface *want = ((const Grpc__UpdateInterfaceRequest *)message)->interface;
	uint8_t mac[MAC_SIZE];
	struct error err;

	if (!want || parse_mac(want->hwaddr, mac) < 0 || !*want->name ||
	        strlen(want->name) >= IF_NAMESIZE || want->mtu > UINT32_MAX) {
		rpc_fail(stream, CODE_INVALID_ARGUMENT, "not an interface");
		return;
	}
	if (find_and_update(want, &err) == 0)
		rpc_reply(stream, &want->base);
	else if (err.code == CODE_NOT_FOUND)
		update_when_there(stream, want);
	else
		rpc_reply_error(stream, &err);
}

/* -- routes */

/* "" is the default route of the family. */
static int parse_dest(const Types__Route *route, struct inet *ret, uint8_t *ret_prefix)
{
	char text[64];
	char *slash;

	if (!*route->dest) {
		*ret = (struct inet){ .len = route->family == TYPES__IPFAMILY__v6 ? 16 : 4 };
		ret->family = ret->len == 16 ? AF_INET6 : AF_INET;
		*ret_prefix = 0;
		return 0;
	}
	if (strlen(route->dest) >= sizeof(text))
		return -1;
	(void)snprintf(text, sizeof(text), "%s", route->dest);
	slash = strchr(text, '/');
	if (slash)
		*slash = '\0';
	if (parse_inet(text, ret) < 0)
		return -1;
	*ret_prefix = (uint8_t)(ret->len * 8);
	return slash ? parse_prefix(slash + 1, ret, ret_prefix) : 0;
}

static int put_inet(struct nl_request *r, uint16_t type, const char *text, uint8_t len)
{
	struct inet i;

	if (!*text)
		return 0;
	if (parse_inet(text, &i) < 0 || i.len != len)
		return -1;
	nl_put(r, type, i.bytes, i.len);
	return 0;
}

static int add_route(const struct links *links, const Types__Route *route, struct error *err)
{
	struct rtmsg info = {
		.rtm_table = RT_TABLE_MAIN,
		.rtm_type = RTN_UNICAST,
		.rtm_scope = (uint8_t)route->scope,
		.rtm_protocol = route->protocol ? (uint8_t)route->protocol : RTPROT_BOOT,
		.rtm_flags = route->flags & RTNH_F_ONLINK,
	};
	const char *dest = *route->dest ? route->dest : "default";
	struct nl_request r;
	struct inet to;
	unsigned int ifindex = 0;
	size_t metrics;

	if (get_link(links, route->device, &ifindex, err) < 0)
		return -1;
	if (parse_dest(route, &to, &info.rtm_dst_len) < 0)
		return error_set(err, CODE_INVALID_ARGUMENT, "'%.64s' is no destination", dest);
	info.rtm_family = to.family;
	nl_begin(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, &info, sizeof(info));
	if (info.rtm_dst_len > 0 || *route->dest)
		nl_put(&r, RTA_DST, to.bytes, to.len);
	nl_put_u32(&r, RTA_OIF, ifindex);
	if (put_inet(&r, RTA_GATEWAY, route->gateway, to.len) < 0 ||
	        put_inet(&r, RTA_PREFSRC, route->source, to.len) < 0)
		return error_set(err, CODE_INVALID_ARGUMENT,
		        "the route to %.64s: gateway '%.64s' or source '%.64s' is wrong", dest,
		        route->gateway, route->source);
	if (route->metric > 0)
		nl_put_u32(&r, RTA_PRIORITY, route->metric);
	if (route->mtu > 0) {
		metrics = nl_nest(&r, RTA_METRICS);
		nl_put_u32(&r, RTAX_MTU, route->mtu);
		nl_end_nest(&r, metrics);
	}
	errno = -nl_ask(&r);
	if (errno && errno != EEXIST)
		return error_errno(err, "add the route to %.64s%s%.64s", dest,
		        *route->gateway ? " via " : "", route->gateway);
	return 0;
}

/* Those with a gateway need the way there first. */
static int add_routes(const struct links *links, const Grpc__Routes *routes, bool with_gateway,
        struct error *err)
{
	for (size_t i = 0; i < routes->n_routes; i++)
		if ((*routes->routes[i]->gateway != '\0') == with_gateway &&
		        add_route(links, routes->routes[i], err) < 0)
			return -1;
	return 0;
}

/* Every route of table main that a link has by now: what the kernel added, or an earlier request. */
static void take_old_route(void *ctx, const struct nlmsghdr *h)
{
	const struct rtmsg *info = NLMSG_DATA(h);
	const struct links *links = ctx;
	const struct rtattr *tb[RTA_MAX + 1];
	struct nl_request r;

	if (h->nlmsg_type != RTM_NEWROUTE || h->nlmsg_len > sizeof(r.bytes))
		return;
	nl_attributes(h, sizeof(*info), tb, RTA_MAX);
	if (nl_u32(tb[RTA_TABLE]) != RT_TABLE_MAIN || info->rtm_type != RTN_UNICAST ||
	        (info->rtm_flags & RTM_F_CLONED))
		return;
	for (size_t i = 0; i < links->n; i++)
		if (links->link[i].ifindex == nl_u32(tb[RTA_OIF])) {
			memcpy(r.bytes, h, h->nlmsg_len);
			r.hdr.nlmsg_type = RTM_DELROUTE;
			r.hdr.nlmsg_flags = NLM_F_REQUEST;
			(void)nl_ask(&r);
			return;
		}
}

static int remove_routes(struct links *links, struct error *err)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };

	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		const struct rtmsg info = { .rtm_family = families[i] };
		struct nl_request r;

		nl_begin(&r, RTM_GETROUTE, 0, &info, sizeof(info));
		errno = -nl_dump(&r, take_old_route, links);
		if (errno)
			return error_errno(err, "list the routes");
	}
	return 0;
}

void update_routes(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__Routes *routes = ((const Grpc__UpdateRoutesRequest *)message)->routes;
	static struct links links;
	struct error err;

	if (!routes) {
		rpc_fail(stream, CODE_INVALID_ARGUMENT, "no routes");
		return;
	}
	if (read_links(&links, &err) < 0 || remove_routes(&links, &err) < 0 ||
	        add_routes(&links, routes, false, &err) < 0 ||
	        add_routes(&links, routes, true, &err) < 0)
		rpc_reply_error(stream, &err);
	else
		rpc_reply(stream, &routes->base);
}

/* -- neighbours */

static int add_neighbor(const struct links *links, const Types__ARPNeighbor *n, struct error *err)
{
	struct ndmsg info = { .ndm_state = NUD_PERMANENT };
	unsigned int ifindex = 0;
	uint8_t mac[MAC_SIZE];
	struct nl_request r;
	struct inet to;

	if (!n->toipaddress || parse_inet(n->toipaddress->address, &to) < 0 ||
	        parse_mac(n->lladdr, mac) < 0)
		return error_set(err, CODE_INVALID_ARGUMENT, "not a neighbour");
	if (get_link(links, n->device, &ifindex, err) < 0)
		return -1;
	info.ndm_family = to.family;
	info.ndm_ifindex = (int)ifindex;
	nl_begin(&r, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &info, sizeof(info));
	nl_put(&r, NDA_DST, to.bytes, to.len);
	nl_put(&r, NDA_LLADDR, mac, sizeof(mac));
	errno = -nl_ask(&r);
	return errno ? error_errno(err, "add the neighbour %.64s", n->toipaddress->address) : 0;
}

void add_arp_neighbors(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__ARPNeighbors *list = ((const Grpc__AddARPNeighborsRequest *)message)->neighbors;
	static struct links links;
	struct error err;

	if (read_links(&links, &err) < 0) {
		rpc_reply_error(stream, &err);
		return;
	}
	for (size_t i = 0; list && i < list->n_arpneighbors; i++)
		if (add_neighbor(&links, list->arpneighbors[i], &err) < 0) {
			rpc_reply_error(stream, &err);
			return;
		}
	rpc_reply_empty(stream);
}

/* -- lists. What they point to lives until the answer is sent: in texts, all freed at once. */

struct texts {
	size_t n;
	char *text[LIST_MAX * 5];
};

static char *keep(struct texts *t, char *text)
{
	if (t->n < ARRAY_SIZE(t->text))
		t->text[t->n++] = text;
	return text;
}

static char *inet_text(struct texts *t, const struct rtattr *a)
{
	char text[INET6_ADDRSTRLEN] = "";

	if (a && (RTA_PAYLOAD(a) == 4 || RTA_PAYLOAD(a) == 16))
		(void)inet_ntop(RTA_PAYLOAD(a) == 4 ? AF_INET : AF_INET6, RTA_DATA(a), text,
		        sizeof(text));
	return keep(t, xstrdup(text));
}

static struct list {
	struct texts texts;
	struct links links;
	size_t n_interfaces, n_addresses, n_routes;
	Types__Interface interface[LINKS_MAX], *interfaces[LINKS_MAX];
	Types__IPAddress address[LIST_MAX], *addresses[LINKS_MAX][64];
	Types__Route route[LIST_MAX], *routes[LIST_MAX];
} list;

static void list_done(void)
{
	for (size_t i = 0; i < list.texts.n; i++)
		free(list.texts.text[i]);
	list.texts.n = list.n_interfaces = list.n_addresses = list.n_routes = 0;
}

static int link_index(unsigned int ifindex)
{
	for (size_t i = 0; i < list.links.n; i++)
		if (list.links.link[i].ifindex == ifindex)
			return (int)i;
	return -1;
}

static void take_address(void *ctx, const struct nlmsghdr *h)
{
	const struct ifaddrmsg *info = NLMSG_DATA(h);
	const struct rtattr *tb[IFA_MAX + 1];
	Types__Interface *iface;
	Types__IPAddress *a;
	int i = link_index(info->ifa_index);

	(void)ctx;
	if (h->nlmsg_type != RTM_NEWADDR || i < 0 || list.n_addresses == LIST_MAX)
		return;
	iface = &list.interface[i];
	if (iface->n_ipaddresses == ARRAY_SIZE(list.addresses[0]))
		return;
	nl_attributes(h, sizeof(*info), tb, IFA_MAX);
	a = &list.address[list.n_addresses++];
	types__ipaddress__init(a);
	a->family = info->ifa_family == AF_INET6 ? TYPES__IPFAMILY__v6 : TYPES__IPFAMILY__v4;
	a->address = inet_text(&list.texts, tb[IFA_LOCAL] ? tb[IFA_LOCAL] : tb[IFA_ADDRESS]);
	a->mask = keep(&list.texts, xasprintf("%u", info->ifa_prefixlen));
	a->scope = info->ifa_scope;
	list.addresses[i][iface->n_ipaddresses++] = a;
}

void list_interfaces(uint32_t stream, const ProtobufCMessage *message)
{
	const struct ifaddrmsg info = { .ifa_family = AF_UNSPEC };
	Grpc__Interfaces reply = GRPC__INTERFACES__INIT;
	struct nl_request r;
	struct error err;

	(void)message;
	if (read_links(&list.links, &err) < 0) {
		rpc_reply_error(stream, &err);
		return;
	}
	for (size_t i = 0; i < list.links.n; i++) {
		const struct found_link *l = &list.links.link[i];
		Types__Interface *iface = list.interfaces[i] = &list.interface[i];

		types__interface__init(iface);
		iface->name = iface->device = keep(&list.texts, xstrdup(l->name));
		iface->mtu = l->mtu;
		iface->raw_flags = l->flags;
		iface->hwaddr = keep(&list.texts,
		        xasprintf("%02x:%02x:%02x:%02x:%02x:%02x", l->mac[0], l->mac[1], l->mac[2],
		                l->mac[3], l->mac[4], l->mac[5]));
		iface->ipaddresses = list.addresses[i];
	}
	nl_begin(&r, RTM_GETADDR, 0, &info, sizeof(info));
	(void)nl_dump(&r, take_address, NULL);
	reply.n_interfaces = list.links.n;
	reply.interfaces = list.interfaces;
	rpc_reply(stream, &reply.base);
	list_done();
}

static void take_route(void *ctx, const struct nlmsghdr *h)
{
	const struct rtmsg *info = NLMSG_DATA(h);
	const struct rtattr *tb[RTA_MAX + 1], *metrics[RTAX_MAX + 1];
	Types__Route *route;
	int i;

	(void)ctx;
	nl_attributes(h, sizeof(*info), tb, RTA_MAX);
	i = link_index(nl_u32(tb[RTA_OIF]));
	if (h->nlmsg_type != RTM_NEWROUTE || i < 0 || list.n_routes == LIST_MAX ||
	        nl_u32(tb[RTA_TABLE]) != RT_TABLE_MAIN || info->rtm_type != RTN_UNICAST)
		return;
	nl_nested(tb[RTA_METRICS], metrics, RTAX_MAX);
	route = list.routes[list.n_routes] = &list.route[list.n_routes];
	list.n_routes++;
	types__route__init(route);
	route->family = info->rtm_family == AF_INET6 ? TYPES__IPFAMILY__v6 : TYPES__IPFAMILY__v4;
	route->device = list.links.link[i].name;
	route->dest = tb[RTA_DST] ? keep(&list.texts,
	                                    xasprintf("%s/%u", inet_text(&list.texts, tb[RTA_DST]),
	                                            info->rtm_dst_len))
	                          : keep(&list.texts, xstrdup(""));
	route->gateway = inet_text(&list.texts, tb[RTA_GATEWAY]);
	route->source = inet_text(&list.texts, tb[RTA_PREFSRC]);
	route->scope = info->rtm_scope;
	route->flags = info->rtm_flags & RTNH_F_ONLINK;
	route->metric = nl_u32(tb[RTA_PRIORITY]);
	route->mtu = nl_u32(metrics[RTAX_MTU]);
	route->protocol = info->rtm_protocol;
}

void list_routes(uint32_t stream, const ProtobufCMessage *message)
{
	static const uint8_t families[] = { AF_INET, AF_INET6 };
	Grpc__Routes reply = GRPC__ROUTES__INIT;
	struct error err;

	(void)message;
	if (read_links(&list.links, &err) < 0) {
		rpc_reply_error(stream, &err);
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		const struct rtmsg info = { .rtm_family = families[i] };
		struct nl_request r;

		nl_begin(&r, RTM_GETROUTE, 0, &info, sizeof(info));
		(void)nl_dump(&r, take_route, NULL);
	}
	reply.n_routes = list.n_routes;
	reply.routes = list.routes;
	rpc_reply(stream, &reply.base);
	list_done();
}
