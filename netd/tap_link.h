/* What both models ask of the link that a tap or macvtap is. */
#pragma once

#include "netd/netlink.h"
#include "netd/network.h"

/* Its ifindex, by name. 0, or -errno with err. */
int tap_find(struct nl_sock *sk, const char *name, int *ret_ifindex, struct error *err);

/* Up, with the MTU of the pod's link and no address of its own. 0, or -errno with err. */
int tap_up(struct nl_sock *sk, int ifindex, const char *name, const struct link *link,
	struct error *err);
