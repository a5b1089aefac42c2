/*
 * Model macvtap: a macvtap device on each link of the pod, in passthru mode, so
 * that the guest has the link's MAC address and the link keeps its own.
 *
 * Unlike a tap it is found by a device node, and the names of nodes are no
 * help: /dev/tap<ifindex> is the node's, an ifindex only the namespace's, and
 * the same one in another pod is another tenant's. The kernel says the number of
 * the node to this namespace alone, when it makes the device; the node is then
 * made in a directory that nobody else can name, opened, and removed.
 *
 * That takes root. So it is done before this process shuts itself in and before
 * anybody can ask it for anything: what it has sealed itself with has no way to
 * make or open a node. A link that comes later cannot be attached.
 *
 * A macvtap lives on without its fds. It is known by its group, which is netd's
 * uid and so the sandbox's alone, from its first moment on.
 */
#pragma once

#include "netd/netlink.h"
#include "netd/network.h"
#include "netd/tap.h"

struct macvtaps {
	size_t n;
	struct {
		unsigned lower; /* ifindex of the pod's link */
		struct tap tap; /* its queues: taken by ATTACH */
	} made[NETWORK_LINKS_MAX];
	struct error why; /* code set: none could be made, and this is what attaching says */
};

/*
 * One for each link of the namespace, up, with so many queues and, where it is wanted and
 * there, a vhost-net for each. As root; fds take the lowest numbers that are free. On failure
 * nothing is left, and why says what it was: ATTACH will tell.
 */
void macvtaps_make(struct macvtaps *m, struct nl_sock *sk, const struct network *n, unsigned queues,
	bool vhost);

/* The one on this link, which is the caller's then. 0, or -errno with err. */
int macvtaps_take(struct macvtaps *m, const struct link *link, struct tap *ret, struct error *err);
void macvtaps_done(struct macvtaps *m);

/* first, or the number behind the highest of their fds. */
int macvtaps_end(const struct macvtaps *m, int first);

/* Removes every macvtap of a group from the namespace. 0, or -errno with err. */
int macvtap_clean(struct nl_sock *sk, uint32_t group, struct error *err);
