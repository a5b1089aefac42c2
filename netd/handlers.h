/* What netd may be asked. */
#pragma once

#include <netlink/netlink.h>

#include "ipc/serve.h"

/* A helper that serves fd; sk is the route socket of the pod's namespace. */
struct helper netd_helper(int fd, struct nl_sock *sk);
