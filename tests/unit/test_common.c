/* error, fd, options, io, log, clock */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <linux/vm_sockets.h> /* needs <sys/socket.h> */
#include <unistd.h>

#include "common/clock.h"
#include "common/error.h"
#include "common/fd.h"
#include "common/io.h"
#include "common/log.h"
#include "common/options.h"
#include "tests/lib/test.h"
#include "tests/unit/common_kinds.h"

TEST(error_context_goes_in_front)
{
	struct error err = ERROR_INIT;

	CHECK_INT(error_set(&err, EBUSY, "tap %s is in use", "tap0"), -EBUSY);
	CHECK_INT(error_wrap(&err, "attach %s", "eth0"), -EBUSY);
	CHECK_INT(error_wrap(&err, "create %s", "c1"), -EBUSY);
	CHECK_STR(err.msg, "create c1: attach eth0: tap tap0 is in use");
	CHECK_INT(err.code, EBUSY);
	CHECK_INT(error_errno(&err, ENOENT, "open %d", 1), -ENOENT);
	CHECK_STR(err.msg, "open 1: No such file or directory");
}

TEST(error_without_a_place_to_go)
{
	CHECK_INT(error_set(NULL, EBUSY, "x"), -EBUSY);
	CHECK_INT(error_errno(NULL, EBUSY, "x"), -EBUSY);
	CHECK(error_wrap(NULL, "x") < 0);
}

TEST(error_code_that_is_none)
{
	struct error err = ERROR_INIT;

	CHECK_INT(error_set(&err, 0, "x"), -EIO);
	CHECK_INT(error_set(&err, -5, "x"), -EIO);
	CHECK_INT(error_errno(&err, 100000, "x"), -100000);
	CHECK_CONTAINS(err.msg, "x: ");
}

TEST(error_is_cut_never_too_long)
{
	char text[2000];
	struct error err;

	for (size_t inner = 0; inner < 600; inner += 7)
		for (size_t outer = 0; outer < 600; outer += 7) {
			memset(text, 'i', sizeof(text));
			text[inner] = '\0';
			error_set(&err, EIO, "%s", text);
			memset(text, 'o', sizeof(text));
			text[outer] = '\0';
			error_wrap(&err, "%s", text);
			CHECK(strlen(err.msg) < sizeof(err.msg));
			if (inner + outer + 2 < sizeof(err.msg))
				CHECK_INT(strlen(err.msg), inner + outer + 2);
		}
	memset(text, 'e', sizeof(text));
	text[600] = '\0';
	error_errno(&err, EIO, "%s", text);
	CHECK_INT(strlen(err.msg), sizeof(err.msg) - 1);
}

TEST(fdlist_owns)
{
	struct fdlist list = FDLIST_INIT;
	int taken;

	for (int i = 0; i < FDLIST_MAX; i++)
		CHECK_INT(fdlist_add_consume(&list, make_kind(FD_ANY)), 0);
	CHECK_INT(fdlist_add_consume(&list, make_kind(FD_ANY)), -ENOSPC);
	taken = fdlist_steal(&list, 3);
	CHECK(taken >= 0);
	CHECK_INT(fdlist_steal(&list, 3), -1);
	CHECK_INT(fdlist_steal(&list, FDLIST_MAX), -1);
	fdlist_done(&list);
	CHECK_INT(list.n, 0);
	CHECK(fcntl(taken, F_GETFD) >= 0);
	fd_close(&taken);
	CHECK_INT(taken, -1);
	fd_close(&taken);
}

TEST(fd_close_keeps_errno)
{
	int fd = 9999;

	errno = ENOTTY;
	fd_close(&fd);
	CHECK_INT(errno, ENOTTY);
}

TEST(every_kind_is_itself_and_nothing_else)
{
	int made = 0;

	for (int real = FD_REGULAR_RO; real < FD_ANY; real++) {
		int fd = make_kind((enum fd_kind)real);
		struct error err = ERROR_INIT;

		if (fd < 0) {
			printf("         not on this machine: %s\n", fd_kind_name((enum fd_kind)real));
			continue;
		}
		made++;
		for (int kind = FD_NONE; kind < FD_ANY; kind++) {
			int r = fd_check_kind(fd, (enum fd_kind)kind, &err);

			if (r != (kind_is_also((enum fd_kind)real, (enum fd_kind)kind) ? 0 : -EBADF))
				test_fail(__FILE__, __LINE__, "%s taken for %s: %d",
					fd_kind_name((enum fd_kind)real),
					fd_kind_name((enum fd_kind)kind), r);
			if (r < 0)
				CHECK_CONTAINS(err.msg, fd_kind_name((enum fd_kind)kind));
		}
		close(fd);
	}
	CHECK(made >= 8);
}

/* What is near a kind but not it. */
static int tun_with(short flags)
{
	struct ifreq ifr = { .ifr_flags = flags };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd >= 0 && flags)
		CHECK(ioctl(fd, TUNSETIFF, &ifr) == 0);
	return fd;
}

TEST(near_misses)
{
	int fds[] = {
		open("/tmp", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600), /* writable */
		open("/tmp", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600),
		open("/tmp", O_RDWR | O_APPEND | O_TMPFILE | O_CLOEXEC, 0600),
		memfd_create("m", MFD_CLOEXEC),
		open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		open("/", O_PATH | O_CLOEXEC),
		open("/dev/null", O_RDWR | O_CLOEXEC),
		open("/dev/zero", O_RDONLY | O_CLOEXEC),
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), /* never connected */
		socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0),
		socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0),
		socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0), /* never connected */
		socket(AF_VSOCK, SOCK_SEQPACKET | SOCK_CLOEXEC, 0),
		tun_with(0), /* not attached */
		tun_with(IFF_TUN | IFF_NO_PI | IFF_VNET_HDR),
		tun_with(IFF_TAP | IFF_NO_PI),
	};

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] < 0)
			continue;
		for (int kind = FD_NONE; kind < FD_ANY; kind++)
			if (fd_check_kind(fds[i], (enum fd_kind)kind, NULL) != -EBADF)
				test_fail(__FILE__, __LINE__, "number %zu taken for %s", i,
					fd_kind_name((enum fd_kind)kind));
		close(fds[i]);
	}
	CHECK_INT(fd_check_kind(9999, FD_ANY, NULL), -EBADF);
	CHECK_INT(fd_check_kind(-1, FD_REGULAR_RO, NULL), -EBADF);
}

/* A macvtap's number is the kernel's choice. Of namespaces of this process's own. */
static dev_t macvtap(void)
{
	unsigned major, minor;
	FILE *f;

	if (geteuid() != 0 || unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("sysfs", "/sys", "sysfs", 0, NULL) < 0 ||
		system("ip link add a0 type veth peer name b0 && "
		       "ip link add link a0 name m0 type macvtap mode passthru") != 0)
		test_skip("no macvtap");
	f = popen("cat /sys/class/net/m0/macvtap/tap*/dev", "r");
	CHECK(f && fscanf(f, "%u:%u", &major, &minor) == 2);
	pclose(f);
	return makedev(major, minor);
}

TEST(a_macvtap_is_a_tap_with_a_vnet_header_alone)
{
	struct ifreq with = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	struct ifreq without = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	dev_t dev = macvtap();
	int fd;

	CHECK(mount("node", "/mnt", "tmpfs", 0, NULL) == 0);
	CHECK(mknod("/mnt/node", S_IFCHR | 0600, dev) == 0);
	fd = open("/mnt/node", O_RDWR | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK(ioctl(fd, TUNSETIFF, &with) == 0);
	for (int kind = FD_NONE; kind < FD_ANY; kind++)
		CHECK_INT(fd_check_kind(fd, (enum fd_kind)kind, NULL), kind == FD_TAP ? 0 : -EBADF);
	CHECK(ioctl(fd, TUNSETIFF, &without) == 0);
	CHECK_INT(fd_check_kind(fd, FD_TAP, NULL), -EBADF);
	close(fd);
}

/* Both ends of a connection by vsock that leads to this machine itself. */
TEST(a_vsock_stream_is_a_stream)
{
	struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL,
		.svm_port = VMADDR_PORT_ANY };
	socklen_t len = sizeof(to);
	int listener, fd, other;

	if (access("/sys/module/vsock_loopback", F_OK) < 0)
		test_skip("no vsock_loopback");
	listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(bind(listener, (struct sockaddr *)&to, sizeof(to)) == 0 && listen(listener, 1) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&to, &len) == 0);
	CHECK_INT(fd_vsock_peer(listener), 0);
	CHECK_INT(fd_check_kind(listener, FD_STREAM, NULL), -EBADF);
	CHECK_INT(fd_check_kind(fd, FD_STREAM, NULL), -EBADF);
	CHECK(connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
	other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK_INT(fd_vsock_peer(fd), VMADDR_CID_LOCAL);
	CHECK_INT(fd_vsock_peer(other), VMADDR_CID_LOCAL);
	for (int kind = FD_NONE; kind < FD_ANY; kind++)
		CHECK_INT(fd_check_kind(fd, (enum fd_kind)kind, NULL), kind == FD_STREAM ? 0 : -EBADF);
	close(listener);
	close(other);
	close(fd);
}

static const char *text;
static uint64_t number;
static struct option_list list;
static const struct option table[] = {
	{ "uid", OPTION_NUMBER, &number, false },
	{ "text", OPTION_TEXT, &text, true },
	{ "item", OPTION_LIST, &list, true },
	{ NULL, OPTION_TEXT, NULL, false },
};

static int parse(const char *a, const char *b, struct error *err)
{
	char *argv[] = { (char *)"role", (char *)a, (char *)b, NULL };
	int argc = 1 + (a != NULL) + (b != NULL);

	text = NULL;
	number = 0;
	list.n = 0;
	return options_parse(table, argc, argv, err);
}

TEST(options_good)
{
	struct error err = ERROR_INIT;

	CHECK_INT(parse("uid=0", NULL, &err), 0);
	CHECK_INT(parse("text=a=b=", "uid=18446744073709551615", &err), 0);
	CHECK_STR(text, "a=b=");
	CHECK(number == UINT64_MAX);
	CHECK_INT(parse("uid=1", "text=", &err), 0);
	CHECK_STR(text, "");
	CHECK_INT(parse("item=x", "uid=1", &err), 0);
	CHECK_INT(list.n, 1);
	CHECK_STR(list.item[0], "x");
}

TEST(options_bad)
{
	static const struct {
		const char *a, *b, *why;
	} bad[] = {
		{ NULL, NULL, "option 'uid' is missing" },
		{ "text=x", NULL, "option 'uid' is missing" },
		{ "uid=1", "uid=1", "given twice" },
		{ "uid=1", "other=1", "unknown option 'other=1'" },
		{ "uid=1", "text", "unknown option 'text'" },
		{ "uid=1", "tex=1", "unknown option" },
		{ "uid=1", "texts=1", "unknown option" },
		{ "uid=1", "=", "unknown option" },
		{ "uid=1", "", "unknown option" },
		{ "uid=1", "--help", "unknown option" },
		{ "uid=", NULL, "is not a number" },
		{ "uid=-1", NULL, "is not a number" },
		{ "uid=+1", NULL, "is not a number" },
		{ "uid= 1", NULL, "is not a number" },
		{ "uid=1 ", NULL, "is not a number" },
		{ "uid=0x10", NULL, "is not a number" },
		{ "uid=18446744073709551616", NULL, "is not a number" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = ERROR_INIT;

		CHECK_INT(parse(bad[i].a, bad[i].b, &err), -EINVAL);
		CHECK_CONTAINS(err.msg, bad[i].why);
	}
}

TEST(options_list_is_bounded)
{
	char *argv[OPTION_LIST_MAX + 4] = { (char *)"role", (char *)"uid=1" };
	struct error err = ERROR_INIT;

	for (int i = 0; i <= OPTION_LIST_MAX; i++)
		argv[2 + i] = (char *)"item=x";
	list.n = 0;
	CHECK_INT(options_parse(table, 2 + OPTION_LIST_MAX, argv, &err), 0);
	list.n = 0;
	CHECK_INT(options_parse(table, 3 + OPTION_LIST_MAX, argv, &err), -E2BIG);
	CHECK_CONTAINS(err.msg, "more than 16 times item");
}

TEST(files_are_read_whole_or_not_at_all)
{
	struct error err = ERROR_INIT;
	int fd = memfd_create("m", MFD_CLOEXEC);
	size_t len = 0;
	char *got;

	got = read_file_fd(fd, 0, &len, &err);
	CHECK_STR(got, "");
	CHECK_INT(len, 0);
	free(got);
	CHECK_INT(write_full(fd, "a\0b", 3), 0);
	got = read_file_fd(fd, 3, &len, &err);
	CHECK(got && len == 3 && memcmp(got, "a\0b", 4) == 0);
	free(got);
	CHECK(!read_file_fd(fd, 2, &len, &err));
	CHECK_INT(err.code, EFBIG);
	/* 1 TiB of nothing is not read */
	CHECK(ftruncate(fd, 1LL << 40) == 0);
	CHECK(!read_file_fd(fd, 1U << 20, &len, &err));
	CHECK_INT(err.code, EFBIG);
	close(fd);

	fd = make_kind(FD_FIFO_RW);
	CHECK(!read_file_fd(fd, 10, &len, &err));
	CHECK_CONTAINS(err.msg, "not a regular file");
	close(fd);
	/* says 0 bytes, has more */
	fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	CHECK(!read_file_fd(fd, 1U << 20, &len, &err));
	CHECK_INT(err.code, EAGAIN);
	close(fd);
	fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(!read_file_fd(fd, 10, &len, &err));
	close(fd);
}

/* Runs with fd 2 replaced; the test's own messages are lost meanwhile. */
static int with_stderr(int fd)
{
	int saved = fcntl(2, F_DUPFD_CLOEXEC, 10);

	CHECK(dup2(fd, 2) == 2);
	return saved;
}

static void stderr_back(int saved)
{
	dup2(saved, 2);
	close(saved);
}

TEST(log_lines)
{
	char big[4000], line[8192];
	int pair[2], saved;
	ssize_t n;

	CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0);
	saved = with_stderr(pair[1]);
	log_error("%s", "one");
	log_debug("not at this level");
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	errno = ENOTTY;
	log_info("%s", big);
	n = errno;
	stderr_back(saved);
	CHECK_INT(n, ENOTTY);
	n = recv(pair[0], line, sizeof(line), MSG_DONTWAIT);
	CHECK(n == 7 && memcmp(line, "<3>one\n", 7) == 0);
	n = recv(pair[0], line, sizeof(line), MSG_DONTWAIT);
	CHECK_INT(n, LOG_LINE_MAX - 1);
	CHECK(memcmp(line, "<6>xxx", 6) == 0 && line[n - 1] == '\n' && line[n - 2] == 'x');
	CHECK_INT(recv(pair[0], line, sizeof(line), MSG_DONTWAIT), -1);
	close(pair[0]);
	close(pair[1]);
}

TEST(log_never_blocks)
{
	int pair[2], saved;
	int64_t begin = clock_ms();

	CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) == 0);
	saved = with_stderr(pair[1]);
	for (int i = 0; i < 10000; i++)
		log_info("nobody reads this");
	close(pair[0]);
	log_info("nobody is there");
	stderr_back(saved);
	close(pair[1]);
	CHECK(clock_ms() - begin < 5000);
}

TEST(clock_left)
{
	CHECK_INT(clock_left_ms(clock_ms() - 5), 0);
	CHECK(clock_left_ms(clock_ms() + 1000) > 900);
	CHECK_INT(clock_left_ms(INT64_MAX), INT32_MAX);
	CHECK_INT(clock_left_ms(0), 0);
}
