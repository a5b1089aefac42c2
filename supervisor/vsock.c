#include "supervisor/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"

int vsock_open(int *ret_vhost, int *ret_socket, struct error *err)
{
	_cleanup_close_ int vhost = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (vhost < 0)
		return error_errno(err, errno,
			"agent_transport=vsock: /dev/vhost-vsock (load the module vhost_vsock, or set agent_transport=serial)");
	/* Here and not in vmmd: in the host's network namespace, as the device, and vmmd can make none. */
	*ret_socket = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (*ret_socket < 0)
		return error_errno(err, errno, "agent_transport=vsock: a vsock socket");
	*ret_vhost = fd_steal(&vhost);
	return 0;
}

int vsock_take_cid(int vhost, uint64_t first, unsigned n, unsigned *ret, struct error *err)
{
	for (uint64_t cid = first; cid < first + n; cid++) {
		if (ioctl(vhost, VHOST_VSOCK_SET_GUEST_CID, &cid) == 0) {
			*ret = (unsigned)cid;
			return 0;
		}
		if (errno != EADDRINUSE)
			return error_errno(err, errno, "agent_transport=vsock: take CID %llu",
				(unsigned long long)cid);
	}
	return error_set(err, EADDRINUSE,
		"agent_transport=vsock: other guests of this host have all CIDs from %llu to %llu",
		(unsigned long long)first, (unsigned long long)(first + n - 1));
}
