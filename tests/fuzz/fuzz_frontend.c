/*
 * The frontend behind its isolation: containerd's requests, the answers and
 * events of the five processes it asks, control messages, containerd's answers
 * to events.
 *
 *	u8 what	0: bytes of client u8		1: a request: u8 method, its message
 *		2: a right request: u8 method (from 0xf0 on, once: MANY of it), u8 which container
 *		3: a client closes		4: it reads its answers
 *		5 to 9: a packet of netd, mountd, vmmd, agentd, persistd
 *		10: all of them answer everything, with success
 *		11: a control message		12: bytes for the events' connection;
 *						    none: it refuses the event
 *		13: the right answer there	14: time passes		15: something closes
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/agentd.pb-c.h"
#include "ipc/fds.h"
#include "shim-frontend/frontend.h"
#include "tests/fuzz/lib/packet.h"
#include "tests/fuzz/lib/sim.h"
#include "ttrpc.pb-c.h"

#define CLIENTS 40 /* more than are served */
#define PEERS	5
#define MANY	250

static struct {
	struct bytes in;
	struct frontend fe;
	struct loop *loop;
	struct sockaddr_un address;
	socklen_t address_len;
	int client[CLIENTS];
	uint32_t stream[CLIENTS]; /* of its last request */
	struct peer_end peer[PEERS];
	bool many; /* have been asked: once, for it takes long */
	int ctl, events, events_next; /* next: for OPEN_EVENTS */
	int events_next_theirs;
	uint32_t events_stream;
} run;

static const struct {
	const struct ipc_channel *channel;
	int fd;
} peers[PEERS] = {
	{ &ipc_frontend_netd, FRONTEND_FD_NETD },
	{ &ipc_frontend_mountd, FRONTEND_FD_MOUNTD },
	{ &ipc_frontend_vmmd, FRONTEND_FD_VMMD },
	{ &ipc_frontend_agentd, FRONTEND_FD_AGENTD },
	{ &ipc_frontend_persistd, FRONTEND_FD_PERSISTD },
};

static void say(int fd, const void *data, size_t len)
{
	if (fd >= 0 && len > 0)
		send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void drain(int fd)
{
	char buf[4096];

	while (fd >= 0 && recv(fd, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

/* ---- containerd ---- */

/* Connected when it first says something. */
static int client(uint8_t number)
{
	int *fd = &run.client[number % CLIENTS];

	if (*fd >= 0)
		return *fd;
	*fd = sim_ours(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	run.stream[number % CLIENTS] = 0;
	if (connect(*fd, (const struct sockaddr *)&run.address, run.address_len) < 0)
		sim_close(fd);
	return *fd;
}

static void send_frame(int fd, const struct ttrpc_header *h, const void *data)
{
	static uint8_t frame[TTRPC_HEADER_LEN + (1 << 17)];

	SIM_CHECK(h->length <= sizeof(frame) - TTRPC_HEADER_LEN);
	ttrpc_header_write(h, frame);
	memcpy(frame + TTRPC_HEADER_LEN, data, h->length);
	say(fd, frame, TTRPC_HEADER_LEN + h->length);
}

static void request(uint8_t number, const char *method, const void *payload, size_t len)
{
	static uint8_t data[(1 << 17) - 64];
	Ttrpc__Request call = TTRPC__REQUEST__INIT;
	uint32_t *stream = &run.stream[number % CLIENTS];
	int fd = client(number);
	struct ttrpc_header h = { .type = TTRPC_REQUEST };

	*stream += *stream == 0 ? 1 : 2;
	h.stream = *stream;
	call.service = (char *)task_service.name;
	call.method = (char *)method;
	call.payload.data = (uint8_t *)payload;
	call.payload.len = len;
	h.length = (uint32_t)ttrpc__request__pack(&call, data);
	send_frame(fd, &h, data);
}

static const struct rpc_method *method_of(uint8_t number)
{
	return &task_service.methods[number % task_service.n_methods];
}

/* Requests differ, but in all of them field 1 is the container's id. */
static void right_request(uint8_t number, uint8_t which)
{
	static char ids[][4] = { "s1", "c2", "c3" };
	const struct rpc_method *method = method_of(number);
	Containerd__CreateTaskRequest create = CONTAINERD__CREATE_TASK_REQUEST__INIT;
	Containerd__KillRequest kill_ = CONTAINERD__KILL_REQUEST__INIT;
	Containerd__CloseIORequest close_ = CONTAINERD__CLOSE_IOREQUEST__INIT;
	Containerd__DeleteRequest other = CONTAINERD__DELETE_REQUEST__INIT;
	const ProtobufCMessage *msg = &other.base;
	char bundle[32];
	uint8_t data[256];
	int times = 1;

	create.id = kill_.id = close_.id = other.id = ids[which % ARRAY_SIZE(ids)];
	snprintf(bundle, sizeof(bundle), "/run/containerd/%s", create.id);
	create.bundle = bundle;
	create.stdin = create.stdout = (char[]){ "/run/fifo" };
	kill_.signal = which & 0x40 ? SIGTERM : SIGKILL;
	close_.stdin = 1;
	if (strcmp(method->name, "Create") == 0)
		msg = &create.base;
	else if (strcmp(method->name, "Kill") == 0)
		msg = &kill_.base;
	else if (strcmp(method->name, "CloseIO") == 0)
		msg = &close_.base;
	else if (strcmp(method->name, "Shutdown") == 0 && !(which & 0x80))
		return; /* else half of all inputs end here */
	if (number >= 0xf0 && !run.many) {
		run.many = true;
		times = MANY;
	}
	while (times-- > 0)
		request(0, method->name, data, protobuf_c_message_pack(msg, data));
}

/* containerd's answer to the event that it has been sent. */
static void answer_event(const Ttrpc__Response *response)
{
	uint8_t frame[8192], data[64];
	struct ttrpc_header h;
	ssize_t n = run.events < 0 ? 0 : recv(run.events, frame, sizeof(frame), MSG_DONTWAIT);

	if (n < TTRPC_HEADER_LEN)
		return;
	h = ttrpc_header_read(frame);
	SIM_CHECK(h.type == TTRPC_REQUEST && h.stream % 2 == 1);
	h.type = TTRPC_RESPONSE;
	h.length = (uint32_t)ttrpc__response__pack(response, data);
	send_frame(run.events, &h, data);
}

static void acknowledge(void)
{
	const Ttrpc__Response response = TTRPC__RESPONSE__INIT;

	answer_event(&response);
}

static void refuse(void)
{
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;
	Ttrpc__Status status = TTRPC__STATUS__INIT;

	status.code = TTRPC_UNAVAILABLE;
	status.message = (char[]){ "not now" };
	response.status = &status;
	answer_event(&response);
}

/* OPEN_EVENTS is answered with a connection. */
static int events_fd(void *ctx, uint16_t type, size_t i)
{
	(void)ctx;
	(void)type;
	(void)i;
	sim_close(&run.events);
	if (run.events_next_theirs < 0) {
		int fds[2];

		SIM_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
		run.events_next = sim_ours(fds[0]);
		run.events_next_theirs = sim_ours(fds[1]);
	}
	run.events = run.events_next;
	return run.events_next_theirs;
}

/* ---- what happens next ---- */

static void close_one(uint8_t which)
{
	if (which % 7 < PEERS)
		peer_close(&run.peer[which % 7]);
	else if (which % 7 == PEERS)
		sim_close(&run.events);
	else
		sim_close(&run.ctl);
}

static void happen(unsigned what)
{
	static const int pauses[] = { 1, 300, 2000, 10000, 60000 };
	uint8_t number;
	const uint8_t *p;
	size_t len;

	switch (what) {
	case 0:
		number = in_u8(&run.in);
		p = in_bytes(&run.in, UINT16_MAX, &len);
		say(client(number), p, len);
		break;
	case 1:
		number = in_u8(&run.in);
		p = in_bytes(&run.in, UINT16_MAX, &len);
		request(number >> 6, method_of(number & 0x3f)->name, p, len);
		break;
	case 2:
		number = in_u8(&run.in);
		right_request(number, in_u8(&run.in));
		break;
	case 3:
		sim_close(&run.client[in_u8(&run.in) % CLIENTS]);
		break;
	case 4:
		drain(run.client[in_u8(&run.in) % CLIENTS]);
		break;
	case 10:
		for (size_t i = 0; i < PEERS; i++)
			peer_answer_all(&run.peer[i]);
		break;
	case 11:
		ctl_say(run.ctl, &run.in);
		break;
	case 12:
		p = in_bytes(&run.in, UINT16_MAX, &len);
		if (len > 0)
			say(run.events, p, len);
		else
			refuse();
		break;
	case 13:
		acknowledge();
		break;
	case 14:
		sim_advance(pauses[in_u8(&run.in) % 5]);
		break;
	case 15:
		close_one(in_u8(&run.in));
		break;
	default:
		peer_send(&run.peer[what - 5], &run.in);
	}
}

static bool next(void *ctx)
{
	bool at_once;

	(void)ctx;
	if (run.ctl < 0)
		return false;
	if (run.in.left == 0) {
		/* What it has asked until now was right. */
		for (size_t i = 0; i < PEERS; i++)
			peer_read(&run.peer[i]);
		sim_close(&run.ctl);
	} else {
		do
			happen(in_what(&run.in, 16, &at_once));
		while (at_once);
	}
	return true;
}

/* ---- a run ---- */

static const struct settings settings = {
	.id = "s1",
	.namespace = "default",
	.bundle = "/run/containerd/s1",
	.task_pid = 1,
	.vcpus = 1,
	.memory_mib = 128,
	.share = true,
	.hello_timeout_ms = 60000,
	.call_timeout_max_ms = 600000,
	.frame_timeout_ms = 30000,
};

static int role(void *ctx)
{
	struct error err = ERROR_INIT;

	(void)ctx;
	run.loop = loop_new(&err);
	SIM_CHECK(run.loop);
	SIM_CHECK(frontend_init(&run.fe, &settings, run.loop, NULL, &err) == 0);
	SIM_CHECK(loop_run(run.loop, &err) == 0);
	frontend_done(&run.fe);
	loop_free(run.loop);
	return run.fe.exit_status;
}

/* How much memory all connections have is counted for ever. */
static void died(void *ctx)
{
	(void)ctx;
	server_done(&run.fe.server);
	events_done(&run.fe.events);
}

/* A name of the kernel's choice. */
static void listen_at(int fd)
{
	const struct sockaddr_un any = { .sun_family = AF_UNIX };
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	SIM_CHECK(bind(s, (const struct sockaddr *)&any, sizeof(any.sun_family)) == 0);
	SIM_CHECK(listen(s, 8) == 0);
	run.address_len = sizeof(run.address);
	SIM_CHECK(getsockname(s, (struct sockaddr *)&run.address, &run.address_len) == 0);
	sim_theirs(s, fd);
}

/* The frontend serves root alone. */
static void become_root(void)
{
	char map[32];
	int fd, len = snprintf(map, sizeof(map), "0 %u 1", geteuid());

	if (geteuid() == 0 || unshare(CLONE_NEWUSER) < 0)
		return;
	fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
	if (write(fd, map, (size_t)len) < 0)
		fprintf(stderr, "not root: no request will be served\n");
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool prepared;
	struct sim sim = { .next = next, .role = role, .died = died, .reap = true,
		.closes_fds = true };

	if (!prepared)
		become_root();
	prepared = true;
	run.in = (struct bytes){ data, size };
	for (size_t i = 0; i < CLIENTS; i++)
		run.client[i] = -1;
	listen_at(FRONTEND_FD_LISTENER);
	for (size_t i = 0; i < PEERS; i++)
		peer_open(&run.peer[i], peers[i].channel, peers[i].fd);
	run.peer[1].fd_for = events_fd;
	run.ctl = sim_pair(SOCK_SEQPACKET, FD_CTL);
	run.events = sim_pair(SOCK_STREAM, FRONTEND_FD_EVENTS);
	run.events_next_theirs = -1;
	run.many = false;
	sim_run(&sim);
	return 0;
}
