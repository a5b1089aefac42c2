/*
 * The VM's life as the frontend knows it. Its end is heard from two sides:
 * the supervisor has reaped QEMU (certain, with the status), and vmmd has read
 * its last words (the reason). Whichever comes first, the other is awaited for
 * a moment; then everything that depended on the guest ends at once.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "ipc/fds.h"
#include "ipc/vmmd.pb-c.h"
#include "shim-frontend/frontend.h"

#define LAST_WORDS_MS 300
#define KILL_MS       10000 /* a QEMU that is dead gives hundreds of GiB back first, on a slow machine less */
#define POWEROFF_MS   2000

static const char *const state_names[] = {
	[VM_NONE] = "none",
	[VM_STARTING] = "starting",
	[VM_UP] = "up",
	[VM_DYING] = "dying",
	[VM_DEAD] = "dead",
};

static void say(struct vm *vm, const char *why)
{
	if (!vm->text[0])
		snprintf(vm->text, sizeof(vm->text), "%s", why);
}

/* Everything that waits for the guest, or would have. */
static void end_of_vm(struct frontend *fe)
{
	struct error err = ERROR_INIT;

	error_set(&err, EHOSTDOWN, "the VM is gone: %s",
		fe->vm.text[0] ? fe->vm.text : "it was stopped");
	if (!fe->broken.code && !fe->vm.asked)
		fe->broken = err;
	peer_fail_calls(&fe->agentd, &err);
	exit_all(fe);
	while (fe->vm.waiters) {
		struct vm_waiter *w = fe->vm.waiters;

		fe->vm.waiters = w->next;
		w->fn(w->ctx);
	}
}

void vm_set_state(struct frontend *fe, enum vm_state state)
{
	struct vm *vm = &fe->vm;

	if (vm->state == state || vm->state == VM_DEAD)
		return;
	if (state == VM_DEAD && !vm->asked)
		log_warn("VM: %s -> dead: %s", state_names[vm->state], vm->text);
	else
		log_info("VM: %s -> %s", state_names[vm->state], state_names[state]);
	vm->state = state;
	if (state == VM_DEAD) {
		timer_stop(&vm->timer);
		end_of_vm(fe);
	}
}

static void finally_dead(struct frontend *fe)
{
	char text[64];

	snprintf(text, sizeof(text), "QEMU ended with status %d", fe->vm.status);
	say(&fe->vm, text);
	vm_set_state(fe, VM_DEAD);
}

static void timed_out(void *ctx)
{
	struct frontend *fe = ctx;
	struct error err = ERROR_INIT;

	if (fe->vm.ended) {
		finally_dead(fe);
		return;
	}
	if (fe->vm.state != VM_DYING) {
		vm_kill(fe, "the guest has shut down, but QEMU did not end");
		return;
	}
	error_set(&err, ETIMEDOUT, "the VM is to be killed (%s), but QEMU does not end",
		fe->vm.text);
	frontend_fatal(fe, &err);
}

void vm_init(struct frontend *fe)
{
	timer_init(&fe->vm.timer, fe->loop, timed_out, fe);
}

void vm_done(struct frontend *fe)
{
	timer_done(&fe->vm.timer);
}

void vm_kill(struct frontend *fe, const char *why)
{
	struct vm *vm = &fe->vm;
	int r;

	if (vm->state == VM_DEAD || vm->ended)
		return;
	say(vm, why);
	if (vm->state == VM_NONE) {
		vm_set_state(fe, VM_DEAD);
		return;
	}
	if (vm->state == VM_DYING)
		return;
	log_warn("the VM is killed: %s", why);
	r = ctl_send(FD_CTL, CTL_KILL_VM, ROLE_FRONTEND, 0, why);
	if (r < 0)
		log_error("ask the supervisor to kill the VM: %s", strerrordesc_np(-r));
	vm_set_state(fe, VM_DYING);
	timer_set(&vm->timer, KILL_MS);
}

int vm_check(const struct frontend *fe, struct error *err)
{
	if (fe->vm.state == VM_UP)
		return 0;
	return error_set(err, EHOSTDOWN, "the VM is gone: %s", fe->vm.text);
}

void vm_stopped(struct frontend *fe)
{
	fe->vm.ended = true;
	vm_set_state(fe, VM_DEAD);
}

void vm_wait_dead(struct frontend *fe, struct vm_waiter *w, void (*fn)(void *ctx), void *ctx)
{
	*w = (struct vm_waiter){ .fn = fn, .ctx = ctx };
	if (fe->vm.state == VM_DEAD) {
		fn(ctx);
		return;
	}
	w->next = fe->vm.waiters;
	fe->vm.waiters = w;
}

/* last: QEMU's last line, "" when it said nothing; NULL: vmmd has not told yet. */
static void qemu_ended(struct frontend *fe, int status, const char *last)
{
	struct vm *vm = &fe->vm;

	if (vm->state == VM_DEAD)
		return;
	if (!vm->ended)
		vm->status = status;
	vm->ended = true;
	/* What QEMU said itself is a better reason than any we had, unless we killed it. */
	if (last && last[0] && !vm->oom && !(vm->text[0] && vm->status == 137)) {
		snprintf(vm->text, sizeof(vm->text), "QEMU ended with status %d: %.400s",
			vm->status, last);
		vm->spoke = vm->status != 0;
	}
	if (last) {
		finally_dead(fe);
		return;
	}
	vm_set_state(fe, VM_DYING);
	timer_set(&vm->timer, LAST_WORDS_MS);
}

static void virtiofsd_ended(struct frontend *fe, const struct ctl_msg *msg)
{
	char why[256];

	/* It ends when its VM does. */
	if (fe->vm.state == VM_DYING || fe->vm.state == VM_DEAD || fe->vm.asked)
		return;
	snprintf(why, sizeof(why), "virtiofsd ended with status %d%s%.128s", msg->status,
		msg->text[0] ? ": " : "", msg->text);
	vm_kill(fe, why);
}

/* Whatever else its end looked like until now: this is why. */
static void killed_by_host(struct frontend *fe, const struct ctl_msg *msg)
{
	struct vm *vm = &fe->vm;

	if (vm->state == VM_DEAD)
		return;
	vm->oom = true;
	snprintf(vm->text, sizeof(vm->text), "the host's OOM killer ended %s",
		msg->role == ROLE_QEMU ? "QEMU" : "virtiofsd");
}

void vm_on_ctl(struct frontend *fe, const struct ctl_msg *msg)
{
	if (msg->type == CTL_OOM)
		killed_by_host(fe, msg);
	else if (msg->role == ROLE_VIRTIOFSD)
		virtiofsd_ended(fe, msg);
	else if (msg->role == ROLE_QEMU)
		qemu_ended(fe, msg->status, NULL);
}

void vm_on_event(struct frontend *fe, uint16_t type, const ProtobufCMessage *event)
{
	const Ipc__VmEvent *e = (const Ipc__VmEvent *)event;

	(void)type;
	switch (e->kind) {
	case IPC__VM_EVENT__KIND__GUEST_SHUTDOWN:
		log_info("the guest has shut down");
		if (fe->vm.state == VM_UP && !timer_is_set(&fe->vm.timer))
			timer_set(&fe->vm.timer, POWEROFF_MS);
		say(&fe->vm, "the guest has shut down");
		break;
	case IPC__VM_EVENT__KIND__GUEST_PANICKED:
		vm_kill(fe, "the guest's kernel panicked");
		break;
	case IPC__VM_EVENT__KIND__QMP_LOST:
		vm_kill(fe, e->text[0] ? e->text : "QEMU broke the QMP protocol");
		break;
	case IPC__VM_EVENT__KIND__EXITED:
		qemu_ended(fe, e->status, e->text);
		break;
	default:
		log_warn("vmmd: an event of unknown kind %d", e->kind);
	}
}
