#include "tests/fuzz/agentd_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "agentd/agentd.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/fds.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/tables.h"
#include "ipc/ttrpc.h"
#include "ipc/vmmd.pb-c.h"
#include "tests/fuzz/lib/dir.h"
#include "tests/fuzz/lib/packet.h"
#include "tests/fuzz/lib/sim.h"
#include "ttrpc.pb-c.h"

#define GUEST_CALLS_MAX 64
#define METHOD_MAX	32

static const char config[] =
	"{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":[\"sh\"],\"cwd\":\"/\"},"
	"\"root\":{\"path\":\"rootfs\"},\"hostname\":\"h\",\"linux\":{}}";

/* A call of agentd that the guest has not answered. */
struct guest_call {
	uint32_t stream;
	char method[METHOD_MAX];
	size_t written; /* WriteStdin: bytes */
};

static struct {
	struct bytes in;
	bool guest_only;
	unsigned opening; /* how far the start of the container is */
	struct agentd agentd;
	struct peer_end frontend, mountd, vmmd;
	int ctl;
	int guest, guest_theirs, console, console_theirs;
	uint8_t frames[1 << 16]; /* from agentd to the guest */
	size_t n_frames;
	struct guest_call call[GUEST_CALLS_MAX];
	unsigned n_calls;
} run;

/* ---- the container's files, the same in every run ---- */

static struct {
	int config, in, in_write, out, err;
} files;

static void make_files(void)
{
	own_file("config.json", config);
	files.config = own_open("config.json", O_RDONLY);
	own_fifo("in");
	own_fifo("out");
	own_fifo("err");
	files.in = own_open("in", O_RDONLY | O_NONBLOCK);
	files.in_write = own_open("in", O_WRONLY | O_NONBLOCK);
	files.out = own_open("out", O_RDWR | O_NONBLOCK);
	files.err = own_open("err", O_RDWR | O_NONBLOCK);
	/* Soon full. */
	fcntl(files.out, F_SETPIPE_SZ, 4096);
}

/* Whatever its flags are. */
static void drain(int fd)
{
	char buf[4096];
	int n;

	while (ioctl(fd, FIONREAD, &n) == 0 && n > 0)
		SIM_CHECK(read(fd, buf, sizeof(buf)) > 0);
}

/* As mountd has opened them: agentd must not be stopped by any. */
static void make_blocking(int fd)
{
	SIM_CHECK(fcntl(fd, F_SETFL, 0) == 0);
}

static int mountd_fd(void *ctx, uint16_t type, size_t i)
{
	(void)ctx;
	switch (type) {
	case MOUNTD_AGENTD_CONFIG:
		return files.config;
	case MOUNTD_AGENTD_STDIN:
		return i == 0 ? files.in : files.in_write;
	case MOUNTD_AGENTD_STDOUT:
		return files.out;
	default:
		return files.err;
	}
}

static int vmmd_fd(void *ctx, uint16_t type, size_t i)
{
	(void)ctx;
	(void)i;
	return type == VMMD_AGENTD_STREAM ? run.guest_theirs : run.console_theirs;
}

/* ---- the guest ---- */

static void say(int fd, const void *data, size_t len)
{
	if (fd >= 0 && len > 0)
		send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void note_call(const struct ttrpc_header *h, const uint8_t *data)
{
	Ttrpc__Request *request = ttrpc__request__unpack(NULL, h->length, data);
	struct guest_call *call = &run.call[run.n_calls];
	Grpc__WriteStreamRequest *w;

	/* Whatever agentd sends is right. */
	SIM_CHECK(request && h->type == TTRPC_REQUEST && h->stream % 2 == 1);
	if (run.n_calls < GUEST_CALLS_MAX) {
		*call = (struct guest_call){ .stream = h->stream };
		snprintf(call->method, sizeof(call->method), "%s", request->method);
		if (strcmp(call->method, "WriteStdin") == 0) {
			w = grpc__write_stream_request__unpack(NULL, request->payload.len,
				request->payload.data);
			SIM_CHECK(w);
			call->written = w->data.len;
			grpc__write_stream_request__free_unpacked(w, NULL);
		}
		run.n_calls++;
	}
	ttrpc__request__free_unpacked(request, NULL);
}

static void read_calls(void)
{
	size_t at = 0;
	ssize_t n;

	if (run.guest < 0)
		return;
	n = recv(run.guest, run.frames + run.n_frames, sizeof(run.frames) - run.n_frames,
		MSG_DONTWAIT);
	if (n > 0)
		run.n_frames += (size_t)n;
	while (run.n_frames - at >= TTRPC_HEADER_LEN) {
		struct ttrpc_header h = ttrpc_header_read(run.frames + at);

		if (run.n_frames - at - TTRPC_HEADER_LEN < h.length)
			break;
		note_call(&h, run.frames + at + TTRPC_HEADER_LEN);
		at += TTRPC_HEADER_LEN + h.length;
	}
	memmove(run.frames, run.frames + at, run.n_frames - at);
	run.n_frames -= at;
}

static void send_frame(enum ttrpc_type type, uint32_t stream, const void *data, size_t len)
{
	static uint8_t frame[TTRPC_HEADER_LEN + (1 << 18)];
	const struct ttrpc_header h = { .length = (uint32_t)len, .stream = stream,
		.type = (uint8_t)type };

	SIM_CHECK(len <= sizeof(frame) - TTRPC_HEADER_LEN);
	ttrpc_header_write(&h, frame);
	memcpy(frame + TTRPC_HEADER_LEN, data, len);
	say(run.guest, frame, TTRPC_HEADER_LEN + len);
}

static void respond(uint32_t stream, const Ttrpc__Response *response)
{
	static uint8_t data[1 << 18];

	SIM_CHECK(ttrpc__response__get_packed_size(response) <= sizeof(data));
	send_frame(TTRPC_RESPONSE, stream, data, ttrpc__response__pack(response, data));
}

static void drop_call(unsigned i)
{
	run.n_calls--;
	memmove(&run.call[i], &run.call[i + 1], (run.n_calls - i) * sizeof(run.call[0]));
}

static void guest_answers(void)
{
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;
	Ttrpc__Status status = TTRPC__STATUS__INIT;
	uint8_t flags = in_u8(&run.in);
	char text[600];
	unsigned i;

	read_calls();
	i = flags & 2 && run.n_calls ? run.n_calls - 1 : 0;
	if (flags & 1) {
		status.code = in_u8(&run.in);
		in_text(&run.in, text, sizeof(text));
		status.message = text;
		response.status = &status;
	} else {
		response.payload.data = (uint8_t *)in_bytes(&run.in, UINT16_MAX, &response.payload.len);
	}
	if (run.n_calls == 0)
		return;
	respond(run.call[i].stream, &response);
	if (!(flags & 4))
		drop_call(i);
}

/* Of a guest that does what it should. */
static void guest_answers_well(const struct guest_call *call, size_t output)
{
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;
	Grpc__ReadStreamResponse out = GRPC__READ_STREAM_RESPONSE__INIT;
	Grpc__WriteStreamResponse in = GRPC__WRITE_STREAM_RESPONSE__INIT;
	static uint8_t payload[(1 << 17) + 64], bytes[1 << 17];

	out.data.data = bytes;
	out.data.len = output;
	in.len = (uint32_t)call->written;
	response.payload.data = payload;
	if (strncmp(call->method, "ReadStd", 7) == 0)
		response.payload.len = grpc__read_stream_response__pack(&out, payload);
	else if (strcmp(call->method, "WriteStdin") == 0)
		response.payload.len = grpc__write_stream_response__pack(&in, payload);
	respond(call->stream, &response);
}

static void guest_answers_all(size_t output, bool waits_too)
{
	read_calls();
	for (unsigned i = 0; i < run.n_calls;) {
		if (!waits_too && strcmp(run.call[i].method, "WaitProcess") == 0) {
			i++;
			continue;
		}
		guest_answers_well(&run.call[i], output);
		drop_call(i);
	}
}

static void guest_closes(uint8_t which)
{
	if (which % 2 == 0)
		sim_close(&run.guest);
	else
		sim_close(&run.console);
}

/* ---- the start of a container, as it should be ---- */

static void give_files(uint32_t number)
{
	Ipc__Config c = IPC__CONFIG__INIT;
	Ipc__Stdio s = IPC__STDIO__INIT;

	c.index = s.process = number;
	peer_tell(&run.mountd, MOUNTD_AGENTD_CONFIG, &c.base);
	peer_tell(&run.mountd, MOUNTD_AGENTD_STDIN, &s.base);
	peer_tell(&run.mountd, MOUNTD_AGENTD_STDOUT, &s.base);
	peer_tell(&run.mountd, MOUNTD_AGENTD_STDERR, &s.base);
}

static void open_connect(void)
{
	const Ipc__AgentStream stream = IPC__AGENT_STREAM__INIT;
	const Ipc__Console console = IPC__CONSOLE__INIT;
	Ipc__AgentdConnect connect = IPC__AGENTD_CONNECT__INIT;

	connect.timeout_ms = 5000;
	peer_tell(&run.vmmd, VMMD_AGENTD_STREAM, &stream.base);
	peer_tell(&run.vmmd, VMMD_AGENTD_CONSOLE, &console.base);
	peer_ask(&run.frontend, AGENTD_CONNECT, &connect.base);
	send_frame(TTRPC_HELLO, 0, AGENT_HELLO, strlen(AGENT_HELLO));
}

static void open_sandbox(void)
{
	Ipc__AgentdCreateSandbox m = IPC__AGENTD_CREATE_SANDBOX__INIT;

	give_files(1);
	m.sandbox_id = (char[]){ "s1" };
	m.index = 1;
	m.share = 1;
	peer_ask(&run.frontend, AGENTD_CREATE_SANDBOX, &m.base);
}

static void open_container(void)
{
	Ipc__AgentdCreateContainer m = IPC__AGENTD_CREATE_CONTAINER__INIT;

	m.id = (char[]){ "c1" };
	m.index = m.process = 1;
	m.stdin = m.stdout = m.stderr = 1;
	peer_ask(&run.frontend, AGENTD_CREATE_CONTAINER, &m.base);
}

static void open_start(void)
{
	Ipc__AgentdStart m = IPC__AGENTD_START__INIT;

	m.index = 1;
	peer_ask(&run.frontend, AGENTD_START, &m.base);
}

static void open_processes(void)
{
	Ipc__AgentdProcesses m = IPC__AGENTD_PROCESSES__INIT;

	m.index = 1;
	peer_ask(&run.frontend, AGENTD_PROCESSES, &m.base);
}

static void open_answer(void)
{
	guest_answers_all(0, false);
}

static void (*const opening[])(void) = {
	open_connect, open_sandbox, open_answer, open_container, open_answer, open_start,
	open_answer, open_processes,
};

/* ---- what happens next ---- */

static void others(unsigned what)
{
	struct peer_end *const ends[] = { &run.frontend, &run.mountd, &run.vmmd };

	switch (what) {
	case 8:
	case 9:
	case 10:
		peer_send(ends[what - 8], &run.in);
		break;
	case 11:
		ctl_say(run.ctl, &run.in);
		break;
	case 12:
		peer_close(ends[in_u8(&run.in) % 3]);
		break;
	default:
		give_files(in_u8(&run.in));
	}
}

static void happen(unsigned what)
{
	static const int pauses[] = { 1, 500, 3000, 10000, 60000 };
	const uint8_t *p;
	uint16_t number;
	size_t len;

	switch (what) {
	case 0:
		p = in_bytes(&run.in, UINT16_MAX, &len);
		say(run.guest, p, len);
		break;
	case 1:
		guest_answers();
		break;
	case 2:
		number = in_u16(&run.in);
		guest_answers_all(2 * (size_t)number, number % 2);
		break;
	case 3:
		p = in_bytes(&run.in, UINT16_MAX, &len);
		say(run.console, p, len);
		break;
	case 4:
		sim_advance(pauses[in_u8(&run.in) % 5]);
		break;
	case 5:
		p = in_bytes(&run.in, 4096, &len);
		if (len > 0 && write(files.in_write, p, len) < 0)
			drain(files.in);
		break;
	case 6:
		drain(files.out);
		drain(files.err);
		break;
	case 7:
		guest_closes(in_u8(&run.in));
		break;
	default:
		others(what);
	}
}

/* The frontend's end is everybody's. What it was sent until then was right. */
static void end(void)
{
	peer_read(&run.frontend);
	peer_close(&run.frontend);
	sim_close(&run.ctl);
}

static bool next(void *ctx)
{
	bool at_once;

	(void)ctx;
	if (run.ctl < 0)
		return false;
	/* Enough room for all that a role may ask in a row. */
	run.frontend.n_asked = 0;
	if (run.opening < ARRAY_SIZE(opening))
		opening[run.opening++]();
	else if (run.in.left == 0)
		end();
	else
		do
			happen(in_what(&run.in, run.guest_only ? 8 : 14, &at_once));
		while (at_once);
	return true;
}

static int role(void *ctx)
{
	struct error err = ERROR_INIT;
	int status;

	(void)ctx;
	SIM_CHECK(agentd_init(&run.agentd, "s1", 0, &err) == 0);
	status = agentd_run(&run.agentd);
	agentd_done(&run.agentd);
	return status;
}

static void make_pair(int *ours, int *theirs)
{
	int fds[2];

	SIM_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	*ours = sim_ours(fds[0]);
	*theirs = sim_ours(fds[1]);
}

void agentd_fuzz(const uint8_t *data, size_t size, int guest_only)
{
	struct sim sim = { .next = next, .role = role, .closes_fds = true };
	const int small = 4096;

	if (files.config == 0)
		make_files();
	make_blocking(files.in);
	make_blocking(files.out);
	make_blocking(files.err);
	run.in = (struct bytes){ data, size };
	run.guest_only = guest_only;
	run.opening = guest_only ? 0 : ARRAY_SIZE(opening);
	run.n_calls = 0;
	run.n_frames = 0;
	peer_open(&run.frontend, &ipc_frontend_agentd, AGENTD_FD_FRONTEND);
	peer_open(&run.mountd, &ipc_mountd_agentd, AGENTD_FD_MOUNTD);
	peer_open(&run.vmmd, &ipc_vmmd_agentd, AGENTD_FD_VMMD);
	run.mountd.fd_for = mountd_fd;
	run.vmmd.fd_for = vmmd_fd;
	run.ctl = sim_pair(SOCK_SEQPACKET, FD_CTL);
	make_pair(&run.guest, &run.guest_theirs);
	/* A guest that does not read is soon noticed. */
	setsockopt(run.guest_theirs, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	make_pair(&run.console, &run.console_theirs);
	sim_run(&sim);
	drain(files.in);
	drain(files.out);
	drain(files.err);
}
