/*
 * The pod's NICs, as vmmd gets them: netd sends a tap, and vhost-net where that
 * is used, for each queue of each link, and says how many there were.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "ipc/tables.h"
#include "ipc/vmmd.pb-c.h"
#include "vmmd/netdev.h"

/* What netd has sent for one link. Owns the fds. */
struct nic_fds {
	unsigned queues;
	unsigned vhost; /* of them have a vhost fd: none or all */
	bool complete;
	int tap[NETWORK_QUEUES_MAX], vhost_fd[NETWORK_QUEUES_MAX];
};

struct nics {
	struct nic_fds nic[NETWORK_LINKS_MAX];
	bool lost; /* netd has broken the protocol: nothing that comes from it is taken any more */
};

void nics_done(struct nics *n);

/*
 * Takes all that is waiting on netd's channel, and checks each fd: a tap of the
 * name and flags this index must have. 0, or -errno with err: netd is lost.
 */
int nics_receive(struct nics *n, int channel, struct error *err);

/* One link, ready to become a device; config points into fds. */
struct nic_config {
	struct nic_fds fds;
	struct network_device_config config;
};

/*
 * What a link needs that the frontend has named: its fds, all of them, are the caller's
 * from here on. The config's id is not set. -EPROTO with err when they have not come.
 */
int nics_take(struct nics *n, const Ipc__VmmdLaunch__Nic *m, struct nic_config *ret,
	struct error *err);

struct qemu_cmdline;

/* LAUNCH: takes from the channel what its NICs need and makes devices of it. */
int nics_add(struct nics *n, struct qemu_cmdline *c, int channel, const Ipc__VmmdLaunch *request,
	struct error *err);
