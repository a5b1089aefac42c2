#include "netd/scan.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netlink/attr.h>
#include <string.h>
#include <sys/socket.h>

#include "common/log.h"

#define SCAN_TRIES 16

/* ---- attributes: the kernel's, but whoever made the link has chosen what is in them ---- */

/* Names may hold any byte but '/', ':' and white space; these go into sentences for people. */
static bool copy_printable(char *to, size_t size, const struct nlattr *a)
{
	size_t len = a ? strnlen(nla_data(a), (size_t)nla_len(a)) : 0;
	bool same = len < size;

	if (len >= size)
		len = size - 1;
	for (size_t i = 0; i < len; i++) {
		char c = ((const char *)nla_data(a))[i];

		to[i] = c > ' ' && c <= '~' ? c : '?';
		same &= to[i] == c;
	}
	to[len] = '\0';
	return same;
}

static uint32_t u32_of(const struct nlattr *a)
{
	return a && nla_len(a) >= (int)sizeof(uint32_t) ? nla_get_u32(a) : 0;
}

static struct inet inet_of(const struct nlattr *a)
{
	struct inet i = { .len = 0 };

	if (a && (nla_len(a) == 4 || nla_len(a) == 16)) {
		i.len = (uint8_t)nla_len(a);
		memcpy(i.bytes, nla_data(a), i.len);
	}
	return i;
}

static int too_short(struct error *err, const char *what)
{
	return error_set(err, EPROTO, "the kernel's message about %s is too short", what);
}

/* ---- links ---- */

static const struct nlattr *info_kind(struct nlattr *linkinfo)
{
	struct nlattr *tb[IFLA_INFO_MAX + 1];

	if (!linkinfo || nla_parse_nested(tb, IFLA_INFO_MAX, linkinfo, NULL) < 0)
		return NULL;
	return tb[IFLA_INFO_KIND];
}

/*
 * Where these modules are loaded (an IPIP overlay of the node, say) the kernel
 * puts one of each into every new namespace. Nobody has set them up, as long
 * as they are down.
 */
static bool is_fallback(const struct link *link)
{
	static const char *const devices[][2] = {
		{ "tunl0", "ipip" },	   { "sit0", "sit" },	      { "gre0", "gre" },
		{ "gretap0", "gretap" },   { "erspan0", "erspan" },   { "ip_vti0", "vti" },
		{ "ip6_vti0", "vti6" },	   { "ip6tnl0", "ip6tnl" },   { "ip6gre0", "ip6gre" },
	};

	if (link->flags & IFF_UP)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
		if (strcmp(link->name, devices[i][0]) == 0 &&
			strcmp(link->kind, devices[i][1]) == 0)
			return true;
	return false;
}

static int take_link(const struct nlmsghdr *h, void *ctx, struct error *err)
{
	const struct ifinfomsg *info = nlmsg_data(h);
	struct nlattr *tb[IFLA_MAX + 1];
	struct network *n = ctx;
	struct link link = { .ifindex = 0 };

	if (h->nlmsg_type != RTM_NEWLINK)
		return 0;
	if (nlmsg_parse((struct nlmsghdr *)(uintptr_t)h, sizeof(*info), tb, IFLA_MAX, NULL) < 0)
		return too_short(err, "a link");
	/* By its flag: another device could be called lo. */
	if (info->ifi_flags & IFF_LOOPBACK)
		return 0;
	link.ifindex = (unsigned)info->ifi_index;
	link.flags = info->ifi_flags;
	link.odd_name = !copy_printable(link.name, sizeof(link.name), tb[IFLA_IFNAME]);
	copy_printable(link.kind, sizeof(link.kind), info_kind(tb[IFLA_LINKINFO]));
	link.mtu = u32_of(tb[IFLA_MTU]);
	link.ethernet = info->ifi_type == ARPHRD_ETHER && tb[IFLA_ADDRESS] &&
			nla_len(tb[IFLA_ADDRESS]) == MAC_SIZE;
	if (link.ethernet)
		memcpy(link.mac, nla_data(tb[IFLA_ADDRESS]), MAC_SIZE);
	if (n->own_group && tb[IFLA_GROUP] && u32_of(tb[IFLA_GROUP]) == n->own_group &&
		network_is_tap(link.name))
		return 0;
	if (is_fallback(&link)) {
		log_debug("%s (%s) is down and not the pod's: left out", link.name, link.kind);
		return 0;
	}
	if (n->n_links < NETWORK_LINKS_MAX)
		n->links[n->n_links] = link;
	n->n_links++;
	return 0;
}

/* The index in links, or -1. */
static int find_link(const struct network *n, unsigned ifindex)
{
	for (size_t i = 0; i < n->n_links; i++)
		if (n->links[i].ifindex == ifindex)
			return (int)i;
	return -1;
}

/* ---- addresses ---- */

static int take_address(const struct nlmsghdr *h, void *ctx, struct error *err)
{
	const struct ifaddrmsg *info = nlmsg_data(h);
	struct nlattr *tb[IFA_MAX + 1];
	struct network *n = ctx;
	struct address a = { .prefix = 0 };
	struct link *link;
	int i;

	if (h->nlmsg_type != RTM_NEWADDR)
		return 0;
	if (nlmsg_parse((struct nlmsghdr *)(uintptr_t)h, sizeof(*info), tb, IFA_MAX, NULL) < 0)
		return too_short(err, "an address");
	i = find_link(n, info->ifa_index);
	if (i < 0)
		return 0;
	link = &n->links[i];
	if (link->n_addresses == LINK_ADDRESSES_MAX)
		return error_set(err, E2BIG, "the link %s has more than %d addresses", link->name,
			LINK_ADDRESSES_MAX);
	/* Of a point to point address IFA_ADDRESS is the other side; IPv6 has IFA_LOCAL only there. */
	a.local = inet_of(tb[IFA_LOCAL] ? tb[IFA_LOCAL] : tb[IFA_ADDRESS]);
	a.peer = inet_of(tb[IFA_ADDRESS]);
	if (a.local.len == 0)
		return 0;
	if (memcmp(&a.local, &a.peer, sizeof(a.local)) == 0)
		a.peer.len = 0;
	a.prefix = info->ifa_prefixlen;
	a.scope = info->ifa_scope;
	link->addresses[link->n_addresses++] = a;
	return 0;
}

/* ---- routes ---- */

static uint32_t metric_mtu(struct nlattr *metrics)
{
	struct nlattr *tb[RTAX_MAX + 1];

	if (!metrics || nla_parse_nested(tb, RTAX_MAX, metrics, NULL) < 0)
		return 0;
	return u32_of(tb[RTAX_MTU]);
}

static int take_route(const struct nlmsghdr *h, void *ctx, struct error *err)
{
	const struct rtmsg *info = nlmsg_data(h);
	struct nlattr *tb[RTA_MAX + 1];
	struct network *n = ctx;
	struct route *route;
	int i;

	if (h->nlmsg_type != RTM_NEWROUTE)
		return 0;
	if (nlmsg_parse((struct nlmsghdr *)(uintptr_t)h, sizeof(*info), tb, RTA_MAX, NULL) < 0)
		return too_short(err, "a route");
	if ((tb[RTA_TABLE] ? u32_of(tb[RTA_TABLE]) : info->rtm_table) != RT_TABLE_MAIN ||
		(info->rtm_flags & RTM_F_CLONED))
		return 0;
	if (tb[RTA_MULTIPATH] || tb[RTA_VIA] || tb[RTA_ENCAP] || info->rtm_type != RTN_UNICAST ||
		info->rtm_tos != 0 || info->rtm_src_len != 0) {
		n->left_out++;
		return 0;
	}
	i = find_link(n, u32_of(tb[RTA_OIF]));
	if (i < 0)
		return 0;
	if (n->n_routes == ROUTES_MAX)
		return error_set(err, E2BIG, "the pod has more than %d routes", ROUTES_MAX);
	route = &n->routes[n->n_routes++];
	*route = (struct route){
		.link = (unsigned)i,
		.ipv6 = info->rtm_family == AF_INET6,
		.onlink = info->rtm_flags & RTNH_F_ONLINK,
		.dest = inet_of(tb[RTA_DST]),
		.gateway = inet_of(tb[RTA_GATEWAY]),
		.source = inet_of(tb[RTA_PREFSRC]),
		.prefix = info->rtm_dst_len,
		.scope = info->rtm_scope,
		.protocol = info->rtm_protocol,
		.metric = u32_of(tb[RTA_PRIORITY]),
		.mtu = metric_mtu(tb[RTA_METRICS]),
	};
	return 0;
}

/* ---- neighbours ---- */

static int take_neighbor(const struct nlmsghdr *h, void *ctx, struct error *err)
{
	const struct ndmsg *info = nlmsg_data(h);
	struct nlattr *tb[NDA_MAX + 1];
	struct network *n = ctx;
	struct neighbor *neighbor;
	int i;

	if (h->nlmsg_type != RTM_NEWNEIGH)
		return 0;
	if (nlmsg_parse((struct nlmsghdr *)(uintptr_t)h, sizeof(*info), tb, NDA_MAX, NULL) < 0)
		return too_short(err, "a neighbour");
	i = find_link(n, (unsigned)info->ndm_ifindex);
	if (i < 0 || !(info->ndm_state & NUD_PERMANENT) || (info->ndm_flags & NTF_PROXY) ||
		!tb[NDA_LLADDR] || nla_len(tb[NDA_LLADDR]) != MAC_SIZE ||
		inet_of(tb[NDA_DST]).len == 0)
		return 0;
	if (n->n_neighbors == NEIGHBORS_MAX)
		return error_set(err, E2BIG, "the pod has more than %d permanent neighbours",
			NEIGHBORS_MAX);
	neighbor = &n->neighbors[n->n_neighbors++];
	neighbor->link = (unsigned)i;
	neighbor->address = inet_of(tb[NDA_DST]);
	memcpy(neighbor->mac, nla_data(tb[NDA_LLADDR]), MAC_SIZE);
	return 0;
}

/* ---- all of it ---- */

/* IPv4 alone, then IPv6: a kernel without IPv6 answers for the families that it has. */
static int dump_rest(struct nl_sock *sk, struct network *n, struct error *err)
{
	const struct ifaddrmsg addresses = { .ifa_family = AF_UNSPEC };
	const struct rtmsg routes[] = { { .rtm_family = AF_INET }, { .rtm_family = AF_INET6 } };
	const struct ndmsg neighbors = { .ndm_family = AF_UNSPEC };
	int r = netlink_dump(sk, RTM_GETADDR, &addresses, sizeof(addresses), take_address, n, err);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(routes); i++)
		r = netlink_dump(sk, RTM_GETROUTE, &routes[i], sizeof(routes[i]), take_route, n, err);
	if (r == 0)
		r = netlink_dump(sk, RTM_GETNEIGH, &neighbors, sizeof(neighbors), take_neighbor, n,
			err);
	return r;
}

static int dump_all(struct nl_sock *sk, struct network *n, struct error *err)
{
	const struct ifinfomsg links = { .ifi_family = AF_UNSPEC };
	int r;

	n->n_links = n->n_routes = n->n_neighbors = n->left_out = 0;
	r = netlink_dump(sk, RTM_GETLINK, &links, sizeof(links), take_link, n, err);
	if (r == 0 && n->n_links > 0 && n->n_links <= NETWORK_LINKS_MAX)
		r = dump_rest(sk, n, err);
	return r;
}

int network_scan(struct nl_sock *sk, struct network *ret, struct error *err)
{
	int r = -EINTR;

	/* The kernel says when something came or went in the middle of a dump. */
	for (int i = 0; i < SCAN_TRIES && r == -EINTR; i++)
		r = dump_all(sk, ret, err);
	if (r == -EINTR)
		return error_set(err, EAGAIN, "the links changed during each of %d scans",
			SCAN_TRIES);
	return r;
}
