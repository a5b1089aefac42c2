#include "netd/handlers.h"

#include <errno.h>

#include "ipc/netd.pb-c.h"
#include "ipc/tables.h"
#include "netd/link.h"

static int handle_scan(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	static const Ipc__NetdScanReply none = IPC__NETD_SCAN_REPLY__INIT;
	struct links links;
	char text[400];
	int r;

	(void)request;
	(void)reply_fds;
	r = link_scan(h->ctx, &links, err);
	if (r < 0)
		return error_wrap(err, "look into the pod's network namespace");
	if (links.n > 0) {
		link_describe(&links, text, sizeof(text));
		return error_set(err, EOPNOTSUPP,
			"the pod's network namespace has %s: networks are not given to the VM "
			"yet; run without CNI",
			text);
	}
	*reply = &none.base;
	/* Nothing is left to do for a pod without links. */
	h->done = true;
	return 0;
}

enum { SERVING = 1 };

static const struct helper_request requests[] = {
	{ NETD_SCAN, handle_scan, SERVING, 0 },
};

struct helper netd_helper(int fd, struct nl_sock *sk)
{
	return (struct helper){
		.channel = &ipc_frontend_netd,
		.fd = fd,
		.requests = requests,
		.n_requests = ARRAY_SIZE(requests),
		.state = SERVING,
		.ctx = sk,
	};
}
