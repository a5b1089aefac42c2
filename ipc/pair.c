#include "ipc/pair.h"

#include <errno.h>
#include <sys/socket.h>

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS 83
#endif

bool ipc_fds_to_asker(const struct ipc_channel *def)
{
	for (size_t i = 0; i < def->n_messages; i++)
		if (def->messages[i].reply && def->messages[i].nfds > 0)
			return true;
	return false;
}

bool ipc_fds_from_asker(const struct ipc_channel *def)
{
	for (size_t i = 0; i < def->n_messages; i++)
		if (def->messages[i].event && def->messages[i].nfds > 0)
			return true;
	return false;
}

int socket_refuse_fds(int fd)
{
	const int off = 0;

	if (setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off)) < 0 &&
		errno != ENOPROTOOPT)
		return -errno;
	return 0;
}

int channel_pair(const struct ipc_channel *def, int ret[2], struct error *err)
{
	_cleanup_close_ int asker = -1, other = -1;
	int fds[2], r = 0;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return error_errno(err, errno, "make the channel %s", def->name);
	asker = fds[0];
	other = fds[1];
	if (!ipc_fds_to_asker(def))
		r = socket_refuse_fds(asker);
	if (r == 0 && !ipc_fds_from_asker(def))
		r = socket_refuse_fds(other);
	if (r < 0)
		return error_errno(err, -r, "make the channel %s refuse fds", def->name);
	ret[0] = fd_steal(&asker);
	ret[1] = fd_steal(&other);
	return 0;
}
