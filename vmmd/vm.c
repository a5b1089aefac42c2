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
#include "vmmd/json.h"
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

/*
 * What ends the VM is told once, in one sentence. What QEMU does to the guest
 * unasked is noted in vm->unasked, and it is lost when it has been heard out.
 */
static void on_panicked(struct vm *vm, struct json_object *data)
{
	(void)data;
	vm->ending = true;
	tell(vm, IPC__VM_EVENT__KIND__GUEST_PANICKED, 0, "the guest's kernel panicked");
}

static void on_shutdown(struct vm *vm, struct json_object *data)
{
	vm->ending = true;
	if (!vm->stopping)
		tell(vm, IPC__VM_EVENT__KIND__GUEST_SHUTDOWN, 0,
			by_guest(data) ? "the guest shut down" : "QEMU shut down");
}

static void on_reset(struct vm *vm, struct json_object *data)
{
	if (vm->ending)
		return;
	if (!by_guest(data)) {
		vm->unasked = "it reset the VM unasked";
		return;
	}
	vm->ending = true;
	tell(vm, IPC__VM_EVENT__KIND__GUEST_SHUTDOWN, 0, "the guest reset itself");
}

static void on_stop(struct vm *vm, struct json_object *data)
{
	(void)data;
	if (vm->cpus == VM_CPUS_RUN && !vm->ending)
		vm->unasked = "it stopped the guest's CPUs unasked";
}

static void on_resume(struct vm *vm, struct json_object *data)
{
	(void)data;
	if (vm->cpus == VM_CPUS_STAND && !vm->ending)
		vm->unasked = "it let the guest's CPUs run unasked";
}

/* A device that nobody waits for: the guest may let go of one whenever it likes. */
static void on_deleted(struct vm *vm, struct json_object *data)
{
	if (vm->leaving && strcmp(json_text(data, "device"), vm->leaving) == 0)
		vm->left = VM_DEVICE_GONE;
}

static void on_unplug_refused(struct vm *vm, struct json_object *data)
{
	if (vm->leaving && strcmp(json_text(data, "device"), vm->leaving) == 0 &&
		vm->left == VM_DEVICE_THERE)
		vm->left = VM_DEVICE_KEPT;
}

static void on_size_change(struct vm *vm, struct json_object *data)
{
	uint64_t size;

	if (strcmp(json_text(data, "id"), VIRTIO_MEM_ID) == 0 &&
		json_number(data, "size", UINT64_MAX, &size))
		vm->virtio_mem_size = size;
}

/* Any other is ignored, within the bound that qmp.h sets. */
static const struct {
	const char *name;
	void (*act)(struct vm *vm, struct json_object *data);
} events[] = {
	{ "SHUTDOWN", on_shutdown },
	{ "RESET", on_reset },
	{ "GUEST_PANICKED", on_panicked },
	{ "STOP", on_stop },
	{ "RESUME", on_resume },
	{ "DEVICE_DELETED", on_deleted },
	{ "DEVICE_UNPLUG_GUEST_ERROR", on_unplug_refused },
	{ "MEM_UNPLUG_ERROR", on_unplug_refused },
	{ "MEMORY_DEVICE_SIZE_CHANGE", on_size_change },
};

static void on_event(void *ctx, const char *event, struct json_object *data)
{
	for (size_t i = 0; i < ARRAY_SIZE(events); i++)
		if (strcmp(event, events[i].name) == 0)
			events[i].act(ctx, data);
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
	else if (vm->unasked)
		qmp_lost(vm, vm->unasked);
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

int vm_poll(struct vm *vm, struct pollfd *more, size_t n_more, int timeout_ms, struct error *err)
{
	struct pollfd pfds[3 + VM_POLL_MORE_MAX] = {
		{ .fd = vm->stderr_fd, .events = POLLIN },
		{ .fd = FD_CTL, .events = POLLIN },
		{ .fd = vm->qmp.fd, .events = POLLIN },
	};
	int n, r;

	for (size_t i = 0; i < n_more; i++)
		pfds[3 + i] = more[i];
	n = fd_poll(pfds, 3 + n_more, timeout_ms);
	if (n < 0 && errno != EINTR)
		return error_errno(err, errno, "poll");
	for (size_t i = 0; i < n_more; i++)
		more[i].revents = n > 0 ? pfds[3 + i].revents : 0;
	r = n > 0 ? serve_ready(vm, pfds, err) : 0;
	return r < 0 ? r : n > 0;
}

int vm_wait(struct vm *vm, vm_condition until, int timeout_ms, struct error *err)
{
	int64_t deadline = clock_ms() + timeout_ms;

	while (!until(vm)) {
		int left = clock_left_ms(deadline);
		int r = left > 0 ? vm_poll(vm, NULL, 0, left, err) : 0;

		if (left == 0 || r < 0)
			return r;
	}
	return 1;
}

static bool answered(const struct vm *vm)
{
	return vm->qmp.waiting == 0 || vm->qmp.fd < 0;
}

/* With its last words, however its end was noticed. */
int vm_ended(const struct vm *vm, struct error *err)
{
	char end[LINE_SIZE + 256];

	vm_describe_end(vm, vm->launched ? "" : " before QMP answered", end, sizeof(end));
	return error_set(err, EPIPE, "QEMU %s", end);
}

/* Its answer was no answer: nothing more is believed. */
int vm_lost(struct vm *vm, struct error *err, const char *why)
{
	if (!vm_is_gone(vm))
		qmp_lost(vm, why);
	return error_set(err, EPROTO, "QEMU is lost (%s)", why);
}

static int send_command(struct vm *vm, const struct vm_call *call, struct error *err)
{
	int r = qmp_send(&vm->qmp, call->command, call->arguments, call->fd, err);

	if (r == -EPROTO)
		qmp_lost(vm, "it does not read what it is sent");
	if (r != -EPIPE)
		return r;
	r = on_qmp_end(vm, err);
	return r < 0 ? r : vm_ended(vm, err);
}

static int call(struct vm *vm, const struct vm_call *c, struct json_object **ret, struct error *err)
{
	int r;

	if (vm_is_gone(vm))
		return vm_ended(vm, err);
	r = send_command(vm, c, err);
	if (r == 0)
		r = vm_wait(vm, answered, c->timeout_ms ? c->timeout_ms : VM_CALL_TIMEOUT_MS, err);
	if (r < 0)
		return r;
	if (r == 0) {
		qmp_lost(vm, "it does not answer");
		return error_set(err, ETIMEDOUT, "QEMU does not answer '%s'", c->command);
	}
	if (vm->qmp.waiting != 0 || vm_is_gone(vm))
		return vm_ended(vm, err);
	if (vm->qmp.failure.code)
		return error_set(err, vm->qmp.failure.code, "QEMU refuses '%s': %s", c->command,
			vm->qmp.failure.msg);
	if (ret)
		*ret = steal(vm->qmp.result);
	return 0;
}

int vm_call_consume(struct vm *vm, const struct vm_call *c, struct json_object **ret,
	struct error *err)
{
	int r = call(vm, c, ret, err);

	json_object_put(c->arguments);
	return r;
}

int vm_command(struct vm *vm, const char *command, struct error *err)
{
	return vm_call_consume(vm, &(struct vm_call){ .command = command, .fd = -1 }, NULL, err);
}

/* The word is set before, so that the event is expected, and taken back if it was refused. */
static int set_cpus(struct vm *vm, const char *command, enum vm_cpus then, struct error *err)
{
	enum vm_cpus before = vm->cpus;
	int r;

	vm->cpus = VM_CPUS_CHANGE;
	r = vm_command(vm, command, err);
	vm->cpus = r < 0 ? before : then;
	return r;
}

int vm_cont(struct vm *vm, struct error *err)
{
	return set_cpus(vm, "cont", VM_CPUS_RUN, err);
}

int vm_pause(struct vm *vm, struct error *err)
{
	return set_cpus(vm, "stop", VM_CPUS_STAND, err);
}

static bool has_left(const struct vm *vm)
{
	return vm->left != VM_DEVICE_THERE || vm_is_gone(vm);
}

int vm_device_del(struct vm *vm, const char *id, struct error *err)
{
	const struct vm_call c = { "device_del", json_object_new_object(), -1, 0 };
	int r;

	if (json_set_text(c.arguments, "id", id) < 0) {
		json_object_put(c.arguments);
		return error_errno(err, ENOMEM, "device_del");
	}
	vm->leaving = id;
	vm->left = VM_DEVICE_THERE;
	r = vm_call_consume(vm, &c, NULL, err);
	if (r == 0)
		r = vm_wait(vm, has_left, VM_UNPLUG_TIMEOUT_MS, err);
	vm->leaving = NULL;
	if (r == -ENODEV) /* the guest has let go of it before, unasked or after our patience */
		return 0;
	if (r < 0)
		return r;
	if (vm->left == VM_DEVICE_GONE)
		return 0;
	if (vm_is_gone(vm))
		return vm_ended(vm, err);
	if (vm->left == VM_DEVICE_KEPT)
		return error_set(err, EBUSY, "the guest refuses to let go of '%s'", id);
	return error_set(err, ETIMEDOUT, "the guest has not let go of '%s' within %d s", id,
		VM_UNPLUG_TIMEOUT_MS / 1000);
}

static bool has_size(const struct vm *vm)
{
	return vm->virtio_mem_size == vm->virtio_mem_wanted || vm_is_gone(vm);
}

int vm_wait_virtio_mem(struct vm *vm, uint64_t size, struct error *err)
{
	int r;

	vm->virtio_mem_wanted = size;
	r = vm_wait(vm, has_size, VM_UNPLUG_TIMEOUT_MS, err);
	if (r < 0)
		return r;
	if (vm->virtio_mem_size == size)
		return 0;
	if (vm_is_gone(vm))
		return vm_ended(vm, err);
	return error_set(err, ETIMEDOUT, "the guest has %llu MiB of virtio-mem after %d s",
		(unsigned long long)vm->virtio_mem_size >> 20, VM_UNPLUG_TIMEOUT_MS / 1000);
}

/* ---- the end ---- */

/* Each rung has its time, together less than the 2.5 s of Shutdown: QEMU does what it is told, or is killed. */
static const struct {
	const char *command;
	int budget_ms;
	bool asks_guest;
} ladder[] = {
	{ "system_powerdown", 800, true },
	{ "quit", 800, false },
	{ NULL, 800, false }, /* the supervisor's SIGKILL */
};

/* 1: QEMU has gone; 0: it has not in the time of the rung; -errno: the supervisor is gone */
static int rung(struct vm *vm, const char *command, int budget_ms, struct error *err)
{
	struct error ignored = ERROR_INIT;

	if (!command)
		vm_kill(vm);
	/* Its answer is not awaited: that it goes is the answer. */
	else if (qmp_send(&vm->qmp, command, NULL, -1, &ignored) < 0)
		return vm_is_gone(vm);
	return vm_wait(vm, vm_is_gone, budget_ms, err);
}

int vm_stop(struct vm *vm, bool ask_guest, struct error *err)
{
	int r = vm_is_gone(vm);

	vm->stopping = vm->ending = true;
	for (size_t i = 0; i < ARRAY_SIZE(ladder) && r == 0; i++) {
		if (ladder[i].asks_guest && !ask_guest)
			continue;
		if (!ladder[i].command)
			log_warn("QEMU does not quit, it is killed");
		r = rung(vm, ladder[i].command, ladder[i].budget_ms, err);
	}
	if (r == 0)
		return error_set(err, ETIMEDOUT, "QEMU has not ended %d ms after its kill",
			ladder[ARRAY_SIZE(ladder) - 1].budget_ms);
	return r < 0 ? r : 0;
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
		.hotplug = HOTPLUG_INIT,
		.stderr_fd = -1,
		.vhost_vsock = options->cid ? VMMD_FD_VHOST_VSOCK : -1,
		.vsock = options->cid ? VMMD_FD_VSOCK : -1,
	};
	vm->qmp.event = on_event;
	vm->qmp.ctx = vm;
	vm_sources(vm);
}

void vm_done(struct vm *vm)
{
	nics_done(&vm->nics);
	hotplug_done(&vm->hotplug);
	qmp_done(&vm->qmp);
	fd_close(&vm->stderr_fd);
	fd_close(&vm->vhost_vsock);
	fd_close(&vm->vsock);
}
