#include "mountd/virtiofsd.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fdio.h"
#include "ipc/slot.pb-c.h"
#include "ipc/tables.h"

#define EXEC_SEQ 1

/*
 * Why these and no others:
 *
 * cache=auto		the host changes files under the guest: kubelet swaps the
 *			symbolic links of secrets and config maps. "always" would hide
 *			that for a day; "none" forbids mmap of writable files.
 *			With it each open drops what the guest has of the file, so a
 *			program is read again whenever it is started.
 * cache=always,timeout=1
 *			virtio_fs_cache=keep: names and attributes are asked for again
 *			after a second, as with auto; what the guest has of a file is
 *			dropped when its time or size turns out to have changed.
 * announce_submounts	every container's root and volume has its own st_dev in the
 *			guest; else files of two of them with the same inode number look
 *			like hard links (find, tar, rsync).
 * xattr		file capabilities and user.* of the image.
 * modcaps=-mknod	device nodes are never made on the host. (In its user namespace the
 *			kernel refuses them too.) SETFCAP stays: package managers in the
 *			guest set file capabilities, and set-id bits they may set anyway.
 * thread-pool-size=64	requests are handled beside each other. With 0, the C one's default,
 *			one that touches a volume whose server does not answer (FUSE, NFS)
 *			stops every container of the sandbox. Threads are made when they
 *			are needed.
 * readdirplus		stays on, its default: a stat for each entry of a listing is what
 *			most listings are for.
 * no_posix_lock, no_flock, no_writeback (defaults): only this guest uses the files, its
 *			own kernel's locks suffice, and a blocking lock would stop
 *			virtiofsd; writeback would let a crash of the VM lose what the host
 *			was told to hold.
 * rlimit-nofile=0	the limit is what its slot set: raising it is not permitted in
 *			its user namespace, and the C one would exit over that.
 * sandbox=namespace	it adds a PID, mount and network namespace and its own seccomp
 *			filter to what the slot has built.
 */
#define ARGS_C                                                                            \
	"--fd=3", "-f", "-o", "source=" VIRTIOFSD_SHARE, "-o", "sandbox=namespace", "-o", \
		"announce_submounts", "-o", "xattr", "-o", "modcaps=-mknod", "-o",        \
		"log_level=warn", "--thread-pool-size=64", "--rlimit-nofile=0"

static const char *const args_c[] = { ARGS_C, "-o", "cache=auto", NULL };
static const char *const args_c_keep[] = { ARGS_C, "-o", "cache=always", "-o", "timeout=1", NULL };

/* inode-file-handles=never: a handle opens files beyond the share, and needs DAC_READ_SEARCH. */
static const char *const args_rust[] = {
	"--fd=3",
	"--shared-dir=" VIRTIOFSD_SHARE,
	"--sandbox=namespace",
	"--seccomp=kill",
	"--cache=auto",
	"--announce-submounts",
	"--xattr",
	"--modcaps=-mknod",
	"--inode-file-handles=never",
	"--log-level=warn",
	"--thread-pool-size=64",
	"--rlimit-nofile=0",
	NULL,
};

_Static_assert(VIRTIOFSD_LISTENER == 3, "the arguments name it");

int virtiofsd_args(const char *binary, const char *cache, const char *const **ret,
	struct error *err)
{
	/* Distributions put QEMU's own into QEMU's directory: /usr/lib/qemu/virtiofsd */
	bool is_c = strstr(binary, "/qemu/"), keep = strcmp(cache, "keep") == 0;

	if (!keep && strcmp(cache, "auto") != 0)
		return error_set(err, EINVAL, "virtio_fs_cache=%s: auto or keep", cache);
	if (keep && !is_c)
		return error_set(err, EINVAL,
			"virtio_fs_cache=keep: %s would not ask the host again for a day; only "
			"the virtiofsd of QEMU 7 can be told to",
			binary);
	*ret = !is_c ? args_rust : keep ? args_c_keep : args_c;
	return 0;
}

/*
 * A listening socket and one that is connected to it: virtiofsd wants to
 * accept, QEMU must not need a path. The name lives in a directory that only
 * mountd can reach, and is gone before anybody has either end. (An abstract
 * name would be open to all in the network namespace.)
 */
static int make_socket(int private, int *ret_listener, struct error *err)
{
	static const struct sockaddr_un addr = { .sun_family = AF_UNIX, .sun_path = "virtiofsd" };
	_cleanup_close_ int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_cleanup_close_ int connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = 0;

	if (listener < 0 || connected < 0 || fchdir(private) < 0)
		return error_errno(err, errno, "virtiofsd's socket");
	if (bind(listener, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return error_errno(err, errno, "bind virtiofsd's socket");
	if (listen(listener, 1) < 0 ||
		connect(connected, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		r = error_errno(err, errno, "connect to virtiofsd's socket");
	if (unlinkat(private, addr.sun_path, 0) < 0 && r == 0)
		r = error_errno(err, errno, "unlink virtiofsd's socket");
	if (r < 0)
		return r;
	*ret_listener = fd_steal(&listener);
	return fd_steal(&connected);
}

static int send_arg(int slot, const char *text, struct error *err)
{
	Ipc__SlotArg msg = IPC__SLOT_ARG__INIT;

	msg.part = (char *)text;
	msg.last = 1;
	return channel_send(slot, &ipc_slot, IPC_EVENT, SLOT_ARG, 0, &msg.base, NULL, 0,
		IPC_SEND_TIMEOUT_MS, err);
}

static int send_job(int slot, const char *const *args, int listener, struct error *err)
{
	Ipc__SlotFd fd = IPC__SLOT_FD__INIT;
	Ipc__SlotExec exec = IPC__SLOT_EXEC__INIT;
	int r = 0;

	for (; r == 0 && *args; args++)
		r = send_arg(slot, *args, err);
	if (r < 0)
		return r;
	fd.target = VIRTIOFSD_LISTENER;
	r = channel_send(slot, &ipc_slot, IPC_EVENT, SLOT_FD, 0, &fd.base, &listener, 1,
		IPC_SEND_TIMEOUT_MS, err);
	if (r < 0)
		return r;
	return channel_send(slot, &ipc_slot, IPC_REQUEST, SLOT_EXEC, EXEC_SEQ, &exec.base, NULL, 0,
		IPC_SEND_TIMEOUT_MS, err);
}

/* The end of the channel: the program runs. */
static int wait_exec(int slot, int timeout_ms, struct error *err)
{
	CLEANUP(ipc_packet_done) struct ipc_packet packet = { .fds = FDLIST_INIT };
	int64_t deadline = clock_ms() + timeout_ms;
	struct pollfd pfd = { .fd = slot, .events = POLLIN };
	struct error theirs = ERROR_INIT;
	int r;

	do
		r = fd_poll(&pfd, 1, clock_left_ms(deadline));
	while (r < 0 && errno == EINTR);
	if (r <= 0)
		return error_set(err, ETIMEDOUT, "its slot did not start it within %d ms",
			timeout_ms);
	r = channel_recv(slot, &ipc_slot, MSG_DONTWAIT, &packet, err);
	if (r == -EAGAIN)
		return error_errno(err, EAGAIN, "its slot");
	if (r <= 0)
		return r;
	if (packet.hdr.seq != EXEC_SEQ || ipc_decode_error(&packet, &theirs) < 0)
		return error_set(err, EPROTO, "its slot answered '%s' instead of starting it",
			packet.row->name);
	return error_set(err, theirs.code, "%s", theirs.msg);
}

int virtiofsd_start(int slot, int private, const char *const *args, int timeout_ms,
	struct error *err)
{
	_cleanup_close_ int listener = -1;
	_cleanup_close_ int connected = make_socket(private, &listener, err);
	int r;

	if (connected < 0)
		return connected;
	r = send_job(slot, args, listener, err);
	if (r == 0)
		r = wait_exec(slot, timeout_ms, err);
	return r < 0 ? r : fd_steal(&connected);
}
