#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fdio.h"
#include "ipc/fds.h"
#include "ipc/slot.pb-c.h"
#include "ipc/tables.h"
#include "vmmd/vmmd.h"

#define PART_MAX        8192
#define EXEC_TIMEOUT_MS 5000
#define EXEC_SEQ        1

static int send_part(const char *part, bool last, struct error *err)
{
	Ipc__SlotArg msg = IPC__SLOT_ARG__INIT;

	msg.part = (char *)part;
	msg.last = last;
	return channel_send(VMMD_FD_SLOT, &ipc_slot, IPC_EVENT, SLOT_ARG, 0, &msg.base, NULL, 0,
		IPC_SEND_TIMEOUT_MS, err);
}

static int send_arg(const char *arg, struct error *err)
{
	char part[PART_MAX + 1];
	size_t len;
	int r = 0;

	do {
		len = strnlen(arg, PART_MAX);
		memcpy(part, arg, len);
		part[len] = '\0';
		arg += len;
		r = send_part(part, !*arg, err);
	} while (r == 0 && *arg);
	return r;
}

static int send_fd(int fd, unsigned number, struct error *err)
{
	Ipc__SlotFd msg = IPC__SLOT_FD__INIT;

	msg.target = number;
	return channel_send(VMMD_FD_SLOT, &ipc_slot, IPC_EVENT, SLOT_FD, 0, &msg.base, &fd, 1,
		IPC_SEND_TIMEOUT_MS, err);
}

static int send_qemu_fd(void *ctx, struct qemu_fd *fd, struct error *err)
{
	(void)ctx;
	return send_fd(fd->fd, fd->number, err);
}

static int send_args(const struct qemu_cmdline *cmdline, struct error *err)
{
	CLEANUP(qemu_argv_done) struct qemu_argv argv = QEMU_ARGV_INIT;
	int r = qemu_cmdline_print(cmdline, QEMU_FORM_ARGV, &argv, err);

	for (size_t i = 0; i < argv.n && r == 0; i++)
		r = send_arg(argv.arg[i], err);
	return r;
}

/* The slot answers nothing but an error: the end of the channel says that QEMU runs. */
static int wait_exec(struct error *err)
{
	CLEANUP(ipc_packet_done) struct ipc_packet packet = { .fds = FDLIST_INIT };
	struct pollfd pfd = { .fd = VMMD_FD_SLOT, .events = POLLIN };
	struct error failure = ERROR_INIT;
	int64_t deadline = clock_ms() + EXEC_TIMEOUT_MS;
	int r;

	do
		r = fd_poll(&pfd, 1, clock_left_ms(deadline));
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return error_errno(err, errno, "poll");
	if (r == 0)
		return error_set(err, ETIMEDOUT, "it does not answer");
	r = channel_recv(VMMD_FD_SLOT, &ipc_slot, MSG_DONTWAIT, &packet, err);
	if (r <= 0)
		return r;
	if (packet.hdr.seq != EXEC_SEQ || ipc_decode_error(&packet, &failure) < 0)
		return error_set(err, EPROTO, "an unexpected answer to '%s'", packet.row->name);
	return error_set(err, failure.code > 0 ? failure.code : EPROTO, "%.400s", failure.msg);
}

int slot_run(const struct qemu_cmdline *cmdline, int stderr_fd, struct error *err)
{
	Ipc__SlotExec exec = IPC__SLOT_EXEC__INIT;
	int r = send_args(cmdline, err);

	if (r == 0)
		r = qemu_cmdline_each_fd(cmdline, send_qemu_fd, NULL, err);
	if (r == 0)
		r = send_fd(stderr_fd, STDERR_FILENO, err);
	if (r == 0)
		r = channel_send(VMMD_FD_SLOT, &ipc_slot, IPC_REQUEST, SLOT_EXEC, EXEC_SEQ,
			&exec.base, NULL, 0, IPC_SEND_TIMEOUT_MS, err);
	if (r == 0)
		r = wait_exec(err);
	close(VMMD_FD_SLOT);
	return r < 0 ? error_wrap(err, "QEMU's slot") : 0;
}
