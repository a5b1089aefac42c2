#include "mountd/worker.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fdio.h"
#include "ipc/fds.h"

/* How long a killed worker may take to end before it counts as hung. */
#define KILL_MS 200

struct result {
	int32_t code; /* 0: success */
	char msg[sizeof(((struct error *)NULL)->msg)];
};

union fd_control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(FDLIST_MAX * sizeof(int))];
};

static int send_result(int sock, struct result *result, struct worker_note note,
	const struct fdlist *fds)
{
	union fd_control control;
	struct iovec iov[] = { { result, sizeof(*result) }, { note.data, note.size } };
	struct msghdr mh = { .msg_iov = iov, .msg_iovlen = ARRAY_SIZE(iov) };

	if (fds->n > 0) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(fds->n * sizeof(int));
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(fds->n * sizeof(int));
		memcpy(CMSG_DATA(c), fds->fd, fds->n * sizeof(int));
	}
	return sendmsg(sock, &mh, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static _Noreturn void work(int sock, worker_fn fn, void *ctx, struct worker_note note)
{
	/* A worker that hangs must not keep the channels open when mountd is gone. */
	static const int channels[] = {
		FD_CTL, MOUNTD_FD_FRONTEND, MOUNTD_FD_VMMD, MOUNTD_FD_AGENTD,
	};
	CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;
	struct result result = { .code = 0 };
	struct error err = ERROR_INIT;
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(channels); i++)
		close(channels[i]);
	r = fn(ctx, &fds, &err);
	if (r < 0) {
		fdlist_done(&fds);
		result.code = -r;
		memcpy(result.msg, err.msg, sizeof(result.msg));
	}
	_exit(send_result(sock, &result, note, &fds) < 0);
}

static int take_result(int sock, struct result *result, struct worker_note note,
	struct fdlist *fds)
{
	union fd_control control;
	struct iovec iov[] = { { result, sizeof(*result) }, { note.data, note.size } };
	struct msghdr mh = {
		.msg_iov = iov,
		.msg_iovlen = ARRAY_SIZE(iov),
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c;
	ssize_t n;

	do
		n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	c = n >= 0 ? CMSG_FIRSTHDR(&mh) : NULL;
	if (c) {
		size_t n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n_fds; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			fdlist_add_consume(fds, fd);
		}
	}
	if (n != (ssize_t)(sizeof(*result) + note.size) || (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
		fdlist_done(fds);
		return -EIO;
	}
	result->msg[sizeof(result->msg) - 1] = '\0';
	return 0;
}

/* Of a socket: there is something to read, or the other end is closed. Of a pidfd: it has ended. */
static bool wait_readable(int fd, int timeout_ms)
{
	int64_t deadline = clock_ms() + timeout_ms;
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int r;

	do
		r = fd_poll(&pfd, 1, clock_left_ms(deadline));
	while (r < 0 && errno == EINTR);
	return r > 0;
}

/* A place for one more worker that may hang; those that have ended meanwhile are forgotten. */
static int *free_place(struct workers *w)
{
	int *found = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(w->hung); i++) {
		if (w->hung[i] >= 0 && wait_readable(w->hung[i], 0))
			fd_close(&w->hung[i]);
		if (w->hung[i] < 0)
			found = &w->hung[i];
	}
	return found;
}

/* fork(), with a pidfd; the child is reaped by itself, SIGCHLD being ignored. */
static int fork_worker(int *ret_pidfd)
{
	return (int)syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, ret_pidfd, NULL, NULL);
}

static int give_up(int *place, int *pidfd, const char *what, int timeout_ms, struct error *err)
{
	syscall(SYS_pidfd_send_signal, *pidfd, SIGKILL, NULL, 0);
	if (!wait_readable(*pidfd, KILL_MS))
		*place = fd_steal(pidfd);
	return error_set(err, ETIMEDOUT,
		"%s did not end within %d ms: a file system it needs does not answer", what,
		timeout_ms);
}

int worker_run(struct workers *w, const char *what, worker_fn fn, void *ctx,
	struct worker_note note, struct fdlist *ret_fds, struct error *err)
{
	_cleanup_close_ int sock = -1, theirs = -1, pidfd = -1;
	int *place = free_place(w);
	struct result result;
	int pair[2], pid;

	if (!place)
		return error_set(err, EBUSY,
			"%s: %d earlier requests still hang on file systems that do not answer",
			what, WORKERS_HUNG_MAX);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "%s: socketpair", what);
	sock = pair[0];
	theirs = pair[1];

	pid = fork_worker(&pidfd);
	if (pid < 0)
		return error_errno(err, errno, "%s: fork", what);
	if (pid == 0) {
		fd_close(&sock);
		work(theirs, fn, ctx, note);
	}
	fd_close(&theirs);

	if (!wait_readable(sock, w->timeout_ms))
		return give_up(place, &pidfd, what, w->timeout_ms, err);
	if (take_result(sock, &result, note, ret_fds) < 0)
		return error_set(err, EIO, "%s: the worker ended without an answer", what);
	/* Its copies of what it returns are closed when it has ended: a FIFO's writer, for one. */
	if (!wait_readable(pidfd, w->timeout_ms)) {
		fdlist_done(ret_fds);
		return give_up(place, &pidfd, what, w->timeout_ms, err);
	}
	if (result.code)
		return error_set(err, result.code, "%s", result.msg);
	return 0;
}
