/* agentd with a frontend, a mountd or a vmmd that has been taken over. The guest: test_agentd.c */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/fds.h"
#include "tests/proc/agentd_rig.h"
#include "tests/proc/hostile.h"
#include "tests/proc/hostile_ctl.h"

static struct rig rig;

static void down(bool ended)
{
	if (ended)
		rig.s.pid = -1;
	rig_done(&rig);
}

/* ---- the frontend ---- */

static void up_for_frontend(const struct ipc_message *row, struct hostile_end *ret)
{
	need_root();
	rig_up(&rig);
	switch (row->type) {
	case AGENTD_CONNECT:
		rig_stream(&rig);
		break;
	case AGENTD_CREATE_SANDBOX:
		rig_stream(&rig);
		guest_hello(rig.agent);
		rig_expect_reply(&rig, AGENTD_CONNECT, rig_connect(&rig, 5000));
		rig_config(&rig, 0, NULL);
		break;
	case AGENTD_CREATE_CONTAINER:
		rig_sandbox(&rig);
		break;
	}
	*ret = (struct hostile_end){
		.pid = rig.s.pid,
		.fd = rig.s.channel,
		.number = AGENTD_FD_FRONTEND,
		.log = rig.s.log,
		.others = { rig.s.ctl, rig.mountd, rig.vmmd, rig.agent, rig.console },
	};
}

static void set_text(char **text, const char *to)
{
	free(*text);
	*text = strdup(to);
}

/* What came for container 0 only; none of its streams. */
static void adjust(const struct ipc_message *row, ProtobufCMessage *msg)
{
	Ipc__AgentdCreateSandbox *sandbox = (Ipc__AgentdCreateSandbox *)msg;
	Ipc__AgentdCreateContainer *container = (Ipc__AgentdCreateContainer *)msg;

	if (row->type == AGENTD_CREATE_SANDBOX) {
		set_text(&sandbox->sandbox_id, RIG_SANDBOX);
		sandbox->index = 0;
	} else if (row->type == AGENTD_CREATE_CONTAINER) {
		container->index = 0;
		container->stdin = container->stdout = container->stderr = false;
	} else if (row->type == AGENTD_CONNECT) {
		((Ipc__AgentdConnect *)msg)->timeout_ms = 100;
	}
}

static void assist(const struct ipc_message *row)
{
	if (row->type == AGENTD_CONNECT)
		guest_hello(rig.agent);
	else if (row->type == AGENTD_CREATE_SANDBOX)
		guest_grant(rig.agent, "CreateSandbox");
	else if (row->type == AGENTD_CREATE_CONTAINER)
		guest_grant(rig.agent, "CreateContainer");
}

static const struct hostile_target frontend = {
	.name = "frontend -> agentd",
	.channel = &ipc_frontend_agentd,
	.asker = true,
	.up = up_for_frontend,
	.down = down,
	.adjust = adjust,
	.assist = assist,
};

HOSTILE_TESTS(frontend, frontend)

/* ---- mountd ---- */

static void up_for_mountd(const struct ipc_message *row, struct hostile_end *ret)
{
	(void)row;
	need_root();
	rig_up(&rig);
	*ret = (struct hostile_end){
		.pid = rig.s.pid,
		.fd = rig.mountd,
		.number = AGENTD_FD_MOUNTD,
		.log = rig.s.log,
		.others = { rig.s.ctl, rig.s.channel, rig.vmmd },
	};
}

static const struct hostile_target mountd = {
	.name = "mountd -> agentd",
	.channel = &ipc_mountd_agentd,
	.asker = true,
	.events = true,
	.up = up_for_mountd,
	.down = down,
};

HOSTILE_TESTS(mountd, mountd)

/* ---- vmmd ---- */

static void up_for_vmmd(const struct ipc_message *row, struct hostile_end *ret)
{
	(void)row;
	need_root();
	rig_up(&rig);
	*ret = (struct hostile_end){
		.pid = rig.s.pid,
		.fd = rig.vmmd,
		.number = AGENTD_FD_VMMD,
		.log = rig.s.log,
		.others = { rig.s.ctl, rig.s.channel, rig.mountd },
	};
}

static const struct hostile_target vmmd = {
	.name = "vmmd -> agentd",
	.channel = &ipc_vmmd_agentd,
	.asker = true,
	.events = true,
	.up = up_for_vmmd,
	.down = down,
};

HOSTILE_TESTS(vmmd, vmmd)

/* ---- the supervisor ---- */

static int ctl(void)
{
	return rig.s.ctl;
}

TEST(supervisor) { hostile_supervisor(&mountd, ctl, 0); }
