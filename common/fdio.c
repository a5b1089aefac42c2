#include "common/fdio.h"

#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* A stopped poll(2) goes on as restart_syscall(2), a stopped ppoll(2) as itself. */
int fd_poll(struct pollfd *fds, nfds_t n, int timeout_ms)
{
	const struct timespec timeout = {
		.tv_sec = timeout_ms / 1000,
		.tv_nsec = timeout_ms % 1000 * 1000000L,
	};

	return ppoll(fds, n, timeout_ms < 0 ? NULL : &timeout, NULL);
}

ssize_t fd_send(int fd, const void *data, size_t len)
{
	struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
	const struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	return sendmsg(fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Without room for control data the kernel drops what fds may come. */
ssize_t fd_recv(int fd, void *data, size_t size)
{
	struct iovec iov = { .iov_base = data, .iov_len = size };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	return recvmsg(fd, &mh, MSG_DONTWAIT);
}

/* glibc takes newfstatat(2) for it from 2.33 to 2.38, which looks up paths too. */
int fd_stat(int fd, struct stat *ret)
{
	return (int)syscall(SYS_fstat, fd, ret);
}
