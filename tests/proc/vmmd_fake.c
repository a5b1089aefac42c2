#include "tests/proc/vmmd_fake.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/slot.pb-c.h"
#include "tests/proc/common_role.h"

void expect_exit(int *pid, int status)
{
	int got = test_wait(*pid, 5000);

	*pid = 0;
	CHECK(WIFEXITED(got));
	CHECK_INT(WEXITSTATUS(got), status);
}

void fake_start(struct fake *f)
{
	int job[2];

	need_root();
	f->n_args = 0;
	f->args[0] = '\0';
	memset(f->fds, -1, sizeof(f->fds));
	rig_init(&f->rig);
	test_pair(job);
	rig_start_vmmd(&f->rig, job[1], "quiet");
	rig_lock(f->rig.vmmd_ctl);
	f->job = job[0];
}

void fake_done(struct fake *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(f->fds); i++)
		if (f->fds[i] >= 0)
			close(f->fds[i]);
	if (f->job >= 0)
		close(f->job);
	rig_done(&f->rig);
}

void ask_launch(struct fake *f)
{
	Ipc__VmmdLaunch msg = IPC__VMMD_LAUNCH__INIT;

	msg.vcpus = 1;
	msg.memory_mib = 64;
	rig_ask(&f->rig, VMMD_LAUNCH, &msg.base);
}

void fake_exec(struct fake *f)
{
	struct ipc_packet p;
	struct error err = ERROR_INIT;

	for (;;) {
		if (channel_recv(f->job, &ipc_slot, 0, &p, &err) != 1)
			test_fail(__FILE__, __LINE__, "job: %s", err.msg);
		if (p.hdr.type == SLOT_EXEC)
			break;
		if (p.hdr.type == SLOT_ARG) {
			Ipc__SlotArg *msg = (Ipc__SlotArg *)ipc_decode(&p, &err);
			size_t used = strlen(f->args);

			CHECK(msg);
			f->n_args++;
			snprintf(f->args + used, sizeof(f->args) - used, "%s ", msg->part);
			ipc_free(&msg->base);
		} else {
			Ipc__SlotFd *msg = (Ipc__SlotFd *)ipc_decode(&p, &err);

			CHECK(msg && msg->target < ARRAY_SIZE(f->fds));
			CHECK(f->fds[msg->target] < 0);
			f->fds[msg->target] = fdlist_steal(&p.fds, 0);
			ipc_free(&msg->base);
		}
	}
	close(f->job);
	f->job = -1;
}

void say(struct fake *f, const char *text)
{
	size_t len = strlen(text);

	CHECK_INT(send(f->fds[QMP_FD], text, len, MSG_NOSIGNAL), len);
}

int hear(struct fake *f, const char *command)
{
	struct pollfd pfd = { .fd = f->fds[QMP_FD], .events = POLLIN };
	char line[1024];
	const char *id;
	ssize_t n;

	CHECK_INT(poll(&pfd, 1, 5000), 1);
	n = read(f->fds[QMP_FD], line, sizeof(line) - 1);
	CHECK(n > 0 && line[n - 1] == '\n');
	line[n] = '\0';
	CHECK_CONTAINS(line, command);
	id = strstr(line, "\"id\":");
	CHECK(id);
	for (const char *next; (next = strstr(id + 1, "\"id\":"));)
		id = next; /* its arguments may have one too */
	return atoi(id + 5);
}

void answer_with(struct fake *f, int id, const char *value)
{
	char line[256];

	snprintf(line, sizeof(line), "{\"return\": %s, \"id\": %d}\r\n", value, id);
	say(f, line);
}

void answer(struct fake *f, int id)
{
	answer_with(f, id, "{}");
}

void fake_launch(struct fake *f)
{
	struct ipc_packet p;

	fake_start(f);
	ask_launch(f);
	fake_exec(f);
	say(f, GREETING);
	answer(f, hear(f, "qmp_capabilities"));
	answer_with(f, hear(f, "query-fdsets"), "[]");
	CHECK_INT(rig_next(&f->rig, &p), 1);
	CHECK_INT(p.hdr.kind, IPC_REPLY);
	close(rig_take_fd(f->rig.agentd, &ipc_vmmd_agentd, VMMD_AGENTD_STREAM));
	close(rig_take_fd(f->rig.agentd, &ipc_vmmd_agentd, VMMD_AGENTD_CONSOLE));
}

static void fake_do(struct fake *f, enum vmmd_msg type, const ProtobufCMessage *msg,
	const char *command)
{
	struct ipc_packet p;

	rig_ask(&f->rig, type, msg);
	answer(f, hear(f, command));
	CHECK_INT(rig_next(&f->rig, &p), 1);
	CHECK_INT(p.hdr.kind, IPC_REPLY);
}

void fake_cont(struct fake *f)
{
	Ipc__VmmdCont msg = IPC__VMMD_CONT__INIT;

	fake_do(f, VMMD_CONT, &msg.base, "cont");
}

void fake_pause(struct fake *f)
{
	Ipc__VmmdPause msg = IPC__VMMD_PAUSE__INIT;

	fake_do(f, VMMD_PAUSE, &msg.base, "stop");
}

void expect_launch_error(struct fake *f, const char *text)
{
	struct error err = ERROR_INIT;
	struct ipc_packet p;

	CHECK_INT(rig_next(&f->rig, &p), 1);
	CHECK_INT(ipc_decode_error(&p, &err), 0);
	CHECK_CONTAINS(err.msg, text);
}

void expect_kill(struct fake *f)
{
	struct pollfd pfd = { .fd = f->rig.vmmd_ctl, .events = POLLIN };
	struct ctl_msg msg;

	if (f->rig.kill_asked)
		return;
	CHECK_INT(poll(&pfd, 1, 5000), 1);
	CHECK_INT(ctl_recv(f->rig.vmmd_ctl, 0, &msg), 1);
	CHECK_INT(msg.type, CTL_KILL_VM);
}

void qemu_ends(struct fake *f, int status)
{
	for (size_t i = 0; i < ARRAY_SIZE(f->fds); i++)
		if (f->fds[i] >= 0)
			close(f->fds[i]);
	memset(f->fds, -1, sizeof(f->fds));
	CHECK_INT(ctl_send(f->rig.vmmd_ctl, CTL_CHILD_EXIT, ROLE_QEMU, status, NULL), 0);
}

void ask_stop(struct fake *f)
{
	Ipc__VmmdStop msg = IPC__VMMD_STOP__INIT;

	rig_ask(&f->rig, VMMD_STOP, &msg.base);
}
