/* The sentence about links, what is refused, the messages, and scans of namespaces of the test's own. */
#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netlink/socket.h>
#include <sched.h>
#include <unistd.h>

#include "ipc/channel.h"
#include "netd/scan.h"
#include "netd/translate.h"
#include "tests/lib/test.h"

static struct network network;

static void described(size_t n, const char *name, const char *kind, size_t size, const char *want)
{
	char text[512];

	network = (struct network){ .n_links = n };
	for (size_t i = 0; i < NETWORK_LINKS_MAX; i++) {
		snprintf(network.links[i].name, LINK_NAME_MAX, "%s", name);
		snprintf(network.links[i].kind, LINK_KIND_MAX, "%s", kind);
	}
	memset(text, '#', sizeof(text));
	network_describe(&network, text, size);
	CHECK(strlen(text) < size);
	CHECK_STR(text, want);
}

TEST(sentences)
{
	described(1, "eth0", "veth", 512, "the link eth0 (veth)");
	described(1, "eth0", "", 512, "the link eth0 (a plain device)");
	described(2, "e", "v", 512, "the links e (v) and e (v)");
	described(3, "e", "v", 512, "the links e (v), e (v) and e (v)");
	described(8, "e", "v", 512,
		"the links e (v), e (v), e (v), e (v), e (v), e (v), e (v) and e (v)");
	described(1000, "e", "v", 512,
		"the links e (v), e (v), e (v), e (v), e (v), e (v), e (v), e (v) and 992 more");
}

TEST(sentences_are_cut)
{
	static const char full[] = "the links e (v) and e (v)";
	char text[64];

	network = (struct network){ .n_links = 2 };
	for (size_t i = 0; i < 2; i++) {
		strcpy(network.links[i].name, "e");
		strcpy(network.links[i].kind, "v");
	}
	for (size_t size = 1; size < sizeof(text); size++) {
		memset(text, '#', sizeof(text));
		network_describe(&network, text, size);
		CHECK(strlen(text) < size && strncmp(text, full, strlen(text)) == 0);
	}
}

static void refused(const char *kind, bool ethernet, bool odd, const char *why)
{
	struct error err = ERROR_INIT;

	network = (struct network){ .n_links = 1 };
	network.links[0] = (struct link){ .name = "eth0", .ethernet = ethernet, .odd_name = odd };
	strcpy(network.links[0].kind, kind);
	if (!why) {
		CHECK_INT(network_check(&network, &err), 0);
		return;
	}
	CHECK_INT(network_check(&network, &err), -EOPNOTSUPP);
	CHECK_CONTAINS(err.msg, "the link eth0 (");
	CHECK_CONTAINS(err.msg, kind);
	CHECK_CONTAINS(err.msg, why);
}

TEST(kinds)
{
	static const char *const good[] = { "", "veth", "vlan", "ipvlan", "macvlan", "tun" };
	static const char *const bad[] = { "bridge", "bond", "wireguard", "ipip", "vxlan", "ifb" };

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		refused(good[i], true, false, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		refused(bad[i], true, false, "links of this kind are not supported");
	refused("tun", false, false, "it carries no Ethernet frames");
	refused("veth", true, true, "unprintable");
}

TEST(more_links_than_a_vm_can_have)
{
	struct error err = ERROR_INIT;

	described(9, "e", "veth", 512,
		"the links e (veth), e (veth), e (veth), e (veth), e (veth), e (veth), e (veth), "
		"e (veth) and 1 more");
	CHECK_INT(network_check(&network, &err), -EOPNOTSUPP);
	CHECK_CONTAINS(err.msg, "more than the 8 a VM can have");
}

/* Everything as large as it can be: each part must fit into a packet. */
TEST(the_largest_network_in_parts)
{
	static struct part part;
	size_t links = 0, routes = 0, neighbors = 0;
	const struct inet inet = { .len = 16, .bytes = { [0 ... 15] = 0xff } };

	network = (struct network){ .n_links = NETWORK_LINKS_MAX,
		.n_routes = ROUTES_MAX, .n_neighbors = NEIGHBORS_MAX };
	for (size_t i = 0; i < NETWORK_LINKS_MAX; i++) {
		struct link *l = &network.links[i];

		memset(l->name, 'n', LINK_NAME_MAX - 1);
		memset(l->kind, 'k', LINK_KIND_MAX - 1);
		l->mtu = l->flags = UINT32_MAX;
		l->n_addresses = LINK_ADDRESSES_MAX;
		for (size_t k = 0; k < LINK_ADDRESSES_MAX; k++)
			l->addresses[k] = (struct address){ inet, inet, 128, 255 };
	}
	for (size_t i = 0; i < ROUTES_MAX; i++)
		network.routes[i] = (struct route){ 7, true, true, inet, inet, inet, 128, 255, 255,
			UINT32_MAX, UINT32_MAX };
	for (size_t i = 0; i < NEIGHBORS_MAX; i++)
		network.neighbors[i] = (struct neighbor){ .link = 7, .address = inet };
	CHECK_INT(network_parts(&network), 8 + 16 + 16);
	for (unsigned i = 0; i < network_parts(&network); i++) {
		network_part(&network, i, &part);
		CHECK(protobuf_c_message_get_packed_size(&part.reply.base) <= IPC_PAYLOAD_MAX);
		links += part.msg.n_links;
		routes += part.msg.n_routes;
		neighbors += part.msg.n_neighbors;
	}
	CHECK_INT(links, NETWORK_LINKS_MAX);
	CHECK_INT(routes, ROUTES_MAX);
	CHECK_INT(neighbors, NEIGHBORS_MAX);
}

static void ip(const char *args)
{
	char command[256];

	snprintf(command, sizeof(command), "ip %s", args);
	if (system(command) != 0)
		test_fail(__FILE__, __LINE__, "%s", command);
}

static void own_netns(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		test_skip("needs root");
}

TEST(a_scan_in_an_empty_namespace)
{
	struct error err = ERROR_INIT;
	struct nl_sock *sk;

	own_netns();
	sk = netlink_open(&err);
	CHECK(sk);
	/* It goes on speaking to the namespace it was opened in. */
	for (int i = 0; i < 3; i++) {
		CHECK_INT(network_scan(sk, &network, &err), 0);
		CHECK_INT(network.n_links, 0);
		CHECK(unshare(CLONE_NEWNET) == 0);
		ip("link add v0 type veth peer name v1");
	}
	nl_socket_free(sk);
	sk = netlink_open(&err);
	CHECK_INT(network_scan(sk, &network, &err), 0);
	CHECK_INT(network.n_links, 2);
	CHECK_STR(network.links[0].kind, "veth");
	CHECK(network.links[0].ifindex > 0);
	nl_socket_free(sk);
}

static const struct route *route_to(const char *dest, unsigned prefix)
{
	struct inet want = { .len = strchr(dest, ':') ? 16 : 4 };

	inet_pton(want.len == 16 ? AF_INET6 : AF_INET, dest, want.bytes);
	for (size_t i = 0; i < network.n_routes; i++) {
		const struct route *r = &network.routes[i];

		if (r->prefix == prefix && r->ipv6 == (want.len == 16) &&
			(prefix == 0 || memcmp(&r->dest, &want, sizeof(want)) == 0))
			return r;
	}
	test_fail(__FILE__, __LINE__, "no route to %s/%u", dest, prefix);
	return NULL;
}

static const struct address *address_of(const struct link *l, const char bytes[4])
{
	for (size_t i = 0; i < l->n_addresses; i++)
		if (l->addresses[i].local.len == 4 &&
			memcmp(l->addresses[i].local.bytes, bytes, 4) == 0)
			return &l->addresses[i];
	test_fail(__FILE__, __LINE__, "no such address");
	return NULL;
}

TEST(everything_a_scan_sees)
{
	struct error err = ERROR_INIT;
	const struct route *r;
	struct nl_sock *sk;

	own_netns();
	ip("link add eth0 mtu 1400 type veth peer name peer0 address 02:00:00:00:00:01");
	ip("link set eth0 address 02:00:00:00:00:02 arp off up");
	ip("link set peer0 up");
	ip("addr add 10.1.2.3/24 dev eth0");
	ip("addr add 10.9.9.9 peer 10.9.9.10/32 dev eth0 scope link");
	ip("-6 addr add fd00::3/64 dev eth0 nodad");
	ip("route add 10.2.0.0/16 via 10.1.2.1 dev eth0 metric 77 mtu 1300 src 10.1.2.3");
	ip("route add default via 192.0.2.1 dev eth0 onlink");
	ip("-6 route add default via fd00::1 dev eth0 metric 5");
	ip("route add 10.3.0.0/16 dev eth0 table 100");
	ip("route add blackhole 10.4.0.0/16");
	ip("neigh add 10.1.2.1 lladdr 02:00:00:00:00:09 dev eth0 nud permanent");
	ip("neigh add 10.1.2.7 lladdr 02:00:00:00:00:0a dev eth0 nud stale");
	sk = netlink_open(&err);
	CHECK_INT(network_scan(sk, &network, &err), 0);
	nl_socket_free(sk);
	CHECK_INT(network.n_links, 2);

	const struct link *l = &network.links[strcmp(network.links[0].name, "eth0") == 0 ? 0 : 1];
	unsigned eth0 = (unsigned)(l - network.links);

	CHECK_INT(l->mtu, 1400);
	CHECK(l->flags & IFF_NOARP && l->flags & IFF_UP && l->ethernet);
	CHECK(memcmp(l->mac, "\x02\0\0\0\0\x02", 6) == 0);
	CHECK(l->n_addresses >= 3);
	CHECK_INT(address_of(l, "\x0a\x01\x02\x03")->prefix, 24);
	CHECK_INT(address_of(l, "\x0a\x01\x02\x03")->peer.len, 0);
	CHECK_INT(address_of(l, "\x0a\x09\x09\x09")->peer.len, 4);
	CHECK_INT(address_of(l, "\x0a\x09\x09\x09")->scope, 253);

	r = route_to("10.2.0.0", 16);
	CHECK_INT(r->link, eth0);
	CHECK_INT(r->metric, 77);
	CHECK_INT(r->mtu, 1300);
	CHECK_INT(r->source.len, 4);
	CHECK_INT(r->gateway.len, 4);
	CHECK(route_to("0.0.0.0", 0)->onlink);
	CHECK_INT(route_to("::", 0)->metric, 5);
	CHECK_INT(route_to("10.1.2.0", 24)->scope, 253);
	CHECK_INT(route_to("fd00::", 64)->gateway.len, 0);
	for (size_t i = 0; i < network.n_routes; i++)
		CHECK(memcmp(network.routes[i].dest.bytes, "\x0a\x03", 2) != 0);
	CHECK_INT(network.left_out, 1);
	CHECK_INT(network.n_neighbors, 1);
	CHECK(memcmp(network.neighbors[0].mac, "\x02\0\0\0\0\x09", 6) == 0);
}
