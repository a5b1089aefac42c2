#include "netd/tap_link.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <string.h>

static int take_ifindex(const struct nlmsghdr *h, void *ctx, struct error *err)
{
	(void)err;
	if (h->nlmsg_type == RTM_NEWLINK)
		*(int *)ctx = ((const struct ifinfomsg *)nlmsg_data(h))->ifi_index;
	return 0;
}

int tap_find(struct nl_sock *sk, const char *name, int *ret_ifindex, struct error *err)
{
	const struct ifinfomsg info = { .ifi_family = AF_UNSPEC };
	CLEANUP(netlink_free) struct nl_msg *msg = netlink_request(RTM_GETLINK, 0, &info, sizeof(info));
	int r;

	*ret_ifindex = 0;
	netlink_put(msg, IFLA_IFNAME, name, strlen(name) + 1);
	r = netlink_get(sk, msg, take_ifindex, ret_ifindex, err);
	if (r == 0 && *ret_ifindex <= 0)
		r = -ENODEV;
	return r < 0 ? error_errno(err, -r, "find the tap %s", name) : 0;
}

static struct nl_msg *tap_request(int ifindex, unsigned flags)
{
	const struct ifinfomsg info = {
		.ifi_family = AF_UNSPEC,
		.ifi_index = ifindex,
		.ifi_flags = flags,
		.ifi_change = flags,
	};

	return netlink_request(RTM_NEWLINK, 0, &info, sizeof(info));
}

/*
 * Without an address of its own: all that is ever said there is the guest's or
 * the pod's. A kernel without IPv6 would give it none anyhow.
 */
static int no_own_address(struct nl_sock *sk, int ifindex)
{
	CLEANUP(netlink_free) struct nl_msg *msg = tap_request(ifindex, 0);
	const uint8_t none = IN6_ADDR_GEN_MODE_NONE;
	struct nlattr *spec = netlink_nest(msg, IFLA_AF_SPEC), *inet6 = netlink_nest(msg, AF_INET6);
	int r;

	netlink_put(msg, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
	nla_nest_end(msg, inet6);
	nla_nest_end(msg, spec);
	r = netlink_ask(sk, msg);
	return r == -EAFNOSUPPORT || r == -EOPNOTSUPP ? 0 : r;
}

/* In this order: of one request the kernel would take the flags first. */
int tap_up(struct nl_sock *sk, int ifindex, const char *name, const struct link *link,
	struct error *err)
{
	CLEANUP(netlink_free) struct nl_msg *mtu = tap_request(ifindex, 0);
	CLEANUP(netlink_free) struct nl_msg *up = tap_request(ifindex, IFF_UP);
	int r;

	netlink_put(mtu, IFLA_MTU, &link->mtu, sizeof(link->mtu));
	r = netlink_ask(sk, mtu);
	if (r == 0)
		r = no_own_address(sk, ifindex);
	if (r == 0)
		r = netlink_ask(sk, up);
	return r < 0 ? error_errno(err, -r, "bring the tap %s up with an MTU of %u", name,
			       link->mtu)
		     : 0;
}
