/* What netd may be asked. */
#pragma once

#include <netlink/netlink.h>

#include "ipc/serve.h"
#include "netd/network.h"
#include "netd/tap.h"

struct netd {
	struct nl_sock *sk; /* the route socket of the pod's namespace */
	struct tap_pool pool;
	unsigned queues; /* of each link */
	int vmmd;	 /* the channel to it */
	bool none;	 /* model none: the pod's network is not looked at */
	unsigned attached; /* a mask of indexes */
	struct network network;
};

/* A helper that serves fd. n is borrowed. */
struct helper netd_helper(int fd, struct netd *n);
