#include "container.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "agent.pb-c.h"
#include "cgroup.h"
#include "crun.h"
#include "disk.h"
#include "hugepages.h"
#include "job.h"
#include "modules.h"
#include "oci_json.h"
#include "oom.h"
#include "process.h"
#include "sandbox.h"
#include "share.h"
#include "storage.h"
#include "table.h"

#define CONTAINERS_MAX 128
#define JOB_TIMEOUT_S  60
#define FREEZE_TIMEOUT_MS 3000

/* -- create */

/* Each of them, whatever becomes of the others. */
static int release_held(const struct container *c, struct error *err)
{
	int r = 0;

	for (size_t i = 0; i < c->n_held; i++)
		if (share_release(c->held[i], err) < 0)
			r = -1;
	return r;
}

struct create_args {
	const struct container *container;
	const Grpc__CreateContainerRequest *request;
	char *pid_ns; /* to join, or NULL */
};

static int sysctl_write(const Grpc__StringEntry *entry, struct error *err)
{
	_cleanup_free_ char *path = xasprintf("/proc/sys/%s", entry->key);
	int r;

	for (char *s = path + strlen("/proc/sys/"); *s; s++)
		if (*s == '.')
			*s = '/';
	r = strstr(path, "//") ? -EINVAL : file_write(path, entry->value);
	if (r < 0) {
		errno = -r;
		return error_errno(err, "sysctl %.128s", entry->key);
	}
	return 0;
}

static int sysctl_apply(const Grpc__Linux *linux_, struct error *err)
{
	for (size_t i = 0; linux_ && i < linux_->n_sysctl; i++)
		if (sysctl_write(linux_->sysctl[i], err) < 0)
			return -1;
	return 0;
}

/* Where the agent makes nodes that crun cannot make in a root: /dev alone can have them. The caller frees it. */
static char *nodes_dir(const char *id)
{
	return xasprintf("/dev/bulkhead/%s", id);
}

static void remove_nodes(const char *id)
{
	_cleanup_free_ char *dir = nodes_dir(id);

	remove_tree(dir);
}

static int make_devices(const Grpc__CreateContainerRequest *request, struct error *err)
{
	_cleanup_free_ char *dir = nodes_dir(request->container_id);
	const Grpc__Linux *linux_ = request->oci->linux;
	int r = make_dirs(dir);

	if (r < 0) {
		errno = -r;
		return error_errno(err, "mkdir %s", dir);
	}
	for (size_t i = 0; linux_ && i < linux_->n_devices; i++)
		if (strcmp(linux_->devices[i]->type, "c") == 0 && linux_->devices[i]->major == 10 &&
		        linux_->devices[i]->minor == 200)
			modules_need("tun");
	return disk_devices(request->oci, request->devices, request->n_devices, dir, err);
}

static int create_in_guest(const struct create_args *args, struct job_report *report,
        struct error *err)
{
	const Grpc__CreateContainerRequest *request = args->request;
	_cleanup_free_ char *cgroup = xasprintf("/bulkhead/%s", request->container_id);
	struct crun_process p = {
		.id = request->container_id,
		.terminal = request->oci->process->terminal,
	};

	if (storage_mount_all(request->storages, request->n_storages, err) < 0 ||
	        sysctl_apply(request->oci->linux, err) < 0 || make_devices(request, err) < 0)
		return -1;
	for (size_t i = 0; i < args->container->n_held; i++)
		share_hold(args->container->held[i]);
	if (request->oci->linux)
		hugepages_leave_out(request->oci->linux->resources);
	p.json = oci_json_config(request->oci, args->pid_ns, cgroup);
	return crun_create(&p, &report->pid, &report->fd, err);
}

static int create_work(const void *arg, struct job_report *report, struct error *err)
{
	const struct create_args *args = arg;
	struct error ignored;

	if (hugepages_take(&args->container->hugepages, err) < 0)
		return -1;
	if (create_in_guest(args, report, err) == 0)
		return 0;
	hugepages_give_back(&args->container->hugepages);
	(void)release_held(args->container, &ignored);
	remove_nodes(args->request->container_id);
	return -1;
}

static void create_done(
        void *owner, uint32_t stream, struct job_report *report, const struct error *err)
{
	struct container *c = owner;
	struct error failure;

	c->job = NULL;
	if (err) {
		rpc_reply_error(stream, err);
		container_free(c);
	} else if (process_born(c->processes, report, &failure) < 0) {
		rpc_reply_error(stream, &failure);
	} else {
		oom_watch(c);
		rpc_reply_empty(stream);
	}
}

/* The pid namespace that containers of this sandbox share, if one was made; the caller frees it. */
static char *shared_pid_ns(void)
{
	for (struct container *c = containers; c; c = c->next)
		if (c->processes->pid && !c->processes->exited)
			return xasprintf("/proc/%d/ns/pid", c->processes->pid);
	return NULL;
}

static int create_check(const Grpc__CreateContainerRequest *request, struct error *err)
{
	const Grpc__Spec *spec = request->oci;

	if (!sandbox_exists())
		return error_set(err, CODE_FAILED_PRECONDITION, "there is no sandbox yet");
	if (!id_valid(request->container_id))
		return error_set(err, CODE_INVALID_ARGUMENT, "the container id is not valid");
	if (container_find(request->container_id))
		return error_set(
		        err, CODE_ALREADY_EXISTS, "container %s exists", request->container_id);
	if (container_count() >= CONTAINERS_MAX)
		return error_set(err, CODE_RESOURCE_EXHAUSTED, "too many containers");
	if (!spec || !spec->process || spec->process->n_args == 0 || !spec->root)
		return error_set(err, CODE_INVALID_ARGUMENT, "the spec lacks a process or a root");
	if (spec->root->path[0] != '/')
		return error_set(err, CODE_INVALID_ARGUMENT, "the root's path is not absolute");
	for (size_t i = 0; i < request->n_devices; i++)
		if (strcmp(request->devices[i]->type, "blk") != 0)
			return error_set(err, CODE_INVALID_ARGUMENT,
			        "devices of type \"%.32s\" are not supported",
			        request->devices[i]->type);
	if (request->stdin_port || request->stdout_port || request->stderr_port)
		return error_set(err, CODE_INVALID_ARGUMENT, "vsock streams are not supported");
	return 0;
}

void create_container(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__CreateContainerRequest *request = (const void *)message;
	struct create_args args = { .request = request };
	const Grpc__Linux *linux_ = request->oci ? request->oci->linux : NULL;
	struct hugepages hugepages;
	struct process *init = NULL;
	struct container *c;
	struct error err;
	int stdio[3];
	struct job_spec spec = {
		.work = create_work,
		.arg = &args,
		.stdio = stdio,
		.timeout_s = JOB_TIMEOUT_S,
		.done = create_done,
		.stream = stream,
	};

	if (create_check(request, &err) == 0 &&
	        hugepages_read(linux_ ? linux_->resources : NULL, &hugepages, &err) == 0)
		init = process_new("", request->oci->process->terminal, stdio, &err);
	if (!init) {
		rpc_reply_error(stream, &err);
		return;
	}
	args.pid_ns = request->sandbox_pidns ? shared_pid_ns() : NULL;
	c = container_add(request, init);
	c->hugepages = hugepages;
	spec.owner = c;
	args.container = c;
	c->job = job_start(&spec, &err);
	stdio_close(stdio);
	free(args.pid_ns);
	if (!c->job) {
		rpc_reply_error(stream, &err);
		container_free(c);
	}
}

/* -- start, update, pause, resume */

static int start_work(const void *arg, struct job_report *report, struct error *err)
{
	(void)report;
	return crun_start(arg, err);
}

/* For jobs that leave nothing behind but success or failure. */
static void container_job_done(
        void *owner, uint32_t stream, struct job_report *report, const struct error *err)
{
	struct container *c = owner;

	(void)report;
	c->job = NULL;
	if (err)
		rpc_reply_error(stream, err);
	else
		rpc_reply_empty(stream);
}

/* Start a job on the container as a whole, or refuse the request. */
static void container_job(struct container *c, job_work *work, const void *arg,
        unsigned int timeout_s, job_done *done, uint32_t stream)
{
	struct error err;
	struct job_spec spec = {
		.work = work,
		.arg = arg,
		.timeout_s = timeout_s,
		.done = done,
		.owner = c,
		.stream = stream,
	};

	c->job = job_start(&spec, &err);
	if (!c->job)
		rpc_reply_error(stream, &err);
}

void start_container(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__StartContainerRequest *request = (const void *)message;
	struct container *c = container_get_idle(stream, request->container_id);

	if (!c)
		return;
	if (c->started || c->processes->exited) {
		rpc_fail(stream, CODE_FAILED_PRECONDITION, "container %s %s", c->id,
		        c->processes->exited ? "has ended" : "is started");
		return;
	}
	c->started = true;
	container_job(c, start_work, c->id, JOB_TIMEOUT_S, container_job_done, stream);
}

static int update_work(const void *arg, struct job_report *report, struct error *err)
{
	const Grpc__UpdateContainerRequest *request = arg;

	(void)report;
	hugepages_leave_out(request->resources);
	if (crun_update(request->container_id, oci_json_resources(request->resources), err) < 0)
		return -1;
	return cgroup_check_limits(request->container_id, request->resources, err);
}

void update_container(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__UpdateContainerRequest *request = (const void *)message;
	struct container *c = container_get_idle(stream, request->container_id);

	if (!c)
		return;
	if (!request->resources) {
		rpc_reply_empty(stream);
		return;
	}
	container_job(c, update_work, request, JOB_TIMEOUT_S, container_job_done, stream);
}

/* Done when the kernel says so, not when it has been told. */
static int freeze_to(const char *id, const char *value, struct error *err)
{
	_cleanup_free_ char *path = cgroup_path(id, "cgroup.events");
	uint64_t want = (uint64_t)(*value - '0'), until = now_ms() + FREEZE_TIMEOUT_MS;
	int r = cgroup_write(id, "cgroup.freeze", value);
	char text[256];

	if (r < 0) {
		errno = -r;
		return error_errno(err, "cgroup.freeze");
	}
	while (file_read(path, text, sizeof(text)) > 0 && flat_key(text, "frozen") != want) {
		if (now_ms() > until) {
			(void)cgroup_write(id, "cgroup.freeze", want ? "0" : "1");
			return error_set(err, CODE_DEADLINE_EXCEEDED,
			        "a process of the container does not stop");
		}
		sleep_ms(2);
	}
	return 0;
}

static int pause_work(const void *arg, struct job_report *report, struct error *err)
{
	(void)report;
	return freeze_to(arg, "1", err);
}

static int resume_work(const void *arg, struct job_report *report, struct error *err)
{
	(void)report;
	return freeze_to(arg, "0", err);
}

void pause_container(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__PauseContainerRequest *request = (const void *)message;
	struct container *c = container_get_idle(stream, request->container_id);

	if (c)
		container_job(c, pause_work, c->id, JOB_TIMEOUT_S, container_job_done, stream);
}

void resume_container(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__ResumeContainerRequest *request = (const void *)message;
	struct container *c = container_get_idle(stream, request->container_id);

	if (c)
		container_job(c, resume_work, c->id, JOB_TIMEOUT_S, container_job_done, stream);
}

void stats_container(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__StatsContainerRequest *request = (const void *)message;
	struct container *c = container_get(stream, request->container_id);

	if (c)
		cgroup_reply_stats(stream, c->id);
}

/* -- remove */

/*
 * Afterwards nothing in the guest refers to the container's files on the share, so that the host
 * can unmount its root and mount the same snapshot again: every process is dead, which ended its
 * mount namespace, and what the caches kept of the share is dropped (pages first, for they hold
 * inodes).
 */
static int remove_work(const void *arg, struct job_report *report, struct error *err)
{
	const struct container *c = arg;

	(void)report;
	(void)cgroup_write(c->id, "cgroup.kill", "1");
	cgroup_wait_empty(c->id);
	if (crun_delete(c->id, err) < 0 || release_held(c, err) < 0)
		return -1;
	remove_nodes(c->id);
	hugepages_give_back(&c->hugepages);
	sync();
	(void)file_write("/proc/sys/vm/drop_caches", "3");
	return 0;
}

static void remove_done(
        void *owner, uint32_t stream, struct job_report *report, const struct error *err)
{
	struct container *c = owner;

	(void)report;
	c->job = NULL;
	if (err) {
		rpc_reply_error(stream, err);
		return;
	}
	container_reap(c);
	container_free(c);
	rpc_reply_empty(stream);
}

void remove_container(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__RemoveContainerRequest *request = (const void *)message;
	struct container *c = container_get_idle(stream, request->container_id);
	unsigned int timeout_s = request->timeout ? request->timeout : JOB_TIMEOUT_S;

	if (c)
		container_job(c, remove_work, c, timeout_s, remove_done, stream);
}
