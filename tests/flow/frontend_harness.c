#include "tests/flow/frontend_harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <dirent.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/common.pb-c.h"
#include "ipc/fds.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/netd.pb-c.h"
#include "ipc/persistd.pb-c.h"
#include "ipc/vmmd.pb-c.h"
#include "tests/lib/void.h"
#include "ttrpc.pb-c.h"

static const struct {
	const char *name;
	const struct ipc_channel *channel;
	int target;
} peers[P_COUNT] = {
	[P_CTL] = { "ctl", NULL, FD_CTL },
	[P_NETD] = { "netd", &ipc_frontend_netd, FRONTEND_FD_NETD },
	[P_MOUNTD] = { "mountd", &ipc_frontend_mountd, FRONTEND_FD_MOUNTD },
	[P_VMMD] = { "vmmd", &ipc_frontend_vmmd, FRONTEND_FD_VMMD },
	[P_AGENTD] = { "agentd", &ipc_frontend_agentd, FRONTEND_FD_AGENTD },
	[P_PERSISTD] = { "persistd", &ipc_frontend_persistd, FRONTEND_FD_PERSISTD },
};

static void append(char *to, size_t size, const char *text)
{
	size_t n = strlen(to);

	snprintf(to + n, size - n, "%s", text);
}

void fx_rule(struct fx *fx, const char *what, enum action action, int code, const char *text)
{
	CHECK(fx->n_rules < RULES_MAX);
	fx->rules[fx->n_rules++] = (struct rule){ what, action, code, text, 0 };
}

static const struct rule *find_rule(struct fx *fx, const char *what)
{
	static const struct rule well = { .action = ACT_OK };

	for (unsigned i = 0; i < fx->n_rules; i++)
		if (strcmp(fx->rules[i].what, what) == 0) {
			if (fx->rules[i].skip-- > 0)
				return &well;
			return &fx->rules[i];
		}
	return &well;
}

/* ---- start and end ---- */

static int listen_on(struct fx *fx)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(fx->path, sizeof(fx->path), "/tmp/bh-fe-%d.sock", getpid());
	unlink(fx->path);
	strcpy(a.sun_path, fx->path);
	CHECK(bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	chmod(fx->path, 0777);
	CHECK(listen(fd, 128) == 0);
	return fd;
}

void fx_start_unlocked(struct fx *fx, const char *const *options)
{
	const char *args[32] = { "uid=70000", "id=" SANDBOX, "namespace=ns1", "bundle=" BUNDLE,
		"task_pid=4242", "vcpus=2", "memory_mib=256" };
	struct test_fd fds[16];
	int theirs[P_COUNT], log[2], ev[2] = { -1, -1 }, null, pidfd, n = 0, n_args = 7;

	if (geteuid() != 0)
		test_skip("needs root");
	/* Its filter lets no leak checker run. */
	setenv("ASAN_OPTIONS", "detect_leaks=0", 0);
	while (options && *options)
		args[n_args++] = *options++;
	for (int i = 0; i < P_COUNT; i++) {
		int pair[2];

		test_pair(pair);
		fx->fd[i] = pair[0];
		theirs[i] = pair[1];
	}
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, log) == 0);
	fx->log = log[0];
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	fx->listener = listen_on(fx);
	pidfd = test_void_shared(NULL);
	if (fx->events >= 0) {
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ev) == 0);
		fx->events = ev[0];
	}
	fds[n++] = (struct test_fd){ 0, null };
	fds[n++] = (struct test_fd){ 1, null };
	fds[n++] = (struct test_fd){ 2, log[1] };
	for (int i = 0; i < P_COUNT; i++)
		fds[n++] = (struct test_fd){ peers[i].target, theirs[i] };
	fds[n++] = (struct test_fd){ FRONTEND_FD_LISTENER, fx->listener };
	fds[n++] = (struct test_fd){ FRONTEND_FD_EVENTS, ev[1] >= 0 ? ev[1] : null };
	fds[n++] = (struct test_fd){ FRONTEND_FD_VOID, pidfd };
	fds[n++] = (struct test_fd){ -1, -1 };
	fx->pid = test_spawn("bulkhead-frontend", args, fds);
	for (int i = 0; i < P_COUNT; i++)
		close(theirs[i]);
	close(log[1]);
	close(null);
	close(pidfd);
	if (ev[1] >= 0)
		close(ev[1]);
	fx->status = -1;
}

void fx_start(struct fx *fx, const char *const *options)
{
	struct pollfd pfd;
	struct ctl_msg msg;

	fx_start_unlocked(fx, options);
	pfd = (struct pollfd){ .fd = fx->fd[P_CTL], .events = POLLIN };
	CHECK(poll(&pfd, 1, 5000) == 1);
	CHECK(ctl_recv(fx->fd[P_CTL], 0, &msg) == 1);
	if (msg.type != CTL_READY)
		test_fail(__FILE__, __LINE__, "not READY: %s", msg.text);
	fx_ctl(fx, CTL_LOCK, ROLE_FRONTEND, 0, NULL);
}

static void close_all(struct fx *fx)
{
	for (int i = 0; i < P_COUNT; i++)
		fd_close(&fx->fd[i]);
	fd_close(&fx->log);
	fd_close(&fx->listener);
	fd_close(&fx->events);
	unlink(fx->path);
}

void fx_stop(struct fx *fx)
{
	if (fx->status < 0) {
		kill(fx->pid, SIGKILL);
		waitpid(fx->pid, &fx->status, 0);
	}
	close_all(fx);
}

int fx_wait_exit(struct fx *fx, int ms)
{
	int64_t deadline = clock_ms() + ms;
	int status;

	while (clock_left_ms(deadline) > 0) {
		if (waitpid(fx->pid, &status, WNOHANG) == fx->pid) {
			fx_pump(fx, 0, NULL); /* its last lines */
			fx->status = status;
			if (WIFSIGNALED(status))
				test_fail(__FILE__, __LINE__, "signal %d; log:\n%s",
					WTERMSIG(status), fx->logs);
			return WEXITSTATUS(status);
		}
		fx_pump(fx, 5, NULL);
	}
	return -1;
}

void fx_shutdown(struct fx *fx, struct client *c)
{
	Containerd__ShutdownRequest r = CONTAINERD__SHUTDOWN_REQUEST__INIT;
	struct answer a;

	r.id = (char *)SANDBOX;
	CHECK_INT(fx_call(fx, c, "Shutdown", &r.base, &a), 0);
	CHECK_INT(fx_wait_exit(fx, 5000), 0);
	CHECK(fx->stop);
}

/* ---- the neighbours ---- */

enum fx_links fx_links;

/* With the disks that the test wants. */
static Ipc__MountdAddContainerReply *fx_added(struct fx *fx)
{
	static Ipc__MountdAddContainerReply__Disk disk[DISKS_MAX + 1], *list[DISKS_MAX + 1];
	static Ipc__MountdAddContainerReply added;

	ipc__mountd_add_container_reply__init(&added);
	added.pod = fx->pod;
	added.disks = list;
	for (; added.n_disks < fx->n_disks; added.n_disks++) {
		list[added.n_disks] = &disk[added.n_disks];
		ipc__mountd_add_container_reply__disk__init(list[added.n_disks]);
		list[added.n_disks]->index = fx->disks[added.n_disks];
		list[added.n_disks]->read_only = fx->disks[added.n_disks] % 2;
	}
	return &added;
}

/* What is about disks in a request: "+2ro" plugged read-only, "-2" taken away, "!2" forgotten. */
static void note_disks(struct fx *fx, const ProtobufCMessage *m)
{
	char word[64];

	if (m->descriptor == &ipc__vmmd_add_block__descriptor) {
		const Ipc__VmmdAddBlock *add = (const Ipc__VmmdAddBlock *)m;

		snprintf(word, sizeof(word), "+%u%s ", add->index, add->read_only ? "ro" : "");
		append(fx->disk_trace, sizeof(fx->disk_trace), word);
	}
	if (m->descriptor == &ipc__vmmd_remove__descriptor) {
		const Ipc__VmmdRemove *remove = (const Ipc__VmmdRemove *)m;

		CHECK_INT(remove->kind, IPC__VMMD_REMOVE__KIND__BLOCK);
		snprintf(word, sizeof(word), "-%u ", remove->index);
		append(fx->disk_trace, sizeof(fx->disk_trace), word);
	}
	if (m->descriptor == &ipc__mountd_remove_container__descriptor) {
		const Ipc__MountdRemoveContainer *remove = (const Ipc__MountdRemoveContainer *)m;

		for (size_t i = 0; i < remove->n_disks; i++) {
			snprintf(word, sizeof(word), "!%u ", remove->disks[i]->index);
			append(fx->disk_trace, sizeof(fx->disk_trace), word);
		}
	}
}

static void fill_limits(Ipc__Limits *ret, const int64_t from[3])
{
	ret->cpu_quota = from[0];
	ret->cpu_period = from[1];
	ret->memory = from[2];
}

static void send_reply(struct fx *fx, enum peer_nr p, const struct ipc_header *h)
{
	const struct ipc_message *row = ipc_channel_message(peers[p].channel, h->type);
	Ipc__Empty empty = IPC__EMPTY__INIT;
	Ipc__NetdScanReply scan = IPC__NETD_SCAN_REPLY__INIT;
	Ipc__AgentdConnectReply hello = IPC__AGENTD_CONNECT_REPLY__INIT;
	Ipc__AgentdStatsReply stats = IPC__AGENTD_STATS_REPLY__INIT;
	Ipc__AgentdProcessesReply processes = IPC__AGENTD_PROCESSES_REPLY__INIT;
	Ipc__AgentdCreateContainerReply created = IPC__AGENTD_CREATE_CONTAINER_REPLY__INIT;
	Ipc__AgentdLimitsReply told = IPC__AGENTD_LIMITS_REPLY__INIT;
	Ipc__Limits limits = IPC__LIMITS__INIT;
	const ProtobufCMessage *msg = &empty.base;
	int pair[2] = { -1, -1 };
	struct error err;

	Ipc__NetdPartReply part = IPC__NETD_PART_REPLY__INIT;
	Ipc__NetworkPart network = IPC__NETWORK_PART__INIT;
	Ipc__NetworkLink link = IPC__NETWORK_LINK__INIT, *links[] = { &link };
	Ipc__NetdAttachReply attached = IPC__NETD_ATTACH_REPLY__INIT;
	uint8_t mac[6] = { 2, 0, 0, 0, 0, 1 };

	if (strcmp(row->name, "scan") == 0) {
		scan.stays = fx_links >= FX_LATER_NONE;
		scan.links = scan.parts = fx_links == FX_LINK;
		if (fx_links == FX_LATER_LINK)
			fx_links = FX_LINK;
		msg = &scan.base;
	}
	if (strcmp(row->name, "part") == 0) {
		link.name = (char *)"eth0";
		link.mac = (ProtobufCBinaryData){ sizeof(mac), mac };
		link.mtu = 1400;
		network.n_links = 1;
		network.links = links;
		part.part = &network;
		msg = &part.base;
	}
	if (strcmp(row->name, "attach") == 0) {
		attached.queues = 1;
		msg = &attached.base;
	}
	if (p == P_AGENTD && strcmp(row->name, "connect") == 0) {
		hello.agent = (char *)"bulkhead-agent/1";
		msg = &hello.base;
	}
	if (strcmp(row->name, "create_container") == 0) {
		fill_limits(&limits, fx->created_with);
		created.limits = &limits;
		msg = &created.base;
	}
	if (strcmp(row->name, "limits") == 0) {
		fill_limits(&limits, fx->limits);
		told.limits = &limits;
		msg = &told.base;
	}
	if (strcmp(row->name, "stats") == 0)
		msg = &stats.base;
	if (strcmp(row->name, "processes") == 0)
		msg = fx->processes ? &fx->processes->base : &processes.base;
	if (strcmp(row->name, "add_container") == 0)
		msg = &fx_added(fx)->base;
	if (strcmp(row->name, "open_events") == 0) {
		fx->n_opens++;
		CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
		fd_close(&fx->events);
		fx->events = pair[0];
		fx->event_len = 0;
	}
	channel_send(fx->fd[p], peers[p].channel, IPC_REPLY, h->type, h->seq, msg, &pair[1],
		pair[1] >= 0 ? 1 : 0, 1000, &err);
	fd_close(&pair[1]);
}

void fx_answer_held(struct fx *fx)
{
	for (unsigned i = 0; i < fx->n_held; i++)
		if (fx->fd[fx->held[i].peer] >= 0)
			send_reply(fx, fx->held[i].peer, &fx->held[i].hdr);
	fx->n_held = 0;
}

static void note(struct fx *fx, const struct ipc_packet *packet)
{
	struct error err;
	ProtobufCMessage *m = ipc_decode(packet, &err);

	if (!m)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	if (m->descriptor == &ipc__agentd_create_container__descriptor) {
		fx->last_index = ((Ipc__AgentdCreateContainer *)m)->index;
		fx->last_process = ((Ipc__AgentdCreateContainer *)m)->process;
	}
	if (m->descriptor == &ipc__agentd_exec__descriptor)
		fx->last_exec = ((Ipc__AgentdExec *)m)->process;
	if (m->descriptor == &ipc__agentd_text__descriptor)
		fx->text_len += ((Ipc__AgentdText *)m)->data.len;
	if (m->descriptor == &ipc__vmmd_launch__descriptor) {
		fx->ports = ((Ipc__VmmdLaunch *)m)->ports;
		fx->max_vcpus = ((Ipc__VmmdLaunch *)m)->max_vcpus;
		fx->max_memory_mib = ((Ipc__VmmdLaunch *)m)->max_memory_mib;
	}
	if (m->descriptor == &ipc__vmmd_add_memory__descriptor)
		fx->plugged_mib += ((Ipc__VmmdAddMemory *)m)->mib;
	if (m->descriptor == &ipc__vmmd_add_cpu__descriptor)
		fx->plugged_cpus++;
	if (m->descriptor == &ipc__agentd_online__descriptor) {
		fx->online_vcpus = ((Ipc__AgentdOnline *)m)->vcpus;
		fx->online_mib = ((Ipc__AgentdOnline *)m)->plugged_mib;
	}
	if (m->descriptor == &ipc__mountd_add_container__descriptor)
		snprintf(fx->last_bundle, sizeof(fx->last_bundle), "%s",
			((Ipc__MountdAddContainer *)m)->bundle);
	note_disks(fx, m);
	if (m->descriptor == &ipc__persistd_record__descriptor) {
		fx->recorded = ((Ipc__PersistdRecord *)m)->status;
		fx->n_records++;
	}
	ipc_free(m);
}

static void serve(struct fx *fx, enum peer_nr p)
{
	static const struct rule nobody_there = { "", ACT_FAIL, ECONNREFUSED, "nobody there", 0 };
	struct ipc_packet packet;
	struct error err = ERROR_INIT, failure = ERROR_INIT;
	const struct rule *rule;
	char what[64];
	int r = channel_recv(fx->fd[p], peers[p].channel, MSG_DONTWAIT, &packet, &err);

	if (r == -EAGAIN)
		return;
	if (r <= 0) {
		fd_close(&fx->fd[p]);
		return;
	}
	snprintf(what, sizeof(what), "%s.%s", peers[p].name, packet.row->name);
	append(fx->trace, sizeof(fx->trace), what);
	append(fx->trace, sizeof(fx->trace), " ");
	note(fx, &packet);
	rule = find_rule(fx, what);
	if (strcmp(what, "mountd.open_events") == 0 && fx->events_dead)
		rule = &nobody_there;
	switch (rule->action) {
	case ACT_OK:
		send_reply(fx, p, &packet.hdr);
		break;
	case ACT_FAIL:
		error_set(&failure, rule->code, "%s", rule->text);
		channel_send_error(fx->fd[p], packet.hdr.type, packet.hdr.seq, &failure, 1000,
			&err);
		break;
	case ACT_SILENT:
		CHECK(fx->n_held < HELD_MAX);
		fx->held[fx->n_held++] = (struct held){ p, packet.hdr };
		break;
	case ACT_DIE:
		fd_close(&fx->fd[p]);
		break;
	case ACT_GARBAGE:
		CHECK(send(fx->fd[p], "garbage!", 8, MSG_NOSIGNAL) == 8);
		break;
	}
	ipc_packet_done(&packet);
}

static void serve_ctl(struct fx *fx)
{
	struct ctl_msg msg;
	int r = ctl_recv(fx->fd[P_CTL], MSG_DONTWAIT, &msg);

	if (r == -EAGAIN)
		return;
	if (r <= 0) {
		fd_close(&fx->fd[P_CTL]);
		return;
	}
	if (msg.type == CTL_KILL_VM) {
		append(fx->trace, sizeof(fx->trace), "ctl.kill_vm ");
		fx->kill_vm = true;
		if (!fx->no_kill) {
			fx_ctl(fx, CTL_CHILD_EXIT, ROLE_VIRTIOFSD, 137, "");
			fx_ctl(fx, CTL_CHILD_EXIT, ROLE_QEMU, 137, "");
		}
	}
	if (msg.type == CTL_STOP) {
		append(fx->trace, sizeof(fx->trace), "ctl.stop ");
		fx->stop = true;
	}
}

static void one_event(struct fx *fx, const struct ttrpc_header *h, const uint8_t *data)
{
	Ttrpc__Request *call = ttrpc__request__unpack(NULL, h->length, data);
	Containerd__ForwardRequest *f;
	Containerd__Envelope *e;
	/* container_id is field 1 of each event */
	Containerd__TaskStart *event;
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;
	Ttrpc__Status status = TTRPC__STATUS__INIT;
	struct ttrpc_header rh = { .stream = h->stream, .type = TTRPC_RESPONSE };
	uint8_t out[512];
	char line[256];

	CHECK(call);
	CHECK_STR(call->service, "containerd.services.events.ttrpc.v1.Events");
	CHECK_STR(call->method, "Forward");
	f = containerd__forward_request__unpack(NULL, call->payload.len, call->payload.data);
	CHECK(f && f->envelope && f->envelope->event && f->envelope->timestamp);
	e = f->envelope;
	CHECK_STR(e->namespace_, "ns1");
	event = (Containerd__TaskStart *)
		protobuf_c_message_unpack(&containerd__task_start__descriptor, NULL, 0, NULL);
	CHECK(event);
	containerd__task_start__free_unpacked(event, NULL);
	{
		const uint8_t *v = e->event->value.data;

		CHECK(e->event->value.len > 2 && v[0] == 0x0a);
		snprintf(line, sizeof(line), "%s:%.*s ", e->topic, v[1], (const char *)v + 2);
	}
	append(fx->topics, sizeof(fx->topics), line);
	fx->n_events++;
	containerd__forward_request__free_unpacked(f, NULL);
	ttrpc__request__free_unpacked(call, NULL);
	if (fx->events_silent)
		return;
	if (fx->event_code) {
		status.code = fx->event_code;
		status.message = (char *)"no";
		response.status = &status;
	}
	rh.length = (uint32_t)ttrpc__response__pack(&response, out + TTRPC_HEADER_LEN);
	ttrpc_header_write(&rh, out);
	/* It may have ended meanwhile. */
	CHECK(send(fx->events, out, TTRPC_HEADER_LEN + rh.length, MSG_NOSIGNAL) >= 0 || errno == EPIPE);
}

static void serve_events(struct fx *fx)
{
	ssize_t n = recv(fx->events, fx->event_buf + fx->event_len,
		sizeof(fx->event_buf) - fx->event_len, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		fd_close(&fx->events);
		return;
	}
	fx->event_len += (size_t)n;
	while (fx->event_len >= TTRPC_HEADER_LEN) {
		struct ttrpc_header h = ttrpc_header_read(fx->event_buf);
		size_t need = TTRPC_HEADER_LEN + h.length;

		if (fx->event_len < need)
			break;
		one_event(fx, &h, fx->event_buf + TTRPC_HEADER_LEN);
		memmove(fx->event_buf, fx->event_buf + need, fx->event_len - need);
		fx->event_len -= need;
	}
}

static void serve_log(struct fx *fx)
{
	char line[2048];
	ssize_t n = recv(fx->log, line, sizeof(line) - 1, MSG_DONTWAIT);

	if (n <= 0)
		return;
	line[n] = '\0';
	if (getenv("FX_LOG"))
		fprintf(stderr, "  log: %s", line);
	append(fx->logs, sizeof(fx->logs), line);
}

void fx_pump(struct fx *fx, int ms, const bool *done)
{
	int64_t deadline = clock_ms() + ms;

	for (;;) {
		struct pollfd pfds[P_COUNT + 2];
		int left = clock_left_ms(deadline), n;

		for (int i = 0; i < P_COUNT; i++)
			pfds[i] = (struct pollfd){ .fd = fx->fd[i], .events = POLLIN };
		pfds[P_COUNT] = (struct pollfd){ .fd = fx->events, .events = POLLIN };
		pfds[P_COUNT + 1] = (struct pollfd){ .fd = fx->log, .events = POLLIN };
		n = poll(pfds, P_COUNT + 2, left);
		if (n > 0) {
			if (pfds[P_COUNT + 1].revents)
				serve_log(fx);
			if (pfds[P_CTL].revents)
				serve_ctl(fx);
			for (int i = P_NETD; i < P_COUNT; i++)
				if (pfds[i].revents && fx->fd[i] >= 0)
					serve(fx, (enum peer_nr)i);
			if (pfds[P_COUNT].revents && fx->events >= 0)
				serve_events(fx);
		}
		if ((done && *done) || (n <= 0 && clock_left_ms(deadline) == 0))
			return;
		if (clock_left_ms(deadline) == 0 && ms > 0)
			return;
	}
}

bool fx_until(struct fx *fx, const char *where, const char *text, int ms)
{
	int64_t deadline = clock_ms() + ms;

	while (!strstr(where, text)) {
		if (clock_left_ms(deadline) == 0)
			return false;
		fx_pump(fx, 2, NULL);
	}
	return true;
}

/* ---- containerd's side ---- */

void fx_client(struct fx *fx, struct client *c)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	*c = (struct client){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0),
		.cap = 1 << 20 };
	strcpy(a.sun_path, fx->path);
	CHECK(connect(c->fd, (struct sockaddr *)&a, sizeof(a)) == 0);
	c->buf = malloc(c->cap);
	c->stream = 1;
}

void client_done(struct client *c)
{
	fd_close(&c->fd);
	free(c->buf);
	c->buf = NULL;
}

void client_bytes(struct client *c, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len > 0) {
		ssize_t n = send(c->fd, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno == EPIPE) {
			c->closed = true;
			return;
		}
		CHECK(n > 0);
		p += n;
		len -= (size_t)n;
	}
}

uint32_t fx_send_raw(struct client *c, const char *service, const char *method,
	const uint8_t *payload, size_t len, int64_t timeout_nano)
{
	Ttrpc__Request call = TTRPC__REQUEST__INIT;
	struct ttrpc_header h = { .type = TTRPC_REQUEST, .stream = c->stream };
	uint8_t *out;

	c->stream += 2;
	call.service = (char *)service;
	call.method = (char *)method;
	call.payload.data = (uint8_t *)payload;
	call.payload.len = len;
	call.timeout_nano = timeout_nano;
	h.length = (uint32_t)ttrpc__request__get_packed_size(&call);
	out = malloc(TTRPC_HEADER_LEN + h.length);
	ttrpc_header_write(&h, out);
	ttrpc__request__pack(&call, out + TTRPC_HEADER_LEN);
	client_bytes(c, out, TTRPC_HEADER_LEN + h.length);
	free(out);
	return h.stream;
}

static uint32_t send_timed(struct client *c, const char *method, const ProtobufCMessage *msg,
	int64_t timeout_nano)
{
	uint8_t *buf = malloc(protobuf_c_message_get_packed_size(msg) + 1);
	uint32_t stream;

	CHECK(buf);
	stream = fx_send_raw(c, "containerd.task.v2.Task", method, buf,
		protobuf_c_message_pack(msg, buf), timeout_nano);
	free(buf);
	return stream;
}

uint32_t fx_send(struct client *c, const char *method, const ProtobufCMessage *msg)
{
	return send_timed(c, method, msg, 0);
}

/* A complete frame for the stream out of the buffer. */
static bool take_answer(struct client *c, uint32_t stream, struct answer *a)
{
	size_t off = 0;

	while (c->len - off >= TTRPC_HEADER_LEN) {
		struct ttrpc_header h = ttrpc_header_read(c->buf + off);
		size_t need = TTRPC_HEADER_LEN + h.length;
		Ttrpc__Response *r;

		if (c->len - off < need)
			return false;
		if (h.stream != stream) {
			off += need;
			continue;
		}
		CHECK_INT(h.type, TTRPC_RESPONSE);
		r = ttrpc__response__unpack(NULL, h.length, c->buf + off + TTRPC_HEADER_LEN);
		CHECK(r);
		a->code = r->status ? r->status->code : 0;
		snprintf(a->message, sizeof(a->message), "%s", r->status ? r->status->message : "");
		CHECK(r->payload.len <= sizeof(a->payload));
		if (r->payload.len)
			memcpy(a->payload, r->payload.data, r->payload.len);
		a->len = r->payload.len;
		ttrpc__response__free_unpacked(r, NULL);
		memmove(c->buf + off, c->buf + off + need, c->len - off - need);
		c->len -= need;
		return true;
	}
	return false;
}

static void client_read(struct client *c)
{
	ssize_t n = recv(c->fd, c->buf + c->len, c->cap - c->len, MSG_DONTWAIT);

	if (n > 0)
		c->len += (size_t)n;
	if (n == 0 || (n < 0 && errno == ECONNRESET))
		c->closed = true;
}

bool fx_answer(struct fx *fx, struct client *c, uint32_t stream, struct answer *a, int ms)
{
	int64_t deadline = clock_ms() + ms;

	for (;;) {
		bool was_closed = c->closed;

		fx_pump(fx, 0, NULL);
		client_read(c);
		if (take_answer(c, stream, a))
			return true;
		if (was_closed || clock_left_ms(deadline) == 0)
			return false;
		fx_pump(fx, 1, NULL);
	}
}

int fx_call(struct fx *fx, struct client *c, const char *method, const ProtobufCMessage *msg,
	struct answer *a)
{
	uint32_t stream = fx_send(c, method, msg);

	if (!fx_answer(fx, c, stream, a, 10000))
		test_fail(__FILE__, __LINE__, "%s is not answered; trace: %s\nlog:\n%s", method,
			fx->trace, fx->logs);
	return a->code;
}

int fx_create(struct fx *fx, struct client *c, const char *id, struct answer *a)
{
	Containerd__CreateTaskRequest r = CONTAINERD__CREATE_TASK_REQUEST__INIT;
	Containerd__Mount mount = CONTAINERD__MOUNT__INIT, *mounts[] = { &mount };
	char *options[] = { (char *)"lowerdir=/a:/b", (char *)"upperdir=/c" };
	char bundle[256];

	snprintf(bundle, sizeof(bundle), "/run/containerd/io.containerd.runtime.v2.task/ns1/%s",
		id);
	mount.type = (char *)"overlay";
	mount.source = (char *)"overlay";
	mount.options = options;
	mount.n_options = 2;
	r.id = (char *)id;
	r.bundle = bundle;
	r.rootfs = mounts;
	r.n_rootfs = 1;
	r.stdout = (char *)"/run/fifo/out";
	if (fx->stdin_path)
		r.stdin = (char *)fx->stdin_path;
	return fx_call(fx, c, "Create", &r.base, a);
}

int fx_do_start(struct fx *fx, struct client *c, const char *id, struct answer *a)
{
	Containerd__StartRequest r = CONTAINERD__START_REQUEST__INIT;

	r.id = (char *)id;
	return fx_call(fx, c, "Start", &r.base, a);
}

int fx_kill(struct fx *fx, struct client *c, const char *id, uint32_t signal, struct answer *a)
{
	Containerd__KillRequest r = CONTAINERD__KILL_REQUEST__INIT;

	r.id = (char *)id;
	r.signal = signal;
	return fx_call(fx, c, "Kill", &r.base, a);
}

int fx_delete(struct fx *fx, struct client *c, const char *id, struct answer *a)
{
	Containerd__DeleteRequest r = CONTAINERD__DELETE_REQUEST__INIT;

	r.id = (char *)id;
	return fx_call(fx, c, "Delete", &r.base, a);
}

int fx_exec(struct fx *fx, struct client *c, const char *eid, struct answer *a)
{
	Containerd__ExecProcessRequest r = CONTAINERD__EXEC_PROCESS_REQUEST__INIT;
	Containerd__Any spec = CONTAINERD__ANY__INIT;
	char text[] = "{\"args\":[\"true\"],\"cwd\":\"/\"}";

	spec.type_url = (char *)"types.containerd.io/opencontainers/runtime-spec/1/Process";
	spec.value.data = (uint8_t *)text;
	spec.value.len = strlen(text);
	r.id = (char *)SANDBOX;
	r.exec_id = (char *)eid;
	r.stdin = (char *)(fx->stdin_path ? fx->stdin_path : "");
	r.stdout = (char *)"/run/fifo/out";
	r.spec = &spec;
	return fx_call(fx, c, "Exec", &r.base, a);
}

int fx_start_exec(struct fx *fx, struct client *c, const char *eid, struct answer *a)
{
	Containerd__StartRequest r = CONTAINERD__START_REQUEST__INIT;

	r.id = (char *)SANDBOX;
	r.exec_id = (char *)eid;
	return fx_call(fx, c, "Start", &r.base, a);
}

int fx_delete_exec(struct fx *fx, struct client *c, const char *eid, struct answer *a)
{
	Containerd__DeleteRequest r = CONTAINERD__DELETE_REQUEST__INIT;

	r.id = (char *)SANDBOX;
	r.exec_id = (char *)eid;
	return fx_call(fx, c, "Delete", &r.base, a);
}

int fx_state_exec(struct fx *fx, struct client *c, const char *eid)
{
	Containerd__StateRequest r = CONTAINERD__STATE_REQUEST__INIT;
	Containerd__StateResponse *reply;
	struct answer a;
	int code, status;

	r.id = (char *)SANDBOX;
	r.exec_id = (char *)eid;
	code = fx_call(fx, c, "State", &r.base, &a);
	if (code != 0)
		return -code;
	reply = containerd__state_response__unpack(NULL, a.len, a.payload);
	CHECK(reply);
	CHECK_STR(reply->exec_id, eid);
	status = (int)reply->status;
	containerd__state_response__free_unpacked(reply, NULL);
	return status;
}

uint32_t fx_send_id(struct client *c, const char *method, const char *id)
{
	Containerd__PauseRequest r = CONTAINERD__PAUSE_REQUEST__INIT;

	r.id = (char *)id;
	return fx_send(c, method, &r.base);
}

int fx_state(struct fx *fx, struct client *c, const char *id)
{
	Containerd__StateRequest r = CONTAINERD__STATE_REQUEST__INIT;
	Containerd__StateResponse *s;
	struct answer a;
	int status;

	r.id = (char *)id;
	if (fx_call(fx, c, "State", &r.base, &a))
		return -a.code;
	s = containerd__state_response__unpack(NULL, a.len, a.payload);
	CHECK(s);
	CHECK_STR(s->id, id);
	CHECK_INT(s->pid, TASK_PID);
	status = s->status;
	containerd__state_response__free_unpacked(s, NULL);
	return status;
}

uint32_t fx_send_wait(struct client *c, const char *id, int64_t timeout_nano)
{
	Containerd__WaitRequest r = CONTAINERD__WAIT_REQUEST__INIT;

	r.id = (char *)id;
	return send_timed(c, "Wait", &r.base, timeout_nano);
}

/* ---- news ---- */

void fx_exited(struct fx *fx, uint32_t process, uint32_t status)
{
	Ipc__AgentdExited e = IPC__AGENTD_EXITED__INIT;
	struct error err;

	e.process = process;
	e.status = status;
	e.exited_at_ns = 1700000000123456789;
	CHECK(channel_send(fx->fd[P_AGENTD], &ipc_frontend_agentd, IPC_EVENT, AGENTD_EXITED, 0,
		      &e.base, NULL, 0, 1000, &err) == 0);
}

void fx_ctl(struct fx *fx, enum ctl_type type, enum role role, int status, const char *text)
{
	CHECK(ctl_send(fx->fd[P_CTL], type, role, status, text) == 0);
}

void fx_vm_event(struct fx *fx, int kind, int status, const char *text)
{
	Ipc__VmEvent e = IPC__VM_EVENT__INIT;
	struct error err;

	e.kind = (Ipc__VmEvent__Kind)kind;
	e.status = status;
	e.text = (char *)text;
	CHECK(channel_send(fx->fd[P_VMMD], &ipc_frontend_vmmd, IPC_EVENT, VMMD_EVENT, 0, &e.base,
		      NULL, 0, 1000, &err) == 0);
}

/* ---- looking in from outside ---- */

int fx_count_fds(const struct fx *fx)
{
	char path[64];
	DIR *d;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", fx->pid);
	d = opendir(path);
	CHECK(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

long fx_rss_kib(const struct fx *fx)
{
	char path[64], line[256];
	long kib = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", fx->pid);
	f = fopen(path, "re");
	CHECK(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "VmRSS: %ld", &kib) == 1)
			break;
	fclose(f);
	return kib;
}
