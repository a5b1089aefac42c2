#include "tests/proc/ctl_shape.h"

#include <string.h>
#include <sys/socket.h>

void ctl_send_shape(int fd, enum ctl_shape shape, uint16_t type, enum role role)
{
	static const size_t sizes[CTL_SHAPES] = { [CTL_SHORT] = sizeof(struct ctl_msg) - 1,
		[CTL_LONG] = sizeof(struct ctl_msg) + 1 };
	union {
		struct ctl_msg msg;
		char bytes[sizeof(struct ctl_msg) + 1];
	} packet = { .msg = { .type = type, .role = (uint16_t)role } };
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { .buf = { 0 } };
	struct iovec iov = { .iov_base = &packet, .iov_len = sizeof(packet.msg) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (shape == CTL_EMPTY || sizes[shape])
		iov.iov_len = sizes[shape];
	if (shape == CTL_NO_NUL)
		memset(packet.msg.text, 'x', sizeof(packet.msg.text));
	if (shape == CTL_NO_ROLE)
		packet.msg.role = ROLE_COUNT;
	if (shape == CTL_WITH_FD) {
		mh.msg_control = &control;
		mh.msg_controllen = sizeof(control);
		control.align = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(&control.align), &fd, sizeof(fd));
	}
	sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT); /* it may be gone */
}
