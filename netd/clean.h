/*
 * What `delete` has netd do: take back what a netd and a VM that are dead have
 * left on the links of a namespace which lives on.
 */
#pragma once

#include "netd/netlink.h"

/*
 * The macvtaps of a group; and our qdiscs, but none while there is a VM: what is there is in
 * use, if not by ours. 0, or -errno with err.
 */
int network_clean(struct nl_sock *sk, uint32_t group, struct error *err);
