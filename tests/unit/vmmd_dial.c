/*
 * CONNECT against a kernel of a script: what connect(2) of a vsock socket answers while a guest boots,
 * when it refuses, when it is there. Nothing is dialled.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h> /* needs <sys/socket.h> */
#include <unistd.h>

#include "common/clock.h"
#include "ipc/ctl.h"
#include "ipc/fds.h"
#include "ipc/vmmd.pb-c.h"
#include "tests/unit/vmmd_scripted.h"

#define CID 2000000008

TEST_TOGETHER(8)

/* ---- the kernel ---- */

/* What becomes of an attempt: it is answered at once, after a while, or never. */
enum outcome { REFUSED, REFUSED_AT_ONCE, NO_DEVICE, TAKEN, TAKEN_AT_ONCE, NEVER, DENIED };

enum { UNCONNECTED, CONNECTING, CONNECTED };

static struct {
	const enum outcome *outcomes; /* of the attempts in turn; the last one again and again */
	unsigned n, attempts, blocking, cleared;
	int state, error; /* of the socket; 0 */
	int near, far;	  /* it, and what makes it ready */
} kernel;

int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len);
int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *len);
int __real_getsockopt(int fd, int level, int option, void *value, socklen_t *len);

static int answer(int code)
{
	errno = code;
	return code ? -1 : 0;
}

/* A full pair is not ready. */
static void be_busy(void)
{
	static char block[4096];

	while (send(kernel.near, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
}

static void be_ready(void)
{
	char block[65536];

	while (recv(kernel.far, block, sizeof(block), MSG_DONTWAIT) > 0)
		;
}

static int attempt(void)
{
	unsigned i = kernel.attempts++;
	enum outcome what = kernel.outcomes[i < kernel.n ? i : kernel.n - 1];

	/* Until 6.14 an error that nobody took ends the next attempt too. */
	if (kernel.error)
		return answer(kernel.error);
	be_busy();
	switch (what) {
	case REFUSED_AT_ONCE:
		kernel.error = ECONNRESET;
		return answer(ECONNRESET);
	case NO_DEVICE:
		return answer(ENODEV);
	case DENIED:
		return answer(EACCES);
	case TAKEN_AT_ONCE:
		kernel.state = CONNECTED;
		return answer(0);
	case TAKEN:
		kernel.state = CONNECTED;
		be_ready();
		return answer(EINPROGRESS);
	case REFUSED:
		kernel.state = CONNECTING;
		kernel.error = ECONNRESET;
		be_ready();
		return answer(EINPROGRESS);
	default:
		kernel.state = CONNECTING;
		return answer(EINPROGRESS);
	}
}

int __wrap_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	const struct sockaddr_vm *to = (const struct sockaddr_vm *)addr;
	bool blocking = !(fcntl(fd, F_GETFL) & O_NONBLOCK);

	CHECK_INT(len, sizeof(*to));
	CHECK_INT(to->svm_family, AF_VSOCK);
	CHECK_INT(to->svm_cid, CID);
	CHECK_INT(to->svm_port, 1024);
	kernel.blocking += blocking;
	if (kernel.state == CONNECTED)
		return answer(EISCONN);
	if (kernel.state == UNCONNECTED) {
		CHECK(!blocking); /* it would wait for the guest, and hear nobody else */
		return attempt();
	}
	if (!blocking)
		return answer(EALREADY);
	CHECK(kernel.error); /* else it would wait */
	kernel.state = UNCONNECTED;
	return answer(kernel.error);
}

int __wrap_getsockopt(int fd, int level, int option, void *value, socklen_t *len)
{
	if (option != SO_ERROR)
		return __real_getsockopt(fd, level, option, value, len);
	kernel.cleared++;
	kernel.error = 0;
	return 0;
}

/* ---- vmmd ---- */

static struct script s;
static int saved_agentd, agentd;

/* The channel to agentd has its number before anything else takes that. */
static void start(const enum outcome *outcomes, unsigned n)
{
	int agents[2], pair[2];

	saved_agentd = fcntl(VMMD_FD_AGENTD, F_DUPFD_CLOEXEC, 100);
	test_pair(agents);
	agentd = fcntl(agents[0], F_DUPFD_CLOEXEC, 100);
	close(agents[0]);
	if (agents[1] != VMMD_FD_AGENTD) {
		CHECK_INT(dup2(agents[1], VMMD_FD_AGENTD), VMMD_FD_AGENTD);
		close(agents[1]);
	}
	script_start(&s);
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
	kernel = (__typeof__(kernel)){ .outcomes = outcomes, .n = n, .near = pair[0],
		.far = pair[1] };
	s.options.cid = CID;
	s.vm.vsock = pair[0];
}

#define START(...)                                                             \
	do {                                                                   \
		static const enum outcome outcomes[] = { __VA_ARGS__ };        \
		start(outcomes, sizeof(outcomes) / sizeof(outcomes[0]));       \
	} while (0)

static void finish(void)
{
	script_end(&s);
	close(kernel.far);
	close(agentd);
	close(VMMD_FD_AGENTD);
	if (saved_agentd >= 0) {
		dup2(saved_agentd, VMMD_FD_AGENTD);
		close(saved_agentd);
	}
}

static void agentd_has_it(bool has)
{
	CLEANUP(ipc_packet_done) struct ipc_packet p = { .fds = FDLIST_INIT };
	struct error err = ERROR_INIT;
	int r = channel_recv(agentd, &ipc_vmmd_agentd, MSG_DONTWAIT, &p, &err);

	CHECK_INT(r, has ? 1 : -EAGAIN);
	if (!has)
		return;
	CHECK_INT(p.hdr.type, VMMD_AGENTD_STREAM);
	CHECK(fcntl(p.fds.fd[0], F_GETFL) & O_NONBLOCK);
	CHECK_INT(s.vm.vsock, -1);
}

TEST (a_guest_that_boots) {
	struct error err = ERROR_INIT;
	int64_t began = clock_ms();

	START(NO_DEVICE, REFUSED, REFUSED_AT_ONCE, REFUSED, TAKEN);
	CHECK_INT(vm_connect(&s.vm, 10000, &err), 0);
	CHECK_INT(kernel.attempts, 5);
	CHECK_INT(kernel.blocking, 2); /* to take what has become of one that was refused later */
	CHECK_INT(kernel.cleared, 4);
	CHECK(clock_ms() - began >= 4 * 50); /* it waits in between */
	agentd_has_it(true);
	CHECK_INT(vm_connect(&s.vm, 1000, &err), -EINVAL);
	CHECK_STR(err.msg, "there is no vsock that leads to the guest's agent");
	finish();
}

TEST (a_guest_that_is_there) {
	struct error err = ERROR_INIT;

	START(TAKEN_AT_ONCE);
	CHECK_INT(vm_connect(&s.vm, 10000, &err), 0);
	CHECK_INT(kernel.attempts, 1);
	agentd_has_it(true);
	finish();
}

static void fails(int timeout_ms, int code, const char *text)
{
	struct error err = ERROR_INIT;
	int64_t began = clock_ms();

	CHECK_INT(vm_connect(&s.vm, timeout_ms, &err), -code);
	CHECK_CONTAINS(err.msg, text);
	CHECK(clock_ms() - began < timeout_ms + 5000);
	agentd_has_it(false);
	CHECK(s.vm.vsock >= 0);
}

TEST (a_guest_that_never_listens) {
	START(REFUSED);
	fails(1000, ETIMEDOUT, "the guest's agent does not listen at vsock 2000000008:1024 after 1000 ms "
			      "(Connection reset by peer)");
	/* Not as fast as it can. */
	CHECK(kernel.attempts >= 2 && kernel.attempts <= 21);
	finish();
}

TEST (a_guest_that_says_nothing) {
	START(NEVER);
	fails(300, ETIMEDOUT, "after 300 ms (Connection timed out)");
	/* Asked again it goes on with the attempt that is under way, and does not wait for that alone. */
	fails(100, ETIMEDOUT, "after 100 ms (Connection timed out)");
	CHECK_INT(kernel.attempts, 1);
	CHECK_INT(kernel.blocking, 0);
	finish();
}

TEST (what_no_guest_answers_ends_it_at_once) {
	START(REFUSED, DENIED);
	fails(10000, EACCES, "vsock 2000000008:1024: Permission denied");
	CHECK_INT(kernel.attempts, 2);
	finish();
}

/* ---- meanwhile ---- */

static void *a_moment_later(void *arg)
{
	void (*act)(void) = *(void (**)(void))arg;

	usleep(100000);
	act();
	return NULL;
}

/* Something happens while the guest neither takes nor refuses it: no 10 s pass. */
static void meanwhile(void (*act)(void), const char *text)
{
	pthread_t thread;
	struct error err = ERROR_INIT;
	int64_t began;

	START(REFUSED, NEVER);
	CHECK_INT(pthread_create(&thread, NULL, a_moment_later, &act), 0);
	began = clock_ms();
	CHECK_INT(vm_connect(&s.vm, 10000, &err), -EPIPE);
	CHECK(clock_ms() - began < 5000);
	CHECK_CONTAINS(err.msg, text);
	agentd_has_it(false);
	pthread_join(thread, NULL);
	finish();
}

static void qemu_ends(void)
{
	CHECK_INT(ctl_send(s.ctl, CTL_CHILD_EXIT, ROLE_QEMU, 1, NULL), 0);
}

static void frontend_ends(void)
{
	close(s.frontend);
	s.frontend = -1;
}

static void supervisor_ends(void)
{
	shutdown(s.ctl, SHUT_RDWR);
}

TEST (qemu_ends_meanwhile) {
	meanwhile(qemu_ends, "QEMU ended with status 1");
}

TEST (the_frontend_ends_meanwhile) {
	meanwhile(frontend_ends, "the frontend is gone");
}

TEST (the_supervisor_ends_meanwhile) {
	meanwhile(supervisor_ends, "the supervisor is gone");
}

/* Between two attempts too: nobody is asked who is not there. */
TEST (qemu_ends_between_attempts) {
	struct error err = ERROR_INIT;

	START(REFUSED);
	CHECK_INT(ctl_send(s.ctl, CTL_CHILD_EXIT, ROLE_QEMU, 139, NULL), 0);
	CHECK_INT(vm_connect(&s.vm, 10000, &err), -EPIPE);
	CHECK_CONTAINS(err.msg, "QEMU ended with status 139");
	CHECK_INT(vm_connect(&s.vm, 10000, &err), -EPIPE);
	CHECK(kernel.attempts <= 2);
	finish();
}
