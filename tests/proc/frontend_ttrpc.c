/* Hostile clients of the ttRPC server, and what the process looks like from outside. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/flow/frontend_harness.h"

#define TASK "containerd.task.v2.Task"

/* AddressSanitizer keeps what is freed. */
#if defined(__SANITIZE_ADDRESS__)
#define RSS_MORE 1000
#else
#define RSS_MORE 1
#endif

static struct fx fx;
static struct client c;
static struct answer a;

static void begin_with(const char *const *options)
{
	fx.events = -1;
	fx_start(&fx, options);
	fx_client(&fx, &c);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
}

static void begin(void)
{
	begin_with(NULL);
}

static void end(void)
{
	client_done(&c);
	fx_stop(&fx);
}

/* The others are served, fast, whatever one of them does. */
static void check_served(void)
{
	int64_t t = clock_ms();

	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__CREATED);
	CHECK(clock_ms() - t < 100);
}

static void header(uint8_t out[TTRPC_HEADER_LEN], uint32_t len, uint32_t stream, uint8_t type,
	uint8_t flags)
{
	const struct ttrpc_header h = { len, stream, type, flags };

	ttrpc_header_write(&h, out);
}

/* C1 */
TEST (too_long_frames_are_refused_and_drained) {
	static uint8_t junk[1 << 16];
	uint8_t h[TTRPC_HEADER_LEN];
	struct client x;
	long before;

	begin();
	before = fx_rss_kib(&fx);
	fx_client(&fx, &x);
	header(h, TTRPC_DATA_MAX + 1, 1, TTRPC_REQUEST, 0);
	client_bytes(&x, h, sizeof(h));
	CHECK(fx_answer(&fx, &x, 1, &a, 2000));
	CHECK_INT(a.code, TTRPC_RESOURCE_EXHAUSTED);
	for (uint32_t left = TTRPC_DATA_MAX + 1; left > 0;) {
		uint32_t n = left < sizeof(junk) ? left : (uint32_t)sizeof(junk);

		client_bytes(&x, junk, n);
		left -= n;
	}
	/* The connection lives. */
	x.stream = 3;
	CHECK_INT(fx_state(&fx, &x, SANDBOX), CONTAINERD__STATUS__CREATED);
	CHECK(fx_rss_kib(&fx) - before < 256 * RSS_MORE);
	header(h, 0xffffffff, 99, TTRPC_REQUEST, 0);
	client_bytes(&x, h, sizeof(h));
	CHECK(fx_answer(&fx, &x, 99, &a, 2000));
	CHECK_INT(a.code, TTRPC_RESOURCE_EXHAUSTED);
	check_served();
	client_done(&x);
	end();
}

static uint8_t big[TTRPC_DATA_MAX];

/* A whole frame of `len` bytes of data. */
static int send_frame(struct client *x, const uint8_t *data, size_t len)
{
	uint8_t h[TTRPC_HEADER_LEN];

	header(h, (uint32_t)len, x->stream, TTRPC_REQUEST, 0);
	client_bytes(x, h, sizeof(h));
	client_bytes(x, data, len);
	x->stream += 2;
	CHECK(fx_answer(&fx, x, x->stream - 2, &a, 10000));
	return a.code;
}

static size_t fill(uint8_t *to, size_t size, const void *unit, size_t len)
{
	size_t n = 0;

	while (n + len <= size) {
		memcpy(to + n, unit, len);
		n += len;
	}
	return n;
}

/* C2, C3, C11: as the envelope, and as what is inside it. */
TEST (bombs) {
	static const struct {
		const char *unit;
		size_t len;
	} units[] = {
		{ "\x78\x01", 2 },     /* unknown field 15 */
		{ "\xfa\x07\x00", 3 }, /* unknown, length 0 */
		{ "\x1a\x00", 2 },     /* field 3: rootfs, empty; of the envelope: payload */
		{ "\x2a\x00", 2 },     /* field 5: metadata, empty; stdin, empty */
		{ "\x0a\x00", 2 },     /* field 1: a string, again and again */
		{ "\x0a\x01\x61", 3 }, { "\x1a\x02\x22\x00", 4 }, /* rootfs with an empty option */
	};
	static uint8_t payload[TTRPC_DATA_MAX - 256];
	struct client x;
	long peak = 0;

	begin();
	fx_client(&fx, &x);
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		size_t n = fill(big, sizeof(big), units[i].unit, units[i].len);
		int code = send_frame(&x, big, n);

		CHECK(code == TTRPC_INVALID_ARGUMENT || code == TTRPC_UNIMPLEMENTED);
		n = fill(payload, sizeof(payload), units[i].unit, units[i].len);
		CHECK(fx_answer(&fx, &x, fx_send_raw(&x, TASK, "Create", payload, n, 0), &a,
			10000));
		CHECK_INT(a.code, TTRPC_RESOURCE_EXHAUSTED);
		n = fill(payload, 256 << 10, units[i].unit, units[i].len);
		CHECK(fx_answer(&fx, &x, fx_send_raw(&x, TASK, "Create", payload, n, 0), &a,
			10000));
		CHECK_INT(a.code, TTRPC_INVALID_ARGUMENT);
		if (fx_rss_kib(&fx) > peak)
			peak = fx_rss_kib(&fx);
		check_served();
	}
	CHECK(peak < 80 * 1024 * RSS_MORE);
	client_done(&x);
	end();
}

/* C4, C6, C7 */
TEST (bad_encodings) {
	static const struct {
		const char *bytes;
		size_t len;
	} bad[] = {
		{ "\x0b", 1 }, /* wire type 3 */
		{ "\x0c", 1 }, /* wire type 4 */
		{ "\x0f", 1 }, /* wire type 7 */
		{ "\x0a", 1 }, /* no length */
		{ "\x0a\x05"
		  "ab",
			4 },                                                /* too short */
		{ "\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12 }, /* long varint */
		{ "\x00\x00", 2 },                                          /* tag 0 */
		{ "\x80\x80\x80\x80\x80\x80", 6 },                          /* unfinished tag */
		{ "\x0a\x03"
		  "s1\0",
			5 },                   /* a NUL behind a good id */
		{ "\x0a\x02\xc0\x80", 4 },     /* UTF-8 for NUL */
		{ "\x0a\x03\xed\xa0\x80", 5 }, /* a surrogate */
		{ "\x0a\x01\xff", 3 },
		{ "\x0a\x02s1\x12\x02\xff\xfe", 8 },
	};
	static uint8_t deep[64000];
	struct client x;

	begin();
	fx_client(&fx, &x);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint32_t s = fx_send_raw(&x, TASK, "State", (const uint8_t *)bad[i].bytes,
			bad[i].len, 0);

		CHECK(fx_answer(&fx, &x, s, &a, 2000));
		CHECK_INT(a.code, TTRPC_INVALID_ARGUMENT);
		CHECK_INT(send_frame(&x, (const uint8_t *)bad[i].bytes, bad[i].len),
			TTRPC_INVALID_ARGUMENT);
	}
	memset(deep, 0x0b, sizeof(deep)); /* groups in groups */
	CHECK_INT(send_frame(&x, deep, sizeof(deep)), TTRPC_INVALID_ARGUMENT);
	check_served();
	client_done(&x);
	end();
}

TEST (streams_and_types) {
	uint8_t h[TTRPC_HEADER_LEN];
	uint32_t s;

	begin();
	header(h, 0, 1001, TTRPC_DATA, 0);
	client_bytes(&c, h, sizeof(h));
	CHECK(fx_answer(&fx, &c, 1001, &a, 1000));
	CHECK_INT(a.code, TTRPC_INVALID_ARGUMENT);
	header(h, 0, 1002, TTRPC_REQUEST, 0);
	client_bytes(&c, h, sizeof(h));
	CHECK(fx_answer(&fx, &c, 1002, &a, 1000));
	CHECK_INT(a.code, TTRPC_INVALID_ARGUMENT);
	/* an id that was used */
	header(h, 0, 1, TTRPC_REQUEST, 0);
	client_bytes(&c, h, sizeof(h));
	CHECK(fx_answer(&fx, &c, 1, &a, 1000));
	CHECK_INT(a.code, TTRPC_INVALID_ARGUMENT);
	/* of a later version: ignored */
	header(h, 0, 2001, 77, 0);
	client_bytes(&c, h, sizeof(h));
	header(h, 0, 1003, TTRPC_REQUEST, 2);
	client_bytes(&c, h, sizeof(h));
	CHECK(fx_answer(&fx, &c, 1003, &a, 1000));
	CHECK_INT(a.code, TTRPC_UNIMPLEMENTED);
	c.stream = 1005;
	s = fx_send_raw(&c, TASK, "Nothing", NULL, 0, 0);
	CHECK(fx_answer(&fx, &c, s, &a, 1000));
	CHECK_INT(a.code, TTRPC_UNIMPLEMENTED);
	s = fx_send_raw(&c, "containerd.runtime.sandbox.v1.Sandbox", "State", NULL, 0, 0);
	CHECK(fx_answer(&fx, &c, s, &a, 1000));
	CHECK_INT(a.code, TTRPC_UNIMPLEMENTED);
	check_served();
	end();
}

/* Byte by byte, and many in one write. */
TEST (frames_in_any_portion) {
	uint8_t frames[50 * 128];
	size_t len = 0;
	struct client x;

	begin();
	fx_client(&fx, &x);
	for (uint32_t i = 0; i < 50; i++) {
		uint8_t body[64] = "\x0a\x17" TASK "\x12\x05State\x1a\x04\x0a\x02s1";
		size_t n = 2 + 23 + 2 + 5 + 2 + 4;

		header(frames + len, (uint32_t)n, 1 + 2 * i, TTRPC_REQUEST, 0);
		memcpy(frames + len + TTRPC_HEADER_LEN, body, n);
		len += TTRPC_HEADER_LEN + n;
	}
	for (size_t i = 0; i < len / 2; i++)
		client_bytes(&x, frames + i, 1);
	client_bytes(&x, frames + len / 2, len - len / 2);
	for (uint32_t i = 0; i < 50; i++) {
		CHECK(fx_answer(&fx, &x, 1 + 2 * i, &a, 1000));
		CHECK_INT(a.code, 0);
	}
	client_done(&x);
	end();
}

static bool is_closed(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	char byte;

	return poll(&pfd, 1, ms) == 1 && recv(fd, &byte, 1, MSG_DONTWAIT) <= 0;
}

/* C9 */
TEST (the_33rd_connection) {
	static struct client x[40];
	int fds;

	begin();
	fds = fx_count_fds(&fx);
	for (int i = 0; i < 40; i++)
		fx_client(&fx, &x[i]);
	fx_pump(&fx, 50, NULL);
	for (int i = 0; i < 40; i++)
		CHECK_INT(is_closed(x[i].fd, i < 31 ? 0 : 200), i >= 31);
	check_served();
	CHECK_INT(fx_state(&fx, &x[30], SANDBOX), CONTAINERD__STATUS__CREATED);
	for (int i = 0; i < 40; i++)
		client_done(&x[i]);
	fx_pump(&fx, 50, NULL);
	CHECK_INT(fx_count_fds(&fx), fds);
	fx_client(&fx, &x[0]);
	CHECK_INT(fx_state(&fx, &x[0], SANDBOX), CONTAINERD__STATUS__CREATED);
	client_done(&x[0]);
	end();
}

TEST (ten_thousand_connections) {
	int fds;

	begin();
	fds = fx_count_fds(&fx);
	for (int i = 0; i < 10000; i++) {
		struct client x;

		fx_client(&fx, &x);
		client_bytes(&x, "\0\0\1", 3);
		client_done(&x);
		if (i % 100 == 0)
			check_served();
	}
	check_served();
	fx_pump(&fx, 100, NULL);
	CHECK_INT(fx_count_fds(&fx), fds);
	end();
}

TEST (half_frames_and_slow_loris) {
	const char *const options[] = { "frame_timeout_ms=700", NULL };
	struct client half[15], loris[15];
	uint8_t h[TTRPC_HEADER_LEN];
	int64_t t;

	begin_with(options);
	header(h, 4000000, 1, TTRPC_REQUEST, 0);
	for (int i = 0; i < 15; i++) {
		fx_client(&fx, &half[i]);
		client_bytes(&half[i], h, i % 2 ? 5 : sizeof(h));
		fx_client(&fx, &loris[i]);
		client_bytes(&loris[i], h, sizeof(h));
	}
	t = clock_ms();
	while (clock_ms() - t < 1500) {
		for (int i = 0; i < 15; i++)
			if (!loris[i].closed)
				client_bytes(&loris[i], "x", 1);
		check_served();
		fx_pump(&fx, 20, NULL);
	}
	for (int i = 0; i < 15; i++) {
		CHECK(is_closed(half[i].fd, 0));
		CHECK(loris[i].closed || is_closed(loris[i].fd, 0));
		client_done(&half[i]);
		client_done(&loris[i]);
	}
	/* One that is idle without a half frame is not touched. */
	check_served();
	end();
}

/* A client that asks and never reads: its requests stop, ours go on. */
TEST (a_client_that_does_not_read) {
	struct client x;
	long before;
	uint8_t body[] = "\x0a\x02s1";
	int64_t t = clock_ms();
	int sent = 0;

	begin();
	before = fx_rss_kib(&fx);
	fx_client(&fx, &x);
	CHECK(fcntl(x.fd, F_SETFL, O_NONBLOCK) == 0);
	while (clock_ms() - t < 3000) {
		uint8_t f[64] = { 0 };
		uint8_t call[64] = "\x0a\x17" TASK "\x12\x05State\x1a\x04";
		size_t n = 2 + 23 + 2 + 5 + 2;

		memcpy(call + n, body, 4);
		header(f, (uint32_t)n + 4, x.stream, TTRPC_REQUEST, 0);
		memcpy(f + TTRPC_HEADER_LEN, call, n + 4);
		while (send(x.fd, f, TTRPC_HEADER_LEN + n + 4, MSG_NOSIGNAL) < 0) {
			struct pollfd pfd = { .fd = x.fd, .events = POLLOUT };

			CHECK_INT(errno, EAGAIN);
			if (poll(&pfd, 1, 300) == 0)
				goto stuck;
		}
		x.stream += 2;
		sent++;
	}
	CHECK(!"it takes requests for ever");
stuck:
	CHECK(sent > 1000);
	check_served();
	CHECK(fx_rss_kib(&fx) - before < 4096 * RSS_MORE);
	/* It reads after all: every answer is there. */
	{
		size_t got = 0;
		struct pollfd pfd = { .fd = x.fd, .events = POLLIN };

		while (poll(&pfd, 1, 300) == 1) {
			ssize_t n = recv(x.fd, x.buf, x.cap, 0);

			CHECK(n > 0);
			got += (size_t)n;
		}
		CHECK(got % (size_t)sent == 0);
	}
	client_done(&x);
	check_served();
	end();
}

TEST (too_many_unanswered) {
	uint32_t last = 0;

	begin();
	for (int i = 0; i < 4096; i++)
		last = fx_send_wait(&c, SANDBOX, 0);
	CHECK(!fx_answer(&fx, &c, last, &a, 100));
	last = fx_send_wait(&c, SANDBOX, 0);
	CHECK(fx_answer(&fx, &c, last, &a, 1000));
	CHECK_INT(a.code, TTRPC_RESOURCE_EXHAUSTED);
	end();
}

/* F2 */
TEST (only_root_is_served) {
	int status;
	pid_t pid;

	begin();
	pid = fork();
	if (pid == 0) {
		struct client x;

		if (setgid(12345) < 0 || setuid(12345) < 0)
			_exit(2);
		fx_client(&fx, &x);
		fx_send_wait(&x, SANDBOX, 0);
		_exit(is_closed(x.fd, 2000) ? 0 : 1);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_INT(status, 0);
	fx_pump(&fx, 20, NULL);
	CHECK_CONTAINS(fx.logs, "the client is not root");
	check_served();
	end();
}

/* The error's text is ours to send, whatever a helper put into it. */
TEST (texts_are_clean) {
	fx.events = -1;
	fx_rule(&fx, "mountd.add_container", ACT_FAIL, EIO, "bad \xff\x1b[31m text\nmore");
	fx_start(&fx, NULL);
	fx_client(&fx, &c);
	CHECK(fx_create(&fx, &c, SANDBOX, &a) != 0);
	CHECK_CONTAINS(a.message, "bad ??[31m text?more");
	end();
}

static unsigned long long status_value(const char *key, int base)
{
	char path[64], line[256];
	unsigned long long v = ~0ULL;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", fx.pid);
	f = fopen(path, "re");
	CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0)
			v = strtoull(line + strlen(key), NULL, base);
	fclose(f);
	return v;
}

static int listen_count(const char *dir)
{
	DIR *d = opendir(dir);
	int n = 0;

	if (!d)
		return -1;
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

TEST (it_holds_nothing) {
	static const char *const caps[] = { "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:" };
	char path[64];

	begin();
	for (size_t i = 0; i < 5; i++)
		CHECK_INT(status_value(caps[i], 16), 0);
	CHECK_INT(status_value("Uid:", 10), 70000);
	CHECK_INT(status_value("Gid:", 10), 70000);
	CHECK_INT(status_value("NoNewPrivs:", 10), 1);
	CHECK_INT(status_value("Seccomp:", 10), 2);
	CHECK_INT(status_value("Threads:", 10), 1);
	/* 0-2, control, listener, five channels, events; epoll and libevent's two; one client. */
	snprintf(path, sizeof(path), "/proc/%d/fd", fx.pid);
	CHECK_INT(listen_count(path), 3 + 2 + 5 + 1 + 3 - 1 + 1);
	end();
}
