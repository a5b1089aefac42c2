/* The real agentd: what it asks the guest for, every byte of the streams, and how processes end. */
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/proc/agentd_scripted.h"

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

/* -- files in the place of FIFOs */

/* An empty file on a small disk of its own; as mountd would send it. */
static int send_file(const char *path, uint16_t type)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	rig_send_fds(&rig, type, 7, &fd, 1);
	close(fd);
	return open(path, O_RDONLY | O_CLOEXEC);
}

static void small_disk(const char *size)
{
	char options[64];

	CHECK_INT(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	snprintf(options, sizeof(options), "size=%s", size);
	CHECK_INT(mount("disk", "/mnt", "tmpfs", 0, options), 0);
}

static void live(const struct guest_plan *plan)
{
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER, rig_create(&rig, 0, 7, false, true, true));
	rig_expect_reply(&rig, AGENTD_START, rig_start(&rig, 0));
	expect_exited(7, (uint32_t)plan->status);
}

TEST(life_into_files)
{
	const struct guest_plan plan = { .out = 4 << 20, .err = 300001, .status = 3,
		.exit_first = true };
	size_t got[2] = { 0, 0 };
	int out, err;

	need_root();
	small_disk("64m");
	honest_sandbox(&plan);
	out = send_file("/mnt/out", MOUNTD_AGENTD_STDOUT_FILE);
	err = send_file("/mnt/err", MOUNTD_AGENTD_STDERR_FILE);
	live(&plan);
	/* All of it is there when the exit is told. */
	while (collect(out, 0, &got[0], 65536))
		;
	while (collect(err, 1, &got[1], 65536))
		;
	CHECK_INT(got[0], plan.out);
	CHECK_INT(got[1], plan.err);
	check_memory();
	close(out);
	close(err);
	honest_done();
}

TEST(both_streams_into_one_file)
{
	const struct guest_plan plan = { .out = 1 << 20, .err = 1 << 20 };
	struct stat st;
	int out, err;

	need_root();
	small_disk("64m");
	honest_sandbox(&plan);
	out = send_file("/mnt/both", MOUNTD_AGENTD_STDOUT_FILE);
	err = send_file("/mnt/both", MOUNTD_AGENTD_STDERR_FILE);
	live(&plan);
	/* Neither has written over the other's. */
	CHECK_INT(fstat(out, &st), 0);
	CHECK_INT(st.st_size, plan.out + plan.err);
	close(out);
	close(err);
	honest_done();
}

/* The process goes on and ends as it would; one sentence says what is missing. */
TEST(a_disk_that_is_full)
{
	const struct guest_plan plan = { .out = 1 << 20, .err = 100, .status = 4 };
	static char text[1024];
	size_t got = 0;
	ssize_t n;
	int out, err;

	need_root();
	small_disk("128k");
	honest_sandbox(&plan);
	out = send_file("/mnt/out", MOUNTD_AGENTD_STDOUT_FILE);
	err = rig_output(&rig, 7, MOUNTD_AGENTD_STDERR);
	live(&plan);
	while (collect(out, 0, &got, 65536))
		;
	CHECK(got > 0 && got <= 128 << 10 && got % 4096 == 0);
	role_log_contains(&rig.s, "stdout of cont0: No space left on device; the rest is thrown away");
	while ((n = recv(rig.s.log, text, sizeof(text) - 1, MSG_DONTWAIT)) > 0) {
		text[n] = '\0';
		CHECK(!strstr(text, "thrown away"));
	}
	close(out);
	close(err);
	honest_done();
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

/* O_NONBLOCK is the open file's: whoever else has it can take it away. */
static void make_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	CHECK(flags >= 0 && (flags & O_NONBLOCK));
	CHECK_INT(fcntl(fd, F_SETFL, flags & ~O_NONBLOCK), 0);
}

TEST(a_fifo_that_mountd_makes_blocking_again)
{
	struct guest_request wait, out, r;
	static char data[65536];
	char path[32];
	int p[2], fifo;
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_sandbox(&rig);
	CHECK(pipe2(p, O_CLOEXEC) == 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", p[1]);
	fifo = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	CHECK(fifo >= 0);
	rig_send_fds(&rig, MOUNTD_AGENTD_STDOUT, 1, &fifo, 1);
	scripted_container(false, true, false);
	guest_expect(rig.agent, "WaitProcess", &wait);
	guest_expect(rig.agent, "ReadStdout", &out);
	guest_expect(rig.agent, "ReadStderr", &r);
	reply_data(&r, NULL, 0);
	guest_request_done(&r);
	guest_grant(rig.agent, "CloseStdin");
	reply_data(&out, data, sizeof(data));
	guest_request_done(&out);
	guest_expect(rig.agent, "ReadStdout", &out);
	/* It is full now: what comes next would hold agentd. */
	make_blocking(fifo);
	reply_data(&out, data, 1000);
	seq = rig_signal(&rig, 0, 1, 15, false);
	guest_expect(rig.agent, "SignalProcess", &r);
	guest_reply(rig.agent, r.stream, NULL);
	guest_request_done(&r);
	rig_expect_reply(&rig, AGENTD_SIGNAL, seq);
	guest_request_done(&out);
	guest_request_done(&wait);
	close(fifo);
	close(p[0]);
	close(p[1]);
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
