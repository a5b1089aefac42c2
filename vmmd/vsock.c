/*
 * The guest's agent by vsock. The socket was made by whoever started the sandbox; it is vmmd that
 * connects it, because who may connect such a socket could dial the agent of any other guest too:
 * agentd, which parses what the guest says, may not.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h> /* needs <sys/socket.h> */

#include "common/clock.h"
#include "common/fdio.h"
#include "common/log.h"
#include "vmmd/vmmd.h"

#define RETRY_MS 50

/* What comes of a connection while the guest boots: no driver, or nobody who listens. */
static bool is_early(int code)
{
	return code == ECONNRESET || code == ENODEV || code == ETIMEDOUT || code == EHOSTUNREACH;
}

/* The answer of connect(2) in one of its two manners: 0, or an errno. */
static int call_connect(int fd, const struct sockaddr_vm *to, int flags)
{
	if (fcntl(fd, F_SETFL, O_RDWR | flags) < 0)
		return errno;
	return connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0 ? errno : 0;
}

static bool is_decided(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };

	return fd_poll(&pfd, 1, 0) > 0;
}

/*
 * Begins an attempt, or says what has come of the last: 0, EINPROGRESS, or its errno. An attempt that
 * the guest has refused stays "under way" (EALREADY) until a call that would else wait takes its errno.
 * SO_ERROR takes what is left of it: before 6.14 the kernel holds that against the next attempt.
 */
static int try_connect(int fd, const struct sockaddr_vm *to)
{
	int code = call_connect(fd, to, O_NONBLOCK), left;
	socklen_t len = sizeof(left);

	if (code == EALREADY)
		code = is_decided(fd) ? call_connect(fd, to, 0) : EINPROGRESS;
	if (code == EISCONN)
		code = 0;
	if (code != 0 && code != EINPROGRESS)
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &left, &len);
	return code;
}

/* 1: the socket is ready, if that is waited for; 0: the time is over. */
static int wait_for(struct vm *vm, bool ready, int timeout_ms, struct error *err)
{
	int64_t deadline = clock_ms() + timeout_ms;

	for (;;) {
		struct pollfd more[VM_POLL_MORE_MAX] = {
			{ .fd = ready ? vm->vsock : -1, .events = POLLOUT },
			{ .fd = vm->helper->fd, .events = POLLRDHUP },
		};
		int left = clock_left_ms(deadline);
		int r = left > 0 ? vm_poll(vm, more, ARRAY_SIZE(more), left, err) : 0;

		if (r < 0)
			return r;
		if (vm_is_gone(vm))
			return vm_ended(vm, err);
		if (left == 0 || more[0].revents)
			return left > 0;
		if (more[1].revents)
			return error_set(err, EPIPE, "the frontend is gone");
	}
}

static int connect_until(struct vm *vm, const struct sockaddr_vm *to, int timeout_ms,
	struct error *err)
{
	int64_t deadline = clock_ms() + timeout_ms;
	int code, early = ETIMEDOUT;

	while ((code = try_connect(vm->vsock, to)) != 0) {
		int left = clock_left_ms(deadline), r;

		if (code != EINPROGRESS && code != EINTR && !is_early(code))
			return error_errno(err, code, "vsock %u:%u", to->svm_cid, to->svm_port);
		if (is_early(code))
			early = code;
		r = code == EINPROGRESS ? wait_for(vm, true, left, err) :
					  wait_for(vm, false, left < RETRY_MS ? left : RETRY_MS, err);
		if (r < 0)
			return r;
		if (r == 0 && clock_left_ms(deadline) == 0)
			return error_set(err, ETIMEDOUT,
				"the guest's agent does not listen at vsock %u:%u after %d ms (%s)",
				to->svm_cid, to->svm_port, timeout_ms, strerrordesc_np(early));
	}
	return fcntl(vm->vsock, F_SETFL, O_RDWR | O_NONBLOCK) < 0 ?
		error_errno(err, errno, "set O_NONBLOCK") :
		0;
}

int vm_connect(struct vm *vm, int timeout_ms, struct error *err)
{
	const struct sockaddr_vm to = {
		.svm_family = AF_VSOCK,
		.svm_cid = vm->options->cid,
		.svm_port = VSOCK_AGENT_PORT,
	};
	int r;

	if (vm->vsock < 0)
		return error_set(err, EINVAL, "there is no vsock that leads to the guest's agent");
	if (vm_is_gone(vm))
		return vm_ended(vm, err);
	r = connect_until(vm, &to, timeout_ms, err);
	if (r == 0)
		r = vm_tell_agentd(VMMD_AGENTD_STREAM, vm->vsock, err);
	if (r == 0)
		fd_close(&vm->vsock);
	return r;
}
