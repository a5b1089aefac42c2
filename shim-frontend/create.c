/*
 * Create. The first one of a sandbox starts the VM; the others find it there.
 * They run one after another: containers of one pod share everything that is
 * slow about them.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/log.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/persistd.pb-c.h"
#include "ipc/vmmd.pb-c.h"
#include "shim-frontend/create.h"
#include "shim-frontend/errdefs.h"
#include "shim-frontend/proto/events.pb-c.h"

#define QUEUE_MAX     16

#define MOUNT_MS      30000
#define STDIO_MS      5000
#define SHARE_MS      10000
#define LAUNCH_MS     20000
#define CONT_MS       5000
#define HELLO_MORE_MS 2000 /* vmmd and agentd keep the time themselves */
#define GUEST_MS      60000
#define STOP_MS       1000
#define UNDO_MS       10000

static const Containerd__CreateTaskRequest *request_of(const struct create_flow *cf)
{
	return (const Containerd__CreateTaskRequest *)cf->op.rpc->request;
}

static enum step_result ask(struct flow *f, struct peer *peer, uint16_t type,
	const ProtobufCMessage *request, int timeout_ms,
	void (*reply)(struct flow *f, const ProtobufCMessage *reply))
{
	struct create_flow *cf = create_flow_of(f);
	int ms = frontend_ms(cf->op.fe, timeout_ms);

	/* What the client allows counts for the way there, not for the way back. */
	if (!f->undoing)
		ms = rpc_left_ms(cf->op.rpc, ms);
	return flow_call(f, peer, type, request, ms, reply);
}

/* The last part of a path, without slashes behind it; *len is 0 when there is none. */
static const char *base_name(const char *path, size_t *len)
{
	size_t end = strlen(path), start;

	while (end > 0 && path[end - 1] == '/')
		end--;
	start = end;
	while (start > 0 && path[start - 1] != '/')
		start--;
	*len = end - start;
	return path + start;
}

static enum step_result step_turn(struct flow *f)
{
	return disks_step_begin(rpc_flow_of(f)->fe, f);
}

static enum step_result undo_turn(struct flow *f)
{
	disks_end(rpc_flow_of(f)->fe);
	return STEP_DONE;
}

static void added(struct flow *f, const ProtobufCMessage *reply)
{
	const Ipc__MountdAddContainerReply *r = (const Ipc__MountdAddContainerReply *)reply;
	struct create_flow *cf = create_flow_of(f);
	struct error err = ERROR_INIT;

	/* An answer to an undo has none. */
	if (f->undoing)
		return;
	cf->pod = r->pod;
	if (disks_take(cf->op.fe, cf->container, r, &err) < 0)
		frontend_fatal(cf->op.fe, &err); /* it is not the real mountd any more */
	disks_end(cf->op.fe);
}

static enum step_result step_add(struct flow *f)
{
	struct create_flow *cf = create_flow_of(f);
	const Containerd__CreateTaskRequest *r = request_of(cf);
	Ipc__MountdAddContainer request = IPC__MOUNTD_ADD_CONTAINER__INIT;
	Ipc__MountdAddContainer__Mount mounts[MOUNTS_MAX], *list[MOUNTS_MAX];
	_cleanup_free_ char *name = NULL;
	const char *base;
	size_t len;

	base = base_name(r->bundle, &len);
	name = cf->first ? strdup("") : strndup(base, len);
	if (!name)
		abort();
	for (size_t i = 0; i < r->n_rootfs; i++) {
		ipc__mountd_add_container__mount__init(&mounts[i]);
		mounts[i].type = r->rootfs[i]->type;
		mounts[i].source = r->rootfs[i]->source;
		mounts[i].n_options = r->rootfs[i]->n_options;
		mounts[i].options = r->rootfs[i]->options;
		list[i] = &mounts[i];
	}
	request.index = cf->container->index;
	request.bundle = name;
	request.n_rootfs = r->n_rootfs;
	request.rootfs = list;
	return ask(f, &cf->op.fe->mountd, MOUNTD_ADD_CONTAINER, &request.base, MOUNT_MS, added);
}

static enum step_result undo_add(struct flow *f)
{
	struct create_flow *cf = create_flow_of(f);
	Ipc__MountdRemoveContainer request = IPC__MOUNTD_REMOVE_CONTAINER__INIT;
	struct disks_list disks;

	request.index = cf->container->index;
	disks_forget(cf->op.fe, cf->container, &request, &disks);
	disks_gone(cf->op.fe, cf->container); /* nobody else is being created */
	return ask(f, &cf->op.fe->mountd, MOUNTD_REMOVE_CONTAINER, &request.base, UNDO_MS, NULL);
}

static enum step_result step_stdio(struct flow *f)
{
	struct create_flow *cf = create_flow_of(f);
	const struct container *c = cf->container;
	Ipc__MountdOpenStdio request = IPC__MOUNTD_OPEN_STDIO__INIT;

	request.process = c->init.number;
	request.stdin = c->init.stdin_path;
	request.stdout = c->init.stdout_path;
	request.stderr = c->init.stderr_path;
	return ask(f, &cf->op.fe->mountd, MOUNTD_OPEN_STDIO, &request.base, STDIO_MS, NULL);
}

static enum step_result step_share(struct flow *f)
{
	struct frontend *fe = rpc_flow_of(f)->fe;
	Ipc__MountdStartShare request = IPC__MOUNTD_START_SHARE__INIT;

	if (!fe->settings.share)
		return STEP_DONE;
	return ask(f, &fe->mountd, MOUNTD_START_SHARE, &request.base, SHARE_MS, NULL);
}

/* The VM may have ended before it was begun: its slot, or virtiofsd, has died. */
static enum step_result step_vm(struct flow *f)
{
	struct frontend *fe = rpc_flow_of(f)->fe;

	if (fe->vm.state != VM_NONE) {
		error_set(&f->err, EHOSTDOWN, "%s", fe->vm.text);
		return STEP_FAIL;
	}
	vm_set_state(fe, VM_STARTING);
	return STEP_DONE;
}

static void vm_is_dead(void *ctx)
{
	flow_resume(ctx, NULL);
}

static void stop_answered(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err)
{
	struct flow *f = ctx;
	struct create_flow *cf = create_flow_of(f);

	(void)reply;
	(void)fds;
	if (err)
		vm_kill(cf->op.fe, err->msg);
	else
		vm_stopped(cf->op.fe);
	vm_wait_dead(cf->op.fe, &cf->vm_waiter, vm_is_dead, f);
}

static enum step_result undo_vm(struct flow *f)
{
	struct create_flow *cf = create_flow_of(f);
	struct frontend *fe = cf->op.fe;
	Ipc__VmmdStop request = IPC__VMMD_STOP__INIT;
	struct error err = ERROR_INIT;

	fe->vm.asked = true;
	if (fe->vm.state == VM_UP &&
		call_start(&fe->vmmd, VMMD_STOP, &request.base, frontend_ms(fe, STOP_MS),
			stop_answered, f, &err) == 0)
		return STEP_WAIT;
	/* vmmd did not get it as far as to stop it by QMP, or cannot be asked. */
	vm_kill(fe, "it did not start");
	vm_wait_dead(fe, &cf->vm_waiter, vm_is_dead, f);
	return STEP_WAIT;
}

static void launched(struct flow *f, const ProtobufCMessage *reply)
{
	struct frontend *fe = rpc_flow_of(f)->fe;

	(void)reply;
	if (fe->vm.state == VM_STARTING)
		vm_set_state(fe, VM_UP);
}

static enum step_result step_launch(struct flow *f)
{
	struct frontend *fe = rpc_flow_of(f)->fe;
	Ipc__VmmdLaunch request = IPC__VMMD_LAUNCH__INIT;
	Ipc__VmmdLaunch__Nic nics[NETWORK_LINKS_MAX], *list[NETWORK_LINKS_MAX];

	request.vcpus = fe->settings.vcpus;
	request.memory_mib = fe->settings.memory_mib;
	request.share = fe->settings.share;
	update_room(&fe->settings, &request);
	network_fill(&fe->network, &request, nics, list);
	request.ports = create_flow_of(f)->container->disks.n;
	if (fe->network.may_come)
		request.ports += NETWORK_LATE_MAX;
	if (create_flow_of(f)->pod)
		request.ports += DISKS_LATE_MAX;
	return ask(f, &fe->vmmd, VMMD_LAUNCH, &request.base, LAUNCH_MS, launched);
}

/* Each step from here on needs the VM: when it has died meanwhile, say so at once. */
static bool vm_is_up(struct flow *f)
{
	return vm_check(rpc_flow_of(f)->fe, &f->err) == 0;
}

static enum step_result step_cont(struct flow *f)
{
	Ipc__VmmdCont request = IPC__VMMD_CONT__INIT;

	if (!vm_is_up(f))
		return STEP_FAIL;
	return ask(f, &rpc_flow_of(f)->fe->vmmd, VMMD_CONT, &request.base, CONT_MS, NULL);
}

/* What is left of the time that the guest's agent has, from CONT to its hello. */
static int agent_left_ms(const struct create_flow *cf)
{
	int ms = clock_left_ms(cf->agent_by);

	return ms > 0 ? ms : 1;
}

static enum step_result step_vsock(struct flow *f)
{
	struct create_flow *cf = create_flow_of(f);
	const struct settings *s = &cf->op.fe->settings;
	Ipc__VmmdConnect request = IPC__VMMD_CONNECT__INIT;

	cf->agent_by = clock_ms() + s->hello_timeout_ms;
	if (!s->vsock)
		return STEP_DONE;
	if (!vm_is_up(f))
		return STEP_FAIL;
	request.timeout_ms = (uint32_t)agent_left_ms(cf);
	return ask(f, &cf->op.fe->vmmd, VMMD_CONNECT, &request.base,
		s->hello_timeout_ms + HELLO_MORE_MS, NULL);
}

static void connected(struct flow *f, const ProtobufCMessage *reply)
{
	(void)f;
	log_info("the guest's agent says: %.128s", ((const Ipc__AgentdConnectReply *)reply)->agent);
}

static enum step_result step_connect(struct flow *f)
{
	struct frontend *fe = rpc_flow_of(f)->fe;
	Ipc__AgentdConnect request = IPC__AGENTD_CONNECT__INIT;
	int ms = agent_left_ms(create_flow_of(f));

	if (!vm_is_up(f))
		return STEP_FAIL;
	request.timeout_ms = (uint32_t)ms;
	return ask(f, &fe->agentd, AGENTD_CONNECT, &request.base, ms + HELLO_MORE_MS, connected);
}

static enum step_result step_disks(struct flow *f)
{
	struct create_flow *cf = create_flow_of(f);

	if (cf->container->disks.n == 0)
		return STEP_DONE;
	return vm_is_up(f) ? disks_step_plug(cf->op.fe, cf->container, f) : STEP_FAIL;
}

static enum step_result undo_disks(struct flow *f)
{
	struct create_flow *cf = create_flow_of(f);

	return disks_step_unplug(cf->op.fe, cf->container, f);
}

static enum step_result step_network(struct flow *f)
{
	return vm_is_up(f) ? network_step_guest(f) : STEP_FAIL;
}

static enum step_result step_sandbox(struct flow *f)
{
	struct frontend *fe = rpc_flow_of(f)->fe;
	Ipc__AgentdCreateSandbox request = IPC__AGENTD_CREATE_SANDBOX__INIT;

	if (!vm_is_up(f))
		return STEP_FAIL;
	request.sandbox_id = (char *)fe->settings.id;
	request.share = fe->settings.share;
	request.index = create_flow_of(f)->container->index;
	return ask(f, &fe->agentd, AGENTD_CREATE_SANDBOX, &request.base, GUEST_MS, NULL);
}

static void container_created(struct flow *f, const ProtobufCMessage *reply)
{
	create_flow_of(f)->container->limits =
		limits_told(((const Ipc__AgentdCreateContainerReply *)reply)->limits);
}

static enum step_result step_container(struct flow *f)
{
	struct create_flow *cf = create_flow_of(f);
	struct container *c = cf->container;
	Ipc__AgentdCreateContainer request = IPC__AGENTD_CREATE_CONTAINER__INIT;

	if (!vm_is_up(f))
		return STEP_FAIL;
	request.index = c->index;
	request.id = c->id;
	request.process = c->init.number;
	request.terminal = c->init.terminal;
	request.stdin = c->init.stdin_path[0] != '\0';
	request.stdout = c->init.stdout_path[0] != '\0';
	request.stderr = c->init.stderr_path[0] != '\0';
	return ask(f, &cf->op.fe->agentd, AGENTD_CREATE_CONTAINER, &request.base, GUEST_MS,
		container_created);
}

/* An exit that was recorded for an earlier container of the same id. */
static enum step_result step_forget(struct flow *f)
{
	struct create_flow *cf = create_flow_of(f);
	Ipc__PersistdForget request = IPC__PERSISTD_FORGET__INIT;

	request.id = cf->container->id;
	return ask(f, &cf->op.fe->persistd, PERSISTD_FORGET, &request.base, UNDO_MS, NULL);
}

static enum step_result step_nothing(struct flow *f)
{
	(void)f;
	return STEP_DONE;
}

/* What agentd and the guest have of it: config.json, stdio, a container that was created late. */
static enum step_result undo_agent(struct flow *f)
{
	struct create_flow *cf = create_flow_of(f);
	Ipc__AgentdRemove request = IPC__AGENTD_REMOVE__INIT;

	if (cf->op.fe->vm.state != VM_UP)
		return STEP_DONE;
	request.index = cf->container->index;
	return ask(f, &cf->op.fe->agentd, AGENTD_REMOVE, &request.base, UNDO_MS, NULL);
}

static const struct flow_step first_steps[] = {
	{ "scan the network", network_step_scan, NULL },
	{ "attach the network", network_step_attach, NULL },
	{ "mount its file systems", step_add, undo_add },
	{ "open stdio", step_stdio, NULL },
	{ "start the file server", step_share, NULL },
	{ "start the VM", step_vm, undo_vm },
	{ "start the VM", step_launch, NULL },
	{ "run the VM", step_cont, NULL },
	{ "connect to the guest's agent", step_vsock, NULL },
	{ "wait for the guest's agent", step_connect, NULL },
	{ "give the VM its disks", step_disks, NULL },
	{ "set up the network in the guest", step_network, NULL },
	{ "create the sandbox in the guest", step_sandbox, NULL },
	{ "create the container in the guest", step_container, NULL },
};

static const struct flow_step later_steps[] = {
	{ "forget an earlier exit", step_forget, NULL },
	{ "wait for disks that leave", step_turn, undo_turn },
	{ "mount its file systems", step_add, undo_add },
	{ "give the VM its disks", step_nothing, undo_disks },
	{ "give the VM its disks", step_disks, NULL },
	{ "hand over the configuration", step_nothing, undo_agent },
	{ "open stdio", step_stdio, NULL },
	{ "create the container in the guest", step_container, NULL },
};

static void publish_create(struct create_flow *cf)
{
	const Containerd__CreateTaskRequest *r = request_of(cf);
	Containerd__TaskCreate event = CONTAINERD__TASK_CREATE__INIT;
	Containerd__TaskIO io = CONTAINERD__TASK_IO__INIT;

	io.stdin = r->stdin;
	io.stdout = r->stdout;
	io.stderr = r->stderr;
	io.terminal = r->terminal;
	event.container_id = r->id;
	event.bundle = r->bundle;
	event.n_rootfs = r->n_rootfs;
	event.rootfs = r->rootfs;
	event.io = &io;
	event.pid = cf->op.fe->settings.task_pid;
	events_publish(&cf->op.fe->events, "/tasks/create", "containerd.events.TaskCreate",
		&event.base);
}

static void succeeded(struct create_flow *cf)
{
	Containerd__CreateTaskResponse reply = CONTAINERD__CREATE_TASK_RESPONSE__INIT;
	struct frontend *fe = cf->op.fe;

	fe->sandbox_created = true;
	process_set_state(&cf->container->init, PROCESS_CREATED);
	publish_create(cf);
	reply.pid = fe->settings.task_pid;
	rpc_reply(cf->op.rpc, &reply.base);
	/* Both may have happened since the guest's answer. */
	exit_released(fe, &cf->container->init);
	if (fe->vm.state == VM_DEAD)
		exit_all(fe);
}

static void failed(struct create_flow *cf)
{
	struct frontend *fe = cf->op.fe;
	struct error err = cf->op.flow.err;

	/* When QEMU died by itself, its last words explain what others only noticed. */
	if (fe->vm.spoke && !strstr(err.msg, fe->vm.text)) {
		struct error both = ERROR_INIT;

		error_set(&both, err.code, "%.250s (%.250s)", err.msg, fe->vm.text);
		err = both;
	}
	errdefs_foreign(&err);
	error_wrap(&err, "create %s", cf->container->id);
	log_error("%s", err.msg);
	if (cf->first && !fe->broken.code) {
		fe->broken = err;
		error_wrap(&fe->broken, "the sandbox has failed");
	}
	rpc_fail(cf->op.rpc, &err);
	container_free(&fe->table, cf->container);
}

static void next_create(struct frontend *fe);

static void finished(struct flow *f)
{
	struct create_flow *cf = create_flow_of(f);
	struct frontend *fe = cf->op.fe;

	if (f->err.code)
		failed(cf);
	else
		succeeded(cf);
	free(cf);
	fe->creating = NULL;
	next_create(fe);
}

/* 0, or the rpc is to fail. */
static int check_sandbox(struct frontend *fe, const char *id, struct error *err)
{
	const struct container *own;

	if (fe->broken.code) {
		*err = fe->broken;
		return -err->code;
	}
	if (fe->shutting_down)
		return error_set(err, ESHUTDOWN, "the sandbox is shutting down");
	own = table_find(&fe->table, fe->settings.id);
	if (own && own->init.exit.seen)
		return error_set(err, EHOSTDOWN, "the container that holds the pod, %s, has ended",
			fe->settings.id);
	if (!fe->sandbox_created && !fe->creating && strcmp(id, fe->settings.id) != 0)
		return error_set(err, EBUSY, "the container of the sandbox itself, %s, comes first",
			fe->settings.id);
	if (fe->table.n >= CONTAINERS_MAX)
		return error_set(err, ENOSPC, "the sandbox has %d containers", CONTAINERS_MAX);
	if (fe->n_queue >= QUEUE_MAX)
		return error_set(err, ENOBUFS, "%d others are being created", QUEUE_MAX);
	return 0;
}

static int check_request(const struct frontend *fe, const Containerd__CreateTaskRequest *r,
	struct error *err)
{
	const char *base;
	size_t len;

	if (r->checkpoint[0] || r->parent_checkpoint[0])
		return error_set(err, ENOTSUP, "checkpoints are not supported");
	if (r->n_rootfs > MOUNTS_MAX)
		return error_set(err, EINVAL, "%zu mounts for the root, the limit is %d",
			r->n_rootfs, MOUNTS_MAX);
	for (size_t i = 0; i < r->n_rootfs; i++)
		if (r->rootfs[i]->target[0])
			return error_set(err, EINVAL, "mount %zu of the root has a target", i);
	base = base_name(r->bundle, &len);
	if (strcmp(r->id, fe->settings.id) != 0 &&
		(len == 0 || (len == 1 && base[0] == '.') ||
			(len == 2 && memcmp(base, "..", 2) == 0)))
		return error_set(err, EINVAL, "the bundle '%.200s' has no name", r->bundle);
	return 0;
}

static int check(struct frontend *fe, const Containerd__CreateTaskRequest *r, struct error *err)
{
	int ret = id_check(r->id, err);

	if (ret == 0 && table_find(&fe->table, r->id))
		ret = error_set(err, EEXIST, "the container exists already");
	if (ret == 0)
		ret = check_sandbox(fe, r->id, err);
	if (ret == 0)
		ret = check_request(fe, r, err);
	if (ret < 0)
		error_wrap(err, "create %.80s", r->id);
	return ret;
}

static void begin(struct create_flow *cf)
{
	struct frontend *fe = cf->op.fe;

	fe->creating = cf;
	cf->first = !fe->sandbox_created;
	if (cf->first)
		flow_start(&cf->op.flow, fe->loop, first_steps, ARRAY_SIZE(first_steps), finished);
	else
		flow_start(&cf->op.flow, fe->loop, later_steps, ARRAY_SIZE(later_steps), finished);
}

/* The next of the queue that can still be created. */
static void next_create(struct frontend *fe)
{
	while (!fe->creating && fe->queue) {
		struct create_flow *cf = fe->queue;

		fe->queue = cf->next;
		if (!fe->queue)
			fe->queue_last = &fe->queue;
		fe->n_queue--;
		if (!fe->broken.code) {
			begin(cf);
			return;
		}
		cf->op.flow.err = fe->broken;
		failed(cf);
		free(cf);
	}
}

void create_start(struct frontend *fe, struct rpc *rpc)
{
	const Containerd__CreateTaskRequest *r = (Containerd__CreateTaskRequest *)rpc->request;
	struct error err = ERROR_INIT;
	struct create_flow *cf;

	if (check(fe, r, &err) < 0) {
		log_warn("%s", err.msg);
		rpc_fail(rpc, &err);
		return;
	}
	cf = calloc(1, sizeof(*cf));
	if (!cf)
		abort();
	cf->op.fe = fe;
	cf->op.rpc = rpc;
	cf->container = container_new(&fe->table, r);
	if (!fe->creating) {
		begin(cf);
		return;
	}
	*fe->queue_last = cf;
	fe->queue_last = &cf->next;
	fe->n_queue++;
}

void create_fatal(struct frontend *fe, const struct error *err)
{
	struct create_flow *cf = fe->creating;
	struct error said = *err;
	const struct flow *f;

	if (!cf)
		return;
	f = &cf->op.flow;
	if (f->err.code)
		said = f->err;
	else if (f->at < f->n_steps)
		error_wrap(&said, "%s", f->steps[f->at].name);
	error_wrap(&said, "create %s", cf->container->id);
	rpc_fail(cf->op.rpc, &said);
}
