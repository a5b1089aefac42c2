/* What netd may be asked. */
#pragma once

#include <netlink/netlink.h>

#include "ipc/serve.h"
#include "netd/macvtap.h"
#include "netd/network.h"
#include "netd/tap.h"

struct netd {
	struct nl_sock *sk; /* the route socket of the pod's namespace */
	struct tap_pool pool;
	unsigned queues; /* of each link */
	int vmmd;	 /* the channel to it */
	enum { MODEL_TCFILTER, MODEL_MACVTAP, MODEL_NONE } model; /* NONE: the network is not looked at */
	struct macvtaps macvtaps;
	unsigned attached; /* a mask of indexes */
	struct network network;
};

/* A helper that serves fd. n is borrowed. */
struct helper netd_helper(int fd, struct netd *n);
