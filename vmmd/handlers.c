#include <errno.h>

#include "common/log.h"
#include "ipc/fds.h"
#include "ipc/tables.h"
#include "ipc/vmmd.pb-c.h"
#include "vmmd/vmmd.h"

#define CONNECT_TIMEOUT_MAX_MS 600000

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

static int handle_connect(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	const Ipc__VmmdConnect *msg = (const Ipc__VmmdConnect *)request;
	int r = msg->timeout_ms > 0 && msg->timeout_ms <= CONNECT_TIMEOUT_MAX_MS ?
		vm_connect(h->ctx, (int)msg->timeout_ms, err) :
		error_set(err, EINVAL, "a deadline of %u ms", msg->timeout_ms);

	(void)reply, (void)reply_fds;
	vm_sources(h->ctx);
	return r < 0 ? error_wrap(err, "connect") : 0;
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

static int add_nic(struct vm *vm, const Ipc__VmmdLaunch__Nic *m, struct error *err)
{
	struct nic_config nic;
	int r = nics_receive(&vm->nics, VMMD_FD_NETD, err);

	if (r == 0)
		r = nics_take(&vm->nics, m, &nic, err);
	return r < 0 ? r : hotplug_add_nic_consume(vm, m->index, &nic.config, err);
}

static int handle_add_nic(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	const Ipc__VmmdAddNic *msg = (const Ipc__VmmdAddNic *)request;
	int r = msg->nic ? add_nic(h->ctx, msg->nic, err) :
			   error_set(err, EINVAL, "there is no NIC in it");

	(void)reply, (void)reply_fds;
	vm_sources(h->ctx);
	return r < 0 ? error_wrap(err, "add NIC") : 0;
}

static int handle_add_block(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	const Ipc__VmmdAddBlock *msg = (const Ipc__VmmdAddBlock *)request;
	int fd = -1;
	int r = vm_take_block_fd(msg->index, &fd, err);

	(void)reply, (void)reply_fds;
	if (r == 0)
		r = hotplug_add_block_consume(h->ctx, msg->index, fd, msg->read_only, err);
	vm_sources(h->ctx);
	return r < 0 ? error_wrap(err, "add block") : 0;
}

static int handle_add_memory(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	const Ipc__VmmdAddMemory *msg = (const Ipc__VmmdAddMemory *)request;
	int r = hotplug_add_memory(h->ctx, msg->index, (uint64_t)msg->mib << 20, err);

	(void)reply, (void)reply_fds;
	vm_sources(h->ctx);
	return r < 0 ? error_wrap(err, "add memory") : 0;
}

static int handle_add_cpu(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	const Ipc__VmmdAddCpu *msg = (const Ipc__VmmdAddCpu *)request;
	int r = hotplug_add_cpu(h->ctx, msg->index, err);

	(void)reply, (void)reply_fds;
	vm_sources(h->ctx);
	return r < 0 ? error_wrap(err, "add CPU") : 0;
}

static int handle_remove(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	static const int kinds[] = {
		[IPC__VMMD_REMOVE__KIND__UNSPECIFIED] = -1,
		[IPC__VMMD_REMOVE__KIND__NIC] = HOTPLUG_NIC,
		[IPC__VMMD_REMOVE__KIND__BLOCK] = HOTPLUG_BLOCK,
		[IPC__VMMD_REMOVE__KIND__MEMORY] = HOTPLUG_MEMORY,
		[IPC__VMMD_REMOVE__KIND__CPU] = HOTPLUG_CPU,
	};
	const Ipc__VmmdRemove *msg = (const Ipc__VmmdRemove *)request;
	int kind = (size_t)msg->kind < ARRAY_SIZE(kinds) ? kinds[msg->kind] : -1;
	int r;

	(void)reply, (void)reply_fds;
	if (kind < 0)
		return error_set(err, EINVAL, "remove: kind %d is unknown", (int)msg->kind);
	r = hotplug_remove(h->ctx, (enum hotplug_kind)kind, msg->index, err);
	vm_sources(h->ctx);
	return r < 0 ? error_wrap(err, "remove") : 0;
}

static const struct helper_request requests[] = {
	{ VMMD_LAUNCH, handle_launch, .states = VMMD_NEW, .then = VMMD_LAUNCHED },
	{ VMMD_CONT, handle_cont, .states = VMMD_LAUNCHED, .then = VMMD_RUNNING },
	{ VMMD_CONNECT, handle_connect, .states = VMMD_RUNNING },
	{ VMMD_PAUSE, handle_pause, .states = VMMD_RUNNING, .then = VMMD_PAUSED },
	{ VMMD_RESUME, handle_resume, .states = VMMD_PAUSED, .then = VMMD_RUNNING },
	{ VMMD_ADD_NIC, handle_add_nic, .states = VMMD_RUNNING },
	{ VMMD_ADD_BLOCK, handle_add_block, .states = VMMD_RUNNING },
	{ VMMD_ADD_MEMORY, handle_add_memory, .states = VMMD_RUNNING },
	{ VMMD_ADD_CPU, handle_add_cpu, .states = VMMD_RUNNING },
	{ VMMD_REMOVE, handle_remove, .states = VMMD_RUNNING },
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
