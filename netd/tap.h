/*
 * The tap behind a link: what QEMU gets of the pod's network. A tap belongs to
 * the namespace in which /dev/net/tun was opened, not to the one of TUNSETIFF:
 * so the nodes are opened in the pod's namespace, before this process gives up
 * its root and the right to open anything, and become taps later.
 */
#pragma once

#include <stdbool.h>

#include "common/error.h"
#include "ipc/tables.h"

#define POOL_MAX 64 /* queues of all links together */

/* /dev/net/tun and, where it is wanted and there, /dev/vhost-net, opened ahead. Owns them. */
struct tap_pool {
	size_t n, n_vhost, taken;
	int tun[POOL_MAX], vhost[POOL_MAX];
	struct error why; /* no /dev/net/tun: what attaching says. code 0: there is one */
};

/*
 * Opens what queues for every link may need, at the numbers from first_fd on,
 * which must be free: *next is the first one behind them. 0, or -errno.
 */
int tap_pool_open(struct tap_pool *p, unsigned queues, bool vhost, int first_fd, int *next,
	struct error *err);
void tap_pool_done(struct tap_pool *p);

/* One tap: its queues' fds. Owns them; when they are closed it is gone. Never persistent. */
struct tap {
	char name[16];
	unsigned queues;
	int fd[NETWORK_QUEUES_MAX], vhost[NETWORK_QUEUES_MAX]; /* vhost: -1: none */
};

/* Makes the tap of this index from the pool, down. On failure nothing of it is left. */
int tap_create(struct tap *t, struct tap_pool *p, unsigned index, unsigned queues,
	struct error *err);
void tap_done(struct tap *t);
