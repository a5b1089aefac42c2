#include "netd/clean.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>

#include "common/log.h"
#include "netd/macvtap.h"
#include "netd/network.h"
#include "netd/tcfilter.h"

#define LOOK_TRIES 16

static int take_link(const struct nlmsghdr *h, void *ctx, struct error *err)
{
	struct nlattr *tb[IFLA_MAX + 1];
	bool *has_vm = ctx;

	if (h->nlmsg_type != RTM_NEWLINK)
		return 0;
	if (nlmsg_parse((struct nlmsghdr *)(uintptr_t)h, sizeof(struct ifinfomsg), tb, IFLA_MAX,
		    NULL) < 0 || !tb[IFLA_IFNAME])
		return error_set(err, EPROTO, "the kernel's message about a link is too short");
	*has_vm |= network_is_tap(nla_get_string(tb[IFLA_IFNAME]));
	return 0;
}

static int look_for_vm(struct nl_sock *sk, bool *ret, struct error *err)
{
	const struct ifinfomsg all = { .ifi_family = AF_UNSPEC };
	int r;

	*ret = false;
	/* -EINTR: something came or went in the middle. What was seen was there. */
	for (int i = 0; i < LOOK_TRIES; i++) {
		r = netlink_dump(sk, RTM_GETLINK, &all, sizeof(all), take_link, ret, err);
		if (r != -EINTR)
			return r;
	}
	return error_set(err, EAGAIN, "the links changed while they were looked at");
}

int network_clean(struct nl_sock *sk, uint32_t group, struct error *err)
{
	bool has_vm;
	int r = macvtap_clean(sk, group, err);

	if (r == 0)
		r = look_for_vm(sk, &has_vm, err);
	if (r < 0 || has_vm)
		return r;
	return tcfilter_clean(sk, err);
}
