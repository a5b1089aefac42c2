/* Reads the network namespace of a route socket. Needs no capability, changes nothing. */
#pragma once

#include "netd/netlink.h"
#include "netd/network.h"

/*
 * What is there besides the loopback and the fallback devices that some tunnel
 * modules put into every new namespace. *ret is complete only on success. When
 * there are more links than a VM can have, only they are counted. 0, or -errno.
 */
int network_scan(struct nl_sock *sk, struct network *ret, struct error *err);
