#include "tests/proc/vmmd_plug.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/loop.h>
#include <net/if.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/netd.pb-c.h"

#define MIB (1 << 20)

int new_disk(int mib)
{
	char path[] = "/tmp/bulkhead-test-disk.XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_INT(ftruncate(fd, (off_t)mib * MIB), 0);
	CHECK_INT(unlink(path), 0);
	return fd;
}

static void send_disk(struct world *w, uint32_t index, int fd)
{
	Ipc__Block msg = IPC__BLOCK__INIT;
	struct error err = ERROR_INIT;

	msg.index = index;
	CHECK_INT(channel_send(w->rig.mountd, &ipc_mountd_vmmd, IPC_EVENT, MOUNTD_VMMD_BLOCK, 0,
			  &msg.base, &fd, 1, 1000, &err),
		0);
	close(fd);
}

void ask_disk(struct world *w, uint32_t index, int fd)
{
	ask_disk_as(w, index, false, fd);
}

void ask_disk_as(struct world *w, uint32_t index, bool read_only, int fd)
{
	Ipc__VmmdAddBlock msg = IPC__VMMD_ADD_BLOCK__INIT;

	send_disk(w, index, fd);
	msg.index = index;
	msg.read_only = read_only;
	rig_ask(&w->rig, VMMD_ADD_BLOCK, &msg.base);
}

int new_loop(int backing)
{
	struct loop_config config = { .fd = (uint32_t)backing,
		.info = { .lo_flags = LO_FLAGS_AUTOCLEAR } };
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), fd = -1;

	/* Somebody else of this machine may take the number that was free. */
	for (int i = 0; control >= 0 && fd < 0 && i < 20; i++) {
		char path[32];

		snprintf(path, sizeof(path), "/dev/loop%d", ioctl(control, LOOP_CTL_GET_FREE));
		fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) < 0)
			fd_close(&fd);
	}
	fd_close(&control);
	return fd;
}

/* Of the namespace that the test has entered. The last device of its name may be about to go. */
static int new_queue(bool several)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int64_t deadline = clock_ms() + 2000;
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), r;

	if (fd < 0)
		test_skip("no tap can be made");
	ifr.ifr_flags = (short)(ifr.ifr_flags | (several ? IFF_MULTI_QUEUE : 0));
	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), NETWORK_TAP_FMT, LINK);
	while ((r = ioctl(fd, TUNSETIFF, &ifr)) < 0 && clock_ms() < deadline)
		usleep(1000);
	CHECK(r == 0);
	return fd;
}

int new_vhost(void)
{
	return open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
}

static void send_link(struct world *w, uint32_t queues, bool vhost)
{
	Ipc__NetdQueue queue = IPC__NETD_QUEUE__INIT;
	Ipc__NetdEnd end = IPC__NETD_END__INIT;

	queue.index = end.index = LINK;
	end.queues = queues;
	for (; queue.queue < queues; queue.queue++) {
		int fds[2] = { new_queue(queues > 1), vhost ? new_vhost() : -1 };

		CHECK_INT(channel_send(w->rig.netd, &ipc_netd_vmmd, IPC_EVENT, NETD_VMMD_QUEUE, 0,
				  &queue.base, fds, vhost ? 2 : 1, 1000, NULL),
			0);
		close(fds[0]);
		fd_close(&fds[1]);
	}
	CHECK_INT(channel_send(w->rig.netd, &ipc_netd_vmmd, IPC_EVENT, NETD_VMMD_END, 0, &end.base,
			  NULL, 0, 1000, NULL),
		0);
}

void ask_nic(struct world *w, uint32_t queues, bool vhost)
{
	Ipc__VmmdAddNic msg = IPC__VMMD_ADD_NIC__INIT;
	Ipc__VmmdLaunch__Nic nic = IPC__VMMD_LAUNCH__NIC__INIT;
	uint8_t mac[6] = { 2, 0, 0, 0, 0, 7 };

	if (queues)
		send_link(w, queues, vhost);
	nic.index = LINK;
	nic.mac.data = mac;
	nic.mac.len = sizeof(mac);
	nic.mtu = 1400;
	msg.nic = &nic;
	rig_ask(&w->rig, VMMD_ADD_NIC, &msg.base);
}

void ask_memory(struct world *w, uint32_t index)
{
	Ipc__VmmdAddMemory msg = IPC__VMMD_ADD_MEMORY__INIT;

	msg.index = index;
	msg.mib = 256;
	rig_ask(&w->rig, VMMD_ADD_MEMORY, &msg.base);
}

void ask_cpu(struct world *w, uint32_t index)
{
	Ipc__VmmdAddCpu msg = IPC__VMMD_ADD_CPU__INIT;

	msg.index = index;
	rig_ask(&w->rig, VMMD_ADD_CPU, &msg.base);
}

void ask_remove(struct world *w, Ipc__VmmdRemove__Kind kind, uint32_t index)
{
	Ipc__VmmdRemove msg = IPC__VMMD_REMOVE__INIT;

	msg.kind = kind;
	msg.index = index;
	rig_ask(&w->rig, VMMD_REMOVE, &msg.base);
}

bool answered(struct world *w, struct error *ret)
{
	struct ipc_packet packet;

	CHECK_INT(rig_next(&w->rig, &packet), 1);
	if (packet.hdr.kind == IPC_EVENT) {
		Ipc__VmEvent *e = (Ipc__VmEvent *)ipc_decode(&packet, ret);

		test_fail(__FILE__, __LINE__, "instead of an answer: event %d, status %d, %s",
			e->kind, e->status, e->text);
	}
	return ipc_decode_error(&packet, ret) < 0;
}

void expect_done(struct world *w)
{
	struct error err = ERROR_INIT;

	if (!answered(w, &err))
		test_fail(__FILE__, __LINE__, "%s", err.msg);
}

void expect_refused(struct world *w, const char *text)
{
	struct error err = ERROR_INIT;

	CHECK(!answered(w, &err));
	fprintf(stderr, "as expected: %s\n", err.msg);
	CHECK_CONTAINS(err.msg, text);
}
