/*
 * QEMU as vmmd hears it: QMP, and the lines of its stderr. The input is what
 * it writes and when:
 *
 *	u8 what	0: bytes on QMP		1: bytes on stderr
 *		2: we send a command	3: the right answer to it
 *		4: the end of stderr	5: the end of QMP
 *		6: u8 times 16 KiB of a line on QMP
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/fuzz/lib/input.h"
#include "tests/fuzz/lib/sim.h"
#include "vmmd/lines.h"
#include "vmmd/qmp.h"

#define READ_AT_ONCE 4096 /* qmp.c's: so much more than a line may be there */

struct run {
	struct bytes in;
	struct qmp qmp;
	struct lines lines;
	int qemu; /* its end of QMP */
};

static void on_event(void *ctx, const char *event, struct json_object *data)
{
	SIM_CHECK(ctx && event);
	SIM_CHECK(!data || json_object_is_type(data, json_type_object));
}

static void on_line(const char *line)
{
	SIM_CHECK(line[0] && strlen(line) < LINE_SIZE);
	for (; *line; line++)
		SIM_CHECK((unsigned char)*line >= ' ' && *line != 0x7f);
}

/* Everything that has come. 0: go on; 1: QEMU is lost or gone. */
static int read_all(struct run *run)
{
	struct error err = ERROR_INIT;
	int r;

	do {
		r = qmp_read(&run->qmp, &err);
		SIM_CHECK((r < 0 && r != -EAGAIN) == !!err.code);
		SIM_CHECK(!run->qmp.result || (!run->qmp.waiting && !run->qmp.failure.code));
		SIM_CHECK(run->qmp.len <= run->qmp.size);
		SIM_CHECK(run->qmp.len <= QMP_LINE_MAX + READ_AT_ONCE);
	} while (r > 0);
	return r != -EAGAIN;
}

static void write_qmp(struct run *run, const void *data, size_t len)
{
	if (len > 0 && run->qemu >= 0)
		send(run->qemu, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void answer(struct run *run)
{
	char text[64];
	int n = snprintf(text, sizeof(text), "{\"return\": {}, \"id\": %llu}\r\n",
		(unsigned long long)run->qmp.waiting);

	write_qmp(run, text, (size_t)n);
}

/* A line that goes on and on. */
static int flood(struct run *run, uint8_t times)
{
	static char piece[16 << 10];
	int r = 0;

	memset(piece, ' ', sizeof(piece));
	while (r == 0 && times-- > 0) {
		write_qmp(run, piece, sizeof(piece));
		r = read_all(run);
	}
	return r;
}

/* With arguments and an fd; what came with the last answer is gone. */
static int command(struct run *run)
{
	struct json_object *arguments = json_object_new_object();
	struct error err = ERROR_INIT;
	int r;

	json_object_object_add(arguments, "id", json_object_new_string("x"));
	r = qmp_send(&run->qmp, "device_del", arguments, run->qemu, &err);
	json_object_put(arguments);
	SIM_CHECK((r < 0) == !!err.code);
	SIM_CHECK(r < 0 || (run->qmp.waiting && !run->qmp.result));
	return r == -EPIPE || r == -EPROTO;
}

static int step(struct run *run)
{
	const uint8_t *p;
	size_t len;

	switch (in_u8(&run->in) % 7) {
	case 0:
		p = in_bytes(&run->in, UINT16_MAX, &len);
		write_qmp(run, p, len);
		return read_all(run);
	case 1:
		p = in_bytes(&run->in, UINT16_MAX, &len);
		lines_feed(&run->lines, (const char *)p, len, on_line);
		SIM_CHECK(run->lines.len < LINE_SIZE);
		return 0;
	case 2:
		return command(run);
	case 3:
		answer(run);
		return read_all(run);
	case 4:
		lines_end(&run->lines, on_line);
		return 0;
	case 5:
		fd_close(&run->qemu);
		return read_all(run);
	default:
		return flood(run, in_u8(&run->in));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct run run;
	int fds[2];

	run = (struct run){ .in = { data, size }, .qmp = QMP_INIT };
	SIM_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) == 0);
	run.qmp.fd = fds[0];
	run.qemu = fds[1];
	run.qmp.event = on_event;
	run.qmp.ctx = &run;
	while (run.in.left > 0 && step(&run) == 0)
		;
	fd_close(&run.qemu);
	qmp_done(&run.qmp);
	return 0;
}
