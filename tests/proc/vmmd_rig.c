#include "tests/proc/vmmd_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "ipc/fds.h"
#include "tests/lib/void.h"

static void must(bool ok, const char *what)
{
	if (!ok)
		test_fail(__FILE__, __LINE__, "%s: %s", what, strerror(errno));
}

static int null_fd(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

/* Roles may not write files (RLIMIT_FSIZE), so their log is a socket; rig_done() shows it. */
void rig_init(struct rig *rig)
{
	pid_t pid;

	*rig = (struct rig){ .seq = 1 };
	must(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, rig->log) == 0, "socketpair");
	rig->void_pidfd = test_void_shared(&pid);
	rig->void_pid = pid;
}

static void show_log(const struct rig *rig)
{
	char line[1100];
	ssize_t n;

	while ((n = recv(rig->log[0], line, sizeof(line), MSG_DONTWAIT)) > 0)
		fwrite(line, 1, (size_t)n, stderr);
}

static void expect_ready(int ctl, enum role role)
{
	struct pollfd pfd = { .fd = ctl, .events = POLLIN };
	struct ctl_msg msg;

	must(poll(&pfd, 1, DEADLINE_MS) == 1, "no word from the role");
	CHECK_INT(ctl_recv(ctl, 0, &msg), 1);
	if (msg.type != CTL_READY)
		test_fail(__FILE__, __LINE__, "%s: %s", role_name(role), msg.text);
	CHECK_INT(msg.role, role);
}

void rig_lock(int ctl)
{
	CHECK_INT(ctl_send(ctl, CTL_LOCK, ROLE_SUPERVISOR, 0, NULL), 0);
}

void rig_start_slot(struct rig *rig, const struct rig_slot *s)
{
	char binary[256], kernel[256], initrd[256], accel[32], uid[32];
	const char *const args[] = { "kind=qemu", uid, binary, kernel, initrd, accel, NULL };
	int ctl[2], job[2], null = null_fd(), program = open(s->binary, O_PATH | O_CLOEXEC);

	test_pair(ctl);
	test_pair(job);
	snprintf(uid, sizeof(uid), "uid=%d", RIG_UID_QEMU);
	snprintf(binary, sizeof(binary), "binary=%s", s->binary);
	snprintf(kernel, sizeof(kernel), "kernel=%s", s->kernel);
	snprintf(initrd, sizeof(initrd), "initrd=%s", s->initrd);
	snprintf(accel, sizeof(accel), "accel=%s", s->accel);
	rig->slot = test_spawn("bulkhead-slot", args,
		(const struct test_fd[]){ { 0, null }, { 1, null }, { 2, rig->log[1] },
			{ FD_CTL, ctl[1] }, { SLOT_FD_JOB, job[1] }, { SLOT_FD_BINARY, program },
			{ SLOT_FD_NS, rig->void_pidfd }, { -1, -1 } });
	rig->slot_pidfd = (int)syscall(SYS_pidfd_open, rig->slot, 0);
	close(ctl[1]);
	close(job[1]);
	close(program);
	close(null);
	rig->slot_ctl = ctl[0];
	rig->slot_job = job[0];
	expect_ready(rig->slot_ctl, ROLE_QEMU);
}

struct rig_vsock rig_vsock;

void rig_start_vmmd(struct rig *rig, int job, const char *append)
{
	char uid[32], accel[32], line[512], cid[32];
	const char *const args[] = { uid, accel, "qemu=/usr/bin/qemu-system-x86_64", line, cid, NULL };
	const struct rig_vsock *v = &rig_vsock;
	int ctl[2], frontend[2], mountd[2], netd[2], agentd[2], null = null_fd();

	test_pair(ctl);
	test_pair(frontend);
	test_pair(mountd);
	test_pair(netd);
	test_pair(agentd);
	snprintf(uid, sizeof(uid), "uid=%d", RIG_UID_VMMD);
	snprintf(accel, sizeof(accel), "accel=%s", rig_accel());
	snprintf(line, sizeof(line), "append=%s", append);
	snprintf(cid, sizeof(cid), "cid=%u", v->cid);
	rig->vmmd = test_spawn("bulkhead-vmmd", args,
		(const struct test_fd[]){ { 0, null }, { 1, null }, { 2, rig->log[1] },
			{ FD_CTL, ctl[1] }, { VMMD_FD_FRONTEND, frontend[1] },
			{ VMMD_FD_MOUNTD, mountd[1] }, { VMMD_FD_NETD, netd[1] },
			{ VMMD_FD_AGENTD, agentd[1] },
			{ VMMD_FD_SLOT, job }, { VMMD_FD_VOID, rig->void_pidfd },
			{ v->vhost ? VMMD_FD_VHOST_VSOCK : -1, v->vhost },
			{ VMMD_FD_VSOCK, v->sock }, { -1, -1 } });
	close(null);
	close(ctl[1]);
	close(frontend[1]);
	close(mountd[1]);
	close(netd[1]);
	close(agentd[1]);
	close(job);
	rig->vmmd_ctl = ctl[0];
	rig->frontend = frontend[0];
	rig->mountd = mountd[0];
	rig->netd = netd[0];
	rig->agentd = agentd[0];
	expect_ready(rig->vmmd_ctl, ROLE_VMMD);
}

void rig_start(struct rig *rig, const struct rig_slot *s, const char *append)
{
	rig_init(rig);
	rig_start_slot(rig, s);
	rig_start_vmmd(rig, rig->slot_job, append);
	rig->slot_job = -1;
	rig_lock(rig->slot_ctl);
	rig_lock(rig->vmmd_ctl);
}

static void end(int pid)
{
	if (pid <= 0)
		return;
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

void rig_done(struct rig *rig)
{
	int fds[] = { rig->void_pidfd, rig->slot_pidfd, rig->slot_ctl, rig->slot_job, rig->log[0],
		rig->log[1], rig->vmmd_ctl, rig->frontend, rig->mountd, rig->netd, rig->agentd };

	if (!rig->slot_ended)
		end(rig->slot);
	end(rig->vmmd);
	show_log(rig);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		if (fds[i] > 0)
			close(fds[i]);
}

/* ---- as the supervisor ---- */

static void on_slot_end(struct rig *rig)
{
	int status;

	CHECK_INT(waitpid(rig->slot, &status, 0), rig->slot);
	rig->slot_ended = true;
	rig->slot_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	ctl_send(rig->vmmd_ctl, CTL_CHILD_EXIT, ROLE_QEMU, rig->slot_status, NULL);
}

static void on_vmmd_ctl(struct rig *rig)
{
	struct ctl_msg msg;

	if (ctl_recv(rig->vmmd_ctl, MSG_DONTWAIT, &msg) != 1)
		return;
	CHECK_INT(msg.type, CTL_KILL_VM);
	rig->kill_asked = true;
	if (rig->slot > 0 && !rig->slot_ended)
		kill(rig->slot, SIGKILL);
}

int rig_next(struct rig *rig, struct ipc_packet *packet)
{
	int64_t deadline = clock_ms() + DEADLINE_MS;
	struct error err = ERROR_INIT;

	for (;;) {
		struct pollfd pfds[] = {
			{ .fd = rig->vmmd_ctl, .events = POLLIN },
			{ .fd = rig->slot_ended || !rig->slot ? -1 : rig->slot_pidfd,
				.events = POLLIN },
			{ .fd = rig->frontend, .events = POLLIN },
		};
		int r;

		if (poll(pfds, ARRAY_SIZE(pfds), clock_left_ms(deadline)) <= 0)
			test_fail(__FILE__, __LINE__, "nothing came from vmmd");
		if (pfds[0].revents & POLLIN)
			on_vmmd_ctl(rig);
		if (pfds[1].revents)
			on_slot_end(rig);
		if (!pfds[2].revents)
			continue;
		r = channel_recv(rig->frontend, &ipc_frontend_vmmd, MSG_DONTWAIT, packet, &err);
		if (r < 0)
			test_fail(__FILE__, __LINE__, "from vmmd: %s", err.msg);
		return r;
	}
}

/* ---- as the frontend ---- */

void rig_ask(struct rig *rig, enum vmmd_msg type, const ProtobufCMessage *msg)
{
	struct error err = ERROR_INIT;

	if (channel_send(rig->frontend, &ipc_frontend_vmmd, IPC_REQUEST, (uint16_t)type, ++rig->seq,
		    msg, NULL, 0, 1000, &err) < 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
}

static void next_answer(struct rig *rig, struct ipc_packet *packet)
{
	do
		CHECK_INT(rig_next(rig, packet), 1);
	while (packet->hdr.kind == IPC_EVENT);
	CHECK_INT(packet->hdr.seq, rig->seq);
}

void rig_ask_ok(struct rig *rig, enum vmmd_msg type, const ProtobufCMessage *msg)
{
	struct ipc_packet packet;
	struct error err = ERROR_INIT;

	rig_ask(rig, type, msg);
	next_answer(rig, &packet);
	if (ipc_decode_error(&packet, &err) == 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
}

void rig_ask_error(struct rig *rig, enum vmmd_msg type, const ProtobufCMessage *msg,
	struct error *ret)
{
	struct ipc_packet packet;

	rig_ask(rig, type, msg);
	next_answer(rig, &packet);
	CHECK_INT(ipc_decode_error(&packet, ret), 0);
	fprintf(stderr, "as expected: %s\n", ret->msg);
}

void rig_expect_event(struct rig *rig, Ipc__VmEvent__Kind kind, int status, char text[512])
{
	struct ipc_packet packet;
	struct error err = ERROR_INIT;
	Ipc__VmEvent *event;

	CHECK_INT(rig_next(rig, &packet), 1);
	CHECK_INT(packet.hdr.kind, IPC_EVENT);
	event = (Ipc__VmEvent *)ipc_decode(&packet, &err);
	CHECK(event);
	CHECK_INT(event->kind, kind);
	CHECK_INT(event->status, status);
	snprintf(text, 512, "%s", event->text);
	ipc_free(&event->base);
}

int rig_take_fd(int channel, const struct ipc_channel *def, uint16_t type)
{
	struct ipc_packet packet;
	struct error err = ERROR_INIT;

	if (channel_recv(channel, def, MSG_DONTWAIT, &packet, &err) != 1)
		test_fail(__FILE__, __LINE__, "no message on %s: %s", def->name, err.msg);
	CHECK_INT(packet.hdr.type, type);
	CHECK_INT(packet.fds.n, 1);
	return packet.fds.fd[0];
}

void rig_launch(struct rig *rig, bool share)
{
	Ipc__VmmdLaunch msg = IPC__VMMD_LAUNCH__INIT;

	msg.vcpus = 1;
	msg.memory_mib = 256;
	msg.share = share;
	rig_ask_ok(rig, VMMD_LAUNCH, &msg.base);
}

const char *rig_accel(void)
{
	const char *accel = getenv("BULKHEAD_ACCEL");

	return accel ? accel : "tcg";
}

const char *rig_image(const char *name)
{
	static char paths[4][512];
	static unsigned n;
	const char *dir = getenv("BULKHEAD_IMAGE");
	char *path = paths[n++ % ARRAY_SIZE(paths)];

	if (!dir)
		test_skip("BULKHEAD_IMAGE names no guest image");
	snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	if (access(path, R_OK) < 0)
		test_skip("BULKHEAD_IMAGE holds no guest image");
	return path;
}
