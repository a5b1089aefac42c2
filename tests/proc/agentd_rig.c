#include "tests/proc/agentd_rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <linux/vm_sockets.h> /* needs <sys/socket.h> */
#include <sys/wait.h>
#include <unistd.h>

#include "common/io.h"
#include "ipc/fds.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/pair.h"
#include "ipc/vmmd.pb-c.h"

#define DEADLINE_MS 15000

static const char good_config[] =
	"{\"ociVersion\":\"1.0.2\",\"hostname\":\"box\",\"root\":{\"path\":\"rootfs\"},"
	"\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\"},\"linux\":{\"namespaces\":[]}}";

static void pair(const struct ipc_channel *def, int *asker, int *other)
{
	struct error err;
	int fds[2];

	if (channel_pair(def, fds, &err) < 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	*asker = fds[0];
	*other = fds[1];
}

void rig_up(struct rig *r)
{
	rig_up_by_vsock(r, 0);
}

void rig_up_by_vsock(struct rig *r, unsigned guest)
{
	int ctl[2], log[2], frontend[2], mountd, vmmd;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), nothing = void_start();
	char uid[32], cid[32];
	const char *args[] = { uid, cid, "sandbox=" RIG_SANDBOX, NULL };

	snprintf(uid, sizeof(uid), "uid=%u", TEST_UID);
	snprintf(cid, sizeof(cid), "cid=%u", guest);
	*r = (struct rig){ .agent = -1, .console = -1 };
	test_pair(ctl);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, log) == 0);
	/* One that takes fds, to see that agentd does not. */
	test_pair(frontend);
	pair(&ipc_mountd_agentd, &r->mountd, &mountd);
	pair(&ipc_vmmd_agentd, &r->vmmd, &vmmd);

	struct test_fd fds[] = {
		{ 0, null }, { 1, null }, { 2, log[1] }, { FD_CTL, ctl[1] },
		{ AGENTD_FD_FRONTEND, frontend[1] }, { AGENTD_FD_MOUNTD, mountd },
		{ AGENTD_FD_VMMD, vmmd }, { AGENTD_FD_VOID, nothing }, { -1, -1 },
	};
	r->s.pid = test_spawn("bulkhead-agentd", args, fds);
	r->s.channel = frontend[0];
	r->s.ctl = ctl[0];
	r->s.log = log[0];
	for (size_t i = 1; fds[i].target >= 0; i++)
		close(fds[i].fd);
	role_lock(&r->s);
}

void rig_done(struct rig *r)
{
	role_close(&r->s);
	fd_close(&r->mountd);
	fd_close(&r->vmmd);
	fd_close(&r->agent);
	fd_close(&r->console);
}

static int send_stream(struct rig *r, uint16_t type, const void *message,
	void (*make)(int fds[2]))
{
	struct error err;
	int fds[2];

	make(fds);
	if (channel_send(r->vmmd, &ipc_vmmd_agentd, IPC_EVENT, type, 0, message, &fds[1], 1,
		    DEADLINE_MS, &err) < 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	close(fds[1]);
	return fds[0];
}

static void unix_pair(int fds[2])
{
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
}

static void vsock_pair(int fds[2])
{
	struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL,
		.svm_port = VMADDR_PORT_ANY };
	int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(to);

	CHECK(bind(listener, (struct sockaddr *)&to, sizeof(to)) == 0 && listen(listener, 1) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&to, &len) == 0);
	fds[1] = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(connect(fds[1], (struct sockaddr *)&to, sizeof(to)) == 0);
	fds[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(fds[0] >= 0);
	close(listener);
}

static void send_both(struct rig *r, void (*make)(int fds[2]))
{
	Ipc__AgentStream stream = IPC__AGENT_STREAM__INIT;
	Ipc__Console console = IPC__CONSOLE__INIT;

	r->agent = send_stream(r, VMMD_AGENTD_STREAM, &stream, make);
	r->console = send_stream(r, VMMD_AGENTD_CONSOLE, &console, unix_pair);
}

void rig_stream(struct rig *r)
{
	send_both(r, unix_pair);
}

void rig_stream_by_vsock(struct rig *r)
{
	send_both(r, vsock_pair);
}

uint32_t rig_ask(struct rig *r, uint16_t type, const void *message)
{
	struct error err;

	r->seq++;
	if (channel_send(r->s.channel, &ipc_frontend_agentd, IPC_REQUEST, type, r->seq, message,
		    NULL, 0, DEADLINE_MS, &err) < 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	return r->seq;
}

static void next(struct rig *r, struct ipc_packet *p)
{
	struct pollfd pfd = { .fd = r->s.channel, .events = POLLIN };
	struct error err = { .msg = "closed" };

	CHECK_INT(poll(&pfd, 1, DEADLINE_MS), 1);
	if (channel_recv(r->s.channel, &ipc_frontend_agentd, MSG_DONTWAIT, p, &err) != 1)
		test_fail(__FILE__, __LINE__, "frontend's channel: %s", err.msg);
}

void rig_expect_reply(struct rig *r, uint16_t type, uint32_t seq)
{
	struct ipc_packet p;
	struct error err = { .msg = "" };
	ProtobufCMessage *m;

	next(r, &p);
	if (p.hdr.kind != IPC_REPLY || p.hdr.type != type || p.hdr.seq != seq) {
		ipc_decode_error(&p, &err);
		test_fail(__FILE__, __LINE__, "kind %u, type %u, seq %u instead of reply %u %u: %s",
			p.hdr.kind, p.hdr.type, p.hdr.seq, type, seq, err.msg);
	}
	m = ipc_decode(&p, &err);
	CHECK(m);
	ipc_free(m);
}

const char *rig_expect_error(struct rig *r, uint16_t type, uint32_t seq, int code)
{
	static struct error err;
	struct ipc_packet p;

	next(r, &p);
	CHECK_INT(p.hdr.kind, IPC_ERROR);
	CHECK_INT(p.hdr.type, type);
	CHECK_INT(p.hdr.seq, seq);
	CHECK_INT(ipc_decode_error(&p, &err), 0);
	if (err.code != code)
		test_fail(__FILE__, __LINE__, "error %d instead of %d: %s", err.code, code,
			err.msg);
	return err.msg;
}

void *rig_expect_event(struct rig *r, uint16_t type)
{
	struct ipc_packet p;
	struct error err;
	ProtobufCMessage *m;

	next(r, &p);
	CHECK_INT(p.hdr.kind, IPC_EVENT);
	CHECK_INT(p.hdr.type, type);
	m = ipc_decode(&p, &err);
	CHECK(m);
	return m;
}

uint32_t rig_expect_any_error(struct rig *r, int code)
{
	struct error err = { .msg = "" };
	struct ipc_packet p;

	next(r, &p);
	CHECK_INT(p.hdr.kind, IPC_ERROR);
	CHECK_INT(ipc_decode_error(&p, &err), 0);
	CHECK_INT(err.code, code);
	return p.hdr.seq;
}

void rig_expect_silence(struct rig *r, int ms)
{
	struct pollfd pfd = { .fd = r->s.channel, .events = POLLIN };

	CHECK_INT(poll(&pfd, 1, ms), 0);
}

void rig_ask_ok(struct rig *r, uint16_t type, const void *message)
{
	rig_expect_reply(r, type, rig_ask(r, type, message));
}

void rig_sandbox(struct rig *r)
{
	uint32_t seq;

	rig_stream(r);
	guest_hello(r->agent);
	rig_expect_reply(r, AGENTD_CONNECT, rig_connect(r, 5000));
	rig_config(r, 0, NULL);
	seq = rig_create_sandbox(r);
	guest_grant(r->agent, "CreateSandbox");
	rig_expect_reply(r, AGENTD_CREATE_SANDBOX, seq);
	guest_take_oom(r->agent);
}

static void send_to_agentd(struct rig *r, uint16_t type, const ProtobufCMessage *msg, const int *fds,
	size_t n)
{
	struct error err;

	if (channel_send(r->mountd, &ipc_mountd_agentd, IPC_EVENT, type, 0, msg, fds, n, DEADLINE_MS,
		    &err) < 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
}

void rig_send_fds(struct rig *r, uint16_t type, uint32_t number, const int *fds, size_t n)
{
	Ipc__Config config = IPC__CONFIG__INIT;
	Ipc__Stdio stdio = IPC__STDIO__INIT;

	config.index = number;
	stdio.process = number;
	send_to_agentd(r, type, type == MOUNTD_AGENTD_CONFIG ? &config.base : &stdio.base, fds, n);
}

static int reopen(int fd, int flags)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	CHECK(again >= 0);
	return again;
}

void rig_config(struct rig *r, uint32_t index, const char *text)
{
	rig_config_memory(r, index, text, NULL);
}

void rig_config_memory(struct rig *r, uint32_t index, const char *text, Ipc__Config__Memory *memory)
{
	Ipc__Config config = IPC__CONFIG__INIT;
	int rw = memfd_create("config", MFD_CLOEXEC), ro;

	if (!text)
		text = good_config;
	CHECK_INT(write_full(rw, text, strlen(text)), 0);
	ro = reopen(rw, O_RDONLY);
	config.index = index;
	config.memory = &memory;
	config.n_memory = memory ? 1 : 0;
	send_to_agentd(r, MOUNTD_AGENTD_CONFIG, &config.base, &ro, 1);
	close(rw);
	close(ro);
}

int rig_stdin(struct rig *r, uint32_t process)
{
	int p[2], fds[2];

	CHECK(pipe2(p, O_CLOEXEC) == 0);
	fds[0] = reopen(p[0], O_RDONLY | O_NONBLOCK);
	fds[1] = reopen(p[1], O_WRONLY);
	rig_send_fds(r, MOUNTD_AGENTD_STDIN, process, fds, 2);
	close(fds[0]);
	close(fds[1]);
	close(p[0]);
	return p[1];
}

int rig_output(struct rig *r, uint32_t process, uint16_t type)
{
	int p[2], fd;

	CHECK(pipe2(p, O_CLOEXEC) == 0);
	fd = reopen(p[1], O_RDWR | O_NONBLOCK);
	rig_send_fds(r, type, process, &fd, 1);
	close(fd);
	close(p[1]);
	return p[0];
}

uint32_t rig_connect(struct rig *r, uint32_t timeout_ms)
{
	Ipc__AgentdConnect m = IPC__AGENTD_CONNECT__INIT;

	m.timeout_ms = timeout_ms;
	return rig_ask(r, AGENTD_CONNECT, &m);
}

uint32_t rig_create_sandbox(struct rig *r)
{
	Ipc__AgentdCreateSandbox m = IPC__AGENTD_CREATE_SANDBOX__INIT;

	m.sandbox_id = (char[]){ RIG_SANDBOX };
	m.share = true;
	return rig_ask(r, AGENTD_CREATE_SANDBOX, &m);
}

uint32_t rig_create(struct rig *r, uint32_t index, uint32_t process, bool in, bool out, bool err)
{
	Ipc__AgentdCreateContainer m = IPC__AGENTD_CREATE_CONTAINER__INIT;
	char id[32];

	snprintf(id, sizeof(id), "cont%u", index);
	m.index = index;
	m.id = id;
	m.process = process;
	m.stdin = in;
	m.stdout = out;
	m.stderr = err;
	return rig_ask(r, AGENTD_CREATE_CONTAINER, &m);
}

uint32_t rig_start(struct rig *r, uint32_t index)
{
	Ipc__AgentdStart m = IPC__AGENTD_START__INIT;

	m.index = index;
	return rig_ask(r, AGENTD_START, &m);
}

uint32_t rig_signal(struct rig *r, uint32_t index, uint32_t process, uint32_t signal, bool all)
{
	Ipc__AgentdSignal m = IPC__AGENTD_SIGNAL__INIT;

	m.index = index;
	m.process = process;
	m.signal = signal;
	m.all = all;
	return rig_ask(r, AGENTD_SIGNAL, &m);
}

uint32_t rig_close_stdin(struct rig *r, uint32_t index, uint32_t process)
{
	Ipc__AgentdCloseStdin m = IPC__AGENTD_CLOSE_STDIN__INIT;

	m.index = index;
	m.process = process;
	return rig_ask(r, AGENTD_CLOSE_STDIN, &m);
}

void rig_text(struct rig *r, uint32_t number, const char *text)
{
	Ipc__AgentdText m = IPC__AGENTD_TEXT__INIT;

	m.number = number;
	m.data.data = (uint8_t *)text;
	m.data.len = strlen(text);
	rig_ask_ok(r, AGENTD_TEXT, &m);
}

uint32_t rig_exec(struct rig *r, uint32_t index, uint32_t process, bool terminal)
{
	Ipc__AgentdExec m = IPC__AGENTD_EXEC__INIT;

	m.index = index;
	m.process = process;
	m.terminal = terminal;
	return rig_ask(r, AGENTD_EXEC, &m);
}

uint32_t rig_start_exec(struct rig *r, uint32_t index, uint32_t process)
{
	Ipc__AgentdStartExec m = IPC__AGENTD_START_EXEC__INIT;

	m.index = index;
	m.process = process;
	return rig_ask(r, AGENTD_START_EXEC, &m);
}

uint32_t rig_remove_exec(struct rig *r, uint32_t index, uint32_t process)
{
	Ipc__AgentdRemoveExec m = IPC__AGENTD_REMOVE_EXEC__INIT;

	m.index = index;
	m.process = process;
	return rig_ask(r, AGENTD_REMOVE_EXEC, &m);
}

uint32_t rig_resize(struct rig *r, uint32_t index, uint32_t process, uint32_t width, uint32_t height)
{
	Ipc__AgentdResize m = IPC__AGENTD_RESIZE__INIT;

	m.index = index;
	m.process = process;
	m.width = width;
	m.height = height;
	return rig_ask(r, AGENTD_RESIZE, &m);
}

uint32_t rig_remove(struct rig *r, uint32_t index)
{
	Ipc__AgentdRemove m = IPC__AGENTD_REMOVE__INIT;

	m.index = index;
	return rig_ask(r, AGENTD_REMOVE, &m);
}

void rig_expect_exit(struct rig *r, int want)
{
	int status = role_ends(&r->s, 10000);

	if (!WIFEXITED(status) || WEXITSTATUS(status) != want)
		test_fail(__FILE__, __LINE__, "wait status 0x%x instead of exit %d",
			(unsigned)status, want);
}

int rig_fds_of_agentd(const struct rig *r)
{
	char path[64];
	DIR *d;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", r->s.pid);
	d = opendir(path);
	CHECK(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}
