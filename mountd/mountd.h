/* mountd's one struct, and its requests. */
#pragma once

#include <stdbool.h>

#include "common/options.h"
#include "ipc/serve.h"
#include "mountd/disks.h"
#include "mountd/follow.h"
#include "mountd/oom.h"
#include "mountd/paths.h"
#include "mountd/share.h"
#include "mountd/stdio.h"
#include "mountd/virtiofsd.h"
#include "mountd/worker.h"

#define MOUNTD_TIMEOUT_MS 10000

/* What of it may be asked when. */
enum mountd_state {
	MOUNTD_STATE_READY = 1 << 0,  /* virtiofsd does not run yet */
	MOUNTD_STATE_SHARED = 1 << 1, /* it does; not asked for again */
};

struct mountd {
	struct share share;
	int proc;	     /* a procfs that shows this process */
	int bundles;	     /* the directory the first bundle lies in, in M */
	const char *bundle;  /* the name of the first bundle in there */
	const char *sandbox; /* id */
	const char *events;  /* path of containerd's ttRPC socket; NULL: none */
	const char *const *virtiofsd_args;
	struct prefixes rootfs;
	struct stdio_prefixes stdio;
	struct workers workers;
	struct disks disks;
	struct bundles known; /* of the containers that are there */
	struct follows follows;
	bool peer_lost; /* the frontend has asked for what no honest one asks for */
};

/* Sends an event with fds to agentd or vmmd. A receiver that is gone ends mountd. */
int mountd_push(struct helper *h, int channel, const struct ipc_channel *def, uint16_t type,
	const ProtobufCMessage *msg, const int *fds, size_t nfds, struct error *err);

extern const struct helper_request mountd_requests[];
extern const size_t mountd_n_requests;
