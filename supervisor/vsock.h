/*
 * What a guest whose agent is reached by vsock takes of the host: /dev/vhost-vsock, which only root
 * may open and QEMU will have, a CID for it, and the socket that vmmd will connect.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"

/* Both are the caller's. -errno with one sentence, and neither is open. */
int vsock_open(int *ret_vhost, int *ret_socket, struct error *err);

/*
 * Gives the device the first CID from `first` on, of `n`, that no other guest of this host has. It
 * keeps it as long as it is open. -EADDRINUSE: all of them are taken.
 */
int vsock_take_cid(int vhost, uint64_t first, unsigned n, unsigned *ret, struct error *err);
