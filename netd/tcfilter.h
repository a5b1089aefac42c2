/*
 * Model tcfilter: whatever arrives at a link of the pod is redirected to its
 * tap before anybody in the namespace sees it, and the other way round. The
 * link keeps its addresses, and is as it was once our qdisc has gone.
 *
 * The kernel gives every ingress qdisc the same handle, so ours is known by the
 * number of its block, which is where its filters are: it has that from its
 * first moment on, before there is a filter.
 */
#pragma once

#include "netd/netlink.h"
#include "netd/network.h"
#include "netd/tap.h"

/*
 * Brings the tap up with the link's MTU and ties both together. On failure the
 * link is as it was; the tap is the caller's. 0, or -errno with err.
 */
int tcfilter_attach(struct nl_sock *sk, const struct link *link, const struct tap *tap,
	struct error *err);

/* Takes our qdisc from a link. 0, or -errno with err. */
int tcfilter_detach(struct nl_sock *sk, const struct link *link, struct error *err);

/* Takes our qdiscs from all links of the namespace. 0, or -errno with err. */
int tcfilter_clean(struct nl_sock *sk, struct error *err);
