#include <errno.h>

#include "common/log.h"
#include "ipc/fds.h"
#include "ipc/tables.h"
#include "ipc/vmmd.pb-c.h"
#include "vmmd/vmmd.h"

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
	int r = vm_cont(h->ctx, err);

	(void)request, (void)reply, (void)reply_fds;
	vm_sources(h->ctx);
	return r < 0 ? error_wrap(err, "cont") : 0;
}

static int handle_pause(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	int r = vm_pause(h->ctx, err);

	(void)request, (void)reply, (void)reply_fds;
	vm_sources(h->ctx);
	return r < 0 ? error_wrap(err, "pause") : 0;
}

static int handle_resume(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	int r = vm_cont(h->ctx, err);

	(void)request, (void)reply, (void)reply_fds;
	vm_sources(h->ctx);
	return r < 0 ? error_wrap(err, "resume") : 0;
}

static int handle_stop(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	const Ipc__VmmdStop *msg = (const Ipc__VmmdStop *)request;
	int r = vm_stop(h->ctx, msg->ask_guest, err);

	(void)reply, (void)reply_fds;
	vm_sources(h->ctx);
	return r < 0 ? error_wrap(err, "stop") : 0;
}

static const struct helper_request requests[] = {
	{ VMMD_LAUNCH, handle_launch, .states = VMMD_NEW, .then = VMMD_LAUNCHED },
	{ VMMD_CONT, handle_cont, .states = VMMD_LAUNCHED, .then = VMMD_RUNNING },
	{ VMMD_PAUSE, handle_pause, .states = VMMD_RUNNING, .then = VMMD_PAUSED },
	{ VMMD_RESUME, handle_resume, .states = VMMD_PAUSED, .then = VMMD_RUNNING },
	{ VMMD_STOP, handle_stop,
		.states = VMMD_NEW | VMMD_LAUNCHED | VMMD_RUNNING | VMMD_PAUSED | VMMD_OVER,
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
