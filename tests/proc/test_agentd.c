/* The real agentd between a frontend, a mountd, a vmmd and a guest that are not to be trusted. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "ipc/fds.h"
#include "tests/proc/agentd_rig.h"
#include "ttrpc.pb-c.h"

static struct rig rig;

/* -- isolation */

TEST(shut_in)
{
	static const char *const kinds[] = { "mnt", "net", "ipc", "uts" };
	int fds;

	need_root();
	rig_up(&rig);
	check_shut_in(rig.s.pid, TEST_UID, 0);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		CHECK(!same_namespace(rig.s.pid, getpid(), kinds[i]));
	/* 0 to 2, control, three channels; libevent's epoll and the two ends of its pipe */
	fds = rig_fds_of_agentd(&rig);
	CHECK_INT(fds, 3 + 4 + 3);
	rig_done(&rig);
}

TEST(supervisor_gone)
{
	need_root();
	rig_up(&rig);
	fd_close(&rig.s.ctl);
	rig_expect_exit(&rig, 0);
	rig_done(&rig);
}

TEST(frontend_gone)
{
	need_root();
	rig_up(&rig);
	fd_close(&rig.s.channel);
	rig_expect_exit(&rig, 0);
	rig_done(&rig);
}

TEST(control_packet)
{
	need_root();
	rig_up(&rig);
	CHECK_INT(ctl_send(rig.s.ctl, CTL_LOCK, ROLE_SUPERVISOR, 0, NULL), 0);
	rig_expect_exit(&rig, 70);
	role_log_contains(&rig.s, "control message 3, which is not for agentd");
	rig_done(&rig);
}

/* -- CONNECT */

TEST(hello_before_connect)
{
	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	guest_hello(rig.agent);
	usleep(50000);
	rig_expect_reply(&rig, AGENTD_CONNECT, rig_connect(&rig, 1000));
	rig_done(&rig);
}

TEST(hello_after_connect)
{
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	seq = rig_connect(&rig, 5000);
	rig_expect_silence(&rig, 50);
	guest_hello(rig.agent);
	rig_expect_reply(&rig, AGENTD_CONNECT, seq);
	rig_done(&rig);
}

TEST(hello_never)
{
	static const char text[] = "\x1b[1mbooting\x1b[0m\r\nKernel panic - not syncing: VFS\r\n\n";
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	CHECK(send(rig.console, text, strlen(text), 0) > 0);
	seq = rig_connect(&rig, 300);
	CHECK_STR(rig_expect_error(&rig, AGENTD_CONNECT, seq, ETIMEDOUT),
		"the guest's agent did not say hello within 300 ms; the console's last line: "
		"Kernel panic - not syncing: VFS");
	/* Too late; and the failure has been told. */
	guest_hello(rig.agent);
	rig_expect_silence(&rig, 100);
	fd_close(&rig.s.channel);
	rig_expect_exit(&rig, 0);
	rig_done(&rig);
}

/* data NULL: the end of the stream */
static void wrong_hello(uint8_t type, uint32_t stream, uint32_t declared, const void *data,
	int code, const char *want)
{
	uint32_t seq;

	rig_up(&rig);
	rig_stream(&rig);
	seq = rig_connect(&rig, 10000);
	if (data)
		guest_frame(rig.agent, declared, stream, type, 0, data, strlen(data));
	else
		fd_close(&rig.agent);
	CHECK_CONTAINS(rig_expect_error(&rig, AGENTD_CONNECT, seq, code), want);
	rig_expect_silence(&rig, 50);
	rig_done(&rig);
}

TEST(hello_wrong)
{
	need_root();
	wrong_hello(TTRPC_HELLO, 0, 16, "bulkhead-agent/2", EPROTO,
		"did not say hello: the guest's agent says hello as \"bulkhead-agent/2\"");
	wrong_hello(TTRPC_HELLO, 0, 4, "\x1b]0;", EPROTO, "says hello as \"]0;\"");
	wrong_hello(TTRPC_HELLO, 2, 16, "bulkhead-agent/1", EPROTO, "instead of a hello");
	wrong_hello(TTRPC_RESPONSE, 1, 0, "", EPROTO, "instead of a hello");
	wrong_hello(TTRPC_HELLO, 0, 1 << 20, "x", EPROTO, "a hello of 1048576 bytes");
	wrong_hello('G', 0, 0x47455420, "GET / HTTP/1.1\r\n\r\n", EPROTO, "the limit is 4194304");
	wrong_hello(0, 0, 0, NULL, ECONNRESET,
		"the guest's agent did not say hello: its stream ended; its console is empty");
}

/* QEMU dies: what the console says last comes at the same time. */
TEST(hello_dies_with_console)
{
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	seq = rig_connect(&rig, 10000);
	fd_close(&rig.agent);
	CHECK(send(rig.console, "out of memory", 13, 0) > 0);
	fd_close(&rig.console);
	CHECK_CONTAINS(rig_expect_error(&rig, AGENTD_CONNECT, seq, ECONNRESET),
		"did not say hello: its stream ended");
	rig_done(&rig);
}

TEST(console_is_always_read)
{
	static char flood[1 << 16];

	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	memset(flood, 0x07, sizeof(flood));
	/* A guest stands still while its console is full. */
	for (int i = 0; i < 256; i++)
		for (size_t sent = 0; sent < sizeof(flood);) {
			struct pollfd pfd = { .fd = rig.console, .events = POLLOUT };
			ssize_t n;

			CHECK_INT(poll(&pfd, 1, 5000), 1);
			n = send(rig.console, flood + sent, sizeof(flood) - sent, MSG_DONTWAIT);
			if (n > 0)
				sent += (size_t)n;
		}
	rig_expect_silence(&rig, 1);
	rig_done(&rig);
}

/* -- a life */

/* Reads what is there into what has come, checks each byte; false at the end of the FIFO. */
static bool collect(int fd, int which, size_t *at, size_t max)
{
	static uint8_t buf[65536];
	ssize_t n = read(fd, buf, max < sizeof(buf) ? max : sizeof(buf));

	CHECK(n >= 0);
	for (ssize_t i = 0; i < n; i++, (*at)++)
		if (buf[i] != guest_byte(which, *at))
			test_fail(__FILE__, __LINE__, "byte %zu of stream %d is wrong", *at, which);
	return n > 0;
}

static bool readable(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, ms) == 1;
}

static void expect_exited(uint32_t process, uint32_t status)
{
	Ipc__AgentdExited *e = rig_expect_event(&rig, AGENTD_EXITED);
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	CHECK_INT(e->process, process);
	CHECK_INT(e->status, status);
	CHECK(e->exited_at_ns <= (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
	CHECK(e->exited_at_ns > ((int64_t)now.tv_sec - 30) * 1000000000);
	ipc_free(&e->base);
}

static pid_t guest_pid;

static void honest_sandbox(const struct guest_plan *plan)
{
	rig_up(&rig);
	rig_stream(&rig);
	guest_pid = guest_fork(rig.agent, plan);
	rig_expect_reply(&rig, AGENTD_CONNECT, rig_connect(&rig, 5000));
	rig_config(&rig, 0, NULL);
	rig_expect_reply(&rig, AGENTD_CREATE_SANDBOX, rig_create_sandbox(&rig));
}

static void honest_done(void)
{
	rig_done(&rig);
	waitpid(guest_pid, NULL, 0);
}

/* What of a stream has been read, and what waits in its FIFO. */
static size_t arrived(int fd, size_t got)
{
	int waiting = -1;

	CHECK(ioctl(fd, FIONREAD, &waiting) == 0);
	return got + (size_t)waiting;
}

/* However much has gone through it. */
static void check_memory(void)
{
#if !defined(__SANITIZE_ADDRESS__) /* it keeps what is freed */
	char text[64];

	proc_status(rig.s.pid, "VmHWM", text, sizeof(text));
	CHECK(atol(text) < 12 << 10);
#endif
}

/*
 * Every byte, in order; the exit is not told before the last byte is in the
 * FIFO, though the guest says at once that the process has ended.
 */
static void life(const struct guest_plan *plan, size_t bite, int pause_us)
{
	size_t got[2] = { 0, 0 };
	int out, err;

	honest_sandbox(plan);
	out = rig_output(&rig, 7, MOUNTD_AGENTD_STDOUT);
	err = rig_output(&rig, 7, MOUNTD_AGENTD_STDERR);
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER,
		rig_create(&rig, 0, 7, false, true, true));
	rig_expect_reply(&rig, AGENTD_START, rig_start(&rig, 0));
	while (!readable(rig.s.channel, 0)) {
		if (readable(out, 1))
			collect(out, 0, &got[0], bite);
		if (readable(err, 0))
			collect(err, 1, &got[1], bite);
		if (pause_us)
			usleep((useconds_t)pause_us);
	}
	expect_exited(7, (uint32_t)plan->status);
	CHECK_INT(arrived(out, got[0]), plan->out);
	CHECK_INT(arrived(err, got[1]), plan->err);
	while (collect(out, 0, &got[0], 65536))
		;
	while (collect(err, 1, &got[1], 65536))
		;
	CHECK_INT(got[0], plan->out);
	CHECK_INT(got[1], plan->err);
	check_memory();
	rig_expect_reply(&rig, AGENTD_REMOVE, rig_remove(&rig, 0));
	rig_expect_reply(&rig, AGENTD_REMOVE, rig_remove(&rig, 0));
	close(out);
	close(err);
	honest_done();
}

TEST(life)
{
	need_root();
	life(&(struct guest_plan){ .out = 1 << 20, .err = 300001, .status = 3 }, 65536, 0);
}

TEST(life_of_16_mib)
{
	need_root();
	life(&(struct guest_plan){ .out = 16 << 20 }, 65536, 0);
}

TEST(life_slow_reader)
{
	need_root();
	life(&(struct guest_plan){ .out = 1 << 20, .err = 1 << 20, .exit_first = true }, 8192,
		1000);
}

TEST(life_small_pieces)
{
	need_root();
	life(&(struct guest_plan){ .out = 20000, .err = 1, .piece = 7, .exit_first = true,
		     .status = 137 },
		4096, 0);
}

TEST(life_one_stream_lasts_longer)
{
	need_root();
	life(&(struct guest_plan){ .out = 1 << 20, .err = 1, .exit_first = true }, 8192, 1000);
	life(&(struct guest_plan){ .out = 1, .err = 1 << 20, .exit_first = true }, 8192, 1000);
}

TEST(no_streams)
{
	need_root();
	/* Nobody listens: the process goes on all the same. */
	honest_sandbox(&(struct guest_plan){ .out = 5 << 20, .err = 100, .status = 255 });
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER,
		rig_create(&rig, 0, 1, false, false, false));
	rig_expect_reply(&rig, AGENTD_START, rig_start(&rig, 0));
	expect_exited(1, 255);
	honest_done();
}

static void write_all(int fd, int from, size_t *at, size_t len)
{
	uint8_t buf[4096];

	while (len > 0) {
		size_t n = len < sizeof(buf) ? len : sizeof(buf);

		for (size_t i = 0; i < n; i++)
			buf[i] = guest_byte(from, *at + i);
		CHECK_INT(write(fd, buf, n), (long long)n);
		*at += n;
		len -= n;
	}
}

TEST(stdin_half_close)
{
	size_t sent = 0, got = 0;
	int in, out;

	need_root();
	honest_sandbox(&(struct guest_plan){ .cat = true });
	in = rig_stdin(&rig, 1);
	out = rig_output(&rig, 1, MOUNTD_AGENTD_STDOUT);
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER,
		rig_create(&rig, 0, 1, true, true, false));
	rig_expect_reply(&rig, AGENTD_START, rig_start(&rig, 0));
	for (int i = 0; i < 10; i++) {
		write_all(in, 0, &sent, 30000);
		while (got < sent && readable(out, 5000))
			collect(out, 0, &got, 65536);
		CHECK_INT(got, sent);
	}
	/* A writer that goes is not the end, nor is CloseIO while there are writers. */
	write_all(in, 0, &sent, 60000);
	rig_expect_reply(&rig, AGENTD_CLOSE_STDIN, rig_close_stdin(&rig, 0, 1));
	rig_expect_reply(&rig, AGENTD_CLOSE_STDIN, rig_close_stdin(&rig, 0, 1));
	rig_expect_silence(&rig, 100);
	close(in);
	while (readable(out, 5000) && collect(out, 0, &got, 65536))
		;
	CHECK_INT(got, sent);
	expect_exited(1, 0);
	rig_expect_reply(&rig, AGENTD_CLOSE_STDIN, rig_close_stdin(&rig, 0, 1));
	close(out);
	honest_done();
}

/* Bring a container to life by hand: every request of agentd is looked at. */
static void scripted_container(bool in, bool out, bool err)
{
	uint32_t seq = rig_create(&rig, 0, 1, in, out, err);

	guest_grant(rig.agent, "CreateContainer");
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER, seq);
	seq = rig_start(&rig, 0);
	guest_grant(rig.agent, "StartContainer");
	rig_expect_reply(&rig, AGENTD_START, seq);
}

/* The four requests that follow a start. */
struct running {
	struct guest_request wait, out, err, end;
};

static void scripted_start(struct running *run)
{
	rig_up(&rig);
	rig_sandbox(&rig);
	scripted_container(false, false, false);
	guest_expect(rig.agent, "WaitProcess", &run->wait);
	guest_expect(rig.agent, "ReadStdout", &run->out);
	guest_expect(rig.agent, "ReadStderr", &run->err);
	guest_expect(rig.agent, "CloseStdin", &run->end);
	guest_reply(rig.agent, run->end.stream, NULL);
}

static void running_done(struct running *run)
{
	guest_request_done(&run->wait);
	guest_request_done(&run->out);
	guest_request_done(&run->err);
	guest_request_done(&run->end);
}

static void reply_data(const struct guest_request *r, const void *data, size_t len)
{
	Grpc__ReadStreamResponse reply = GRPC__READ_STREAM_RESPONSE__INIT;

	reply.data.data = (uint8_t *)data;
	reply.data.len = len;
	guest_reply(rig.agent, r->stream, &reply.base);
}

static void reply_status(const struct guest_request *r, int status)
{
	Grpc__WaitProcessResponse reply = GRPC__WAIT_PROCESS_RESPONSE__INIT;

	reply.status = status;
	guest_reply(rig.agent, r->stream, &reply.base);
}

TEST(what_is_sent)
{
	struct guest_request r;
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	guest_hello(rig.agent);
	rig_expect_reply(&rig, AGENTD_CONNECT, rig_connect(&rig, 5000));
	rig_config(&rig, 0, NULL);
	seq = rig_create_sandbox(&rig);

	guest_expect(rig.agent, "CreateSandbox", &r);
	const Grpc__CreateSandboxRequest *sb = (void *)r.message;
	CHECK_STR(sb->hostname, "box");
	CHECK_STR(sb->sandbox_id, RIG_SANDBOX);
	CHECK_INT(sb->n_storages, 2);
	CHECK_STR(sb->storages[0]->driver, "virtio-fs");
	CHECK_STR(sb->storages[0]->source, "kataShared");
	CHECK_STR(sb->storages[0]->fstype, "virtiofs");
	CHECK_STR(sb->storages[0]->options[0], "nodev");
	CHECK_STR(sb->storages[0]->mount_point, "/run/kata-containers/shared/containers/");
	CHECK_STR(sb->storages[1]->mount_point, "/run/kata-containers/sandbox/shm");
	CHECK_STR(sb->storages[1]->options[4], "size=67108864");
	guest_reply(rig.agent, r.stream, NULL);
	guest_request_done(&r);
	rig_expect_reply(&rig, AGENTD_CREATE_SANDBOX, seq);

	seq = rig_create(&rig, 0, 1, false, false, false);
	guest_expect(rig.agent, "CreateContainer", &r);
	const Grpc__CreateContainerRequest *c = (void *)r.message;
	CHECK_STR(c->container_id, "cont0");
	CHECK_STR(c->exec_id, "");
	CHECK_INT(c->sandbox_pidns, 0);
	CHECK_INT(c->n_storages, 0);
	CHECK_STR(c->oci->root->path, "/run/kata-containers/shared/containers/c0/rootfs");
	guest_reply(rig.agent, r.stream, NULL);
	guest_request_done(&r);
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER, seq);

	/* The agent has a name for the whole container and one for its init. */
	seq = rig_signal(&rig, 0, 1, 15, false);
	guest_expect(rig.agent, "SignalProcess", &r);
	CHECK_STR(((Grpc__SignalProcessRequest *)(void *)r.message)->exec_id, "cont0");
	CHECK_INT(((Grpc__SignalProcessRequest *)(void *)r.message)->signal, 15);
	guest_fail(rig.agent, r.stream, 5, "the process\n\x1b[31mhas ended");
	guest_request_done(&r);
	CHECK_STR(rig_expect_error(&rig, AGENTD_SIGNAL, seq, ESRCH),
		"the guest's agent, SignalProcess: the process [31mhas ended");
	seq = rig_signal(&rig, 0, 1, 9, true);
	guest_expect(rig.agent, "SignalProcess", &r);
	CHECK_STR(((Grpc__SignalProcessRequest *)(void *)r.message)->exec_id, "");
	guest_reply(rig.agent, r.stream, NULL);
	guest_request_done(&r);
	rig_expect_reply(&rig, AGENTD_SIGNAL, seq);

	/* Without asking the agent. */
	rig_expect_error(&rig, AGENTD_SIGNAL, rig_signal(&rig, 0, 2, 9, false), ESRCH);
	rig_expect_error(&rig, AGENTD_SIGNAL, rig_signal(&rig, 1, 1, 9, true), ESRCH);
	rig_expect_error(&rig, AGENTD_SIGNAL, rig_signal(&rig, 0, 1, 0, false), EINVAL);
	rig_expect_error(&rig, AGENTD_SIGNAL, rig_signal(&rig, 0, 1, 65, true), EINVAL);
	rig_expect_error(&rig, AGENTD_START, rig_start(&rig, 9), ENOENT);
	rig_done(&rig);
}

TEST(terminal)
{
	Ipc__AgentdCreateContainer m = IPC__AGENTD_CREATE_CONTAINER__INIT;
	struct guest_request wait, out, end, r;
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_sandbox(&rig);
	m.id = (char[]){ "t" };
	m.process = 1;
	m.terminal = true;
	seq = rig_ask(&rig, AGENTD_CREATE_CONTAINER, &m);
	guest_expect(rig.agent, "CreateContainer", &r);
	CHECK_INT(((Grpc__CreateContainerRequest *)(void *)r.message)->oci->process->terminal, 1);
	guest_reply(rig.agent, r.stream, NULL);
	guest_request_done(&r);
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER, seq);
	seq = rig_start(&rig, 0);
	guest_grant(rig.agent, "StartContainer");
	rig_expect_reply(&rig, AGENTD_START, seq);
	guest_expect(rig.agent, "WaitProcess", &wait);
	guest_expect(rig.agent, "ReadStdout", &out);
	guest_expect(rig.agent, "CloseStdin", &end); /* and no ReadStderr */
	reply_status(&wait, 0);
	reply_data(&out, NULL, 0);
	expect_exited(1, 0);
	guest_request_done(&wait);
	guest_request_done(&out);
	guest_request_done(&end);
	rig_done(&rig);
}

/* -- exits that cannot wait for the end of the output */

TEST(daemon_holds_stdout)
{
	struct running run;
	int64_t start;

	need_root();
	scripted_start(&run);
	reply_data(&run.err, NULL, 0);
	start = clock_ms();
	reply_status(&run.wait, 5);
	expect_exited(1, 5);
	CHECK(clock_ms() - start >= 1400 && clock_ms() - start < 4000);
	role_log_contains(&rig.s, "another process holds it open");
	/* The late answer belongs to a question that was asked: nothing is lost. */
	reply_data(&run.out, "late", 4);
	rig_expect_silence(&rig, 100);
	running_done(&run);
	rig_done(&rig);
}

TEST(nobody_reads_stdout)
{
	struct guest_request wait, out, r;
	static char data[65536];
	int64_t start;
	int fifo;

	need_root();
	rig_up(&rig);
	rig_sandbox(&rig);
	fifo = rig_output(&rig, 1, MOUNTD_AGENTD_STDOUT);
	scripted_container(false, true, false);
	guest_expect(rig.agent, "WaitProcess", &wait);
	guest_expect(rig.agent, "ReadStdout", &out);
	guest_expect(rig.agent, "ReadStderr", &r);
	reply_data(&r, NULL, 0);
	guest_request_done(&r);
	guest_grant(rig.agent, "CloseStdin");
	reply_status(&wait, 0);
	/* The FIFO takes the first; the second does not fit, so there is no third question. */
	reply_data(&out, data, sizeof(data));
	guest_request_done(&out);
	guest_expect(rig.agent, "ReadStdout", &out);
	reply_data(&out, data, 1000);
	CHECK(!readable(rig.agent, 3000));
	start = clock_ms();
	expect_exited(1, 0);
	CHECK(clock_ms() - start >= 5000);
	role_log_contains(&rig.s, "nobody reads it; 1000 bytes and what follows are thrown away");
	guest_request_done(&out);
	guest_request_done(&wait);
	close(fifo);
	rig_done(&rig);
}

/* -- an agent that goes, or lies */

static void expect_lost(const char *reason)
{
	Ipc__AgentdLost *e = rig_expect_event(&rig, AGENTD_LOST);

	CHECK_CONTAINS(e->reason, reason);
	ipc_free(&e->base);
}

/* Nothing but errors from here on, and no second event; agentd itself lives. */
static void expect_useless(void)
{
	rig_expect_error(&rig, AGENTD_REMOVE, rig_remove(&rig, 0), ENOTCONN);
	rig_expect_reply(&rig, AGENTD_REMOVE, rig_remove(&rig, 0));
	rig_expect_silence(&rig, 100);
	fd_close(&rig.s.channel);
	rig_expect_exit(&rig, 0);
	rig_done(&rig);
}

TEST(dies_at_create_sandbox)
{
	struct guest_request r;
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	guest_hello(rig.agent);
	rig_expect_reply(&rig, AGENTD_CONNECT, rig_connect(&rig, 5000));
	rig_config(&rig, 0, NULL);
	seq = rig_create_sandbox(&rig);
	guest_expect(rig.agent, "CreateSandbox", &r);
	guest_request_done(&r);
	fd_close(&rig.agent);
	CHECK_CONTAINS(rig_expect_error(&rig, AGENTD_CREATE_SANDBOX, seq, ENOTCONN),
		"the guest's agent is lost: its stream ended");
	expect_lost("its stream ended; the console is empty");
	rig_done(&rig);
}

TEST(dies_at_create_container)
{
	struct guest_request r;
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_sandbox(&rig);
	seq = rig_create(&rig, 0, 1, false, false, false);
	guest_expect(rig.agent, "CreateContainer", &r);
	guest_request_done(&r);
	fd_close(&rig.agent);
	rig_expect_error(&rig, AGENTD_CREATE_CONTAINER, seq, ENOTCONN);
	expect_lost("its stream ended");
	rig_done(&rig);
}

TEST(dies_at_start)
{
	struct guest_request r;
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_sandbox(&rig);
	seq = rig_create(&rig, 0, 1, false, false, false);
	guest_grant(rig.agent, "CreateContainer");
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER, seq);
	seq = rig_start(&rig, 0);
	guest_expect(rig.agent, "StartContainer", &r);
	guest_request_done(&r);
	CHECK(send(rig.agent, "\0\0\1", 3, 0) == 3);
	fd_close(&rig.agent);
	rig_expect_error(&rig, AGENTD_START, seq, ENOTCONN);
	expect_lost("its stream ended inside a frame");
	expect_useless();
}

TEST(dies_while_running)
{
	struct running run;
	uint32_t seq;

	need_root();
	scripted_start(&run);
	CHECK(send(rig.console, "sysrq: Crash\n", 13, 0) == 13);
	seq = rig_signal(&rig, 0, 1, 9, true);
	usleep(50000);
	fd_close(&rig.agent);
	rig_expect_error(&rig, AGENTD_SIGNAL, seq, ENOTCONN);
	/* No exit is told: the frontend kills the VM and says 137. */
	expect_lost("the console's last line: sysrq: Crash");
	running_done(&run);
	expect_useless();
}

/* What came before the end counts. */
TEST(dies_after_exit)
{
	struct running run;

	need_root();
	scripted_start(&run);
	reply_data(&run.out, NULL, 0);
	reply_data(&run.err, NULL, 0);
	reply_status(&run.wait, 9);
	fd_close(&rig.agent);
	expect_exited(1, 9);
	expect_lost("its stream ended");
	running_done(&run);
	rig_done(&rig);
}

static long rss_peak_kib(int pid)
{
	char text[64];

	proc_status(pid, "VmHWM", text, sizeof(text));
	return atol(text);
}

static const char *bomb;

static void send_bomb(const struct running *run)
{
	size_t len = TTRPC_DATA_MAX;
	uint8_t *data = malloc(len + 64);

	if (strcmp(bomb, "unknown fields") == 0) {
		for (size_t i = 0; i < len; i += 2)
			memcpy(data + i, "\x78\x01", 2);
		guest_frame(rig.agent, (uint32_t)len, run->out.stream, TTRPC_RESPONSE, 0, data, len);
	} else if (strcmp(bomb, "payloads") == 0) {
		for (size_t i = 0; i < len; i += 2)
			memcpy(data + i, "\x12\x00", 2);
		guest_frame(rig.agent, (uint32_t)len, run->out.stream, TTRPC_RESPONSE, 0, data, len);
	} else if (strcmp(bomb, "statuses") == 0) {
		for (size_t i = 0; i < len; i += 2)
			memcpy(data + i, "\x0a\x00", 2);
		guest_frame(rig.agent, (uint32_t)len, run->out.stream, TTRPC_RESPONSE, 0, data, len);
	} else if (strcmp(bomb, "groups") == 0) {
		memset(data, 0x7b, len); /* start of group 15, over and over */
		guest_frame(rig.agent, (uint32_t)len, run->out.stream, TTRPC_RESPONSE, 0, data, len);
	} else { /* unknown fields in the payload of a good envelope */
		memcpy(data, "\x12\xfa\xff\xff\x01", 5);
		for (size_t i = 5; i + 2 <= len; i += 2)
			memcpy(data + i, "\x78\x01", 2);
		guest_frame(rig.agent, (uint32_t)(5 + 4194298), run->out.stream, TTRPC_RESPONSE, 0,
			data, 5 + 4194298);
	}
	free(data);
}

TEST(bombs)
{
	static const char *const bombs[] = { "unknown fields", "payloads", "statuses", "groups",
		"unknown fields in the payload" };

	need_root();
	for (size_t i = 0; i < sizeof(bombs) / sizeof(bombs[0]); i++) {
		struct running run;
		long before;

		bomb = bombs[i];
		scripted_start(&run);
		before = rss_peak_kib(rig.s.pid);
		send_bomb(&run);
		expect_lost("the answer to ReadStdout cannot be decoded");
#if !defined(__SANITIZE_ADDRESS__)
		if (rss_peak_kib(rig.s.pid) - before > 80 << 10)
			test_fail(__FILE__, __LINE__, "%s: %ld KiB", bomb,
				rss_peak_kib(rig.s.pid) - before);
#else
		(void)before;
#endif
		running_done(&run);
		rig_done(&rig);
	}
}

/* C6: no protobuf, in the place of an answer. */
TEST(bad_encodings)
{
	static const struct {
		const char *bytes;
		uint32_t len;
	} bad[] = {
		{ "\x0f", 1 },		 /* wire type 7 */
		{ "\x12", 1 },		 /* no length */
		{ "\x12\x05xy", 4 },	 /* longer than the rest */
		{ "\x12\xff\xff\xff\xff\x0f", 6 },
		{ "\x08", 1 },		 /* no number */
		{ "\x00\x00", 2 },	 /* tag 0 */
		{ "\x80\x80\x80\x80\x80\x80", 6 }, /* a tag without an end */
		{ "\x0b\x0c", 2 },	 /* a group */
		{ "\x0a\x02\x0b\x0c", 4 }, /* a status with a group in it */
	};

	need_root();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct running run;

		scripted_start(&run);
		guest_frame(rig.agent, bad[i].len, run.out.stream, TTRPC_RESPONSE, 0, bad[i].bytes,
			bad[i].len);
		expect_lost("the answer to ReadStdout cannot be decoded");
		running_done(&run);
		rig_done(&rig);
	}
}

enum lie {
	LIE_LENGTH,
	LIE_LENGTH_MAX,
	LIE_TYPE,
	LIE_FLAGS,
	LIE_HELLO_AGAIN,
	LIE_STREAM,
	LIE_STREAM_EVEN,
	LIE_TWICE,
	LIE_GARBAGE,
	LIE_PAYLOAD,
	LIE_TOO_MUCH,
	LIE_STATUS,
	LIE_STATUS_NEGATIVE,
	LIES,
};

static const char *const reasons[LIES] = {
	[LIE_LENGTH] = "a frame of 4194305 bytes, the limit is 4194304",
	[LIE_LENGTH_MAX] = "a frame of 4294967295 bytes, the limit is 4194304",
	[LIE_TYPE] = "a frame of type 0x03, flags 0x00",
	[LIE_FLAGS] = "a frame of type 0x02, flags 0x01",
	[LIE_HELLO_AGAIN] = "a frame of type 0x48, flags 0x00",
	[LIE_STREAM] = "an answer to no question, stream 4001",
	[LIE_STREAM_EVEN] = "an answer to no question, stream 2",
	[LIE_TWICE] = "an answer to no question, stream ",
	[LIE_GARBAGE] = "the answer to ReadStdout cannot be decoded",
	[LIE_PAYLOAD] = "the answer to ReadStdout cannot be decoded",
	[LIE_TOO_MUCH] = "65537 bytes of stdout, 65536 were asked for",
	[LIE_STATUS] = "an exit status of 256",
	[LIE_STATUS_NEGATIVE] = "an exit status of -1",
};

static void tell_lie(enum lie lie, const struct running *run)
{
	static uint8_t data[65537];
	uint32_t stream = run->out.stream;

	switch (lie) {
	case LIE_LENGTH:
		guest_frame(rig.agent, TTRPC_DATA_MAX + 1, stream, TTRPC_RESPONSE, 0, data, 0);
		return;
	case LIE_LENGTH_MAX:
		guest_frame(rig.agent, UINT32_MAX, stream, TTRPC_RESPONSE, 0, data, 10);
		return;
	case LIE_TYPE:
		guest_frame(rig.agent, 0, stream, TTRPC_DATA, 0, data, 0);
		return;
	case LIE_FLAGS:
		guest_frame(rig.agent, 0, stream, TTRPC_RESPONSE, 1, data, 0);
		return;
	case LIE_HELLO_AGAIN:
		guest_hello(rig.agent);
		return;
	case LIE_STREAM:
		guest_frame(rig.agent, 0, 4001, TTRPC_RESPONSE, 0, data, 0);
		return;
	case LIE_STREAM_EVEN:
		guest_frame(rig.agent, 0, 2, TTRPC_RESPONSE, 0, data, 0);
		return;
	case LIE_TWICE:
		reply_data(&run->err, NULL, 0);
		reply_data(&run->err, NULL, 0);
		return;
	case LIE_GARBAGE:
		guest_frame(rig.agent, 11, stream, TTRPC_RESPONSE, 0,
			"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
		return;
	case LIE_PAYLOAD:
		guest_frame(rig.agent, 4, stream, TTRPC_RESPONSE, 0, "\x12\x02\x0a\x7f", 4);
		return;
	case LIE_TOO_MUCH:
		reply_data(&run->out, data, sizeof(data));
		return;
	case LIE_STATUS:
		reply_status(&run->wait, 256);
		return;
	case LIE_STATUS_NEGATIVE:
		reply_status(&run->wait, -1);
		return;
	case LIES:
		break;
	}
}

TEST(lies)
{
	need_root();
	for (enum lie lie = 0; lie < LIES; lie++) {
		struct running run;

		scripted_start(&run);
		tell_lie(lie, &run);
		expect_lost(reasons[lie]);
		running_done(&run);
		expect_useless();
	}
}

TEST(lies_about_stdin)
{
	static const uint32_t lens[] = { 0, 6 };

	need_root();
	for (size_t i = 0; i < 2; i++) {
		Grpc__WriteStreamResponse reply = GRPC__WRITE_STREAM_RESPONSE__INIT;
		struct guest_request r;
		int in;

		rig_up(&rig);
		rig_sandbox(&rig);
		in = rig_stdin(&rig, 1);
		CHECK_INT(write(in, "hello", 5), 5);
		scripted_container(true, false, false);
		for (int k = 0; k < 4; k++) {
			guest_expect(rig.agent,
				((const char *const[]){ "WaitProcess", "ReadStdout", "ReadStderr",
					"WriteStdin" })[k],
				&r);
			if (k < 3)
				guest_request_done(&r);
		}
		reply.len = lens[i];
		guest_reply(rig.agent, r.stream, &reply.base);
		guest_request_done(&r);
		expect_lost("bytes of stdin taken, 5 were sent");
		close(in);
		rig_done(&rig);
	}
}

/* The process closes its stdin: its writers hear of it. */
TEST(stdin_refused)
{
	struct guest_request r;
	int in;

	need_root();
	signal(SIGPIPE, SIG_IGN);
	rig_up(&rig);
	rig_sandbox(&rig);
	in = rig_stdin(&rig, 1);
	CHECK_INT(write(in, "hello", 5), 5);
	scripted_container(true, false, false);
	for (int k = 0; k < 3; k++) {
		CHECK(guest_next(rig.agent, &r));
		guest_request_done(&r);
	}
	guest_expect(rig.agent, "WriteStdin", &r);
	guest_fail(rig.agent, r.stream, 9, "the process closed its stdin");
	guest_request_done(&r);
	for (int i = 0; i < 100 && write(in, "x", 1) == 1; i++)
		usleep(20000);
	CHECK_INT(write(in, "x", 1), -1);
	CHECK_INT(errno, EPIPE);
	rig_expect_silence(&rig, 50);
	close(in);
	rig_done(&rig);
}

/* -- an agent that is silent */

TEST(silent_agent)
{
	struct guest_request signal_request, r;
	struct running run;
	int64_t start;
	uint32_t seq, seq2;

	need_root();
	scripted_start(&run);
	start = clock_ms();
	seq = rig_signal(&rig, 0, 1, 15, false);
	guest_expect(rig.agent, "SignalProcess", &signal_request);
	/* Nothing else waits for it. */
	seq2 = rig_signal(&rig, 0, 1, 15, false);
	guest_expect(rig.agent, "SignalProcess", &r);
	guest_reply(rig.agent, r.stream, NULL);
	guest_request_done(&r);
	rig_expect_reply(&rig, AGENTD_SIGNAL, seq2);
	CHECK(clock_ms() - start < 1000);
	CHECK_STR(rig_expect_error(&rig, AGENTD_SIGNAL, seq, ETIMEDOUT),
		"the guest's agent did not answer SignalProcess within 3 s");
	CHECK(clock_ms() - start >= 2900 && clock_ms() - start < 5000);
	/* Late is not wrong, twice is. */
	guest_reply(rig.agent, signal_request.stream, NULL);
	rig_expect_silence(&rig, 100);
	guest_reply(rig.agent, signal_request.stream, NULL);
	expect_lost("an answer to no question");
	guest_request_done(&signal_request);
	running_done(&run);
	rig_done(&rig);
}

/* It reads nothing: agentd goes on with everybody else, within bounds. */
TEST(deaf_agent)
{
	bool answered[1024] = { false };
	struct running run;
	uint32_t first = 0;

	need_root();
	scripted_start(&run);
	for (int i = 0; i < 1024; i++) {
		uint32_t seq = rig_signal(&rig, 0, 1, 15, true);

		first = i == 0 ? seq : first;
	}
	for (int i = 0; i < 1024; i++) {
		uint32_t seq = rig_expect_any_error(&rig, ETIMEDOUT);

		CHECK(seq >= first && seq < first + 1024 && !answered[seq - first]);
		answered[seq - first] = true;
	}
	rig_expect_silence(&rig, 50);
	running_done(&run);
	rig_done(&rig);
}

/* -- mistakes of the spec */

TEST(wrong_config)
{
	static const struct {
		const char *text;
		int code;
		const char *sentence;
	} cases[] = {
		{ "", EINVAL, "config.json: it ends in the middle" },
		{ "{\"ociVersion\":1}", EINVAL,
			"config.json: ociVersion: expected a string, got int" },
		{ "{\"ociVersion\":\"1\",\"root\":{\"path\":\"r\"},\"linux\":{},"
		  "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\"},\"mounts\":"
		  "[{\"destination\":\"/etc/hosts\",\"type\":\"bind\",\"source\":\"/x\"}]}",
			ENOTSUP,
			"config.json: mounts[0]: /etc/hosts is a bind mount of the host; volumes "
			"come with a later version" },
	};
	int before;

	need_root();
	rig_up(&rig);
	rig_sandbox(&rig);
	before = rig_fds_of_agentd(&rig);
	for (uint32_t i = 0; i < 3; i++) {
		int out = rig_output(&rig, i + 10, MOUNTD_AGENTD_STDOUT);

		rig_config(&rig, i + 1, cases[i].text);
		CHECK_STR(rig_expect_error(&rig, AGENTD_CREATE_CONTAINER,
				  rig_create(&rig, i + 1, i + 10, false, true, false), cases[i].code),
			cases[i].sentence);
		CHECK_INT(rig_fds_of_agentd(&rig), before);
		close(out);
	}
	rig_done(&rig);
}

TEST(agent_refuses)
{
	struct guest_request r;
	uint32_t seq;
	int before, out;

	need_root();
	rig_up(&rig);
	rig_sandbox(&rig);
	before = rig_fds_of_agentd(&rig);
	out = rig_output(&rig, 1, MOUNTD_AGENTD_STDOUT);
	seq = rig_create(&rig, 0, 1, false, true, false);
	guest_expect(rig.agent, "CreateContainer", &r);
	guest_fail(rig.agent, r.stream, 13, "crun: exec: \"nope\": not found in $PATH");
	guest_request_done(&r);
	CHECK_STR(rig_expect_error(&rig, AGENTD_CREATE_CONTAINER, seq, EIO),
		"the guest's agent, CreateContainer: crun: exec: \"nope\": not found in $PATH");
	CHECK_INT(rig_fds_of_agentd(&rig), before);
	rig_expect_reply(&rig, AGENTD_REMOVE, rig_remove(&rig, 0));
	close(out);
	rig_done(&rig);
}

/* 3 MiB to an agent that takes its time; and more than a frame can hold. */
TEST(large_config)
{
	static const char head[] = "{\"ociVersion\":\"1\",\"root\":{\"path\":\"r\"},\"linux\":{},"
				   "\"process\":{\"cwd\":\"/\",\"args\":[\"";
	struct guest_request r;
	size_t len = 3 << 20;
	uint32_t seq, seq2;
	char *text = malloc(5 << 20), *at = stpcpy(text, head);

	need_root();
	memset(at, 'x', len);
	strcpy(at + len, "\"]}}");
	rig_up(&rig);
	rig_sandbox(&rig);
	rig_config(&rig, 1, text);
	seq = rig_create(&rig, 1, 1, false, false, false);
	/* It answers others meanwhile. */
	rig_expect_error(&rig, AGENTD_SIGNAL, rig_signal(&rig, 9, 9, 9, false), ESRCH);
	usleep(100000);
	guest_expect(rig.agent, "CreateContainer", &r);
	CHECK_INT(strlen(((Grpc__CreateContainerRequest *)(void *)r.message)->oci->process->args[0]),
		len);
	guest_reply(rig.agent, r.stream, NULL);
	guest_request_done(&r);
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER, seq);

	/* As text it is just small enough, with its envelope it is not. */
	at = stpcpy(text, head);
	memset(at, 'x', (4 << 20) - 120);
	strcpy(at + (4 << 20) - 120, "\"]}}");
	CHECK(strlen(text) <= 4 << 20);
	rig_config(&rig, 2, text);
	seq2 = rig_create(&rig, 2, 2, false, false, false);
	CHECK_CONTAINS(rig_expect_error(&rig, AGENTD_CREATE_CONTAINER, seq2, EMSGSIZE),
		"bytes for the guest's agent, the limit is 4194304");
	free(text);
	rig_done(&rig);
}

/* -- nothing is left */

TEST(fds_return)
{
	int before;

	need_root();
	honest_sandbox(&(struct guest_plan){ .out = 100, .err = 100 });
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER,
		rig_create(&rig, 0, 1, false, false, false));
	rig_expect_reply(&rig, AGENTD_START, rig_start(&rig, 0));
	expect_exited(1, 0);
	rig_expect_reply(&rig, AGENTD_REMOVE, rig_remove(&rig, 0));
	before = rig_fds_of_agentd(&rig);
	for (uint32_t i = 1; i <= 100; i++) {
		uint32_t process = i + 1000;
		int in = rig_stdin(&rig, process);
		int out = rig_output(&rig, process, MOUNTD_AGENTD_STDOUT);
		int err = rig_output(&rig, process, MOUNTD_AGENTD_STDERR);

		rig_config(&rig, i, NULL);
		/* Some are removed before anybody has asked for them, some before they run. */
		if (i % 3 == 0)
			rig_config(&rig, i + 100000, NULL);
		rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER,
			rig_create(&rig, i, process, true, true, true));
		if (i % 2 == 0) {
			rig_expect_reply(&rig, AGENTD_START, rig_start(&rig, i));
			expect_exited(process, 0);
		}
		rig_expect_reply(&rig, AGENTD_REMOVE, rig_remove(&rig, i));
		rig_expect_reply(&rig, AGENTD_REMOVE, rig_remove(&rig, i + 100000));
		close(in);
		close(out);
		close(err);
	}
	CHECK_INT(rig_fds_of_agentd(&rig), before);
	honest_done();
}

/* While it runs, its reads are out: they are answered after nobody wants them any more. */
TEST(remove_while_running)
{
	struct running run;
	uint32_t seq;

	need_root();
	scripted_start(&run);
	seq = rig_remove(&rig, 0);
	guest_grant(rig.agent, "RemoveContainer");
	rig_expect_reply(&rig, AGENTD_REMOVE, seq);
	guest_fail(rig.agent, run.out.stream, 10, "the process is gone");
	reply_data(&run.err, "x", 1);
	reply_status(&run.wait, 137);
	rig_expect_silence(&rig, 200);
	running_done(&run);
	rig_done(&rig);
}

/* -- a frontend, a mountd or a vmmd that break the protocol */

static void expect_broken(const char *log)
{
	rig_expect_exit(&rig, 70);
	role_log_contains(&rig.s, log);
	rig_done(&rig);
}

TEST(broken_order)
{
	need_root();
	rig_up(&rig);
	rig_create_sandbox(&rig);
	expect_broken("unpermitted request 'create_sandbox' in state 0x1");

	rig_up(&rig);
	rig_connect(&rig, 1000);
	expect_broken("connect: before the agent's stream has come");

	rig_up(&rig);
	rig_stream(&rig);
	rig_connect(&rig, 0);
	expect_broken("connect: a deadline of 0 ms");

	rig_up(&rig);
	rig_stream(&rig);
	rig_connect(&rig, 1000);
	rig_connect(&rig, 1000);
	expect_broken("unpermitted request 'connect' in state 0x2");

	rig_up(&rig);
	rig_sandbox(&rig);
	rig_create_sandbox(&rig);
	expect_broken("unpermitted request 'create_sandbox' in state 0x10");

	rig_up(&rig);
	rig_sandbox(&rig);
	rig_create(&rig, 1, 1, false, false, false);
	expect_broken("create_container: before config.json of container 1 has come");

	rig_up(&rig);
	rig_sandbox(&rig);
	rig_create(&rig, 0, 1, false, true, false);
	expect_broken("create_container: before the streams of process 1 have come");
}

TEST(other_sandbox)
{
	Ipc__AgentdCreateSandbox m = IPC__AGENTD_CREATE_SANDBOX__INIT;

	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	guest_hello(rig.agent);
	rig_expect_reply(&rig, AGENTD_CONNECT, rig_connect(&rig, 5000));
	rig_config(&rig, 0, NULL);
	m.sandbox_id = (char[]){ "sb2" };
	rig_ask(&rig, AGENTD_CREATE_SANDBOX, &m);
	expect_broken("create_sandbox: for another sandbox than this");
}

TEST(same_container_again)
{
	struct running run;

	need_root();
	scripted_start(&run);
	rig_config(&rig, 0, NULL);
	rig_create(&rig, 0, 2, false, false, false);
	running_done(&run);
	expect_broken("create_container: container 0 or process 2 exists");

	scripted_start(&run);
	rig_config(&rig, 1, NULL);
	rig_create(&rig, 1, 1, false, false, false);
	running_done(&run);
	expect_broken("create_container: container 1 or process 1 exists");
}

TEST(too_many_requests)
{
	struct running run;

	need_root();
	scripted_start(&run);
	for (int i = 0; i < 1025; i++)
		rig_signal(&rig, 0, 1, 15, true);
	running_done(&run);
	expect_broken("more than 1024 requests at once");

	scripted_start(&run);
	rig_signal(&rig, 0, 1, 15, true);
	rig.seq--;
	rig_signal(&rig, 0, 1, 15, true);
	running_done(&run);
	expect_broken("signal: request 5 is not answered yet");
}

/* B9, B16: what claims to be a FIFO or config.json */
TEST(wrong_fds)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int file = memfd_create("x", MFD_CLOEXEC), dir = open("/", O_RDONLY | O_CLOEXEC), pair[2];
	const struct {
		uint16_t type;
		int fd;
		const char *log;
	} cases[] = {
		{ MOUNTD_AGENTD_CONFIG, file, "config: fd 0: expected" },
		{ MOUNTD_AGENTD_CONFIG, null, "config: fd 0: expected" },
		{ MOUNTD_AGENTD_CONFIG, dir, "config: fd 0: expected" },
		{ MOUNTD_AGENTD_STDOUT, file, "stdout: fd 0: expected" },
		{ MOUNTD_AGENTD_STDOUT, null, "stdout: fd 0: expected" },
		{ MOUNTD_AGENTD_STDERR, rig.mountd, "stderr: fd 0: expected" },
		{ MOUNTD_AGENTD_STDERR, -1, "stderr: fd 0: expected" },
		{ MOUNTD_AGENTD_STDIN, null, "stdin: 1 fds came, 2 to 2 belong to it" },
	};

	need_root();
	CHECK(pipe2(pair, O_CLOEXEC) == 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int fd = cases[i].fd == -1 ? pair[1] : cases[i].fd;

		rig_up(&rig);
		if (cases[i].type == MOUNTD_AGENTD_STDERR && cases[i].fd != -1)
			fd = rig.s.ctl;
		rig_send_fds(&rig, cases[i].type, 1, &fd, 1);
		expect_broken(cases[i].log);
	}
	close(null);
	close(file);
	close(dir);
	close(pair[0]);
	close(pair[1]);
}

TEST(fds_twice)
{
	int fd;

	need_root();
	rig_up(&rig);
	rig_config(&rig, 3, NULL);
	rig_config(&rig, 3, NULL);
	expect_broken("config 3 came twice");

	rig_up(&rig);
	fd = rig_output(&rig, 3, MOUNTD_AGENTD_STDOUT);
	close(fd);
	fd = rig_output(&rig, 3, MOUNTD_AGENTD_STDOUT);
	close(fd);
	expect_broken("stdout 3 came twice");

	rig_up(&rig);
	rig_stream(&rig);
	fd_close(&rig.agent);
	fd_close(&rig.console);
	rig_stream(&rig);
	expect_broken("the agent stream came twice");
}
