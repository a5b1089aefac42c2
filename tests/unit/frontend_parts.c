/* The frontend's parts that need no process: frames, strings, ids, errno, flows, states. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shim-frontend/container.h"
#include "shim-frontend/errdefs.h"
#include "shim-frontend/flow.h"
#include "shim-frontend/proto/events.pb-c.h"
#include "shim-frontend/wire.h"
#include "tests/lib/test.h"
#include "ttrpc.pb-c.h"

static void stream_pair(int pair[2])
{
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
}

static void put(int fd, uint32_t len, uint32_t stream, uint8_t type, const void *data, size_t n)
{
	uint8_t h[TTRPC_HEADER_LEN];
	const struct ttrpc_header hdr = { len, stream, type, 0 };

	ttrpc_header_write(&hdr, h);
	CHECK(send(fd, h, sizeof(h), 0) == sizeof(h));
	CHECK(send(fd, data, n, 0) == (ssize_t)n);
}

TEST (frames_out_and_in) {
	struct outbuf out = { 0 };
	struct inbuf in = { 0 };
	struct ttrpc_header h;
	const uint8_t *data;
	Ttrpc__Status s = TTRPC__STATUS__INIT;
	int pair[2];

	stream_pair(pair);
	s.code = 5;
	s.message = (char *)"gone";
	outbuf_frame(&out, TTRPC_RESPONSE, 7, &s.base);
	outbuf_frame(&out, TTRPC_RESPONSE, 9, NULL);
	CHECK_INT(outbuf_flush(&out, pair[0]), 0);
	CHECK_INT(outbuf_size(&out), 0);
	CHECK(inbuf_fill(&in, pair[1]) > 0);
	CHECK_INT(inbuf_frame(&in, TTRPC_DATA_MAX, &h, &data), 1);
	CHECK_INT(h.stream, 7);
	CHECK_INT(h.length, ttrpc__status__get_packed_size(&s));
	CHECK_INT(inbuf_frame(&in, TTRPC_DATA_MAX, &h, &data), 1);
	CHECK_INT(h.stream, 9);
	CHECK_INT(h.length, 0);
	CHECK_INT(inbuf_frame(&in, TTRPC_DATA_MAX, &h, &data), 0);
	CHECK(!inbuf_partial(&in));
	CHECK_INT(inbuf_fill(&in, pair[1]), -EAGAIN);
	close(pair[0]);
	CHECK_INT(inbuf_fill(&in, pair[1]), 0);
	close(pair[1]);
	outbuf_done(&out);
	inbuf_done(&in);
}

TEST (a_long_frame_is_skipped) {
	struct inbuf in = { 0 };
	struct ttrpc_header h;
	const uint8_t *data;
	uint8_t junk[1000] = { 0 };
	int pair[2];

	stream_pair(pair);
	put(pair[0], 1000, 1, TTRPC_REQUEST, junk, 1000);
	put(pair[0], 3, 3, TTRPC_REQUEST, "abc", 3);
	CHECK(inbuf_fill(&in, pair[1]) > 0);
	CHECK_INT(inbuf_frame(&in, 999, &h, &data), -EMSGSIZE);
	CHECK_INT(h.stream, 1);
	CHECK_INT(inbuf_frame(&in, 999, &h, &data), 1);
	CHECK_INT(h.stream, 3);
	CHECK(memcmp(data, "abc", 3) == 0);
	inbuf_done(&in);
	close(pair[0]);
	close(pair[1]);
}

/* Memory follows what came, not what was announced; and all share a limit. */
TEST (buffers_grow_with_what_comes) {
	enum { N = 24 };
	static uint8_t half[2 << 20];
	struct inbuf in[N] = { 0 };
	struct ttrpc_header h;
	const uint8_t *data;
	int pair[2], refused = 0;

	for (int i = 0; i < N; i++) {
		size_t sent = 0;

		stream_pair(pair);
		put(pair[0], TTRPC_DATA_MAX, 1, TTRPC_REQUEST, "x", 1);
		CHECK(inbuf_fill(&in[i], pair[1]) > 0);
		CHECK_INT(inbuf_frame(&in[i], TTRPC_DATA_MAX, &h, &data), 0);
		CHECK_INT(in[i].cap, INBUF_MIN);
		while (sent < sizeof(half)) {
			int r;

			CHECK(send(pair[0], half, 65536, 0) == 65536);
			sent += 65536;
			while (inbuf_fill(&in[i], pair[1]) > 0) {
				r = inbuf_frame(&in[i], TTRPC_DATA_MAX, &h, &data);
				if (r == -ENOBUFS)
					refused++;
				else
					CHECK_INT(r, 0);
			}
		}
		close(pair[0]);
		close(pair[1]);
	}
	CHECK(refused > 0 && refused < N);
	for (int i = 0; i < N; i++)
		inbuf_done(&in[i]);
}

TEST (a_full_socket_keeps_the_rest) {
	struct outbuf out = { 0 };
	static char text[60000];
	Ttrpc__Status s = TTRPC__STATUS__INIT;
	uint8_t sink[65536];
	int pair[2], r;

	stream_pair(pair);
	memset(text, 'x', sizeof(text) - 1);
	s.message = text;
	for (int i = 0; i < 20; i++)
		outbuf_frame(&out, TTRPC_RESPONSE, 1, &s.base);
	CHECK_INT(outbuf_flush(&out, pair[0]), -EAGAIN);
	while ((r = outbuf_flush(&out, pair[0])) == -EAGAIN)
		while (recv(pair[1], sink, sizeof(sink), MSG_DONTWAIT) > 0)
			;
	CHECK_INT(r, 0);
	close(pair[1]);
	outbuf_frame(&out, TTRPC_RESPONSE, 1, NULL);
	CHECK_INT(outbuf_flush(&out, pair[0]), -EPIPE);
	outbuf_done(&out);
	close(pair[0]);
}

TEST (strings) {
	static const struct {
		const char *bytes;
		size_t len;
		bool ok;
	} t[] = {
		{ "\x0a\x02s1", 4, true },
		{ "\x0a\x00", 2, true },
		{ "\x0a\x02\xc3\xa4", 4, true },
		{ "\x0a\x04\xf0\x9f\x90\xb3", 6, true },
		{ "\x0a\x03s1\0", 5, false },
		{ "\x0a\x01\xc3", 3, false },
		{ "\x0a\x02\xc1\xbf", 4, false },
		{ "\x0a\x04\xf4\x90\x80\x80", 6, false },
		{ "\x0a\x04\xf8\x88\x80\x80", 6, false },
		{ "\x0a\x03\xe0\x80\x80", 5, false },
		/* rootfs[0].options[0], field 3 then 4 */
		{ "\x1a\x04\x22\x02ro", 6, true },
		{ "\x1a\x04\x22\x02r\0", 6, false },
		/* bytes are no string: options.value */
		{ "\x52\x04\x12\x02\0\0", 6, true },
		/* unknown fields pass */
		{ "\xfa\x07\x02\0\0", 5, true },
		{ "\x20\x01", 2, true },
		{ "\x0d\1\2\3\4", 5, true },
		{ "\x0d\1\2\3", 4, false },
	};

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		CHECK_INT(wire_strings_ok(&containerd__create_task_request__descriptor,
				  (const uint8_t *)t[i].bytes, t[i].len),
			t[i].ok);
}

TEST (ids) {
	char longest[ID_MAX + 2];
	struct error err;

	CHECK_INT(id_check("a", &err), 0);
	CHECK_INT(id_check("0A_.-z", &err), 0);
	memset(longest, 'a', sizeof(longest));
	longest[ID_MAX + 1] = '\0';
	CHECK_INT(id_check(longest, &err), -EINVAL);
	longest[ID_MAX] = '\0';
	CHECK_INT(id_check(longest, &err), 0);
	CHECK_INT(id_check("", &err), -EINVAL);
	CHECK_INT(id_check("-a", &err), -EINVAL);
	CHECK_INT(id_check("_a", &err), -EINVAL);
	CHECK_INT(id_check("a/b", &err), -EINVAL);
	CHECK_INT(id_check("a\n", &err), -EINVAL);
	CHECK_CONTAINS(err.msg, "is not of the form");
}

TEST (error_numbers) {
	static const struct {
		int code;
		enum ttrpc_code ttrpc;
	} t[] = {
		{ ENOENT, TTRPC_NOT_FOUND },
		{ ESRCH, TTRPC_NOT_FOUND },
		{ EEXIST, TTRPC_ALREADY_EXISTS },
		{ EBUSY, TTRPC_FAILED_PRECONDITION },
		{ EINVAL, TTRPC_INVALID_ARGUMENT },
		{ ETIMEDOUT, TTRPC_DEADLINE_EXCEEDED },
		{ EPIPE, TTRPC_UNAVAILABLE },
		{ EHOSTDOWN, TTRPC_UNAVAILABLE },
		{ ENOSYS, TTRPC_UNIMPLEMENTED },
		{ ENOTSUP, TTRPC_UNIMPLEMENTED },
		{ EACCES, TTRPC_PERMISSION_DENIED },
		{ ENOSPC, TTRPC_RESOURCE_EXHAUSTED },
		{ EPROTO, TTRPC_INTERNAL },
		{ EIO, TTRPC_UNKNOWN },
		{ 0, TTRPC_UNKNOWN },
		{ 9999, TTRPC_UNKNOWN },
	};
	struct error err;

	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		CHECK_INT(errdefs_code(t[i].code), t[i].ttrpc);
	error_set(&err, ENOENT, "x");
	errdefs_foreign(&err);
	CHECK_INT(errdefs_code(err.code), TTRPC_UNKNOWN);
	error_set(&err, EBUSY, "x");
	errdefs_foreign(&err);
	CHECK_INT(errdefs_code(err.code), TTRPC_FAILED_PRECONDITION);
}

/* ---- flows ---- */

static char trace[256];
static struct loop *loop;
static int fail_at, fail_code;

struct test_flow {
	struct flow flow;
	bool ended;
};

static void add(const char *text)
{
	strcat(trace, text);
}

static enum step_result act(struct flow *f, int n)
{
	char text[16];

	snprintf(text, sizeof(text), "%s%d ", f->undoing ? "-" : "+", n);
	add(text);
	if (f->undoing || fail_at != n)
		return STEP_DONE;
	error_set(&f->err, fail_code, "no");
	return STEP_FAIL;
}

#define STEP(n)                                         \
	static enum step_result step##n(struct flow *f) \
	{                                               \
		return act(f, n);                       \
	}
STEP(1)
STEP(2)
STEP(3)

/* Answers later; the resume comes before the step has returned. */
static enum step_result step_later(struct flow *f)
{
	struct error err;

	add(f->undoing ? "-4 " : "+4 ");
	error_set(&err, fail_code, "later");
	flow_resume(f, fail_at == 4 ? &err : NULL);
	return STEP_WAIT;
}

static const struct flow_step steps[] = {
	{ "one", step1, step1 },
	{ "two", step2, NULL },
	{ "three", step3, step_later },
	{ "four", step_later, step2 },
};

static void finished(struct flow *f)
{
	((struct test_flow *)f)->ended = true;
	add("end");
	loop_stop(loop);
}

static void run_flow(struct test_flow *t, int at, int code, bool lenient)
{
	struct error err;

	*t = (struct test_flow){ 0 };
	t->flow.lenient = lenient;
	trace[0] = '\0';
	fail_at = at;
	fail_code = code;
	loop = loop_new(&err);
	CHECK(loop);
	flow_start(&t->flow, loop, steps, 4, finished);
	CHECK_STR(trace, ""); /* never from the call that starts it */
	CHECK_INT(loop_run(loop, &err), 0);
	CHECK(t->ended);
	loop_free(loop);
}

TEST (flow_order_and_undo) {
	struct test_flow t;

	run_flow(&t, 0, 0, false);
	CHECK_STR(trace, "+1 +2 +3 +4 end");
	CHECK_INT(t.flow.err.code, 0);
	run_flow(&t, 1, EIO, false);
	CHECK_STR(trace, "+1 end");
	CHECK_STR(t.flow.err.msg, "one: no");
	run_flow(&t, 2, EIO, false);
	CHECK_STR(trace, "+1 +2 -1 end");
	run_flow(&t, 3, EIO, false);
	CHECK_STR(trace, "+1 +2 +3 -1 end");
	run_flow(&t, 4, EIO, false);
	CHECK_STR(trace, "+1 +2 +3 +4 -4 -1 end");
	CHECK_STR(t.flow.err.msg, "four: later");
}

/* Nobody knows how far it got. */
TEST (flow_undoes_what_timed_out) {
	struct test_flow t;

	run_flow(&t, 1, ETIMEDOUT, false);
	CHECK_STR(trace, "+1 -1 end");
	run_flow(&t, 4, ETIMEDOUT, false);
	CHECK_STR(trace, "+1 +2 +3 +4 -2 -4 -1 end");
}

TEST (a_lenient_flow_goes_on) {
	struct test_flow t;

	run_flow(&t, 4, EIO, true);
	CHECK_STR(trace, "+1 +2 +3 +4 end");
	CHECK_INT(t.flow.err.code, 0);
}

/* No message of containerd's contains itself, so no depth of nesting costs stack. */
static void check_not_recursive(const ProtobufCMessageDescriptor *d, int depth)
{
	CHECK(depth < 8);
	for (unsigned i = 0; i < d->n_fields; i++)
		if (d->fields[i].type == PROTOBUF_C_TYPE_MESSAGE)
			check_not_recursive(d->fields[i].descriptor, depth + 1);
}

TEST (no_recursive_messages) {
	check_not_recursive(&containerd__create_task_request__descriptor, 0);
	check_not_recursive(&containerd__forward_request__descriptor, 0);
	check_not_recursive(&ttrpc__request__descriptor, 0);
	check_not_recursive(&ttrpc__response__descriptor, 0);
}
