#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/log.h"
#include "ipc/fds.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/tables.h"
#include "ipc/vmmd.pb-c.h"
#include "vmmd/vmmd.h"

#define GREETING_TIMEOUT_MS 10000

#define MEMORY_SLOTS        16 /* pc-dimms; virtiofsd maps 32 regions at most */

#define AGENT_PORT          "agent.channel.0"

/* The near ends of what QEMU is connected by. */
struct ends {
	int agent, console;
};

static void ends_done(struct ends *e)
{
	fd_close(&e->agent);
	fd_close(&e->console);
}

/* A stream to QEMU: ours, which never blocks us, and QEMU's. */
static int stream(int *ret_ours, int *ret_qemu, bool nonblocking, struct error *err)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return error_errno(err, errno, "socketpair");
	*ret_ours = fds[0];
	*ret_qemu = fds[1];
	if (nonblocking && fcntl(fds[0], F_SETFL, O_RDWR | O_NONBLOCK) < 0)
		return error_errno(err, errno, "set O_NONBLOCK");
	return 0;
}

/* mountd has sent it before the frontend was told to ask us. */
static int take_from_mountd(enum mountd_vmmd_msg type, const char *what, uint32_t *ret_index,
	int *ret_fd, struct error *err)
{
	CLEANUP(ipc_packet_done) struct ipc_packet packet = { .fds = FDLIST_INIT };
	ProtobufCMessage *msg;
	int r = channel_recv(VMMD_FD_MOUNTD, &ipc_mountd_vmmd, MSG_DONTWAIT, &packet, err);

	if (r == -EAGAIN || r == 0)
		return error_set(err, EPROTO, "mountd has sent no %s", what);
	if (r < 0)
		return r;
	msg = ipc_decode(&packet, err);
	if (!msg)
		return -EPROTO;
	if (packet.hdr.type != type) {
		ipc_free(msg);
		return error_set(err, EPROTO, "mountd has sent '%s', not a %s", packet.row->name,
			what);
	}
	if (ret_index)
		*ret_index = ((const Ipc__Block *)msg)->index;
	ipc_free(msg);
	*ret_fd = fdlist_steal(&packet.fds, 0);
	return 0;
}

int vm_take_block_fd(uint32_t index, int *ret_fd, struct error *err)
{
	uint32_t got = 0;
	int r = take_from_mountd(MOUNTD_VMMD_BLOCK, "block device", &got, ret_fd, err);

	if (r < 0 || got == index)
		return r;
	fd_close(ret_fd);
	return error_set(err, EPROTO, "mountd has sent disk %u, not %u", got, index);
}

static int add_share(struct qemu_cmdline *c, struct error *err)
{
	int fd = -1;
	int r = take_from_mountd(MOUNTD_VMMD_SHARE, "connection to virtiofsd", NULL, &fd, err);

	return r < 0 ? r : qemu_cmdline_add_share_consume(c, SHARE_TAG, fd, err);
}

/* What the guest's agent is reached by: a port, or a vsock device that CONNECT needs. */
static int add_agent(struct vm *vm, struct qemu_cmdline *c, struct ends *ends, struct error *err)
{
	int qemu = -1, r;

	if (vm->options->cid)
		return qemu_cmdline_add_vsock_consume(c, fd_steal(&vm->vhost_vsock),
			vm->options->cid, err);
	r = stream(&ends->agent, &qemu, false, err);
	return r < 0 ? r : qemu_cmdline_add_port_consume(c, "agent", AGENT_PORT, qemu, err);
}

static int connect_qemu(struct vm *vm, struct qemu_cmdline *c, struct ends *ends, struct error *err)
{
	int qemu = -1;
	int r = stream(&vm->qmp.fd, &qemu, true, err);

	r = r < 0 ? r : qemu_cmdline_add_monitor_consume(c, fd_steal(&qemu), err);
	r = r < 0 ? r : add_agent(vm, c, ends, err);
	r = r < 0 ? r : stream(&ends->console, &qemu, false, err);
	r = r < 0 ? r : qemu_cmdline_add_console_consume(c, fd_steal(&qemu), err);
	fd_close(&qemu);
	return r;
}

static bool is_greeted(const struct vm *vm)
{
	return vm->qmp.greeted || vm->qmp.fd < 0;
}

static int greet(struct vm *vm, struct error *err)
{
	char end[LINE_SIZE + 256];
	int r = vm_wait(vm, is_greeted, GREETING_TIMEOUT_MS, err);

	if (r < 0)
		return r;
	if (r == 0)
		return error_set(err, ETIMEDOUT, "QMP does not answer within %d s%s%s",
			GREETING_TIMEOUT_MS / 1000, *vm->lines.last ? ": " : "", vm->lines.last);
	if (!vm->qmp.greeted) {
		vm_describe_end(vm, " before QMP answered", end, sizeof(end));
		return error_set(err, EPIPE, "QEMU %s", end);
	}
	return vm_command(vm, "qmp_capabilities", err);
}

int vm_tell_agentd(enum vmmd_agentd_msg type, int fd, struct error *err)
{
	Ipc__AgentStream stream_msg = IPC__AGENT_STREAM__INIT;
	Ipc__Console console_msg = IPC__CONSOLE__INIT;
	const ProtobufCMessage *msg =
		type == VMMD_AGENTD_STREAM ? &stream_msg.base : &console_msg.base;

	return channel_send(VMMD_FD_AGENTD, &ipc_vmmd_agentd, IPC_EVENT, (uint16_t)type, 0, msg,
		&fd, 1, IPC_SEND_TIMEOUT_MS, err);
}

static int run_qemu(struct vm *vm, struct qemu_cmdline *c, struct error *err)
{
	_cleanup_close_ int qemu_stderr = -1;
	int r = stream(&vm->stderr_fd, &qemu_stderr, true, err);

	return r < 0 ? r : slot_run(c, qemu_stderr, err);
}

static int build(struct vm *vm, const struct qemu_config *config, const Ipc__VmmdLaunch *request,
	struct qemu_cmdline *c, struct ends *ends, struct error *err)
{
	int r = qemu_cmdline_init(c, config, err);

	if (r == 0)
		r = qemu_cmdline_add_root_ports(c, request->ports, err);
	if (r == 0 && request->share)
		r = add_share(c, err);
	if (r == 0)
		r = nics_add(&vm->nics, c, VMMD_FD_NETD, request, err);
	if (r == 0)
		r = connect_qemu(vm, c, ends, err);
	return r;
}

static int launch(struct vm *vm, const struct qemu_config *config, const Ipc__VmmdLaunch *request,
	struct ends *ends, struct error *err)
{
	CLEANUP(qemu_cmdline_done) struct qemu_cmdline c = { .objects = NULL };
	int r = build(vm, config, request, &c, ends, err);

	if (r == 0)
		r = run_qemu(vm, &c, err);
	/* QEMU has them now: with our copies open its end could not be seen. */
	qemu_cmdline_done(&c);
	if (r == 0)
		r = greet(vm, err);
	if (r == 0)
		r = hotplug_check_fdsets(vm, NULL, 0, err);
	if (r == 0 && ends->agent >= 0)
		r = vm_tell_agentd(VMMD_AGENTD_STREAM, ends->agent, err);
	if (r == 0)
		r = vm_tell_agentd(VMMD_AGENTD_CONSOLE, ends->console, err);
	return r;
}

/*
 * What the guest's kernel is told beside the image's words. It measures how fast the CPU's counter runs
 * against a timer, and an emulator that gets no time delivers that late: seconds pass several times
 * too fast then, and every deadline in the guest with them (measured, with 20 guests on two CPUs). So
 * that counter is no clock there. The agent is told where to serve as Kata's would be.
 */
static int append_of(const struct vm *vm, unsigned vcpus, char **ret, struct error *err)
{
	const struct vmmd_options *o = vm->options;
	char cpus[32] = "", agent[64] = "";

	if (vm->spare_cpus)
		snprintf(cpus, sizeof(cpus), " maxcpus=%u", vcpus);
	if (o->cid)
		snprintf(agent, sizeof(agent), " agent.server_addr=vsock://-1:%d",
			VSOCK_AGENT_PORT);
	if (asprintf(ret, "%s tsc=%s%s%s", o->append,
		    o->accel == ACCEL_TCG ? "unstable" : "reliable", cpus, agent) >= 0)
		return 0;
	*ret = NULL;
	return error_errno(err, ENOMEM, "the guest's command line");
}

/* How many more an emulated machine has, for what may be added: hotplug_cpu.c says why. */
static unsigned spare_cpus(const struct vm *vm, const Ipc__VmmdLaunch *request)
{
	return vm->options->accel == ACCEL_TCG && request->vcpus > 0 &&
			request->max_vcpus > request->vcpus ?
		request->max_vcpus - request->vcpus :
		0;
}

int vm_launch(struct vm *vm, const Ipc__VmmdLaunch *request, struct error *err)
{
	CLEANUP(ends_done) struct ends ends = { .agent = -1, .console = -1 };
	_cleanup_free_ char *append = NULL;
	struct qemu_config config = {
		.name = vm->options->name,
		.machine = vm->options->machine,
		.accel = vm->options->accel,
		.memory_mib = request->memory_mib,
		.max_vcpus = request->max_vcpus,
		.memory_slots = request->max_memory_mib ? MEMORY_SLOTS : 0,
		.memory_max_mib = request->max_memory_mib,
		.kernel = "/kernel",
		.initrd = "/initrd",
	};
	int r;

	vm->spare_cpus = spare_cpus(vm, request);
	r = append_of(vm, request->vcpus, &append, err);
	if (r < 0)
		return r;
	config.append = append;
	config.vcpus = request->vcpus + vm->spare_cpus;
	log_info("launch %s: accel=%s, %u vCPUs, %u MiB%s, %zu NICs", vm->options->qemu,
		accels[config.accel], request->vcpus, request->memory_mib,
		request->share ? ", shared directory" : "", request->n_nics);
	r = launch(vm, &config, request, &ends, err);
	nics_done(&vm->nics); /* of links that LAUNCH did not name */
	if (r < 0) {
		vm_kill(vm);
		vm_done(vm);
	}
	vm->hotplug.n_ports = r < 0 ? 0 : request->ports;
	return r;
}
