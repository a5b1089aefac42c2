#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fdio.h"
#include "common/log.h"
#include "ipc/ctl.h"
#include "ipc/fds.h"
#include "ipc/tables.h"
#include "ipc/vmmd.pb-c.h"
#include "vmmd/vmmd.h"

#define EXIT_TIMEOUT_MS 1000 /* from QMP's end to the supervisor's word that QEMU has ended */
#define DRAIN_READS     64   /* of what a dead QEMU has left: bounded, it may have been hostile */
#define STATUS_SIGSYS   (128 + 31)

/* ---- what the frontend is told ---- */

static void tell(struct vm *vm, Ipc__VmEvent__Kind kind, int status, const char *text)
{
	Ipc__VmEvent event = IPC__VM_EVENT__INIT;
	struct error err = ERROR_INIT;

	if (!vm->launched || (vm->told & (1U << kind)))
		return;
	vm->told |= 1U << kind;
	event.kind = kind;
	event.status = status;
	event.text = (char *)text;
	if (channel_send(vm->helper->fd, vm->helper->channel, IPC_EVENT, VMMD_EVENT, 0, &event.base,
		    NULL, 0, IPC_SEND_TIMEOUT_MS, &err) < 0)
		log_warn("an event of the VM is lost: %s", err.msg);
}

void vm_kill(struct vm *vm)
{
	int r = vm->exited ? 0 : ctl_send(FD_CTL, CTL_KILL_VM, ROLE_VMMD, 0, NULL);

	if (r < 0)
		log_error("cannot ask for the VM's end: %s", strerror(-r));
}

static void qmp_lost(struct vm *vm, const char *why)
{
	log_error("QEMU is lost: %s", why);
	snprintf(vm->lost, sizeof(vm->lost), "%s", why);
	qmp_done(&vm->qmp);
	vm_kill(vm);
	tell(vm, IPC__VM_EVENT__KIND__QMP_LOST, 0, why);
}

/* ---- QMP ---- */

static bool by_guest(struct json_object *data)
{
	struct json_object *guest;

	return data && json_object_object_get_ex(data, "guest", &guest) &&
		json_object_get_boolean(guest);
}

static void on_event(void *ctx, const char *event, struct json_object *data)
{
	struct vm *vm = ctx;

	if (strcmp(event, "GUEST_PANICKED") == 0)
		tell(vm, IPC__VM_EVENT__KIND__GUEST_PANICKED, 0, "the guest's kernel panicked");
	else if (strcmp(event, "SHUTDOWN") == 0 && by_guest(data))
		tell(vm, IPC__VM_EVENT__KIND__GUEST_SHUTDOWN, 0, "the guest shut down");
	else if (strcmp(event, "RESET") == 0 && by_guest(data))
		tell(vm, IPC__VM_EVENT__KIND__GUEST_SHUTDOWN, 0, "the guest reset itself");
}

/* QEMU has closed QMP: it is ending. One that stays is killed. */
static int on_qmp_end(struct vm *vm, struct error *err)
{
	int r;

	qmp_done(&vm->qmp);
	if (vm->stopping || vm->exited)
		return 0;
	r = vm_wait(vm, vm_is_exited, EXIT_TIMEOUT_MS, err);
	if (r == 0)
		qmp_lost(vm, "it closed QMP and did not end");
	return r < 0 ? r : 0;
}

static int ready_qmp(struct vm *vm, struct error *err)
{
	struct error failure = ERROR_INIT;
	int r = qmp_read(&vm->qmp, &failure);

	if (r == 0)
		return on_qmp_end(vm, err);
	if (r < 0 && r != -EAGAIN)
		qmp_lost(vm, failure.msg);
	return 0;
}

/* ---- stderr ---- */

static void log_qemu(const char *line)
{
	log_warn("qemu: %s", line);
}

/* Whether there may be more. */
static bool read_stderr(struct vm *vm)
{
	char buf[2048];
	ssize_t n = read(vm->stderr_fd, buf, sizeof(buf));

	if (n > 0) {
		lines_feed(&vm->lines, buf, (size_t)n, log_qemu);
		return true;
	}
	if (n < 0 && errno == EINTR)
		return true;
	if (n == 0 || errno != EAGAIN) {
		lines_end(&vm->lines, log_qemu);
		fd_close(&vm->stderr_fd);
	}
	return false;
}

/* ---- the supervisor ---- */

/* QEMU is dead: whatever it has said before is in the sockets, and comes before EXITED. */
static void on_exit_of_qemu(struct vm *vm, int status)
{
	struct error ignored = ERROR_INIT;

	vm->exited = true;
	vm->status = status;
	for (int i = 0; i < DRAIN_READS && vm->stderr_fd >= 0 && read_stderr(vm); i++)
		;
	for (int i = 0; i < DRAIN_READS && vm->qmp.fd >= 0; i++)
		if (qmp_read(&vm->qmp, &ignored) <= 0)
			break;
	qmp_done(&vm->qmp);
	fd_close(&vm->stderr_fd);
	tell(vm, IPC__VM_EVENT__KIND__EXITED, status, vm->lines.last);
}

static int ready_ctl(struct vm *vm, struct error *err)
{
	struct ctl_msg msg;
	int r = ctl_recv(FD_CTL, MSG_DONTWAIT, &msg);

	if (r == -EAGAIN)
		return 0;
	if (r < 0)
		return error_errno(err, -r, "the supervisor's channel");
	if (r == 0) {
		vm->helper->done = true;
		return error_set(err, EPIPE, "the supervisor is gone");
	}
	if (msg.type != CTL_CHILD_EXIT)
		return error_set(err, EPROTO, "control message %u from the supervisor", msg.type);
	/* virtiofsd's end shows in QEMU, and the frontend is told by the supervisor. */
	if (msg.role == ROLE_QEMU && !vm->exited)
		on_exit_of_qemu(vm, msg.status);
	return 0;
}

/* ---- waiting ---- */

bool vm_is_gone(const struct vm *vm)
{
	return vm->qmp.fd < 0;
}

bool vm_is_exited(const struct vm *vm)
{
	return vm->exited;
}

/* stderr before the rest: it holds the reason. */
static int serve_ready(struct vm *vm, const struct pollfd pfds[3], struct error *err)
{
	int r = 0;

	if (pfds[0].revents && vm->stderr_fd >= 0)
		read_stderr(vm);
	if (pfds[1].revents)
		r = ready_ctl(vm, err);
	if (r == 0 && pfds[2].revents && vm->qmp.fd >= 0)
		r = ready_qmp(vm, err);
	return r;
}

int vm_wait(struct vm *vm, vm_condition until, int timeout_ms, struct error *err)
{
	int64_t deadline = clock_ms() + timeout_ms;

	while (!until(vm)) {
		struct pollfd pfds[3] = {
			{ .fd = vm->stderr_fd, .events = POLLIN },
			{ .fd = FD_CTL, .events = POLLIN },
			{ .fd = vm->qmp.fd, .events = POLLIN },
		};
		int left = clock_left_ms(deadline);
		int r;

		if (left == 0)
			return 0;
		if (fd_poll(pfds, ARRAY_SIZE(pfds), left) < 0 && errno != EINTR)
			return error_errno(err, errno, "poll");
		r = serve_ready(vm, pfds, err);
		if (r < 0)
			return r;
	}
	return 1;
}

static bool answered(const struct vm *vm)
{
	return vm->qmp.waiting == 0 || vm->qmp.fd < 0;
}

/* With its last words, however its end was noticed. */
static int ended(const struct vm *vm, struct error *err)
{
	char end[LINE_SIZE + 256];

	vm_describe_end(vm, vm->launched ? "" : " before QMP answered", end, sizeof(end));
	return error_set(err, EPIPE, "QEMU %s", end);
}

int vm_command(struct vm *vm, const char *command, int timeout_ms, struct error *err)
{
	int r;

	if (vm_is_gone(vm))
		return ended(vm, err);
	r = qmp_send(&vm->qmp, command, err);
	if (r == -EPIPE) {
		r = on_qmp_end(vm, err);
		return r < 0 ? r : ended(vm, err);
	}
	if (r == 0)
		r = vm_wait(vm, answered, timeout_ms, err);
	if (r < 0)
		return r;
	if (r == 0) {
		qmp_lost(vm, "it does not answer");
		return error_set(err, ETIMEDOUT, "QEMU does not answer '%s'", command);
	}
	if (vm->qmp.waiting != 0)
		return ended(vm, err);
	if (vm->qmp.failure.code)
		return error_set(err, EIO, "QEMU refuses '%s': %s", command, vm->qmp.failure.msg);
	return 0;
}

void vm_describe_end(const struct vm *vm, const char *when, char *ret, size_t size)
{
	const char *hint = vm->status == STATUS_SIGSYS ? " (a system call its filter forbids)" : "";
	const char *last = vm->lines.last;
	const char *colon = *last ? ": " : "";

	if (vm->exited)
		snprintf(ret, size, "ended with status %d%s%s%s%s", vm->status, hint, when, colon,
			last);
	else
		snprintf(ret, size, "is lost%s (%s)%s%s", when, vm->lost, colon, last);
}

/* ---- as a helper's sources ---- */

static int source_ready(struct helper *h, struct helper_source *source, short revents,
	struct error *err)
{
	struct vm *vm = h->ctx;
	struct pollfd pfds[3] = { 0 };
	int r;

	pfds[source - h->sources].revents = revents;
	r = serve_ready(vm, pfds, err);
	vm_sources(vm);
	/* The supervisor's end is a planned one. */
	return h->done ? 0 : r;
}

void vm_sources(struct vm *vm)
{
	const int fds[3] = { vm->stderr_fd, FD_CTL, vm->qmp.fd };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		vm->helper->sources[i] = (struct helper_source){
			.fd = fds[i],
			.events = POLLIN,
			.ready = source_ready,
		};
}

void vm_init(struct vm *vm, const struct vmmd_options *options, struct helper *helper)
{
	*vm = (struct vm){
		.options = options,
		.helper = helper,
		.qmp = QMP_INIT,
		.stderr_fd = -1,
	};
	vm->qmp.event = on_event;
	vm->qmp.ctx = vm;
	vm_sources(vm);
}

void vm_done(struct vm *vm)
{
	qmp_done(&vm->qmp);
	fd_close(&vm->stderr_fd);
}
