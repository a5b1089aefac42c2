/* vmmd where the guest's agent is reached by vsock; QEMU is played by the test, and the guest never is there. */
#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "ipc/fds.h"
#include "tests/proc/common_role.h"
#include "tests/proc/vmmd_fake.h"

#define CID 1999999991 /* beneath every lease */

static struct fake fake;

static int unix_stream(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

static bool has_fd(int number)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", fake.rig.vmmd, number);
	return faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Up to the answer to LAUNCH. */
static void launch(void)
{
	struct ipc_packet p;

	fake_start(&fake);
	CHECK_INT(has_fd(VMMD_FD_VSOCK), rig_vsock.cid != 0);
	ask_launch(&fake);
	fake_exec(&fake);
	say(&fake, GREETING);
	answer(&fake, hear(&fake, "qmp_capabilities"));
	answer_with(&fake, hear(&fake, "query-fdsets"), "[]");
	CHECK_INT(rig_next(&fake.rig, &p), 1);
	CHECK_INT(p.hdr.kind, IPC_REPLY);
}

/* cid, device and socket are vmmd's; sock is the test's to close. */
static void up(int vhost, int sock)
{
	struct ipc_packet p;
	struct error err = ERROR_INIT;

	rig_vsock = (struct rig_vsock){ CID, vhost, sock };
	launch();
	close(rig_take_fd(fake.rig.agentd, &ipc_vmmd_agentd, VMMD_AGENTD_CONSOLE));
	CHECK_INT(channel_recv(fake.rig.agentd, &ipc_vmmd_agentd, MSG_DONTWAIT, &p, &err), -EAGAIN);
	fake_cont(&fake);
}

static void ask_connect(unsigned timeout_ms)
{
	Ipc__VmmdConnect msg = IPC__VMMD_CONNECT__INIT;

	msg.timeout_ms = timeout_ms;
	rig_ask(&fake.rig, VMMD_CONNECT, &msg.base);
}

static void down(int vhost, int sock)
{
	rig_vsock = (struct rig_vsock){ 0 };
	fake_done(&fake);
	close(vhost);
	close(sock);
}

/* The next thing that comes, which is the answer. */
static void expect_error(int code, const char *text)
{
	struct error err = ERROR_INIT;
	struct ipc_packet p;

	do
		CHECK_INT(rig_next(&fake.rig, &p), 1);
	while (p.hdr.kind == IPC_EVENT);
	CHECK_INT(ipc_decode_error(&p, &err), 0);
	CHECK_INT(err.code, code);
	CHECK_CONTAINS(err.msg, text);
}

static int null(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

/* ---- on every machine ---- */

TEST (qemu_has_the_device_and_no_port) {
	int vhost = null(), sock = unix_stream();

	need_root();
	up(vhost, sock);
	CHECK_CONTAINS(fake.args, "{\"driver\":\"vhost-vsock-pci\"");
	CHECK_CONTAINS(fake.args, "\"guest-cid\":1999999991");
	CHECK_CONTAINS(fake.args, "-append quiet tsc=unstable agent.server_addr=vsock://-1:1024 ");
	CHECK(!strstr(fake.args, "agent.channel.0"));
	/* The device has gone to QEMU, the socket is yet to go to agentd. */
	CHECK(!has_fd(VMMD_FD_VHOST_VSOCK) && has_fd(VMMD_FD_VSOCK));
	down(vhost, sock);
}

TEST (a_port_and_no_device) {
	int vhost = null(), sock = unix_stream();

	need_root();
	/* There by mistake: it is not told of them, and keeps neither. */
	rig_vsock = (struct rig_vsock){ 0, vhost, sock };
	launch();
	close(rig_take_fd(fake.rig.agentd, &ipc_vmmd_agentd, VMMD_AGENTD_STREAM));
	CHECK(!strstr(fake.args, "vsock"));
	CHECK_CONTAINS(fake.args, "agent.channel.0");
	fake_cont(&fake);
	ask_connect(1000);
	expect_error(EINVAL, "connect: there is no vsock that leads to the guest's agent");
	down(vhost, sock);
}

/* The filter lets it connect the one socket, and what the kernel says to that is the answer. */
TEST (a_socket_that_is_no_vsock) {
	int vhost = null(), sock = unix_stream();

	need_root();
	up(vhost, sock);
	ask_connect(0);
	expect_error(EINVAL, "connect: a deadline of 0 ms");
	ask_connect(600001);
	expect_error(EINVAL, "connect: a deadline of 600001 ms");
	ask_connect(5000);
	expect_error(EINVAL, "connect: vsock 1999999991:1024: Invalid argument");
	CHECK(has_fd(VMMD_FD_VSOCK)); /* until the end: there is only one */
	down(vhost, sock);
}

/* ---- with the real device: a guest that is never there ---- */

static int vhost_vsock(void)
{
	uint64_t cid = CID;
	int fd = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		test_skip("no /dev/vhost-vsock");
	CHECK_INT(ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &cid), 0);
	return fd;
}

static int vsock(void)
{
	return socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

TEST (a_guest_that_does_not_listen) {
	int vhost = vhost_vsock(), sock = vsock();
	int64_t began;

	need_root();
	up(vhost, sock);
	began = clock_ms();
	ask_connect(3000);
	expect_error(ETIMEDOUT,
		"connect: the guest's agent does not listen at vsock 1999999991:1024 after 3000 ms (");
	CHECK(clock_ms() - began < 6000);
	/* And it is not lost by that: it goes on, and can be asked again. */
	began = clock_ms();
	ask_connect(100);
	expect_error(ETIMEDOUT, "after 100 ms");
	CHECK(clock_ms() - began < 1000); /* less than the kernel gives an attempt */
	down(vhost, sock);
}

TEST (qemu_ends_meanwhile) {
	int vhost = vhost_vsock(), sock = vsock();
	int64_t began;

	need_root();
	up(vhost, sock);
	ask_connect(60000);
	usleep(200000);
	began = clock_ms();
	qemu_ends(&fake, 1);
	expect_error(EPIPE, "connect: QEMU ended with status 1");
	CHECK(clock_ms() - began < 3000);
	down(vhost, sock);
}

TEST (the_frontend_ends_meanwhile) {
	int vhost = vhost_vsock(), sock = vsock();

	need_root();
	up(vhost, sock);
	ask_connect(60000);
	usleep(200000);
	fd_close(&fake.rig.frontend);
	CHECK(test_wait(fake.rig.vmmd, 3000) >= 0);
	fake.rig.vmmd = 0;
	down(vhost, sock);
}
