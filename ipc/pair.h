/* Making channels: the supervisor does, before it starts the roles. */
#pragma once

#include "ipc/channel.h"

/*
 * A connected pair: ret[0] for the asker, the one that is named first, ret[1]
 * for the other. An end that no message of the table brings fds to refuses
 * them: the kernel then fails the peer's sendmsg() (SO_PASSRIGHTS, Linux 6.16;
 * before, channel_recv()'s own check stands alone). Set now, because what is
 * in the queue already would still arrive. Both are close-on-exec.
 * 0, or -errno with err.
 */
int channel_pair(const struct ipc_channel *def, int ret[2], struct error *err);

/* Whether a message of the table brings fds to the asker (with a reply), or to the other side. */
bool ipc_fds_to_asker(const struct ipc_channel *def);
bool ipc_fds_from_asker(const struct ipc_channel *def);

/* The same for the control pair and other sockets that never carry an fd. 0 or -errno. */
int socket_refuse_fds(int fd);
