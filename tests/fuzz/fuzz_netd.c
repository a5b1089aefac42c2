/*
 * netd behind its isolation: its channel, and the links of this process's
 * network namespace: an empty one, where that can be made.
 */
#include <errno.h>
#include <netlink/socket.h>
#include <sched.h>

#include "ipc/fds.h"
#include "ipc/tables.h"
#include "netd/handlers.h"
#include "netd/netlink.h"
#include "tests/fuzz/lib/packet.h"
#include "tests/fuzz/lib/sim.h"

static struct run {
	struct bytes in;
	struct peer_end frontend;
} run;

static bool next(void *ctx)
{
	(void)ctx;
	if (run.frontend.fd < 0)
		return false;
	if (run.in.left > 0)
		peer_send(&run.frontend, &run.in);
	else
		peer_close(&run.frontend);
	return true;
}

static int role(void *ctx)
{
	struct error err = ERROR_INIT;
	static struct netd netd;
	struct helper h = netd_helper(NETD_FD_FRONTEND, &netd);
	int r;

	(void)ctx;
	netd = (struct netd){ .sk = netlink_open(&err), .queues = 1, .vmmd = -1 };
	error_set(&netd.pool.why, ENOENT, "there is none here");
	SIM_CHECK(netd.sk);
	r = helper_serve(&h, &err);
	nl_socket_free(netd.sk);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool apart;
	struct sim sim = { .next = next, .role = role, .closes_fds = true };

	/* With the host's own links, where it may not: then SCAN is refused, which is a path too. */
	if (!apart)
		apart = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 || true;
	run.in = (struct bytes){ data, size };
	peer_open(&run.frontend, &ipc_frontend_netd, NETD_FD_FRONTEND);
	sim_run(&sim);
	return 0;
}
