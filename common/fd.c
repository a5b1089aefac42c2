#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h> /* needs <sys/socket.h> */
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/fdio.h"

/* misc devices, Documentation/admin-guide/devices.txt of Linux: tun 10:200, vhost-net 10:238 */
#define TUN_RDEV   makedev(10, 200)
#define VHOST_RDEV makedev(10, 238)

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

void fdlist_done(struct fdlist *list)
{
	for (size_t i = 0; i < list->n; i++)
		fd_close(&list->fd[i]);
	list->n = 0;
}

int fdlist_steal(struct fdlist *list, size_t i)
{
	return i < list->n ? fd_steal(&list->fd[i]) : -1;
}

int fdlist_add_consume(struct fdlist *list, int fd)
{
	if (list->n == FDLIST_MAX) {
		fd_close(&fd);
		return -ENOSPC;
	}
	list->fd[list->n++] = fd;
	return 0;
}

const char *fd_kind_name(enum fd_kind kind)
{
	static const char *const names[] = {
		[FD_NONE] = "nothing",
		[FD_REGULAR_RO] = "a read-only regular file",
		[FD_REGULAR_APPEND] = "a regular file for appending",
		[FD_FIFO_RW] = "a read-write FIFO",
		[FD_FIFO_RO] = "a read-only FIFO",
		[FD_UNIX_STREAM] = "a connected unix stream socket",
		[FD_UNIX_LISTENER] = "a listening unix stream socket",
		[FD_UNIX_DGRAM] = "a unix datagram socket",
		[FD_PIPE_W] = "the writing end of a pipe",
		[FD_TAP] = "a tap with a vnet header",
		[FD_VHOST_NET] = "/dev/vhost-net",
		[FD_BLOCK] = "a block device",
		[FD_PATH] = "a path-only regular file",
		[FD_STREAM] = "a connected unix or vsock stream socket",
		[FD_ANY] = "anything",
	};

	return (size_t)kind < ARRAY_SIZE(names) ? names[kind] : "an unknown kind";
}

static bool is_socket(int fd, int domain, int type)
{
	int value = 0;
	socklen_t len = sizeof(value);

	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &value, &len) < 0 || value != domain)
		return false;
	len = sizeof(value);
	return getsockopt(fd, SOL_SOCKET, SO_TYPE, &value, &len) == 0 && value == type;
}

unsigned fd_vsock_peer(int fd)
{
	struct sockaddr_vm peer;
	socklen_t len = sizeof(peer);

	if (!is_socket(fd, AF_VSOCK, SOCK_STREAM) ||
		getpeername(fd, (struct sockaddr *)&peer, &len) < 0)
		return 0;
	return peer.svm_cid;
}

static bool is_unix_socket(int fd, int type, int listening)
{
	struct ucred peer;
	int value = 0;
	socklen_t len = sizeof(value);

	if (!is_socket(fd, AF_UNIX, type))
		return false;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &len) < 0)
		return false;
	if (!!value != listening)
		return false;
	/* A stream socket that was never connected, nor listened on, has no peer's credentials. */
	len = sizeof(peer);
	return type != SOCK_STREAM ||
	       (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
		       peer.uid != (uid_t)-1);
}

/* Of a driver without a number of its own, as macvtap is: the two ranges that the kernel gives out. */
static bool is_dynamic(dev_t rdev)
{
	return (major(rdev) >= 234 && major(rdev) <= 254) ||
	       (major(rdev) >= 384 && major(rdev) <= 511);
}

static bool is_tap(int fd, const struct stat *st)
{
	struct ifreq ifr = { 0 };

	if (!S_ISCHR(st->st_mode) || (st->st_rdev != TUN_RDEV && !is_dynamic(st->st_rdev)))
		return false;
	if (ioctl(fd, TUNGETIFF, &ifr) < 0)
		return false;
	/* Not IFF_NO_PI: TUNGETIFF sets that very bit, as IFF_NOFILTER, for any tap without a filter. */
	return (ifr.ifr_flags & IFF_TAP) && (ifr.ifr_flags & IFF_VNET_HDR);
}

static bool is_kind(int fd, enum fd_kind kind, const struct stat *st, int flags)
{
	int access = flags & O_ACCMODE;

	/* An O_PATH fd answers fstat like an open one, but is not open for anything. */
	if ((flags & O_PATH) && kind != FD_PATH)
		return false;

	switch (kind) {
	case FD_REGULAR_RO:
		return S_ISREG(st->st_mode) && access == O_RDONLY;
	case FD_REGULAR_APPEND:
		return S_ISREG(st->st_mode) && access == O_WRONLY && (flags & O_APPEND);
	case FD_FIFO_RW:
		return S_ISFIFO(st->st_mode) && access == O_RDWR;
	case FD_FIFO_RO:
		return S_ISFIFO(st->st_mode) && access == O_RDONLY;
	case FD_PIPE_W:
		return S_ISFIFO(st->st_mode) && access == O_WRONLY;
	case FD_UNIX_STREAM:
		return S_ISSOCK(st->st_mode) && is_unix_socket(fd, SOCK_STREAM, 0);
	case FD_UNIX_LISTENER:
		return S_ISSOCK(st->st_mode) && is_unix_socket(fd, SOCK_STREAM, 1);
	case FD_STREAM:
		return S_ISSOCK(st->st_mode) &&
		       (is_unix_socket(fd, SOCK_STREAM, 0) || fd_vsock_peer(fd) != 0);
	case FD_UNIX_DGRAM:
		return S_ISSOCK(st->st_mode) && is_unix_socket(fd, SOCK_DGRAM, 0);
	case FD_TAP:
		return is_tap(fd, st);
	case FD_VHOST_NET:
		return S_ISCHR(st->st_mode) && st->st_rdev == VHOST_RDEV;
	case FD_BLOCK:
		return S_ISBLK(st->st_mode);
	case FD_PATH:
		return S_ISREG(st->st_mode) && (flags & O_PATH);
	case FD_ANY:
		return true;
	case FD_NONE:
		break;
	}
	return false;
}

int fd_check_kind(int fd, enum fd_kind kind, struct error *err)
{
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fd_stat(fd, &st) < 0)
		return error_errno(err, errno, "expected %s", fd_kind_name(kind));
	if (!is_kind(fd, kind, &st, flags))
		return error_set(err, EBADF, "expected %s, got a file of mode 0%o, flags 0x%x",
			fd_kind_name(kind), st.st_mode, (unsigned)flags);
	return 0;
}
