/* mountd with a frontend, a slot, a vmmd or an agentd that has been taken over. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/slot.pb-c.h"
#include "tests/proc/hostile.h"
#include "tests/proc/hostile_ctl.h"
#include "tests/proc/mountd_rig.h"

static struct rig rig;

static void up(void)
{
	static const char *const more[] = { "timeout_ms=2000", NULL };
	static bool made;

	if (!made)
		world_make();
	made = true;
	rig = rig_start(more);
	role_lock(&rig.role);
}

static void down(bool ended)
{
	if (ended)
		rig.role.pid = -1;
	rig_close(&rig);
}

/* ---- the frontend ---- */

static void up_for_frontend(const struct ipc_message *row, struct hostile_end *ret)
{
	up();
	/* The slot is gone: START_SHARE is answered by an error, at once. */
	if (row->type == MOUNTD_START_SHARE)
		fd_close(&rig.slot);
	*ret = (struct hostile_end){
		.pid = rig.role.pid,
		.fd = rig.role.channel,
		.number = MOUNTD_FD_FRONTEND,
		.log = rig.role.log,
		.others = { rig.role.ctl, rig.agentd, rig.vmmd, rig.slot },
	};
}

static void nothing_is_mounted(const struct ipc_message *row)
{
	(void)row;
	CHECK(!strstr(text_of_file("/proc/self/mountinfo"), "/mnt/share"));
	CHECK_INT(access("/mnt/share/c1", F_OK), -1);
}

static const struct hostile_target mountd = {
	.name = "frontend -> mountd",
	.channel = &ipc_frontend_mountd,
	.asker = true,
	.up = up_for_frontend,
	.down = down,
	.after = nothing_is_mounted,
};

HOSTILE_TESTS(mountd, mountd)

TEST(mountd_deaf) { hostile_deaf(&mountd, MOUNTD_REMOVE_CONTAINER); }

/* A9: an index is used once. */
TEST(an_index_twice)
{
	static const char *const rw[] = { "rw", NULL };
	struct error err = ERROR_INIT;

	up();
	make_snapshot(1);
	make_snapshot(2);
	if (add(&rig, 0, "", "bind", "/mnt/snap/1/fs", rw, &err) != 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	CHECK(add(&rig, 0, "", "bind", "/mnt/snap/2/fs", rw, &err) != 0);
	CHECK_STR(text_of_file("%s", in_m(&rig, "/mnt/share/c0/rootfs/l1")), "layer 1");
	CHECK_INT(access(in_m(&rig, "/mnt/share/c0/rootfs/l2"), F_OK), -1);
	CHECK_INT(del(&rig, 7, &err), 0); /* none there: nothing happens */
	CHECK_STR(text_of_file("%s", in_m(&rig, "/mnt/share/c0/rootfs/l1")), "layer 1");
	down(false);
}

/* ---- virtiofsd's slot: it answers EXEC, or its end closes ---- */

static void ask_share(void)
{
	Ipc__MountdStartShare req = IPC__MOUNTD_START_SHARE__INIT;
	struct error err;

	CHECK_INT(channel_send(rig.role.channel, &ipc_frontend_mountd, IPC_REQUEST,
			  MOUNTD_START_SHARE, HOSTILE_SEQ, &req.base, NULL, 0, 1000, &err), 0);
}

static void up_for_slot(const struct ipc_message *row, struct hostile_end *ret)
{
	static struct ipc_packet p;

	(void)row;
	up();
	ask_share();
	do {
		ipc_packet_done(&p);
		CHECK_INT(channel_recv(rig.slot, &ipc_slot, 0, &p, NULL), 1);
	} while (p.hdr.type != SLOT_EXEC);
	*ret = (struct hostile_end){
		.pid = rig.role.pid,
		.fd = rig.slot,
		.number = MOUNTD_FD_SLOT,
		.log = rig.role.log,
		.seq = p.hdr.seq,
	};
}

/* The share is not there: the frontend hears why, and vmmd gets nothing. */
static void share_fails(const char *why)
{
	struct pollfd pfd = { .fd = rig.role.channel, .events = POLLIN };
	struct error err = ERROR_INIT;
	struct ipc_packet p;

	(void)why; /* it is in the log too */
	CHECK_INT(poll(&pfd, 1, 10000), 1);
	CHECK_INT(channel_recv(rig.role.channel, &ipc_frontend_mountd, 0, &p, &err), 1);
	CHECK_INT(p.hdr.seq, HOSTILE_SEQ);
	CHECK_INT(ipc_decode_error(&p, &err), 0);
	CHECK_CONTAINS(err.msg, "start virtiofsd: ");
	CHECK(!next_packet(rig.vmmd, &ipc_mountd_vmmd, &p));
}

static const struct hostile_target slot = {
	.name = "virtiofsd's slot -> mountd",
	.channel = &ipc_slot,
	.up = up_for_slot,
	.down = down,
	.lost = share_fails,
};

TEST(slot_framing) { hostile_framing(&slot); }
TEST(slot_kinds) { hostile_kinds(&slot); }
TEST(slot_fds) { hostile_fds(&slot); }

/* ---- agentd and vmmd: nothing may come from them, and nobody reads it ---- */

static void still_serves(void)
{
	Ipc__MountdRemoveContainer req = IPC__MOUNTD_REMOVE_CONTAINER__INIT;
	struct error err = ERROR_INIT;

	CHECK_INT(role_ask(&rig.role, &ipc_frontend_mountd, MOUNTD_REMOVE_CONTAINER, &req.base,
			  &err), 0);
}

/* What they say stays in the socket, which has an end. */
static void flood_unread(int fd)
{
	static const char junk[4096];
	size_t sent = 0;

	while (send(fd, junk, sizeof(junk), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		sent += sizeof(junk);
	CHECK_INT(errno, EAGAIN);
	CHECK(sent > 0 && sent < 4 << 20);
}

TEST(nobody_listens_to_agentd_and_vmmd)
{
	up();
	flood_unread(rig.agentd);
	flood_unread(rig.vmmd);
	still_serves();
	fd_close(&rig.agentd); /* nor is their end mountd's: it is the supervisor's business */
	fd_close(&rig.vmmd);
	still_serves();
	down(false);
}

/* ---- the supervisor ---- */

static int ctl(void)
{
	return rig.role.ctl;
}

TEST(supervisor) { hostile_supervisor(&mountd, ctl, 0); }
