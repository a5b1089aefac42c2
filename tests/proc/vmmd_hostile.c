/* Peers of bulkhead-vmmd and bulkhead-slot that break the rules; QEMU is played by the test. */
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fds.h"
#include "ipc/role.h"
#include "ipc/slot.pb-c.h"
#include "tests/proc/common_role.h"
#include "tests/proc/vmmd_fake.h"

#define QEMU "/usr/bin/qemu-system-x86_64"

/* ---- QEMU against vmmd ---- */

TEST (line_without_end) {
	struct fake f;
	static char block[65536];
	size_t sent = 0;

	fake_start(&f);
	ask_launch(&f);
	fake_exec(&f);
	memset(block, 'x', sizeof(block));
	while (send(f.fds[QMP_FD], block, sizeof(block), MSG_NOSIGNAL) > 0)
		sent += sizeof(block);
	CHECK(sent < 4 * 1024 * 1024);
	expect_launch_error(&f,
		"launch: QEMU is lost before QMP answered (a line longer than "
		"1048576 bytes)");
	expect_kill(&f);
	fake_done(&f);
}

TEST (deep_json) {
	struct fake f;
	char deep[4096];

	fake_start(&f);
	ask_launch(&f);
	fake_exec(&f);
	memset(deep, '[', sizeof(deep));
	deep[sizeof(deep) - 2] = '\n';
	deep[sizeof(deep) - 1] = '\0';
	say(&f, deep);
	expect_launch_error(&f, "nesting too deep");
	expect_kill(&f);
	fake_done(&f);
}

TEST (no_greeting) {
	struct fake f;

	fake_start(&f);
	ask_launch(&f);
	fake_exec(&f);
	say(&f, "{\"event\": \"RESUME\"}\n");
	expect_launch_error(&f, "something else than a greeting");
	fake_done(&f);
}

TEST (silence) {
	struct fake f;

	fake_start(&f);
	ask_launch(&f);
	fake_exec(&f);
	CHECK_INT(write(f.fds[2], "waiting for \x1bgodot\n", 19), 19);
	expect_launch_error(&f, "launch: QMP does not answer within 10 s: waiting for ?godot");
	expect_kill(&f);
	fake_done(&f);
}

TEST (end_before_the_greeting) {
	struct fake f;

	fake_start(&f);
	ask_launch(&f);
	fake_exec(&f);
	CHECK_INT(write(f.fds[2], "first\nlast words", 16), 16);
	qemu_ends(&f, 1);
	expect_launch_error(&f, "launch: QEMU ended with status 1 before QMP answered: last words");
	fake_done(&f);
}

/* All at once: vmmd sees the greeting and the end in one look. */
TEST (end_right_after_the_greeting) {
	struct fake f;

	fake_start(&f);
	ask_launch(&f);
	fake_exec(&f);
	CHECK_INT(kill(f.rig.vmmd, SIGSTOP), 0);
	say(&f, GREETING);
	CHECK_INT(write(f.fds[2], "last words", 10), 10);
	qemu_ends(&f, 1);
	CHECK_INT(kill(f.rig.vmmd, SIGCONT), 0);
	expect_launch_error(&f, "launch: QEMU ended with status 1 before QMP answered: last words");
	fake_done(&f);
}

TEST (answer_to_no_command) {
	struct fake f;
	char text[512];

	fake_launch(&f);
	say(&f, "{\"return\": {}, \"id\": 1}\r\n");
	rig_expect_event(&f.rig, IPC__VM_EVENT__KIND__QMP_LOST, 0, text);
	CHECK_CONTAINS(text, "an answer to no command of ours");
	expect_kill(&f);
	fake_done(&f);
}

TEST (answer_with_another_id) {
	Ipc__VmmdCont msg = IPC__VMMD_CONT__INIT;
	struct fake f;
	char text[512];

	fake_launch(&f);
	rig_ask(&f.rig, VMMD_CONT, &msg.base);
	answer(&f, hear(&f, "cont") + 1);
	rig_expect_event(&f.rig, IPC__VM_EVENT__KIND__QMP_LOST, 0, text);
	expect_launch_error(&f, "cont: QEMU is lost");
	fake_done(&f);
}

TEST (error_answer_is_passed_on) {
	Ipc__VmmdCont msg = IPC__VMMD_CONT__INIT;
	struct fake f;
	char line[256];

	fake_launch(&f);
	rig_ask(&f.rig, VMMD_CONT, &msg.base);
	snprintf(line, sizeof(line),
		"{\"id\": %d, \"error\": {\"class\": \"GenericError\", \"desc\": "
		"\"not\\u0007now\"}}\n",
		hear(&f, "cont"));
	say(&f, line);
	expect_launch_error(&f, "cont: QEMU refuses 'cont': not?now");
	fake_done(&f);
}

TEST (events_are_told_once) {
	struct fake f;
	struct ipc_packet p;
	char text[512];

	fake_launch(&f);
	for (int i = 0; i < 1000; i++)
		say(&f,
			"{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": true}}\r\n"
			"{\"event\": \"GUEST_PANICKED\"}\r\n"
			"{\"event\": \"RESET\", \"data\": {\"guest\": true}}\r\n"
			"{\"event\": \"NEVER_HEARD_OF\", \"data\": {}}\r\n");
	rig_expect_event(&f.rig, IPC__VM_EVENT__KIND__GUEST_SHUTDOWN, 0, text);
	rig_expect_event(&f.rig, IPC__VM_EVENT__KIND__GUEST_PANICKED, 0, text);
	ask_stop(&f);
	answer(&f, hear(&f, "quit"));
	qemu_ends(&f, 0);
	/* The answer and EXITED, in either order, and no third. */
	CHECK_INT(rig_next(&f.rig, &p), 1);
	CHECK_INT(rig_next(&f.rig, &p), 1);
	close(f.job);
	f.job = -1;
	CHECK_INT(shutdown(f.rig.frontend, SHUT_WR), 0);
	CHECK_INT(rig_next(&f.rig, &p), 0);
	expect_exit(&f.rig.vmmd, 0);
	fake_done(&f);
}

TEST (qmp_closed_by_a_qemu_that_stays) {
	struct fake f;
	char text[512];

	fake_launch(&f);
	close(f.fds[QMP_FD]);
	f.fds[QMP_FD] = -1;
	rig_expect_event(&f.rig, IPC__VM_EVENT__KIND__QMP_LOST, 0, text);
	expect_kill(&f);
	CHECK_INT(write(f.fds[2], "Killed\n", 7), 7);
	qemu_ends(&f, 137);
	rig_expect_event(&f.rig, IPC__VM_EVENT__KIND__EXITED, 137, text);
	CHECK_STR(text, "Killed");
	fake_done(&f);
}

TEST (quit_that_is_ignored) {
	struct fake f;
	struct ipc_packet p;

	fake_launch(&f);
	ask_stop(&f);
	hear(&f, "quit");
	expect_kill(&f);
	qemu_ends(&f, 137);
	CHECK_INT(rig_next(&f.rig, &p), 1);
	if (p.hdr.kind == IPC_EVENT)
		CHECK_INT(rig_next(&f.rig, &p), 1);
	CHECK_INT(p.hdr.kind, IPC_REPLY);
	fake_done(&f);
}

TEST (kill_that_does_not_help) {
	struct fake f;
	struct error err = ERROR_INIT;
	struct ipc_packet p;

	fake_launch(&f);
	ask_stop(&f);
	CHECK_INT(rig_next(&f.rig, &p), 1);
	CHECK_INT(ipc_decode_error(&p, &err), 0);
	CHECK_CONTAINS(err.msg, "stop: QEMU has not ended");
	CHECK(f.rig.kill_asked);
	fake_done(&f);
}

/* ---- frontend and others against vmmd ---- */

static void expect_lost(struct fake *f)
{
	struct ipc_packet p;

	CHECK_INT(rig_next(&f->rig, &p), 0);
	expect_exit(&f->rig.vmmd, ROLE_EXIT_FAILED);
}

TEST (launch_twice) {
	struct fake f;

	fake_launch(&f);
	ask_launch(&f);
	expect_lost(&f);
	fake_done(&f);
}

TEST (cont_before_launch) {
	Ipc__VmmdCont msg = IPC__VMMD_CONT__INIT;
	struct fake f;

	fake_start(&f);
	rig_ask(&f.rig, VMMD_CONT, &msg.base);
	expect_lost(&f);
	fake_done(&f);
}

TEST (launch_after_a_failed_one) {
	Ipc__VmmdLaunch msg = IPC__VMMD_LAUNCH__INIT;
	struct fake f;

	fake_start(&f);
	rig_ask(&f.rig, VMMD_LAUNCH, &msg.base);
	expect_launch_error(&f, "launch: -smp: cpus is 0, allowed are 1 to 255");
	ask_launch(&f);
	expect_lost(&f);
	fake_done(&f);
}

TEST (stop_without_a_vm) {
	struct fake f;
	struct ipc_packet p;

	fake_start(&f);
	ask_stop(&f);
	CHECK_INT(rig_next(&f.rig, &p), 1);
	CHECK_INT(p.hdr.kind, IPC_REPLY);
	ask_launch(&f);
	expect_lost(&f);
	fake_done(&f);
}

TEST (frontend_goes_away) {
	struct fake f;

	fake_start(&f);
	close(f.rig.frontend);
	f.rig.frontend = -1;
	expect_exit(&f.rig.vmmd, 0);
	fake_done(&f);
}

TEST (supervisor_goes_away) {
	struct fake f;

	fake_start(&f);
	close(f.rig.vmmd_ctl);
	f.rig.vmmd_ctl = -1;
	expect_exit(&f.rig.vmmd, 0);
	fake_done(&f);
}

TEST (supervisor_speaks_nonsense) {
	struct fake f;

	fake_start(&f);
	rig_lock(f.rig.vmmd_ctl);
	expect_exit(&f.rig.vmmd, ROLE_EXIT_FAILED);
	fake_done(&f);
}

TEST (slot_dies_before_exec) {
	struct fake f;

	fake_start(&f);
	close(f.job);
	f.job = -1;
	ask_launch(&f);
	expect_launch_error(&f, "launch: QEMU's slot: ");
	fake_done(&f);
}

/* ---- vmmd against the slot ---- */

static void slot_start(struct rig *rig)
{
	need_root();
	rig_init(rig);
	rig_start_slot(rig, &(struct rig_slot){ QEMU, "/etc/hostname", "/etc/hostname", "tcg" });
	rig_lock(rig->slot_ctl);
}

static void send_arg(struct rig *rig, const char *text, bool last)
{
	Ipc__SlotArg msg = IPC__SLOT_ARG__INIT;

	msg.part = (char *)text;
	msg.last = last;
	channel_send(rig->slot_job, &ipc_slot, IPC_EVENT, SLOT_ARG, 0, &msg.base, NULL, 0, 1000,
		NULL);
}

static void send_fds(struct rig *rig, unsigned target, size_t n)
{
	const int fds[] = { STDERR_FILENO, STDERR_FILENO, STDERR_FILENO };
	Ipc__SlotFd msg = IPC__SLOT_FD__INIT;

	msg.target = target;
	channel_send(rig->slot_job, &ipc_slot, IPC_EVENT, SLOT_FD, 0, &msg.base, fds, n, 1000,
		NULL);
}

static void send_exec(struct rig *rig)
{
	Ipc__SlotExec msg = IPC__SLOT_EXEC__INIT;

	channel_send(rig->slot_job, &ipc_slot, IPC_REQUEST, SLOT_EXEC, 1, &msg.base, NULL, 0, 1000,
		NULL);
}

static void slot_lost(struct rig *rig)
{
	expect_exit(&rig->slot, ROLE_EXIT_FAILED);
	rig_done(rig);
}

TEST (slot_exec_without_arguments) {
	struct rig rig;

	slot_start(&rig);
	send_exec(&rig);
	slot_lost(&rig);
}

TEST (slot_exec_with_half_an_argument) {
	struct rig rig;

	slot_start(&rig);
	send_arg(&rig, "-name", true);
	send_arg(&rig, "hal", false);
	send_exec(&rig);
	slot_lost(&rig);
}

TEST (slot_too_many_arguments) {
	struct rig rig;

	slot_start(&rig);
	for (int i = 0; i <= 512; i++)
		send_arg(&rig, "-S", true);
	slot_lost(&rig);
}

TEST (slot_too_long_arguments) {
	static char part[16001];
	struct rig rig;

	slot_start(&rig);
	memset(part, 'x', sizeof(part) - 1);
	for (int i = 0; i < 9; i++)
		send_arg(&rig, part, false);
	slot_lost(&rig);
}

TEST (slot_fds_outside_the_rules) {
	static const struct {
		unsigned target;
		size_t n;
	} cases[] = { { 0, 1 }, { 1, 1 }, { 256, 1 }, { 4000000000U, 1 }, { 10, 0 }, { 10, 2 },
		{ 10, 3 } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct rig rig;

		slot_start(&rig);
		send_fds(&rig, cases[i].target, cases[i].n);
		slot_lost(&rig);
	}
}

TEST (slot_same_number_twice) {
	struct rig rig;

	slot_start(&rig);
	send_fds(&rig, 10, 1);
	send_fds(&rig, 10, 1);
	slot_lost(&rig);
}

TEST (slot_peer_goes_away) {
	struct rig rig;

	slot_start(&rig);
	send_arg(&rig, "-S", true);
	close(rig.slot_job);
	rig.slot_job = -1;
	expect_exit(&rig.slot, 0);
	rig_done(&rig);
}

TEST (slot_supervisor_goes_away) {
	struct rig rig;

	slot_start(&rig);
	close(rig.slot_ctl);
	rig.slot_ctl = -1;
	expect_exit(&rig.slot, 0);
	rig_done(&rig);
}

static void send_fd(struct rig *rig, int fd, unsigned target)
{
	Ipc__SlotFd msg = IPC__SLOT_FD__INIT;

	msg.target = target;
	CHECK_INT(channel_send(rig->slot_job, &ipc_slot, IPC_EVENT, SLOT_FD, 0, &msg.base, &fd, 1,
			  1000, NULL),
		0);
}

/* Fds whose numbers are the slot's own, sent so that none arrives at its number by chance. */
TEST (slot_fds_change_places) {
	static const char *const args[] = { "-machine", "none", "-nodefaults", "-display", "none" };
	struct rig rig;
	struct ipc_packet p;
	int pipes[4][2];

	slot_start(&rig);
	for (size_t i = 0; i < ARRAY_SIZE(args); i++)
		send_arg(&rig, args[i], true);
	for (unsigned i = 0; i < 4; i++) {
		CHECK_INT(pipe2(pipes[i], O_CLOEXEC), 0);
		send_fd(&rig, pipes[i][0], 6 - i);
	}
	send_exec(&rig);
	CHECK_INT(channel_recv(rig.slot_job, &ipc_slot, 0, &p, NULL), 0);

	for (unsigned i = 0; i < 4; i++) {
		char path[64], link[64] = "", want[64];
		struct stat st;

		CHECK_INT(fstat(pipes[i][0], &st), 0);
		snprintf(want, sizeof(want), "pipe:[%llu]", (unsigned long long)st.st_ino);
		snprintf(path, sizeof(path), "/proc/%d/fd/%u", rig.slot, 6 - i);
		CHECK(readlink(path, link, sizeof(link) - 1) > 0);
		CHECK_STR(link, want);
		close(pipes[i][0]);
		close(pipes[i][1]);
	}
	rig_done(&rig);
}

/* ---- the launcher against both: what cannot start says why ---- */

static void expect_failed(const char *binary, const char *const *args, const char *sentence)
{
	struct pollfd pfd = { .events = POLLIN };
	int ctl[2], log[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct ctl_msg msg;
	int pid;

	need_root();
	test_pair(ctl);
	CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, log), 0);
	pid = test_spawn(binary, args,
		(const struct test_fd[]){
			{ 0, null }, { 1, null }, { 2, log[1] }, { FD_CTL, ctl[1] }, { -1, -1 } });
	close(ctl[1]);
	pfd.fd = ctl[0];
	CHECK_INT(poll(&pfd, 1, 5000), 1);
	CHECK_INT(ctl_recv(ctl[0], 0, &msg), 1);
	CHECK_INT(msg.type, CTL_FAILED);
	CHECK_CONTAINS(msg.text, sentence);
	expect_exit(&pid, ROLE_EXIT_FAILED);
	close(ctl[0]);
	close(log[0]);
	close(log[1]);
	close(null);
}

TEST (vmmd_options) {
	static const struct {
		const char *args[6], *sentence;
	} cases[] = {
		{ { "uid=71002", "accel=hvf", "append=x", "qemu=q" },
			"accel 'hvf' is not one of: tcg, kvm" },
		{ { "uid=0", "accel=tcg", "append=x", "qemu=q" }, "uid=0 is not for vmmd" },
		{ { "uid=71002", "accel=tcg", "qemu=q" }, "option 'append' is missing" },
		{ { "uid=71002", "accel=tcg", "append=x", "qemu=q", "machine=pc" },
			"machine 'pc' is not one of: q35" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		expect_failed("bulkhead-vmmd", cases[i].args, cases[i].sentence);
}

#define SLOT_ARGS(binary, kernel, accel)                                      \
	{                                                                     \
		"kind=qemu", "uid=71005", "binary=" binary, "kernel=" kernel, \
			"initrd=/etc/hostname", "accel=" accel                \
	}

TEST (slot_options) {
	static const struct {
		const char *args[7], *sentence;
	} cases[] = {
		{ { "kind=vhost", "uid=71005", "binary=" QEMU },
			"kind=vhost is neither qemu nor virtiofsd" },
		{ { "kind=qemu", "uid=0", "binary=" QEMU }, "uid=0 is not for QEMU" },
		{ { "kind=qemu", "uid=71005", "binary=" QEMU }, "kind=qemu needs kernel=" },
		{ SLOT_ARGS(QEMU, "/etc/hostname", "xen"), "accel=xen is neither tcg nor kvm" },
		{ SLOT_ARGS("/opt/qemu", "/etc/hostname", "tcg"),
			"QEMU is /opt/qemu, but its root holds only what is beneath /usr" },
		{ SLOT_ARGS(QEMU, "/nonexistent", "tcg"),
			"QEMU's root: open /nonexistent: No such file or directory" },
		{ SLOT_ARGS(QEMU, "/etc", "tcg"), "/etc is not a regular file" },
		{ SLOT_ARGS(QEMU, "/etc/shadow", "tcg"),
			"/etc/shadow cannot be read by QEMU's uid" },
		{ SLOT_ARGS(QEMU, "/etc/hostname", "tcg"), "join the void's namespaces" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		expect_failed("bulkhead-slot", cases[i].args, cases[i].sentence);
}
