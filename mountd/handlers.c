#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "ipc/fds.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/tables.h"
#include "mountd/add.h"
#include "mountd/mountd.h"
#include "mountd/stdio.h"

/* A peer that broke the rules: it gets its answer, then mountd and with it the sandbox ends. */
static int checked(struct helper *h, int r)
{
	struct mountd *m = h->ctx;

	if (r == -EPROTO) {
		m->peer_lost = true;
		h->done = true;
	}
	return r;
}

int mountd_push(struct helper *h, int channel, const struct ipc_channel *def, uint16_t type,
	const ProtobufCMessage *msg, const int *fds, size_t nfds, struct error *err)
{
	int r = channel_send(channel, def, IPC_EVENT, type, 0, msg, fds, nfds, IPC_SEND_TIMEOUT_MS,
		err);

	if (r < 0)
		checked(h, -EPROTO);
	return r;
}

/* -------------------------------------------------------------------- START_SHARE */

static int handle_start_share(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	struct mountd *m = h->ctx;
	Ipc__Share msg = IPC__SHARE__INIT;
	_cleanup_close_ int fd = virtiofsd_start(MOUNTD_FD_SLOT, m->share.private,
		m->virtiofsd_args, m->workers.timeout_ms, err);

	(void)request;
	(void)reply;
	(void)reply_fds;
	if (fd < 0)
		return error_wrap(err, "start virtiofsd");
	close(MOUNTD_FD_SLOT); /* there is one job, and it is given */
	return mountd_push(h, MOUNTD_FD_VMMD, &ipc_mountd_vmmd, MOUNTD_VMMD_SHARE, &msg.base, &fd, 1,
		err);
}

/* ------------------------------------------------------------------ ADD_CONTAINER */

static int handle_add_container(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	static struct container_reply answer;

	(void)reply_fds;
	*reply = &answer.msg.base;
	return checked(h, add_container(h, (const Ipc__MountdAddContainer *)request, &answer, err));
}

/* ---------------------------------------------------------------------- ADD_BLOCK */

static int handle_add_block(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	struct mountd *m = h->ctx;
	uint32_t index = ((const Ipc__MountdAddBlock *)request)->index;
	_cleanup_close_ int fd = disks_take_fd(&m->disks, index);
	Ipc__Block msg = IPC__BLOCK__INIT;

	(void)reply;
	(void)reply_fds;
	if (fd < 0)
		return error_set(err, ENOENT, "disk %u is not to be plugged", index);
	msg.index = index;
	return mountd_push(h, MOUNTD_FD_VMMD, &ipc_mountd_vmmd, MOUNTD_VMMD_BLOCK, &msg.base, &fd,
		1, err);
}

/* --------------------------------------------------------------- REMOVE_CONTAINER */

struct remove_job {
	struct helper *h;
	unsigned index;
};

static int remove_work(void *ctx, struct fdlist *ret_fds, struct error *err)
{
	const struct remove_job *job = ctx;
	struct mountd *m = job->h->ctx;
	int r = follow_unmount(job->h, job->index, err);

	(void)ret_fds;
	return r < 0 ? r : share_unmount(&m->share, job->index, err);
}

static int handle_remove_container(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	struct mountd *m = h->ctx;
	const Ipc__MountdRemoveContainer *req = (const Ipc__MountdRemoveContainer *)request;
	struct remove_job job = { .h = h, .index = req->index };
	CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;
	int r;

	(void)reply;
	(void)reply_fds;
	bundles_forget(&m->known, req->index);
	/*
	 * Whatever becomes of the rest: nobody has these any more. Nor those that the frontend has
	 * never heard of, for it did not wait for our answer.
	 */
	for (size_t i = 0; i < req->n_disks; i++)
		disks_forget(&m->disks, req->disks[i]->index);
	disks_drop_unsent(&m->disks, req->index);
	/* In a worker: the end of an overlay writes out its upper file system. */
	r = worker_run(&m->workers, "unmounting the rootfs", remove_work, &job,
		WORKER_NOTHING, &fds, err);
	follow_forget(h, job.index);
	return r < 0 ? r : share_remove(&m->share, job.index, err);
}

/* --------------------------------------------------------------------- OPEN_STDIO */

struct stdio_job {
	const struct mountd *m;
	struct stdio_paths paths;
};

static int stdio_work(void *ctx, struct fdlist *ret_fds, struct error *err)
{
	const struct stdio_job *job = ctx;

	return stdio_open(&job->m->stdio, job->m->proc, &job->paths, ret_fds, err);
}

static int handle_open_stdio(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	const Ipc__MountdOpenStdio *req = (const Ipc__MountdOpenStdio *)request;
	struct mountd *m = h->ctx;
	struct stdio_job job = { m, { req->stdin, req->stdout, req->stderr } };
	const struct {
		const char *path;
		uint16_t type;
		size_t nfds;
	} streams[] = {
		{ req->stdin, MOUNTD_AGENTD_STDIN, 2 },
		{ req->stdout,
			stdio_is_file(req->stdout) ? MOUNTD_AGENTD_STDOUT_FILE :
						     MOUNTD_AGENTD_STDOUT,
			1 },
		{ req->stderr,
			stdio_is_file(req->stderr) ? MOUNTD_AGENTD_STDERR_FILE :
						     MOUNTD_AGENTD_STDERR,
			1 },
	};
	CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;
	Ipc__Stdio msg = IPC__STDIO__INIT;
	size_t at = 0;
	int r;

	(void)reply;
	(void)reply_fds;
	r = worker_run(&m->workers, "opening the streams", stdio_work, &job, WORKER_NOTHING,
		&fds, err);
	msg.process = req->process;
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(streams); i++) {
		if (!*streams[i].path)
			continue;
		if (at + streams[i].nfds > fds.n)
			return error_set(err, EIO, "the worker returned %zu fds", fds.n);
		r = mountd_push(h, MOUNTD_FD_AGENTD, &ipc_mountd_agentd, streams[i].type, &msg.base,
			&fds.fd[at], streams[i].nfds, err);
		at += streams[i].nfds;
	}
	return r;
}

/* ----------------------------------------------------------------------- MARK_OOM */

struct oom_job {
	int dir;
	const struct bundle *bundle;
};

static int oom_work(void *ctx, struct fdlist *ret_fds, struct error *err)
{
	const struct oom_job *job = ctx;

	(void)ret_fds;
	return oom_mark(job->dir, job->bundle, err);
}

static int handle_mark_oom(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	struct mountd *m = h->ctx;
	uint32_t index = ((const Ipc__MountdMarkOom *)request)->index;
	struct oom_job job = { m->bundles, bundles_find(&m->known, index) };

	(void)reply;
	if (!job.bundle)
		return error_set(err, ENOENT, "there is no container %u", index);
	return worker_run(&m->workers, "marking the bundle", oom_work, &job, WORKER_NOTHING,
		reply_fds, err);
}

/* -------------------------------------------------------------------- OPEN_EVENTS */

static int events_work(void *ctx, struct fdlist *ret_fds, struct error *err)
{
	const struct mountd *m = ctx;
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(m->events) >= sizeof(addr.sun_path))
		return error_set(err, ENAMETOOLONG,
			"the path " PATH_FMT " is too long for a socket", m->events);
	strcpy(addr.sun_path, m->events);
	if (fd < 0 || connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
		return error_errno(err, errno, "connect to containerd's events socket " PATH_FMT,
			m->events);
	return fdlist_add_consume(ret_fds, fd_steal(&fd));
}

static int handle_open_events(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	struct mountd *m = h->ctx;

	(void)request;
	(void)reply;
	if (!m->events)
		return error_set(err, ENOENT, "containerd named no events socket at start");
	return worker_run(&m->workers, "connecting to containerd", events_work, m,
		WORKER_NOTHING, reply_fds, err);
}

#define ALWAYS (MOUNTD_STATE_READY | MOUNTD_STATE_SHARED)

const struct helper_request mountd_requests[] = {
	{ MOUNTD_START_SHARE, handle_start_share, MOUNTD_STATE_READY, MOUNTD_STATE_SHARED },
	{ MOUNTD_ADD_CONTAINER, handle_add_container, ALWAYS, 0 },
	{ MOUNTD_ADD_BLOCK, handle_add_block, ALWAYS, 0 },
	{ MOUNTD_REMOVE_CONTAINER, handle_remove_container, ALWAYS, 0 },
	{ MOUNTD_OPEN_STDIO, handle_open_stdio, ALWAYS, 0 },
	{ MOUNTD_OPEN_EVENTS, handle_open_events, ALWAYS, 0 },
	{ MOUNTD_MARK_OOM, handle_mark_oom, ALWAYS, 0 },
};

const size_t mountd_n_requests = ARRAY_SIZE(mountd_requests);
