/* vmmd and QEMU's slot with a frontend, a mountd, a vmmd or a slot that has been taken over. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fds.h"
#include "ipc/netd.pb-c.h"
#include "ipc/slot.pb-c.h"
#include "tests/proc/common_role.h"
#include "tests/proc/hostile.h"
#include "tests/proc/hostile_ctl.h"
#include "tests/proc/vmmd_fake.h"

#define QEMU "/usr/bin/qemu-system-x86_64"

static struct fake fake;

static void down(bool ended)
{
	if (ended)
		fake.rig.vmmd = 0;
	fake_done(&fake);
}

/* vmmd, with nobody in QEMU's place: a LAUNCH that is in order fails at once. */
static void start_without_slot(void)
{
	fake_start(&fake);
	close(fake.job);
	fake.job = -1;
}

/* ---- the frontend ---- */

static void up_for_frontend(const struct ipc_message *row, struct hostile_end *ret)
{
	if (row->type == VMMD_LAUNCH || row->type == VMMD_STOP || row->type == VMMD_EVENT)
		start_without_slot();
	else
		fake_launch(&fake);
	if (row->type > VMMD_EVENT)
		fake_cont(&fake);
	if (row->type == VMMD_RESUME)
		fake_pause(&fake);
	/* Of all that may be plugged only a CPU needs no word that is not there: QEMU has ended. */
	if (row->type == VMMD_ADD_CPU) {
		char text[512];

		qemu_ends(&fake, 0);
		rig_expect_event(&fake.rig, IPC__VM_EVENT__KIND__EXITED, 0, text);
	}
	*ret = (struct hostile_end){
		.pid = fake.rig.vmmd,
		.fd = fake.rig.frontend,
		.number = VMMD_FD_FRONTEND,
		.log = fake.rig.log[0],
		.others = { fake.rig.vmmd_ctl, fake.rig.agentd, fake.rig.mountd },
	};
}

static void no_share(const struct ipc_message *row, ProtobufCMessage *msg)
{
	if (row->type == VMMD_LAUNCH)
		((Ipc__VmmdLaunch *)msg)->share = false; /* its NIC has no tap: an answer too */
}

static void as_qemu(const struct ipc_message *row)
{
	if (row->type == VMMD_CONT || row->type == VMMD_RESUME)
		answer(&fake, hear(&fake, "cont"));
	if (row->type == VMMD_PAUSE)
		answer(&fake, hear(&fake, "stop"));
}

static const struct hostile_target frontend = {
	.name = "frontend -> vmmd",
	.channel = &ipc_frontend_vmmd,
	.asker = true,
	.up = up_for_frontend,
	.down = down,
	.adjust = no_share,
	.assist = as_qemu,
};

HOSTILE_TESTS(frontend, frontend)

TEST(frontend_deaf) { hostile_deaf(&frontend, VMMD_STOP); }

/* ---- mountd: what it has sent is looked at when LAUNCH asks for a share ---- */

static void up_for_mountd(const struct ipc_message *row, struct hostile_end *ret)
{
	(void)row;
	start_without_slot();
	*ret = (struct hostile_end){
		.pid = fake.rig.vmmd,
		.fd = fake.rig.mountd,
		.number = VMMD_FD_MOUNTD,
		.log = fake.rig.log[0],
	};
}

static void ask_shared_launch(void)
{
	Ipc__VmmdLaunch msg = IPC__VMMD_LAUNCH__INIT;

	msg.vcpus = 1;
	msg.memory_mib = 64;
	msg.share = true;
	rig_ask(&fake.rig, VMMD_LAUNCH, &msg.base);
}

/* There will be no VM, and the frontend hears why; agentd hears nothing. */
static void launch_fails(const char *why)
{
	char byte;

	(void)why; /* it is in the log too */
	expect_launch_error(&fake, "launch: ");
	expect_kill(&fake);
	CHECK_INT(recv(fake.rig.agentd, &byte, 1, MSG_DONTWAIT), -1);
	CHECK_INT(errno, EAGAIN);
}

static const struct hostile_target mountd = {
	.name = "mountd -> vmmd",
	.channel = &ipc_mountd_vmmd,
	.asker = true,
	.events = true,
	.up = up_for_mountd,
	.down = down,
	.poke = ask_shared_launch,
	.lost = launch_fails,
};

TEST(mountd_framing) { hostile_framing(&mountd); }
TEST(mountd_kinds) { hostile_kinds(&mountd); }
TEST(mountd_fds) { hostile_fds(&mountd); }
TEST(mountd_payloads) { hostile_payloads(&mountd); }

/* ---- netd: what it has sent is looked at when LAUNCH has a NIC ---- */

static void up_for_netd(const struct ipc_message *row, struct hostile_end *ret)
{
	up_for_mountd(row, ret);
	ret->fd = fake.rig.netd;
	ret->number = VMMD_FD_NETD;
}

static void launch_with_nic(uint32_t index)
{
	Ipc__VmmdLaunch msg = IPC__VMMD_LAUNCH__INIT;
	Ipc__VmmdLaunch__Nic nic = IPC__VMMD_LAUNCH__NIC__INIT, *nics[] = { &nic };
	uint8_t mac[6] = { 2 };

	nic.index = index;
	nic.mac.data = mac;
	nic.mac.len = sizeof(mac);
	nic.mtu = 1500;
	msg.vcpus = 1;
	msg.memory_mib = 64;
	msg.nics = nics;
	msg.n_nics = 1;
	rig_ask(&fake.rig, VMMD_LAUNCH, &msg.base);
}

static void ask_launch_with_nic(void)
{
	launch_with_nic(0);
}

static const struct hostile_target netd = {
	.name = "netd -> vmmd",
	.channel = &ipc_netd_vmmd,
	.asker = true,
	.events = true,
	.up = up_for_netd,
	.down = down,
	.poke = ask_launch_with_nic,
	.lost = launch_fails,
};

TEST(netd_framing) { hostile_framing(&netd); }
TEST(netd_kinds) { hostile_kinds(&netd); }
TEST(netd_fds) { hostile_fds(&netd); }
TEST(netd_payloads) { hostile_payloads(&netd); }

/* A queue of a tap: by the right name, or another. */
static int tap_fd(const char *name, int flags)
{
	struct ifreq ifr = { .ifr_flags = (short)flags };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	strcpy(ifr.ifr_name, name);
	CHECK(ioctl(fd, TUNSETIFF, &ifr) == 0);
	return fd;
}

static void send_queue(uint32_t index, uint32_t queue, int fd)
{
	Ipc__NetdQueue m = IPC__NETD_QUEUE__INIT;

	m.index = index;
	m.queue = queue;
	CHECK_INT(channel_send(fake.rig.netd, &ipc_netd_vmmd, IPC_EVENT, NETD_VMMD_QUEUE, 0,
			  &m.base, &fd, 1, 1000, NULL), 0);
	close(fd);
}

static void send_end(uint32_t index, uint32_t queues)
{
	Ipc__NetdEnd m = IPC__NETD_END__INIT;

	m.index = index;
	m.queues = queues;
	CHECK_INT(channel_send(fake.rig.netd, &ipc_netd_vmmd, IPC_EVENT, NETD_VMMD_END, 0, &m.base,
			  NULL, 0, 1000, NULL), 0);
}

/* B8: what a tap must be besides its kind; B3 and B10's like: how many there are. */
TEST(taps_that_are_not_the_links)
{
	enum { TAP = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	static const struct {
		const char *name;
		int flags;
		uint32_t index, queue, twice, end, queues;
		bool persistent;
		const char *why;
	} cases[] = {
		{ "tap7_bk", TAP, 0, 0, 0, 0, 1, false, "is not called tap0_bk" },
		{ "eth7", TAP, 0, 0, 0, 0, 1, false, "is not called tap0_bk" },
		{ "tap0_bk", TAP, 0, 0, 0, 0, 1, true, "is persistent" },
		{ "tap0_bk", TAP, 0, 1, 0, 0, 1, false, "is not the next one" },
		{ "tap0_bk", TAP, 8, 0, 0, 0, 1, false, "queue 0 of link 8" },
		{ "tap0_bk", TAP, 0, 16, 0, 0, 1, false, "queue 16 of link 0" },
		{ "tap0_bk", TAP, 0, 0, 0, 0, 2, false, "has 2 queues, 1 have come" },
		{ "tap0_bk", TAP, 0, 0, 0, 1, 1, false, "has 1 queues, 0 have come" },
		{ "tap0_bk", TAP, 0, 0, 0, 9, 1, false, "the end of link 9" },
		{ "tap1_bk", TAP, 1, 0, 0, 1, 1, false, "netd has sent no tap for link 0" },
	};

	need_root();
	CHECK(unshare(CLONE_NEWNET) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct hostile_end end;
		int fd = tap_fd(cases[i].name, cases[i].flags);

		if (cases[i].persistent)
			CHECK(ioctl(fd, TUNSETPERSIST, 1) == 0);
		up_for_netd(NULL, &end);
		send_queue(cases[i].index, cases[i].queue, fd);
		send_end(cases[i].end, cases[i].queues);
		launch_with_nic(0);
		expect_launch_error(&fake, cases[i].why);
		expect_kill(&fake);
		down(false);
		/* No fd is left with vmmd: it has gone, and the tap with the last of them. */
		if (cases[i].persistent) {
			fd = tap_fd(cases[i].name, cases[i].flags);
			CHECK(ioctl(fd, TUNSETPERSIST, 0) == 0);
			close(fd);
		}
		CHECK_INT(if_nametoindex(cases[i].name), 0);
	}
}

/* Of a netd that has broken the protocol while the VM runs nothing is taken any more. */
TEST(add_nic_from_a_netd_that_is_lost)
{
	Ipc__VmmdAddNic msg = IPC__VMMD_ADD_NIC__INIT;
	Ipc__VmmdLaunch__Nic nic = IPC__VMMD_LAUNCH__NIC__INIT;
	uint8_t mac[6] = { 2 };
	struct error err = ERROR_INIT;

	need_root();
	CHECK(unshare(CLONE_NEWNET) == 0);
	nic.mac.data = mac;
	nic.mac.len = sizeof(mac);
	msg.nic = &nic;
	fake_launch(&fake);
	fake_cont(&fake);
	send_queue(0, 0, tap_fd("tap0_bk", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR));
	send_end(9, 1);
	rig_ask_error(&fake.rig, VMMD_ADD_NIC, &msg.base, &err);
	CHECK_STR(err.msg, "add NIC: netd: the end of link 9");
	CHECK_INT(if_nametoindex("tap0_bk"), 0);
	send_queue(0, 0, tap_fd("tap0_bk", IFF_TAP | IFF_NO_PI | IFF_VNET_HDR));
	send_end(0, 1);
	rig_ask_error(&fake.rig, VMMD_ADD_NIC, &msg.base, &err);
	CHECK_STR(err.msg, "add NIC: netd: it has broken the protocol before");
	down(false);
	CHECK_INT(if_nametoindex("tap0_bk"), 0);
}

/* ---- QEMU's slot: it answers EXEC by an error, or its end closes ---- */

static void up_for_slot(const struct ipc_message *row, struct hostile_end *ret)
{
	static struct ipc_packet p;

	(void)row;
	fake_start(&fake);
	ask_launch(&fake);
	do {
		ipc_packet_done(&p);
		CHECK_INT(channel_recv(fake.job, &ipc_slot, 0, &p, NULL), 1);
	} while (p.hdr.type != SLOT_EXEC);
	*ret = (struct hostile_end){
		.pid = fake.rig.vmmd,
		.fd = fake.job,
		.number = VMMD_FD_SLOT,
		.log = fake.rig.log[0],
		.seq = p.hdr.seq,
	};
}

static const struct hostile_target slot_answers = {
	.name = "QEMU's slot -> vmmd",
	.channel = &ipc_slot,
	.up = up_for_slot,
	.down = down,
	.lost = launch_fails,
};

TEST(slot_answers_framing) { hostile_framing(&slot_answers); }
TEST(slot_answers_kinds) { hostile_kinds(&slot_answers); }
TEST(slot_answers_fds) { hostile_fds(&slot_answers); }

/* ---- agentd: nothing may come from it, and nobody reads it ---- */

TEST(nobody_listens_to_agentd)
{
	static const char junk[4096];
	struct ipc_packet p;
	size_t sent = 0;

	start_without_slot();
	while (send(fake.rig.agentd, junk, sizeof(junk), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		sent += sizeof(junk);
	CHECK_INT(errno, EAGAIN);
	CHECK(sent > 0 && sent < 4 << 20);
	ask_stop(&fake);
	CHECK_INT(rig_next(&fake.rig, &p), 1);
	CHECK_INT(p.hdr.kind, IPC_REPLY);
	down(false);
}

/* ---- vmmd, to QEMU's slot ---- */

static struct rig rig;

static void send_arg(const char *text)
{
	Ipc__SlotArg msg = IPC__SLOT_ARG__INIT;

	msg.part = (char *)text;
	msg.last = true;
	CHECK_INT(channel_send(rig.slot_job, &ipc_slot, IPC_EVENT, SLOT_ARG, 0, &msg.base, NULL, 0,
			  1000, NULL), 0);
}

static void slot_up(const struct ipc_message *row, struct hostile_end *ret)
{
	need_root();
	rig_init(&rig);
	rig_start_slot(&rig, &(struct rig_slot){ QEMU, "/etc/hostname", "/etc/hostname", "tcg" });
	rig_lock(rig.slot_ctl);
	if (row->type == SLOT_EXEC)
		send_arg("-version");
	*ret = (struct hostile_end){
		.pid = rig.slot,
		.fd = rig.slot_job,
		.number = SLOT_FD_JOB,
		.log = rig.log[0],
		.others = { rig.slot_ctl },
	};
}

static void slot_down(bool ended)
{
	if (ended)
		rig.slot = 0;
	rig_done(&rig);
}

static void a_number(const struct ipc_message *row, ProtobufCMessage *msg)
{
	if (row->type == SLOT_FD)
		((Ipc__SlotFd *)msg)->target = 10;
}

static bool it_becomes_qemu(const struct ipc_message *row)
{
	return row->type == SLOT_EXEC;
}

static const struct hostile_target slot = {
	.name = "vmmd -> QEMU's slot",
	.channel = &ipc_slot,
	.asker = true,
	.events = true,
	.up = slot_up,
	.down = slot_down,
	.adjust = a_number,
	.is_last = it_becomes_qemu,
};

HOSTILE_TESTS(slot, slot)

/* ---- the supervisor ---- */

static int ctl(void)
{
	return fake.rig.vmmd_ctl;
}

static int slot_ctl(void)
{
	return rig.slot_ctl;
}

TEST(supervisor) { hostile_supervisor(&frontend, ctl, 1U << CTL_CHILD_EXIT); }
TEST(supervisor_of_the_slot) { hostile_supervisor(&slot, slot_ctl, 0); }
