/* The real agentd and a guest that goes, lies, or is silent. */
#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/proc/agentd_scripted.h"

/* -- an agent that goes, or lies */

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
