/* netd and persistd with a frontend that has been taken over. */
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include "ipc/fds.h"
#include "ipc/netd.pb-c.h"
#include "ipc/persistd.pb-c.h"
#include "ipc/tables.h"
#include "tests/proc/common_role.h"
#include "tests/proc/hostile.h"
#include "tests/proc/hostile_ctl.h"

static struct started role;

static void up_as(struct hostile_end *ret)
{
	*ret = (struct hostile_end){
		.pid = role.pid,
		.fd = role.channel,
		.number = NETD_FD_FRONTEND, /* and PERSISTD_FD_FRONTEND */
		.log = role.log,
		.others = { role.ctl },
	};
}

static void down(bool ended)
{
	if (ended)
		role.pid = -1;
	role_close(&role);
}

/* ---- netd ---- */

static int vmmd = -1; /* its end of netd's channel */

static void netd_up(const struct ipc_message *row, struct hostile_end *ret)
{
	static bool alone;
	Ipc__NetdScan scan = IPC__NETD_SCAN__INIT;
	struct error err;
	int pair[2];

	if (!alone) {
		need_root();
		CHECK(unshare(CLONE_NEWNET) == 0);
		CHECK(system("ip link add eth0 type veth peer name peer0") == 0);
		alone = true;
	}
	test_pair(pair);
	role = role_up("bulkhead-netd", NETD_FD_VOID, NETD_FD_VMMD, pair[1]);
	close(pair[1]);
	fd_close(&vmmd);
	vmmd = pair[0];
	if (row->type != NETD_SCAN)
		CHECK_INT(role_ask(&role, &ipc_frontend_netd, NETD_SCAN, &scan.base, &err), 0);
	up_as(ret);
	ret->others[1] = vmmd;
}

static void netd_down(bool ended)
{
	fd_close(&vmmd);
	down(ended);
}

static void the_first_link(const struct ipc_message *row, ProtobufCMessage *msg)
{
	if (row->type == NETD_PART)
		((Ipc__NetdPart *)msg)->part = 0;
	else if (row->type == NETD_ATTACH)
		((Ipc__NetdAttach *)msg)->index = 0;
}

static bool netd_is_done(const struct ipc_message *row)
{
	return row->type == NETD_DONE;
}

static const struct hostile_target netd = {
	.name = "frontend -> netd",
	.channel = &ipc_frontend_netd,
	.asker = true,
	.up = netd_up,
	.down = netd_down,
	.adjust = the_first_link,
	.is_last = netd_is_done,
};

HOSTILE_TESTS(netd, netd)

/* ---- persistd ---- */

#define DIR_PATH "/mnt"

static void persistd_up(const struct ipc_message *row, struct hostile_end *ret)
{
	static bool mounted;
	int dir;

	(void)row;
	if (!mounted) {
		need_root();
		CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
		CHECK(mount("exits", DIR_PATH, "tmpfs", 0, NULL) == 0);
		CHECK(chown(DIR_PATH, TEST_UID, TEST_UID) == 0);
		mounted = true;
	}
	unlink(DIR_PATH "/exits");
	dir = open(DIR_PATH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(dir >= 0);
	role = role_up("bulkhead-persistd", PERSISTD_FD_VOID, PERSISTD_FD_DIR, dir);
	close(dir);
	up_as(ret);
}

/* What came in a packet that is refused is not on disk. */
static void nothing_is_recorded(const struct ipc_message *row)
{
	(void)row;
	CHECK(access(DIR_PATH "/exits", F_OK) < 0);
	CHECK(access(DIR_PATH "/exits.new", F_OK) < 0);
}

static const struct hostile_target persistd = {
	.name = "frontend -> persistd",
	.channel = &ipc_frontend_persistd,
	.asker = true,
	.up = persistd_up,
	.down = down,
	.after = nothing_is_recorded,
};

HOSTILE_TESTS(persistd, persistd)

/* ---- the supervisor: neither listens to it after LOCK, the kernel ends them with it ---- */

TEST(nobody_listens_to_the_supervisor)
{
	Ipc__PersistdForget m = IPC__PERSISTD_FORGET__INIT;
	struct hostile_end end;
	struct error err;

	persistd_up(NULL, &end);
	m.id = (char *)"c";
	for (int shape = 0; shape < CTL_SHAPES; shape++) {
		ctl_send_shape(role.ctl, (enum ctl_shape)shape, CTL_LOCK, ROLE_SUPERVISOR);
		CHECK_INT(role_ask(&role, &ipc_frontend_persistd, PERSISTD_FORGET, &m.base, &err),
			0);
	}
	down(false);
}
