#include <errno.h>

#include "common/log.h"
#include "ipc/fds.h"
#include "ipc/tables.h"
#include "ipc/vmmd.pb-c.h"
#include "vmmd/vmmd.h"

#define CONT_TIMEOUT_MS 5000
#define QUIT_TIMEOUT_MS 1000
#define KILL_TIMEOUT_MS 1000

static int handle_launch(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	struct vm *vm = h->ctx;
	int r = vm_launch(vm, (const Ipc__VmmdLaunch *)request, err);

	(void)reply, (void)reply_fds;
	vm_sources(vm);
	if (r < 0) {
		/* A sandbox has one VM ever: what remains is to stop. */
		h->state = VMMD_OVER;
		return error_wrap(err, "launch");
	}
	vm->launched = true;
	return 0;
}

static int handle_cont(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	int r = vm_command(h->ctx, "cont", CONT_TIMEOUT_MS, err);

	(void)request, (void)reply, (void)reply_fds;
	vm_sources(h->ctx);
	return r < 0 ? error_wrap(err, "cont") : 0;
}

/* QEMU is asked, then the supervisor. */
static int stop(struct vm *vm, struct error *err)
{
	struct error ignored = ERROR_INIT;
	int r = 1;

	vm->stopping = true;
	if (vm->qmp.fd < 0)
		return 0;
	if (qmp_send(&vm->qmp, "quit", &ignored) == 0)
		r = vm_wait(vm, vm_is_gone, QUIT_TIMEOUT_MS, err);
	if (r != 0 && vm_is_gone(vm))
		return r < 0 ? r : 0;
	log_warn("QEMU does not quit%s%s, it is killed", *ignored.msg ? ": " : "", ignored.msg);
	vm_kill(vm);
	r = vm_wait(vm, vm_is_gone, KILL_TIMEOUT_MS, err);
	if (r == 0)
		return error_set(err, ETIMEDOUT, "QEMU has not ended %d ms after its kill",
			KILL_TIMEOUT_MS);
	return r < 0 ? r : 0;
}

static int handle_stop(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	int r = stop(h->ctx, err);

	(void)request, (void)reply, (void)reply_fds;
	vm_sources(h->ctx);
	return r < 0 ? error_wrap(err, "stop") : 0;
}

static const struct helper_request requests[] = {
	{ VMMD_LAUNCH, handle_launch, .states = VMMD_NEW, .then = VMMD_LAUNCHED },
	{ VMMD_CONT, handle_cont, .states = VMMD_LAUNCHED, .then = VMMD_RUNNING },
	{ VMMD_STOP, handle_stop, .states = VMMD_NEW | VMMD_LAUNCHED | VMMD_RUNNING | VMMD_OVER,
		.then = VMMD_OVER },
};

int vmmd_serve(const struct vmmd_options *options, struct error *err)
{
	struct helper helper = {
		.channel = &ipc_frontend_vmmd,
		.fd = VMMD_FD_FRONTEND,
		.requests = requests,
		.n_requests = ARRAY_SIZE(requests),
		.state = VMMD_NEW,
	};
	struct vm vm;
	int r;

	helper.ctx = &vm;
	vm_init(&vm, options, &helper);
	r = helper_serve(&helper, err);
	vm_done(&vm);
	return r;
}
