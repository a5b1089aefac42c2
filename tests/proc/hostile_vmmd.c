/* vmmd and QEMU's slot with a frontend, a mountd, a vmmd or a slot that has been taken over. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fds.h"
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
	if (row->type == VMMD_CONT)
		fake_launch(&fake);
	else
		start_without_slot();
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
		((Ipc__VmmdLaunch *)msg)->share = false;
}

static void as_qemu(const struct ipc_message *row)
{
	if (row->type == VMMD_CONT)
		answer(&fake, hear(&fake, "cont"));
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
