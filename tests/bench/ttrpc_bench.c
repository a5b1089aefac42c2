/*
 * Latency of one task-service call of any containerd shim, measured from
 * outside: ttrpc_bench SOCKET ID [COUNT [GAP_US [METHOD]]]
 *
 * SOCKET is the path in the bundle's `address` (without unix://), METHOD is
 * State, Pids or Connect: calls whose request is just the id (service
 * containerd.task.v2.Task). GAP_US is slept between two calls: with 0 both
 * sides stay hot, with 1000 each call wakes a sleeping process.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define HEADER 10

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "ttrpc_bench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static int dial(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(a.sun_path)) {
		errno = ENAMETOOLONG;
		die(path);
	}
	strcpy(a.sun_path, path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die(path);
	return fd;
}

/* A protobuf field of type string or bytes; shorter than 128 bytes. */
static size_t field(uint8_t *to, unsigned number, const void *data, size_t len)
{
	if (len > 127) {
		errno = ENAMETOOLONG;
		die("argument");
	}
	to[0] = (uint8_t)(number << 3 | 2);
	to[1] = (uint8_t)len;
	memcpy(to + 2, data, len);
	return len + 2;
}

static size_t build(uint8_t *frame, const char *method, const char *id)
{
	static const char service[] = "containerd.task.v2.Task";
	uint8_t request[256];
	size_t n = HEADER, len = field(request, 1, id, strlen(id));

	n += field(frame + n, 1, service, sizeof(service) - 1);
	n += field(frame + n, 2, method, strlen(method));
	n += field(frame + n, 3, request, len);
	memset(frame, 0, HEADER);
	frame[2] = (uint8_t)((n - HEADER) >> 8);
	frame[3] = (uint8_t)(n - HEADER);
	frame[8] = 1;
	return n;
}

static void set_stream(uint8_t *frame, uint32_t stream)
{
	for (int i = 0; i < 4; i++)
		frame[4 + i] = (uint8_t)(stream >> (24 - 8 * i));
}

/* Reads one answer. Exits unless it is one for this stream without an error status. */
static void answer(int fd, uint32_t stream)
{
	uint8_t buf[65536];
	size_t have = 0, need = HEADER;

	while (have < need) {
		ssize_t n = read(fd, buf + have, sizeof(buf) - have);

		if (n <= 0)
			die("read");
		have += (size_t)n;
		if (have >= HEADER)
			need = HEADER + ((size_t)buf[1] << 16 | (size_t)buf[2] << 8 | buf[3]);
		if (need > sizeof(buf))
			die("answer too long");
	}
	if (((uint32_t)buf[4] << 24 | (uint32_t)buf[5] << 16 | (uint32_t)buf[6] << 8 | buf[7]) !=
		stream)
		die("answer to another stream");
	/* Field 1 is the status; Go's server sends an empty one, or none, for success. */
	if (need > HEADER + 2 && buf[HEADER] == 0x0a && buf[HEADER + 1] > 0) {
		fprintf(stderr, "ttrpc_bench: an error was answered: %.*s\n",
			(int)(need - HEADER - 2), (const char *)buf + HEADER + 2);
		exit(1);
	}
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void report(uint64_t *ns, size_t n, const char *method, unsigned long gap_us)
{
	qsort(ns, n, sizeof(*ns), by_value);
	printf("%s gap_us=%lu n=%zu min=%.1f p50=%.1f p90=%.1f p99=%.1f max=%.1f us\n", method,
		gap_us, n, (double)ns[0] / 1e3, (double)ns[n / 2] / 1e3,
		(double)ns[n * 90 / 100] / 1e3, (double)ns[n * 99 / 100] / 1e3,
		(double)ns[n - 1] / 1e3);
}

int main(int argc, char **argv)
{
	unsigned long count = argc > 3 ? strtoul(argv[3], NULL, 10) : 1000;
	unsigned long gap_us = argc > 4 ? strtoul(argv[4], NULL, 10) : 1000;
	const char *method = argc > 5 ? argv[5] : "State";
	const struct timespec gap = { .tv_sec = (time_t)(gap_us / 1000000),
		.tv_nsec = (long)(gap_us % 1000000) * 1000 };
	uint8_t frame[1024];
	uint64_t *ns;
	size_t len;
	int fd;

	if (argc < 3 || count == 0 || count > 10000000) {
		fprintf(stderr, "usage: ttrpc_bench SOCKET ID [COUNT [GAP_US [METHOD]]]\n");
		return 2;
	}
	ns = calloc(count, sizeof(*ns));
	if (!ns)
		die("memory");
	fd = dial(argv[1]);
	len = build(frame, method, argv[2]);
	for (unsigned long i = 0; i < count; i++) {
		uint32_t stream = (uint32_t)(2 * i + 1);
		uint64_t t;

		if (gap_us)
			nanosleep(&gap, NULL);
		set_stream(frame, stream);
		t = now_ns();
		if (write(fd, frame, len) != (ssize_t)len)
			die("write");
		answer(fd, stream);
		ns[i] = now_ns() - t;
	}
	report(ns, count, method, gap_us);
	free(ns);
	close(fd);
	return 0;
}
