#include "ipc/ctl.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fdio.h"

const char *role_name(enum role role)
{
	static const char *const names[ROLE_COUNT] = {
		[ROLE_FRONTEND] = "frontend",
		[ROLE_AGENTD] = "agentd",
		[ROLE_VMMD] = "vmmd",
		[ROLE_PERSISTD] = "persistd",
		[ROLE_NETD] = "netd",
		[ROLE_QEMU] = "qemu",
		[ROLE_VIRTIOFSD] = "virtiofsd",
		[ROLE_SUPERVISOR] = "supervisor",
		[ROLE_MOUNTD] = "mountd",
	};

	return role < ROLE_COUNT ? names[role] : "unknown";
}

int ctl_send(int fd, enum ctl_type type, enum role role, int status, const char *text)
{
	struct ctl_msg msg = { .type = (uint16_t)type, .role = (uint16_t)role, .status = status };

	if (text)
		snprintf(msg.text, sizeof(msg.text), "%s", text);
	if (fd_send(fd, &msg, sizeof(msg)) < 0)
		return -errno;
	return 0;
}

/* The end and an empty packet look the same to recvmsg(). */
static bool peer_closed(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLRDHUP };

	return fd_poll(&pfd, 1, 0) != 0;
}

int ctl_recv(int fd, int flags, struct ctl_msg *ret)
{
	struct ctl_msg msg;
	struct iovec iov = { .iov_base = &msg, .iov_len = sizeof(msg) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	/* ECONNRESET, once: the peer died with mail unread. What it has said before still comes. */
	do
		n = recvmsg(fd, &mh, flags);
	while (n < 0 && (errno == EINTR || errno == ECONNRESET));
	if (n < 0)
		return -errno;
	if (n == 0 && mh.msg_flags == 0 && peer_closed(fd))
		return 0;
	/* Without room for control data the kernel drops any fd and says so in MSG_CTRUNC. */
	if (n != sizeof(msg) || (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
		return -EPROTO;
	if (msg.text[sizeof(msg.text) - 1] || msg.role >= ROLE_COUNT)
		return -EPROTO;
	*ret = msg;
	return 1;
}
