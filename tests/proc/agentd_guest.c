#include "tests/proc/agentd_guest.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/test.h"
#include "ttrpc.pb-c.h"

#define DEADLINE_MS 15000

static const struct {
	const char *name;
	const ProtobufCMessageDescriptor *d;
} methods[] = {
	{ "CreateSandbox", &grpc__create_sandbox_request__descriptor },
	{ "CreateContainer", &grpc__create_container_request__descriptor },
	{ "StartContainer", &grpc__start_container_request__descriptor },
	{ "RemoveContainer", &grpc__remove_container_request__descriptor },
	{ "SignalProcess", &grpc__signal_process_request__descriptor },
	{ "WaitProcess", &grpc__wait_process_request__descriptor },
	{ "ReadStdout", &grpc__read_stream_request__descriptor },
	{ "ReadStderr", &grpc__read_stream_request__descriptor },
	{ "WriteStdin", &grpc__write_stream_request__descriptor },
	{ "CloseStdin", &grpc__close_stdin_request__descriptor },
	{ "ExecProcess", &grpc__exec_process_request__descriptor },
	{ "TtyWinResize", &grpc__tty_win_resize_request__descriptor },
	{ "PauseContainer", &grpc__pause_container_request__descriptor },
	{ "ResumeContainer", &grpc__resume_container_request__descriptor },
	{ "UpdateContainer", &grpc__update_container_request__descriptor },
	{ "OnlineCPUMem", &grpc__online_cpumem_request__descriptor },
	{ "StatsContainer", &grpc__stats_container_request__descriptor },
	{ "GetOOMEvent", &grpc__get_oomevent_request__descriptor },
	{ "ListProcesses", &bulkhead__list_processes_request__descriptor },
};

uint32_t guest_oom_stream;

static void send_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		struct pollfd pfd = { .fd = fd, .events = POLLOUT };
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN) {
			CHECK_INT(poll(&pfd, 1, DEADLINE_MS), 1);
			continue;
		}
		if (n < 0) /* it has closed the stream on us, as it may */
			return;
		p += n;
		len -= (size_t)n;
	}
}

void guest_frame(int fd, uint32_t declared, uint32_t stream, uint8_t type, uint8_t flags,
	const void *data, size_t len)
{
	struct ttrpc_header h = { declared, stream, type, flags };
	uint8_t bytes[TTRPC_HEADER_LEN];

	ttrpc_header_write(&h, bytes);
	send_all(fd, bytes, sizeof(bytes));
	send_all(fd, data, len);
}

void guest_hello(int fd)
{
	guest_frame(fd, 16, 0, TTRPC_HELLO, 0, "bulkhead-agent/1", 16);
}

static bool recv_all(int fd, void *data, size_t len)
{
	char *p = data;

	while (len > 0) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		ssize_t n;

		CHECK_INT(poll(&pfd, 1, DEADLINE_MS), 1);
		n = recv(fd, p, len, MSG_DONTWAIT);
		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static ProtobufCMessage *decode(const char *method, const ProtobufCBinaryData *payload)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
		if (strcmp(methods[i].name, method) == 0)
			return protobuf_c_message_unpack(methods[i].d, NULL, payload->len,
				payload->data);
	return NULL;
}

static bool any_next(int fd, struct guest_request *ret)
{
	uint8_t bytes[TTRPC_HEADER_LEN], *data;
	struct ttrpc_header h;
	Ttrpc__Request *request;

	if (!recv_all(fd, bytes, sizeof(bytes)))
		return false;
	h = ttrpc_header_read(bytes);
	CHECK_INT(h.type, TTRPC_REQUEST);
	CHECK_INT(h.flags, 0);
	CHECK_INT(h.stream % 2, 1);
	CHECK(h.length <= TTRPC_DATA_MAX);
	data = malloc(h.length + 1);
	CHECK(recv_all(fd, data, h.length));
	request = ttrpc__request__unpack(NULL, h.length, data);
	CHECK(request);
	CHECK_STR(request->service, strcmp(request->method, "ListProcesses") == 0 ?
			"bulkhead.AgentService" : "grpc.AgentService");
	ret->stream = h.stream;
	snprintf(ret->method, sizeof(ret->method), "%s", request->method);
	ret->message = decode(request->method, &request->payload);
	CHECK(ret->message);
	ttrpc__request__free_unpacked(request, NULL);
	free(data);
	return true;
}

void guest_take_oom(int fd)
{
	struct guest_request r;

	CHECK(any_next(fd, &r));
	CHECK_STR(r.method, "GetOOMEvent");
	guest_oom_stream = r.stream;
	guest_request_done(&r);
}

/* It waits from the sandbox's first moment on, whatever a test is about. */
bool guest_next(int fd, struct guest_request *ret)
{
	while (any_next(fd, ret)) {
		if (strcmp(ret->method, "GetOOMEvent") != 0)
			return true;
		guest_oom_stream = ret->stream;
		guest_request_done(ret);
	}
	return false;
}

void guest_request_done(struct guest_request *r)
{
	protobuf_c_message_free_unpacked(r->message, NULL);
	r->message = NULL;
}

void guest_expect(int fd, const char *method, struct guest_request *ret)
{
	CHECK(guest_next(fd, ret));
	CHECK_STR(ret->method, method);
}

static void respond(int fd, uint32_t stream, Ttrpc__Response *response)
{
	size_t len = ttrpc__response__get_packed_size(response);
	uint8_t *data = malloc(len + 1);

	ttrpc__response__pack(response, data);
	guest_frame(fd, (uint32_t)len, stream, TTRPC_RESPONSE, 0, data, len);
	free(data);
}

void guest_reply(int fd, uint32_t stream, const ProtobufCMessage *reply)
{
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;
	size_t len = reply ? protobuf_c_message_get_packed_size(reply) : 0;

	response.payload.data = malloc(len + 1);
	response.payload.len = len;
	if (reply)
		protobuf_c_message_pack(reply, response.payload.data);
	respond(fd, stream, &response);
	free(response.payload.data);
}

void guest_fail(int fd, uint32_t stream, int code, const char *message)
{
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;
	Ttrpc__Status status = TTRPC__STATUS__INIT;

	status.code = code;
	status.message = (char *)message;
	response.status = &status;
	respond(fd, stream, &response);
}

void guest_grant(int fd, const char *method)
{
	struct guest_request r;

	guest_expect(fd, method, &r);
	guest_reply(fd, r.stream, NULL);
	guest_request_done(&r);
}

/* -- the honest one */

uint8_t guest_byte(int which, size_t i)
{
	return (uint8_t)(i * 31 + i / 251 + (size_t)which * 7);
}

struct honest {
	int fd;
	const struct guest_plan *plan;
	size_t at[2];	   /* of stdout, stderr */
	bool ended[2];	   /* told */
	uint32_t reading[2]; /* parked */
	uint32_t waiting;
	uint8_t queue[1 << 20]; /* cat */
	size_t put;
	bool closed;
};

static void reply_data(struct honest *g, uint32_t stream, uint8_t *data, size_t len)
{
	Grpc__ReadStreamResponse reply = GRPC__READ_STREAM_RESPONSE__INIT;

	reply.data.data = data;
	reply.data.len = len;
	guest_reply(g->fd, stream, &reply.base);
}

static void reply_status(struct honest *g)
{
	Grpc__WaitProcessResponse reply = GRPC__WAIT_PROCESS_RESPONSE__INIT;

	if (!g->waiting || !(g->plan->exit_first || (g->ended[0] && g->ended[1])))
		return;
	reply.status = g->plan->status;
	guest_reply(g->fd, g->waiting, &reply.base);
	g->waiting = 0;
}

static void serve_read(struct honest *g, int which, size_t max)
{
	uint8_t data[65536];
	size_t total = which ? g->plan->err : g->plan->cat ? g->put : g->plan->out;
	size_t n = total - g->at[which];
	bool open = which == 0 && ((g->plan->cat && !g->closed) || g->plan->hold_stdout);

	if (n == 0 && open)
		return;
	if (n > max)
		n = max;
	if (n > sizeof(data))
		n = sizeof(data);
	if (g->plan->piece && n > g->plan->piece)
		n = g->plan->piece;
	for (size_t i = 0; i < n; i++, g->at[which]++)
		data[i] = g->plan->cat && which == 0 ? g->queue[g->at[0]] :
						       guest_byte(which, g->at[which]);
	reply_data(g, g->reading[which], data, n);
	g->reading[which] = 0;
	if (n == 0)
		g->ended[which] = true;
}

static void serve(struct honest *g, struct guest_request *r)
{
	if (strcmp(r->method, "ReadStdout") == 0 || strcmp(r->method, "ReadStderr") == 0) {
		int which = strcmp(r->method, "ReadStderr") == 0;

		CHECK_INT(g->reading[which], 0);
		g->reading[which] = r->stream;
	} else if (strcmp(r->method, "WaitProcess") == 0) {
		g->waiting = r->stream;
	} else if (strcmp(r->method, "WriteStdin") == 0) {
		const Grpc__WriteStreamRequest *m = (void *)r->message;
		Grpc__WriteStreamResponse reply = GRPC__WRITE_STREAM_RESPONSE__INIT;

		/* Some of it only: the rest must come again. */
		reply.len = (uint32_t)(m->data.len > 1000 ? m->data.len - 1 : m->data.len);
		CHECK(m->data.len <= 32768 && g->put + reply.len <= sizeof(g->queue));
		memcpy(g->queue + g->put, m->data.data, reply.len);
		g->put += reply.len;
		guest_reply(g->fd, r->stream, &reply.base);
	} else {
		if (strcmp(r->method, "CloseStdin") == 0)
			g->closed = true;
		if (strcmp(r->method, "RemoveContainer") == 0) {
			g->at[0] = g->at[1] = g->put = 0;
			g->ended[0] = g->ended[1] = g->closed = false;
		}
		guest_reply(g->fd, r->stream, NULL);
	}
}

static _Noreturn void honest_run(struct honest *g)
{
	struct guest_request r;

	guest_hello(g->fd);
	while (guest_next(g->fd, &r)) {
		size_t max = 65536;

		serve(g, &r);
		guest_request_done(&r);
		for (int which = 0; which < 2; which++)
			if (g->reading[which])
				serve_read(g, which, max);
		reply_status(g);
	}
	_exit(0);
}

pid_t guest_fork(int fd, const struct guest_plan *plan)
{
	static struct honest g;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid > 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(fd, 3);
	close_range(4, ~0U, 0);
	g.fd = 3;
	g.plan = plan;
	honest_run(&g);
}
