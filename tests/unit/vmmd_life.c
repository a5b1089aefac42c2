/* A VM's life between requests: what QEMU and the supervisor say, what the frontend is told. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "ipc/ctl.h"
#include "ipc/fds.h"
#include "ipc/vmmd.pb-c.h"
#include "tests/unit/vmmd_scripted.h"

static void expect_event(struct script *s, Ipc__VmEvent__Kind kind, int status, const char *text)
{
	struct error err = ERROR_INIT;
	struct ipc_packet packet;
	Ipc__VmEvent *event;

	CHECK_INT(channel_recv(s->frontend, &ipc_frontend_vmmd, MSG_DONTWAIT, &packet, &err), 1);
	event = (Ipc__VmEvent *)ipc_decode(&packet, &err);
	CHECK(event);
	CHECK_INT(event->kind, kind);
	CHECK_INT(event->status, status);
	CHECK_STR(event->text, text);
	ipc_free(&event->base);
}

static void expect_nothing(struct script *s)
{
	struct error err = ERROR_INIT;
	struct ipc_packet packet;

	CHECK_INT(channel_recv(s->frontend, &ipc_frontend_vmmd, MSG_DONTWAIT, &packet, &err),
		-EAGAIN);
}

/* Serves what has come, as vmmd does while nobody asks it. */
static int serve(struct script *s, struct error *err)
{
	for (int i = 0; i < 3; i++) {
		struct helper_source *source = &s->helper.sources[i];
		int r = source->fd < 0 ? 0 : source->ready(&s->helper, source, source->events, err);

		if (r < 0)
			return r;
	}
	return 0;
}

static void hear(struct script *s, const char *words)
{
	struct error err = ERROR_INIT;

	script_say(s, words);
	CHECK_INT(serve(s, &err), 0);
}

#define SHUTDOWN_BY(guest) "{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": " guest "}}\r\n"
#define RESET_BY(guest)	   "{\"event\": \"RESET\", \"data\": {\"guest\": " guest "}}\r\n"
#define PANICKED	   "{\"event\": \"GUEST_PANICKED\"}\r\n"

TEST (what_ends_the_vm_is_told_once) {
	static const struct {
		const char *says, *told;
		Ipc__VmEvent__Kind kind;
	} cases[] = {
		{ SHUTDOWN_BY("true"), "the guest shut down", IPC__VM_EVENT__KIND__GUEST_SHUTDOWN },
		{ SHUTDOWN_BY("false"), "QEMU shut down", IPC__VM_EVENT__KIND__GUEST_SHUTDOWN },
		{ RESET_BY("true"), "the guest reset itself", IPC__VM_EVENT__KIND__GUEST_SHUTDOWN },
		{ PANICKED, "the guest's kernel panicked", IPC__VM_EVENT__KIND__GUEST_PANICKED },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct script s;

		script_start(&s);
		hear(&s, cases[i].says);
		expect_event(&s, cases[i].kind, 0, cases[i].told);
		hear(&s, cases[i].says);
		/* Its CPUs stop then, and a reset may follow: both are its business now. */
		hear(&s, "{\"event\": \"STOP\"}\r\n" RESET_BY("false"));
		expect_nothing(&s);
		CHECK(!vm_is_gone(&s.vm));
		script_end(&s);
	}
}

TEST (nothing_is_told_before_launch_was_answered) {
	struct script s;

	script_start(&s);
	s.vm.launched = false;
	hear(&s, PANICKED);
	expect_nothing(&s);
	script_end(&s);
}

TEST (last_words) {
	struct error err = ERROR_INIT;
	struct script s;
	char text[512];
	int fds[2];

	script_start(&s);
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
	s.vm.stderr_fd = fds[0];
	vm_sources(&s.vm);
	CHECK_INT(write(fds[1], "first\nmore", 10), 10);
	CHECK_INT(serve(&s, &err), 0);
	CHECK_INT(write(fds[1], " and last", 9), 9);
	close(fds[1]);
	CHECK_INT(ctl_send(s.ctl, CTL_CHILD_EXIT, ROLE_VIRTIOFSD, 1, NULL), 0);
	CHECK_INT(ctl_send(s.ctl, CTL_CHILD_EXIT, ROLE_QEMU, 159, NULL), 0);
	CHECK_INT(vm_wait(&s.vm, vm_is_exited, 1000, &err), 1);
	expect_event(&s, IPC__VM_EVENT__KIND__EXITED, 159, "more and last");
	CHECK(vm_is_gone(&s.vm));
	vm_describe_end(&s.vm, " now", text, sizeof(text));
	CHECK_STR(text,
		"ended with status 159 (a system call its filter forbids) now: more and last");
	CHECK_INT(vm_command(&s.vm, "cont", &err), -EPIPE);
	script_end(&s);
}

/* One that has closed QMP is ending, or it is killed. */
TEST (qmp_closed) {
	struct error err = ERROR_INIT;
	struct ctl_msg msg;
	struct script s;

	script_start(&s);
	shutdown(s.qemu, SHUT_RDWR);
	CHECK_INT(vm_command(&s.vm, "cont", &err), -EPIPE);
	CHECK_CONTAINS(err.msg, "it closed QMP and did not end");
	expect_event(&s, IPC__VM_EVENT__KIND__QMP_LOST, 0, "it closed QMP and did not end");
	CHECK_INT(ctl_recv(s.ctl, MSG_DONTWAIT, &msg), 1);
	CHECK_INT(msg.type, CTL_KILL_VM);
	script_end(&s);
}

TEST (the_supervisor_speaks_nonsense) {
	struct error err = ERROR_INIT;
	struct script s;

	script_start(&s);
	CHECK_INT(ctl_send(s.ctl, CTL_LOCK, ROLE_SUPERVISOR, 0, NULL), 0);
	CHECK_INT(vm_wait(&s.vm, vm_is_gone, 1000, &err), -EPROTO);
	CHECK_CONTAINS(err.msg, "from the supervisor");
	script_end(&s);
}

/* In the middle of a command too: it is a planned end, and nobody is asked to kill. */
TEST (the_supervisor_is_gone) {
	struct error err = ERROR_INIT;
	struct script s;

	script_start(&s);
	script_hold(&s);
	shutdown(s.ctl, SHUT_RDWR);
	CHECK_INT(vm_command(&s.vm, "cont", &err), -EPIPE);
	CHECK_STR(err.msg, "the supervisor is gone");
	CHECK(s.helper.done);
	script_release(&s);
	script_end(&s);
}

/* A virtio-mem, a device that is awaited: the end of QEMU is the end of the wait. */
TEST (waits_end_with_qemu) {
	struct error err = ERROR_INIT;
	int64_t began = clock_ms();
	struct script s;

	script_start(&s);
	CHECK_INT(operations[OP_DISK].add(&s, &err), 0);
	s.keeps_devices = true;
	script_arm(&s, DIES, 2);
	CHECK_INT(ctl_send(s.ctl, CTL_CHILD_EXIT, ROLE_QEMU, 137, NULL), 0);
	CHECK_INT(operations[OP_DISK].remove(&s, &err), -EPIPE);
	CHECK_INT(vm_wait_virtio_mem(&s.vm, 1 << 20, &err), -EPIPE);
	CHECK(clock_ms() - began < 3000);
	script_end(&s);
}
