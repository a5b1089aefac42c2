#include "tests/unit/common_kinds.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/lib/test.h"

static int make_fifo(int flags)
{
	char path[] = "/tmp/bulkhead-fifo-XXXXXX";
	int spare, fd;

	CHECK(mkdtemp(path) && rmdir(path) == 0 && mkfifo(path, 0600) == 0);
	spare = open(path, O_RDWR | O_CLOEXEC); /* so that no open blocks */
	fd = open(path, flags | O_CLOEXEC);
	unlink(path);
	close(spare);
	return fd;
}

static int make_stream(void)
{
	int fds[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	close(fds[1]);
	return fds[0];
}

static int make_listener(void)
{
	const struct sockaddr_un any = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* a name that the kernel chooses */
	CHECK(bind(fd, (const struct sockaddr *)&any, sizeof(any.sun_family)) == 0);
	CHECK(listen(fd, 1) == 0);
	return fd;
}

static int make_pipe_w(void)
{
	int fds[2];

	CHECK(pipe2(fds, O_CLOEXEC) == 0);
	close(fds[0]);
	return fds[1];
}

static int make_tap(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

static int make_block(void)
{
	DIR *d = opendir("/sys/class/block");
	char path[300];
	struct dirent *e;
	int fd = -1;

	while (d && fd < 0 && (e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/dev/%s", e->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	if (d)
		closedir(d);
	return fd;
}

int make_kind(enum fd_kind kind)
{
	switch (kind) {
	case FD_REGULAR_RO:
		return open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	case FD_REGULAR_APPEND:
		return open("/tmp", O_TMPFILE | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
	case FD_FIFO_RW:
		return make_fifo(O_RDWR);
	case FD_FIFO_RO:
		return make_fifo(O_RDONLY);
	case FD_UNIX_STREAM:
	case FD_STREAM:
		return make_stream();
	case FD_UNIX_LISTENER:
		return make_listener();
	case FD_UNIX_DGRAM:
		return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	case FD_PIPE_W:
		return make_pipe_w();
	case FD_TAP:
		return make_tap();
	case FD_VHOST_NET:
		return open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
	case FD_BLOCK:
		return make_block();
	case FD_PATH:
		return open("/proc/self/exe", O_PATH | O_CLOEXEC);
	case FD_ANY:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	case FD_NONE:
		break;
	}
	return -1;
}

bool kind_is_also(enum fd_kind real, enum fd_kind kind)
{
	const bool streams[FD_ANY + 1] = { [FD_UNIX_STREAM] = true, [FD_STREAM] = true };

	return kind == real || (streams[real] && streams[kind]);
}
