/*
 * Stands in the place of every role: gives its control socket to the test, which then speaks for
 * it, and is nothing but a process that can end. The test listens at <libexec>/test.
 */
#include <string.h>
#include <sys/auxv.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/fds.h"

static int connect_to_test(void)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	const char *path = (const char *)getauxval(AT_EXECFN);
	size_t len = (size_t)(strrchr(path, '/') - path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (len + sizeof("/test") > sizeof(sa.sun_path))
		_exit(90);
	memcpy(sa.sun_path, path, len);
	strcpy(sa.sun_path + len, "/test");
	if (fd < 0 || connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
		_exit(91);
	return fd;
}

static void give(int test, const char *name, int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { .buf = { 0 } };
	struct iovec iov = { .iov_base = (void *)name, .iov_len = strlen(name) + 1 };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);

	*c = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
		.cmsg_len = CMSG_LEN(sizeof(int)) };
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
	if (sendmsg(test, &mh, MSG_NOSIGNAL) < 0)
		_exit(92);
	close(fd);
}

int main(int argc, char **argv)
{
	unsigned char status = 93;
	int test = connect_to_test();

	(void)argc;
	give(test, argv[0], FD_CTL);
	/* One byte is the status to end with; the end of the test is ours too. */
	_exit(read(test, &status, 1) == 1 ? status : 93);
}
