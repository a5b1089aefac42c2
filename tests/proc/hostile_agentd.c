/* agentd with a frontend, a mountd or a vmmd that has been taken over. The guest: agentd_lies.c */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
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
	case AGENTD_NETWORK:
	case AGENTD_CREATE_SANDBOX:
		rig_stream(&rig);
		guest_hello(rig.agent);
		rig_expect_reply(&rig, AGENTD_CONNECT, rig_connect(&rig, 5000));
		rig_config(&rig, 0, NULL);
		break;
	case AGENTD_CREATE_CONTAINER:
	case AGENTD_ONLINE:
		rig_sandbox(&rig);
		break;
	case AGENTD_EXEC:
	case AGENTD_LIMITS:
	case AGENTD_UPDATE:
		rig_text(&rig, 1, "{\"args\":[\"a\"],\"cwd\":\"/\"}");
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
	} else if (row->type == AGENTD_START_EXEC) {
		Ipc__AgentdStartExec *exec = (Ipc__AgentdStartExec *)msg;

		exec->stdin = exec->stdout = exec->stderr = false;
	} else if (row->type == AGENTD_NETWORK) {
		/* The largest network is unit's; here it is one of several parts. */
		Ipc__AgentdNetwork *m = (Ipc__AgentdNetwork *)msg;

		ipc__network_part__free_unpacked(m->part, NULL);
		m->part = calloc(1, sizeof(*m->part));
		CHECK(m->part);
		ipc__network_part__init(m->part);
		m->last = false;
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
	else if (row->type == AGENTD_ONLINE)
		guest_grant(rig.agent, "OnlineCPUMem");
}

/* Each case is an agentd of its own, and a test has a deadline. */
#define ROWS_IN_ONE_TEST 9

static const struct hostile_target frontend = {
	.name = "frontend -> agentd",
	.channel = &ipc_frontend_agentd,
	.asker = true,
	.up = up_for_frontend,
	.down = down,
	.adjust = adjust,
	.assist = assist,
	.end_row = ROWS_IN_ONE_TEST,
};

HOSTILE_TESTS(frontend, frontend)

TEST(frontend_payloads_of_the_other_rows)
{
	struct hostile_target others = frontend;

	others.first_row = ROWS_IN_ONE_TEST;
	others.end_row = 0;
	hostile_payloads(&others);
}

/* A8: what no id of a container is. */
TEST(ids_that_are_none)
{
	static const char *const bad[] = { "", ".", "..", "-x", "a/b", "a b", "a\n", "\xc3\xa9" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		const struct ipc_message *row =
			ipc_channel_message(&ipc_frontend_agentd, AGENTD_CREATE_CONTAINER);
		Ipc__AgentdCreateContainer m = IPC__AGENTD_CREATE_CONTAINER__INIT;
		struct hostile_end end;

		up_for_frontend(row, &end);
		m.id = (char *)bad[i];
		m.process = 1;
		rig_ask(&rig, AGENTD_CREATE_CONTAINER, &m);
		hostile_expect_lost(&end, "A8", "create_container", "id", true);
		down(true);
	}
}

TEST(frontend_deaf) { hostile_deaf(&frontend, AGENTD_START); }

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

/* B12: as many fds as the kernel takes, again and again, while agentd does not run. */
TEST(fds_that_nobody_takes)
{
	static struct hostile_packet p;
	struct hostile_end end;
	int pipefd[2], sent = 0;
	char byte;

	up_for_mountd(NULL, &end);
	CHECK(kill(rig.s.pid, SIGSTOP) == 0);
	CHECK(pipe2(pipefd, O_CLOEXEC) == 0);
	hostile_good(&mountd, &ipc_mountd_agentd.messages[0], 0, &p);
	hostile_packet_done(&p);
	p.n_fds = 253;
	for (size_t i = 0; i < p.n_fds; i++)
		p.fds[i] = pipefd[1];
	while (hostile_try_send(rig.mountd, &p) && sent < 100000)
		sent++;
	p.n_fds = 0;
	/* The socket has an end, or the kernel counts what is under way. */
	CHECK(sent > 0 && sent < 1000);
	CHECK(kill(rig.s.pid, SIGCONT) == 0);
	hostile_expect_lost(&end, "B12", "mountd-agentd", "fds were lost on the way", true);
	down(true);
	/* The last of them is gone with the sockets. */
	close(pipefd[1]);
	CHECK_INT(read(pipefd[0], &byte, 1), 0);
	close(pipefd[0]);
	printf("         mountd -> agentd: %d messages of 253 fds\n", sent);
}

/* B16: what claims to be config.json, and is as large as it likes, or changes. */

static int ask_container(uint32_t index, struct error *ret)
{
	uint32_t seq = rig_create(&rig, index, index, false, false, false);
	struct pollfd pfd = { .fd = rig.s.channel, .events = POLLIN };
	static struct ipc_packet p;

	CHECK_INT(poll(&pfd, 1, 15000), 1);
	CHECK_INT(channel_recv(rig.s.channel, &ipc_frontend_agentd, MSG_DONTWAIT, &p, ret), 1);
	CHECK_INT(p.hdr.seq, seq);
	CHECK_INT(ipc_decode_error(&p, ret), 0);
	return ret->code;
}

static int read_only(int fd)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(again >= 0);
	return again;
}

TEST(a_config_json_of_a_gigabyte)
{
	int file = memfd_create("sparse", MFD_CLOEXEC), ro = read_only(file);
	char before[64], after[64];
	struct error err = ERROR_INIT;

	need_root();
	CHECK(ftruncate(file, 1 << 30) == 0);
	rig_up(&rig);
	rig_sandbox(&rig);
	proc_status(rig.s.pid, "VmHWM", before, sizeof(before));
	rig_send_fds(&rig, MOUNTD_AGENTD_CONFIG, 1, &ro, 1);
	CHECK_INT(ask_container(1, &err), EFBIG);
	CHECK_CONTAINS(err.msg, "config.json: 1073741824 bytes, the limit is 4194304");
	proc_status(rig.s.pid, "VmHWM", after, sizeof(after));
	CHECK(atol(after) - atol(before) < 1024);
	close(ro);
	close(file);
	down(false);
}

/* It grows and shrinks meanwhile; what it says is never a spec: each is answered by an error. */
TEST(a_config_json_that_changes)
{
	static char blanks[1 << 20];
	int file = memfd_create("changing", MFD_CLOEXEC), ro = read_only(file);
	pid_t writer;

	need_root();
	memset(blanks, ' ', sizeof(blanks));
	CHECK_INT(write(file, "{}", 2), 2);
	rig_up(&rig);
	rig_sandbox(&rig);
	writer = fork();
	if (writer == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			if (pwrite(file, blanks, sizeof(blanks), 2) < 0 || ftruncate(file, 1) < 0 ||
				pwrite(file, "{}", 2, 0) < 0)
				_exit(1);
	}
	for (uint32_t i = 1; i <= 200; i++) {
		struct error err = ERROR_INIT;
		int code;

		rig_send_fds(&rig, MOUNTD_AGENTD_CONFIG, i, &ro, 1);
		code = ask_container(i, &err);
		if (code != EINVAL && code != EAGAIN)
			test_fail(__FILE__, __LINE__, "%d: %s", code, err.msg);
	}
	CHECK(kill(writer, SIGKILL) == 0);
	CHECK_INT(waitpid(writer, NULL, 0), writer);
	close(ro);
	close(file);
	down(false);
}

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
