#include <errno.h>
#include <string.h>

#include "agent.pb-c.h"
#include "agentd/devices.h"
#include "agentd/ephemeral.h"
#include "agentd/verbs.h"
#include "common/id.h"
#include "common/log.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/common.pb-c.h"
#include "ipc/fds.h"
#include "ipc/tables.h"

#define CONNECT_TIMEOUT_MAX_MS 600000
#define REMOVE_TIMEOUT_S       10
#define SHM_SIZE_OPTION	       "size=67108864"
#define SIGNAL_MAX	       64

/* -- answers */

static void request_done(struct request *req)
{
	struct request **at = &req->agentd->requests;

	while (*at != req)
		at = &(*at)->next;
	*at = req->next;
	req->agentd->n_requests--;
	free(req);
}

static void sent(struct agentd *a, int r, const struct error *err)
{
	if (r < 0)
		agentd_end(a, r == -EPIPE ? NULL : err);
}

void request_reply(struct request *req, const ProtobufCMessage *reply)
{
	Ipc__Empty empty = IPC__EMPTY__INIT;
	struct agentd *a = req->agentd;
	struct error err = ERROR_INIT;

	if (!a->ending)
		sent(a,
			channel_send(AGENTD_FD_FRONTEND, &ipc_frontend_agentd, IPC_REPLY, req->type,
				req->seq, reply ? reply : &empty.base, NULL, 0, IPC_SEND_TIMEOUT_MS,
				&err),
			&err);
	request_done(req);
}

void request_fail(struct request *req, const struct error *failure)
{
	struct agentd *a = req->agentd;
	struct error err = ERROR_INIT;

	if (!a->ending)
		sent(a,
			channel_send_error(AGENTD_FD_FRONTEND, req->type, req->seq, failure,
				IPC_SEND_TIMEOUT_MS, &err),
			&err);
	request_done(req);
}

void on_answer(void *ctx, ProtobufCMessage *reply, const struct error *err)
{
	(void)reply;
	if (err)
		request_fail(ctx, err);
	else
		request_reply(ctx, NULL);
}

/* -- containers */

static struct container **find_container(struct agentd *a, uint32_t index)
{
	struct container **at = &a->containers;

	while (*at && (*at)->index != index)
		at = &(*at)->next;
	return at;
}

int get_container(struct agentd *a, uint32_t index, struct container **ret,
	struct error *err)
{
	*ret = *find_container(a, index);
	return *ret ? 0 : error_set(err, ENOENT, "there is no container %u in the guest", index);
}

static void container_drop(struct agentd *a, struct container **at)
{
	struct container *c = *at;

	*at = c->next;
	a->n_containers--;
	process_free(c->init);
	execs_drop(a, c);
	free(c->id);
	free(c);
}

void agentd_drop_all(struct agentd *a)
{
	while (a->requests)
		request_done(a->requests);
	while (a->containers)
		container_drop(a, &a->containers);
}

struct process *find_process(struct container *c, uint32_t number)
{
	struct process *p = c->execs;

	if (c->init && c->init->number == number)
		return c->init;
	while (p && p->number != number)
		p = p->next;
	return p;
}

bool process_exists(struct agentd *a, uint32_t number)
{
	for (struct container *c = a->containers; c; c = c->next)
		if (find_process(c, number))
			return true;
	return false;
}

/* -- CONNECT */

static void connect_failed(struct agentd *a, const char *how, int code)
{
	char line[CONSOLE_LINE_MAX];
	struct request *req = steal(a->connect);
	struct error err = ERROR_INIT;

	event_del(&a->connect_timer);
	/* Both end with the VM; what it said last may still be on its way. */
	console_drain(&a->console);
	console_last_line(&a->console, line, sizeof(line));
	error_set(&err, code, "the guest's agent did not say hello%s; %s%s", how,
		line[0] ? "the console's last line: " : "its console is empty", line);
	request_fail(req, &err);
}

static void connect_lost(struct agentd *a, const struct error *reason)
{
	char how[sizeof(reason->msg) + 2];

	snprintf(how, sizeof(how), ": %s", reason->msg);
	connect_failed(a, how, reason->code);
}

static void on_connect_timeout(evutil_socket_t fd, short events, void *arg)
{
	struct agentd *a = arg;
	struct error reason = ERROR_INIT;
	char how[48];

	(void)fd;
	(void)events;
	if (a->connect_timeout_ms % 1000)
		snprintf(how, sizeof(how), " within %u ms", a->connect_timeout_ms);
	else
		snprintf(how, sizeof(how), " within %u s", a->connect_timeout_ms / 1000);
	connect_failed(a, how, ETIMEDOUT);
	/* Nothing that comes later is wanted. */
	error_set(&reason, ETIMEDOUT, "it did not say hello%s", how);
	agent_client_lose(a->agent, &reason);
}

static void connected(struct agentd *a)
{
	Ipc__AgentdConnectReply reply = IPC__AGENTD_CONNECT_REPLY__INIT;
	struct request *req = steal(a->connect);

	event_del(&a->connect_timer);
	a->state = AGENTD_CONNECTED;
	log_info("the guest's agent says hello as " AGENT_HELLO);
	reply.agent = (char[]){ AGENT_HELLO };
	request_reply(req, &reply.base);
}

static void on_hello(void *ctx)
{
	struct agentd *a = ctx;

	a->hello = true;
	if (a->connect)
		connected(a);
}

static void on_lost(void *ctx, const struct error *reason)
{
	Ipc__AgentdLost event = IPC__AGENTD_LOST__INIT;
	struct agentd *a = ctx;
	char line[CONSOLE_LINE_MAX], text[sizeof(reason->msg) + sizeof(line) + 64];

	if (a->connect) {
		connect_lost(a, reason);
		return;
	}
	if (a->state < AGENTD_CONNECTED) /* CONNECT says it, or has said it */
		return;
	console_drain(&a->console);
	console_last_line(&a->console, line, sizeof(line));
	snprintf(text, sizeof(text), "%s; %s%s", reason->msg,
		line[0] ? "the console's last line: " : "the console is empty", line);
	log_warn("the guest's agent is lost: %s", text);
	event.reason = text;
	agentd_tell(a, AGENTD_LOST, &event.base);
}

const struct agent_ops agentd_agent_ops = {
	.hello = on_hello,
	.lost = on_lost,
};

static int handle_connect(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdConnect *m = (const Ipc__AgentdConnect *)message;
	const struct timeval tv = {
		.tv_sec = m->timeout_ms / 1000,
		.tv_usec = m->timeout_ms % 1000 * 1000,
	};

	if (m->timeout_ms == 0 || m->timeout_ms > CONNECT_TIMEOUT_MAX_MS) {
		error_set(err, EPROTO, "a deadline of %u ms", m->timeout_ms);
		return BROKEN;
	}
	if (agentd_drain_vmmd(a, err) < 0)
		return BROKEN;
	if (!a->agent) {
		error_set(err, EPROTO, "before the agent's stream has come");
		return BROKEN;
	}
	a->state = AGENTD_CONNECTING;
	a->connect = req;
	a->connect_timeout_ms = m->timeout_ms;
	evtimer_assign(&a->connect_timer, a->base, on_connect_timeout, a);
	if (agent_client_lost(a->agent))
		connect_lost(a, agent_client_lost(a->agent));
	else if (a->hello)
		connected(a);
	else
		evtimer_add(&a->connect_timer, &tv);
	return 0;
}

/* -- NETWORK */

static void on_network_set_up(void *ctx, const struct error *err)
{
	struct request *req = ctx;

	req->agentd->network_under_way = false;
	on_answer(req, NULL, err);
}

static int handle_network(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdNetwork *m = (const Ipc__AgentdNetwork *)message;
	int r;

	if (a->network_under_way) {
		error_set(err, EPROTO, "the network is being set up");
		return BROKEN;
	}
	if (network_add(&a->network, m->part, err) < 0)
		return BROKEN;
	if (!m->last) {
		request_reply(req, NULL);
		return 0;
	}
	r = network_send(&a->network, a->agent, on_network_set_up, req, err);
	if (r == 0)
		a->network_under_way = true;
	return r;
}

/* -- CREATE_SANDBOX */

static void on_sandbox_created(void *ctx, ProtobufCMessage *reply, const struct error *err)
{
	struct request *req = ctx;

	struct agentd *a = req->agentd;

	a->state = err ? AGENTD_CONNECTED : AGENTD_READY;
	on_answer(ctx, reply, err);
	if (!err)
		oom_listen(a);
}

/* The spec of container `index`, from the config.json that mountd has sent. */
static int take_spec(struct agentd *a, uint32_t index, struct oci_spec *ret, struct error *err)
{
	CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;
	CLEANUP(oci_spec_done) struct oci_spec spec = OCI_SPEC_INIT;
	ProtobufCMessage *config = NULL;
	int r;

	if (index == a->first_index && a->first.spec) {
		*ret = a->first;
		a->first = (struct oci_spec)OCI_SPEC_INIT;
		return 0;
	}
	if (!inbox_take(&a->inbox, MOUNTD_AGENTD_CONFIG, index, &fds, &config)) {
		error_set(err, EPROTO, "before config.json of container %u has come", index);
		return BROKEN;
	}
	r = oci_read(fds.fd[0], index, &spec, err);
	if (r == 0)
		r = ephemeral_amend(&spec, (const Ipc__Config *)config, err);
	if (r == 0)
		r = devices_amend(&spec, (const Ipc__Config *)config, err);
	ipc_free(config);
	if (r < 0)
		return r;
	*ret = spec;
	spec = (struct oci_spec)OCI_SPEC_INIT;
	return 0;
}

static int send_create_sandbox(struct agentd *a, struct request *req,
	const Ipc__AgentdCreateSandbox *m, struct error *err)
{
	Grpc__CreateSandboxRequest request = GRPC__CREATE_SANDBOX_REQUEST__INIT;
	Grpc__Storage share = GRPC__STORAGE__INIT, shm = GRPC__STORAGE__INIT;
	Grpc__Storage *storages[2];
	char *share_options[] = { (char[]){ "nodev" } };
	char *shm_options[] = { (char[]){ "noexec" }, (char[]){ "nosuid" }, (char[]){ "nodev" },
		(char[]){ "mode=1777" }, (char[]){ SHM_SIZE_OPTION } };

	share.driver = (char[]){ "virtio-fs" };
	share.source = (char[]){ SHARE_TAG };
	share.fstype = (char[]){ "virtiofs" };
	share.options = share_options;
	share.n_options = ARRAY_SIZE(share_options);
	share.mount_point = (char[]){ GUEST_SHARE };
	shm.driver = (char[]){ "ephemeral" };
	shm.source = (char[]){ "shm" };
	shm.fstype = (char[]){ "tmpfs" };
	shm.options = shm_options;
	shm.n_options = ARRAY_SIZE(shm_options);
	shm.mount_point = (char[]){ GUEST_SHM };

	request.sandbox_id = m->sandbox_id;
	request.hostname = a->first.spec->hostname;
	request.storages = storages;
	if (m->share)
		storages[request.n_storages++] = &share;
	storages[request.n_storages++] = &shm;
	return agent_call(a->agent, &agent_create_sandbox, &request.base, on_sandbox_created, req,
		NULL, err);
}

static int handle_create_sandbox(struct agentd *a, struct request *req,
	const ProtobufCMessage *message, struct error *err)
{
	const Ipc__AgentdCreateSandbox *m = (const Ipc__AgentdCreateSandbox *)message;
	int r = 0;

	if (strcmp(m->sandbox_id, a->sandbox) != 0) {
		error_set(err, EPROTO, "for another sandbox than this");
		return BROKEN;
	}
	if (agentd_drain_mountd(a, err) < 0)
		return BROKEN;
	if (!a->first.spec) { /* it is there when this is the second try */
		r = take_spec(a, m->index, &a->first, err);
		a->first_index = m->index;
	}
	if (r == 0)
		r = send_create_sandbox(a, req, m, err);
	if (r == 0)
		a->state = AGENTD_PREPARING;
	return r;
}

/* -- CREATE_CONTAINER */

void on_exited(void *ctx, const struct process *p)
{
	Ipc__AgentdExited event = IPC__AGENTD_EXITED__INIT;

	log_info("%s: process %u has ended, status %u", p->owner.container, p->number, p->status);
	event.process = p->number;
	event.status = p->status;
	event.exited_at_ns = p->exited_at_ns;
	agentd_tell(ctx, AGENTD_EXITED, &event.base);
}

static void on_container_created(void *ctx, ProtobufCMessage *reply, const struct error *err)
{
	Ipc__AgentdCreateContainerReply done = IPC__AGENTD_CREATE_CONTAINER_REPLY__INIT;
	struct request *req = ctx;
	struct container **at = find_container(req->agentd, req->index);
	struct container *c = *at;

	(void)reply;
	if (c && !err) {
		c->state = CONTAINER_CREATED;
		done.limits = &c->limits;
	} else if (c && err->code == ETIMEDOUT) {
		/* It may exist all the same: REMOVE must reach the agent. */
		process_free(steal(c->init));
	} else if (c) {
		container_drop(req->agentd, at);
	}
	if (err)
		request_fail(req, err);
	else
		request_reply(req, &done.base);
}

static bool take_stdio(struct agentd *a, uint16_t type, uint32_t process, int *ret, int *ret_second)
{
	CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;

	if (!inbox_take(&a->inbox, type, process, &fds, NULL))
		return false;
	*ret = fdlist_steal(&fds, 0);
	if (ret_second)
		*ret_second = fdlist_steal(&fds, 1);
	return true;
}

/* A FIFO, or a file in its place. */
static bool take_output(struct agentd *a, uint16_t fifo, uint16_t file, uint32_t process, int *ret)
{
	return take_stdio(a, fifo, process, ret, NULL) || take_stdio(a, file, process, ret, NULL);
}

int take_fds(struct agentd *a, const struct wanted_streams *want, struct process_fds *ret,
	struct error *err)
{
	uint32_t process = want->process;

	if ((want->in && !take_stdio(a, MOUNTD_AGENTD_STDIN, process, &ret->in, &ret->spare)) ||
		(want->out && !take_output(a, MOUNTD_AGENTD_STDOUT, MOUNTD_AGENTD_STDOUT_FILE,
				      process, &ret->out)) ||
		(want->err && !take_output(a, MOUNTD_AGENTD_STDERR, MOUNTD_AGENTD_STDERR_FILE,
				      process, &ret->err))) {
		error_set(err, EPROTO, "before the streams of process %u have come", process);
		return BROKEN;
	}
	return 0;
}

/* A container with its init, neither known to the agent yet. */
static struct container *container_add(struct agentd *a, const Ipc__AgentdCreateContainer *m,
	struct process_fds *fds)
{
	struct container *c = calloc(1, sizeof(*c));
	struct stream_owner owner = { .base = a->base, .agent = a->agent, .exec = "" };

	if (!c)
		return NULL;
	c->index = m->index;
	c->id = strdup(m->id);
	owner.container = c->id;
	c->init = process_new(&owner, m->process, m->terminal, fds, on_exited, a);
	c->next = a->containers;
	a->containers = c;
	a->n_containers++;
	if (!c->id || !c->init) {
		container_drop(a, &a->containers);
		return NULL;
	}
	return c;
}

static int send_create_container(struct agentd *a, struct request *req,
	const Ipc__AgentdCreateContainer *m, const struct oci_spec *spec, struct error *err)
{
	Grpc__CreateContainerRequest request = GRPC__CREATE_CONTAINER_REQUEST__INIT;

	request.container_id = m->id;
	request.oci = spec->spec;
	request.sandbox_pidns = spec->joins_pidns;
	request.storages = spec->storages;
	request.n_storages = spec->n_storages;
	request.devices = spec->devices;
	request.n_devices = spec->n_devices;
	/* One truth about the terminal: the one the streams are relayed by. */
	spec->spec->process->terminal = m->terminal;
	return agent_call(a->agent, &agent_create_container, &request.base, on_container_created,
		req, NULL, err);
}

static int check_new_container(struct agentd *a, const Ipc__AgentdCreateContainer *m,
	struct error *err)
{
	/* It goes into the guest and into our log: the frontend has checked it. */
	if (!id_is_valid(m->id)) {
		error_set(err, EPROTO, "the id of container %u is none", m->index);
		return BROKEN;
	}
	if (*find_container(a, m->index) || process_exists(a, m->process)) {
		error_set(err, EPROTO, "container %u or process %u exists", m->index, m->process);
		return BROKEN;
	}
	if (a->n_containers == CONTAINERS_MAX)
		return error_set(err, ENOSPC, "more than %d containers in one guest",
			CONTAINERS_MAX);
	return 0;
}

static int handle_create_container(struct agentd *a, struct request *req,
	const ProtobufCMessage *message, struct error *err)
{
	const Ipc__AgentdCreateContainer *m = (const Ipc__AgentdCreateContainer *)message;
	CLEANUP(process_fds_done) struct process_fds fds = PROCESS_FDS_INIT;
	CLEANUP(oci_spec_done) struct oci_spec spec = OCI_SPEC_INIT;
	const struct wanted_streams want = { m->process, m->stdin, m->stdout, m->stderr };
	struct container *c;
	int r;

	if (agentd_drain_mountd(a, err) < 0)
		return BROKEN;
	/* First the fds, so that none is left behind by a failure below. */
	r = take_fds(a, &want, &fds, err);
	if (r == 0)
		r = take_spec(a, m->index, &spec, err);
	if (r == 0)
		r = check_new_container(a, m, err);
	if (r != 0)
		return r;
	c = container_add(a, m, &fds);
	if (!c)
		return error_errno(err, ENOMEM, "container %u", m->index);
	c->limits = limits_of(spec.spec->linux ? spec.spec->linux->resources : NULL);
	req->index = m->index;
	r = send_create_container(a, req, m, &spec, err);
	if (r < 0)
		container_drop(a, find_container(a, m->index));
	return r;
}

/* -- START */

static void on_started(void *ctx, ProtobufCMessage *reply, const struct error *err)
{
	struct request *req = ctx;
	struct container *c = *find_container(req->agentd, req->index);

	if (c)
		c->state = err ? CONTAINER_CREATED : CONTAINER_STARTED;
	/* The answer first: nobody hears of an exit before the start. */
	on_answer(ctx, reply, err);
	if (c && !err)
		process_start(c->init);
}

static int handle_start(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdStart *m = (const Ipc__AgentdStart *)message;
	Grpc__StartContainerRequest request = GRPC__START_CONTAINER_REQUEST__INIT;
	struct container *c;
	int r = get_container(a, m->index, &c, err);

	if (r < 0)
		return r;
	if (c->state != CONTAINER_CREATED)
		return error_set(err, EBUSY, "container %s is %s", c->id,
			c->state == CONTAINER_CREATING ? "not created yet" : "started already");
	req->index = m->index;
	request.container_id = c->id;
	log_info("phase=start host_us=%lld", (long long)agent_client_idle_us(a->agent));
	r = agent_call(a->agent, &agent_start_container, &request.base, on_started, req, NULL, err);
	if (r == 0)
		c->state = CONTAINER_STARTING;
	return r;
}

/* -- SIGNAL */

static void on_signalled(void *ctx, ProtobufCMessage *reply, const struct error *err)
{
	struct error gone = ERROR_INIT;

	if (err && err->code == ENOENT) { /* of a signal it means: no such process */
		error_set(&gone, ESRCH, "%s", err->msg);
		err = &gone;
	}
	on_answer(ctx, reply, err);
}

static int handle_signal(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdSignal *m = (const Ipc__AgentdSignal *)message;
	Grpc__SignalProcessRequest request = GRPC__SIGNAL_PROCESS_REQUEST__INIT;
	struct container *c = *find_container(a, m->index);
	const struct process *p = c ? find_process(c, m->process) : NULL;
	char *name = c ? c->id : NULL; /* the init goes by the container's id */

	if (m->signal == 0 || m->signal > SIGNAL_MAX)
		return error_set(err, EINVAL, "there is no signal %u", m->signal);
	if (!c || (!p && !m->all))
		return error_set(err, ESRCH, "container %u has no process %u", m->index,
			m->process);
	if (!m->all && p->waited)
		return error_set(err, ESRCH, "process %u of %s has ended", m->process, c->id);
	if (!m->all && p->exec_id) {
		if (p->state == PROCESS_ADDED)
			return error_set(err, EBUSY, "process %u of %s is not started", m->process,
				c->id);
		name = p->exec_id;
	}
	request.container_id = c->id;
	request.exec_id = m->all ? (char *)protobuf_c_empty_string : name;
	request.signal = m->signal;
	return agent_call(a->agent, &agent_signal_process, &request.base, on_signalled, req, NULL,
		err);
}

/* -- CLOSE_STDIN */

static int handle_close_stdin(struct agentd *a, struct request *req,
	const ProtobufCMessage *message, struct error *err)
{
	const Ipc__AgentdCloseStdin *m = (const Ipc__AgentdCloseStdin *)message;
	struct container *c = *find_container(a, m->index);
	struct process *p = c ? find_process(c, m->process) : NULL;

	(void)err;
	if (p)
		input_close(&p->in);
	request_reply(req, NULL); /* of a process that is gone: so is its stdin */
	return 0;
}

/* -- REMOVE */

static void on_removed(void *ctx, ProtobufCMessage *reply, const struct error *err)
{
	struct request *req = ctx;
	struct container **at = find_container(req->agentd, req->index);

	/* It does not know the container: that is what was asked for. */
	if (err && (err->code == ENOENT || err->code == EINVAL))
		err = NULL;
	if (*at && (!err || err->code == ENOTCONN))
		container_drop(req->agentd, at);
	on_answer(ctx, reply, err);
}

static int handle_remove(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	const Ipc__AgentdRemove *m = (const Ipc__AgentdRemove *)message;
	Grpc__RemoveContainerRequest request = GRPC__REMOVE_CONTAINER_REQUEST__INIT;
	struct container **at = find_container(a, m->index);
	int r;

	if (agentd_drain_mountd(a, err) < 0)
		return BROKEN;
	inbox_drop(&a->inbox, MOUNTD_AGENTD_CONFIG, m->index);
	if (!*at) {
		request_reply(req, NULL);
		return 0;
	}
	req->index = m->index;
	request.container_id = (*at)->id;
	request.timeout = REMOVE_TIMEOUT_S;
	r = agent_call(a->agent, &agent_remove_container, &request.base, on_removed, req, NULL,
		err);
	/* Without an agent nobody holds its files; the streams are closed in any case. */
	if (r == -ENOTCONN)
		container_drop(a, at);
	return r;
}

/* -- dispatch */

static const struct {
	uint16_t type;
	unsigned states; /* in which it may be asked */
	verb *handle;
} handlers[] = {
	{ AGENTD_CONNECT, AGENTD_NEW, handle_connect },
	{ AGENTD_NETWORK, AGENTD_CONNECTED | AGENTD_READY, handle_network },
	{ AGENTD_CREATE_SANDBOX, AGENTD_CONNECTED, handle_create_sandbox },
	{ AGENTD_CREATE_CONTAINER, AGENTD_READY, handle_create_container },
	{ AGENTD_START, ~0U, handle_start },
	{ AGENTD_SIGNAL, ~0U, handle_signal },
	{ AGENTD_CLOSE_STDIN, ~0U, handle_close_stdin },
	{ AGENTD_REMOVE, ~0U, handle_remove },
	{ AGENTD_TEXT, ~0U, handle_text },
	{ AGENTD_EXEC, ~0U, handle_exec },
	{ AGENTD_START_EXEC, ~0U, handle_start_exec },
	{ AGENTD_REMOVE_EXEC, ~0U, handle_remove_exec },
	{ AGENTD_RESIZE, ~0U, handle_resize },
	{ AGENTD_PAUSE, ~0U, handle_pause },
	{ AGENTD_RESUME, ~0U, handle_resume },
	{ AGENTD_LIMITS, ~0U, handle_limits },
	{ AGENTD_ONLINE, AGENTD_READY, handle_online },
	{ AGENTD_UPDATE, ~0U, handle_update },
	{ AGENTD_STATS, ~0U, handle_stats },
	{ AGENTD_PROCESSES, ~0U, handle_processes },
};

static int request_new(struct agentd *a, const struct ipc_packet *p, struct request **ret,
	struct error *err)
{
	struct request *req;

	if (a->n_requests == REQUESTS_MAX)
		return error_set(err, EPROTO, "more than %d requests at once", REQUESTS_MAX);
	for (req = a->requests; req; req = req->next)
		if (req->seq == p->hdr.seq)
			return error_set(err, EPROTO, "%s: request %u is not answered yet",
				p->row->name, p->hdr.seq);
	req = calloc(1, sizeof(*req));
	if (!req)
		return error_errno(err, ENOMEM, "%s", p->row->name);
	*req = (struct request){
		.next = a->requests,
		.agentd = a,
		.type = p->hdr.type,
		.seq = p->hdr.seq,
	};
	a->requests = req;
	a->n_requests++;
	*ret = req;
	return 0;
}

static int dispatch(struct agentd *a, const struct ipc_packet *p, size_t row,
	const ProtobufCMessage *message, struct error *err)
{
	struct error failure = ERROR_INIT;
	struct request *req = NULL;
	int r = request_new(a, p, &req, err);

	if (r < 0)
		return r;
	r = handlers[row].handle(a, req, message, &failure);
	if (r == BROKEN) {
		*err = failure;
		return error_wrap(err, "channel %s: %s", ipc_frontend_agentd.name, p->row->name);
	}
	if (r < 0)
		request_fail(req, &failure);
	return 0;
}

int agentd_handle(struct agentd *a, const struct ipc_packet *p, struct error *err)
{
	ProtobufCMessage *message;
	size_t row = 0;
	int r;

	while (row < ARRAY_SIZE(handlers) && handlers[row].type != p->hdr.type)
		row++;
	if (row == ARRAY_SIZE(handlers) || p->hdr.kind != IPC_REQUEST ||
		!(handlers[row].states & a->state))
		return error_set(err, EPROTO, "channel %s: unpermitted request '%s' in state 0x%x",
			ipc_frontend_agentd.name, p->row->name, a->state);
	message = ipc_decode(p, err);
	if (!message)
		return -EPROTO;
	r = dispatch(a, p, row, message, err);
	ipc_free(message);
	return r;
}
