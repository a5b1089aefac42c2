#include "container.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "agent.pb-c.h"
#include "cgroup.h"
#include "crun.h"
#include "disk.h"
#include "job.h"
#include "modules.h"
#include "oci_json.h"
#include "process.h"
#include "sandbox.h"
#include "share.h"
#include "storage.h"

#define CONTAINERS_MAX 128
#define PROCESSES_MAX  128 /* of one container */
#define JOB_TIMEOUT_S  60
#define FREEZE_TIMEOUT_MS 3000
#define ID_MAX         128

struct container {
	struct container *next;
	char *id;
	char **held; /* its root, its disks, and what lies beside the root on the share and is bound into it */
	size_t n_held;
	struct process *processes; /* the init first */
	struct job *job;           /* what is being done to the container as a whole */
	bool started;

	struct watch memory_events; /* the cgroup's file; -1 until the container is created */
	uint64_t oom_kills;
	bool oom_pending; /* not yet told by GetOOMEvent */
};

/* In the order of creation: the first one alive is the one whose pid namespace may be shared. */
static struct container *containers;

static uint32_t oom_parked; /* the GetOOMEvent that waits, or 0 */
static bool oom_asked;	     /* somebody listens, and will ask again */

/* -- the tables */

/* Ids become file names and arguments of crun. */
static bool id_valid(const char *id)
{
	size_t len = strlen(id);

	return len > 0 && len <= ID_MAX && id[0] != '.' && id[0] != '-' &&
	        strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-") ==
	        len;
}

static struct container *container_find(const char *id)
{
	struct container *c = containers;

	while (c && strcmp(c->id, id) != 0)
		c = c->next;
	return c;
}

static unsigned int container_count(void)
{
	unsigned int n = 0;

	for (struct container *c = containers; c; c = c->next)
		n++;
	return n;
}

/* Its volumes are where its root is: what is bound from elsewhere is the guest's own. */
static bool beside_root(const Grpc__Spec *spec, const char *path)
{
	const char *slash = strrchr(spec->root->path, '/');

	return strncmp(path, spec->root->path, (size_t)(slash + 1 - spec->root->path)) == 0;
}

static void note_held(struct container *c, const Grpc__CreateContainerRequest *request)
{
	const Grpc__Spec *spec = request->oci;

	c->held = xcalloc(spec->n_mounts + request->n_storages + 1, sizeof(*c->held));
	c->held[c->n_held++] = xstrdup(spec->root->path);
	for (size_t i = 0; i < request->n_storages; i++)
		if (storage_of_container(request->storages[i]) &&
		        strcmp(request->storages[i]->mount_point, spec->root->path) != 0)
			c->held[c->n_held++] = xstrdup(request->storages[i]->mount_point);
	for (size_t i = 0; i < spec->n_mounts; i++)
		if (beside_root(spec, spec->mounts[i]->source))
			c->held[c->n_held++] = xstrdup(spec->mounts[i]->source);
}

static struct container *container_add(
        const Grpc__CreateContainerRequest *request, struct process *init)
{
	struct container **tail = &containers;
	struct container *c = xcalloc(1, sizeof(*c));

	c->id = xstrdup(request->container_id);
	note_held(c, request);
	c->processes = init;
	c->memory_events.fd = -1;
	while (*tail)
		tail = &(*tail)->next;
	*tail = c;
	return c;
}

static void container_free(struct container *c)
{
	struct container **at = &containers;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	while (c->processes) {
		struct process *next = c->processes->next;

		process_free(c->processes);
		c->processes = next;
	}
	watch_close(&c->memory_events);
	free(c->id);
	for (size_t i = 0; i < c->n_held; i++)
		free(c->held[i]);
	free(c->held);
	free(c);
}

/* The container of a request, or NULL after the request was refused. */
static struct container *container_get(uint32_t stream, const char *id)
{
	struct container *c = container_find(id);

	if (!c)
		rpc_fail(stream, CODE_INVALID_ARGUMENT, "container %.*s is unknown", ID_MAX, id);
	return c;
}

/* The same, of a request that changes the container as a whole: only one at a time. */
static struct container *container_get_idle(uint32_t stream, const char *id)
{
	struct container *c = container_get(stream, id);

	if (!c || !c->job)
		return c;
	rpc_fail(stream, CODE_FAILED_PRECONDITION, "container %s is busy with another request", id);
	return NULL;
}

static struct process *process_find(const struct container *c, const char *exec_id)
{
	struct process *p = c->processes;

	if (!*exec_id || strcmp(exec_id, c->id) == 0)
		return p;
	while (p && strcmp(p->exec_id, exec_id) != 0)
		p = p->next;
	return p;
}

/* The process of a request, or NULL after the request was refused. */
static struct process *process_get(uint32_t stream, const char *id, const char *exec_id)
{
	struct container *c = container_get(stream, id);
	struct process *p = c ? process_find(c, exec_id) : NULL;

	if (c && !p)
		rpc_fail(stream, CODE_NOT_FOUND, "container %s has no process %.*s", id, ID_MAX,
		        exec_id);
	return p;
}

static void process_remove(struct container *c, struct process *p)
{
	struct process **at = &c->processes;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	process_free(p);
}

/* -- cgroups and out-of-memory events */

static int cgroup_write(const char *id, const char *name, const char *text)
{
	_cleanup_free_ char *path = cgroup_path(id, name);

	return file_write(path, text);
}

void cgroup_wait_empty(const char *name)
{
	_cleanup_free_ char *path = cgroup_path(name, "cgroup.events");
	char text[256];

	while (file_read(path, text, sizeof(text)) > 0 && flat_key(text, "populated"))
		sleep_ms(2);
}

static bool oom_answer(struct container *c)
{
	Grpc__OOMEvent event = GRPC__OOMEVENT__INIT;

	if (!c->oom_pending || !oom_parked)
		return false;
	event.container_id = c->id;
	rpc_reply(oom_parked, &event.base);
	oom_parked = 0;
	c->oom_pending = false;
	for (struct process *p = c->processes; p; p = p->next)
		if (p->held)
			process_tell(p);
	return true;
}

/* Reading from offset 0 also re-arms the notification. */
static void oom_check(struct container *c)
{
	char text[512];
	ssize_t n;
	uint64_t kills;

	if (c->memory_events.fd < 0)
		return;
	n = pread(c->memory_events.fd, text, sizeof(text) - 1, 0);
	if (n < 0) /* the cgroup is gone */
		return;
	text[n] = '\0';
	kills = flat_key(text, "oom_kill");
	if (kills == c->oom_kills)
		return;
	c->oom_kills = kills;
	c->oom_pending = true;
	log_line("container %s: a process was killed, out of memory", c->id);
	(void)oom_answer(c);
}

static void oom_ready(struct watch *w, uint32_t events)
{
	struct container *c = container_of(w, struct container, memory_events);

	(void)events;
	oom_check(c);
}

static void oom_watch(struct container *c)
{
	_cleanup_free_ char *path = cgroup_path(c->id, "memory.events");

	c->memory_events.fd = open(path, O_RDONLY | O_CLOEXEC);
	c->memory_events.ready = oom_ready;
	if (c->memory_events.fd < 0) {
		log_line("container %s: no events of its memory: %s", c->id, strerror(errno));
		return;
	}
	oom_check(c);
	watch_set(&c->memory_events, EPOLLPRI);
}

void get_oom_event(uint32_t stream, const ProtobufCMessage *request)
{
	(void)request;
	if (oom_parked) {
		rpc_fail(stream, CODE_FAILED_PRECONDITION, "another request waits for this event");
		return;
	}
	oom_parked = stream;
	oom_asked = true;
	for (struct container *c = containers; c; c = c->next)
		if (oom_answer(c))
			return;
}

/* -- ends of processes */

static void container_reaped(struct container *c, struct process *p, int wait_status)
{
	/* An out-of-memory kill is told before the exit it caused. */
	oom_check(c);
	p->held = c->oom_pending && oom_asked;
	process_exited(p, wait_status);
}

/* Ask for each process we know. With a pid, collect only that one. */
static bool reap_known(pid_t pid, int wait_status)
{
	for (struct container *c = containers; c; c = c->next) {
		for (struct process *p = c->processes; p; p = p->next) {
			if (!p->pid || p->exited)
				continue;
			if (pid == p->pid)
				container_reaped(c, p, wait_status);
			else if (!pid && waitpid(p->pid, &wait_status, WNOHANG) == p->pid)
				container_reaped(c, p, wait_status);
			else
				continue;
			if (pid)
				return true;
		}
	}
	return false;
}

void containers_reap(void)
{
	int status;
	pid_t pid;

	/* A child we do not know may be one that a job is about to report: it stays. */
	if (jobs_running()) {
		(void)reap_known(0, 0);
		return;
	}
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		(void)reap_known(pid, status);
}

/* Collect every process of a container whose cgroup is empty: all have died. */
static void container_reap(struct container *c)
{
	int status;

	for (struct process *p = c->processes; p; p = p->next)
		if (p->pid && !p->exited && waitpid(p->pid, &status, 0) == p->pid)
			container_reaped(c, p, status);
}

void containers_resume(void)
{
	for (struct container *c = containers; c; c = c->next)
		for (struct process *p = c->processes; p; p = p->next)
			process_resume(p);
}

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
	p.json = oci_json_config(request->oci, args->pid_ns, cgroup);
	return crun_create(&p, &report->pid, &report->fd, err);
}

static int create_work(const void *arg, struct job_report *report, struct error *err)
{
	const struct create_args *args = arg;
	struct error ignored;

	if (create_in_guest(args, report, err) == 0)
		return 0;
	(void)release_held(args->container, &ignored);
	remove_nodes(args->request->container_id);
	return -1;
}

/* The process of a job exists: note its pid and terminal. */
static int process_born(struct process *p, struct job_report *report, struct error *err)
{
	p->pid = report->pid;
	return p->terminal ? process_set_terminal(p, fd_steal(&report->fd), err) : 0;
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

static void close_all(int fds[3])
{
	for (int i = 0; i < 3; i++)
		close_fd(&fds[i]);
}

void create_container(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__CreateContainerRequest *request = (const void *)message;
	struct create_args args = { .request = request };
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

	if (create_check(request, &err) == 0)
		init = process_new("", request->oci->process->terminal, stdio, &err);
	if (!init) {
		rpc_reply_error(stream, &err);
		return;
	}
	args.pid_ns = request->sandbox_pidns ? shared_pid_ns() : NULL;
	c = container_add(request, init);
	spec.owner = c;
	args.container = c;
	c->job = job_start(&spec, &err);
	close_all(stdio);
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

/* -- exec */

static void set_size(int terminal, const Grpc__Box *box)
{
	struct winsize size = {
		.ws_row = (unsigned short)box->height,
		.ws_col = (unsigned short)box->width,
	};

	(void)ioctl(terminal, TIOCSWINSZ, &size);
}

/* As its container's, whatever the request says: a process that the job becomes the parent of inherits it. */
static void take_oom_score(const char *id)
{
	const struct container *c = container_find(id);
	_cleanup_free_ char *path = xasprintf("/proc/%d/oom_score_adj", c ? c->processes->pid : 0);
	char text[16];

	if (file_read(path, text, sizeof(text)) > 0)
		(void)file_write("/proc/self/oom_score_adj", text);
}

static int exec_work(const void *arg, struct job_report *report, struct error *err)
{
	const Grpc__ExecProcessRequest *request = arg;
	Grpc__Process process = *request->process;
	struct crun_process p = { .id = request->container_id, .terminal = process.terminal };

	/* crun's exec does not take a size: it is given to the terminal as soon as there is one. */
	process.consolesize = NULL;
	p.json = oci_json_process(&process);
	take_oom_score(request->container_id);
	if (crun_exec(&p, &report->pid, &report->fd, err) < 0)
		return -1;
	if (report->fd >= 0 && request->process->consolesize)
		set_size(report->fd, request->process->consolesize);
	return 0;
}

/* Drop the process of a failed exec from whichever container has it. */
static void exec_forget(struct process *p)
{
	for (struct container *c = containers; c; c = c->next)
		for (struct process *q = c->processes; q; q = q->next)
			if (p == q) {
				process_remove(c, p);
				return;
			}
}

static void exec_done(
        void *owner, uint32_t stream, struct job_report *report, const struct error *err)
{
	struct process *p = owner;
	struct error failure;

	if (!p) {
		rpc_fail(stream, CODE_ABORTED, "the container was removed");
		return;
	}
	p->job = NULL;
	if (err) {
		rpc_reply_error(stream, err);
		exec_forget(p);
	} else if (process_born(p, report, &failure) < 0) {
		rpc_reply_error(stream, &failure);
	} else {
		rpc_reply_empty(stream);
	}
}

/* Make room for one more process: drop those nobody will ask about, else those waited for. */
static unsigned int processes_sweep(struct container *c, const char *exec_id)
{
	unsigned int n = 0;
	struct process *next;

	for (struct process *p = c->processes->next; p; p = next) {
		next = p->next;
		if (process_spent(p) || (p->waited && strcmp(p->exec_id, exec_id) == 0))
			process_remove(c, p);
		else
			n++;
	}
	for (struct process *p = c->processes->next; p && n >= PROCESSES_MAX; p = next) {
		next = p->next;
		if (p->waited) {
			process_remove(c, p);
			n--;
		}
	}
	return n;
}

static int exec_check(
        struct container *c, const Grpc__ExecProcessRequest *request, struct error *err)
{
	if (!id_valid(request->exec_id))
		return error_set(err, CODE_INVALID_ARGUMENT, "the exec id is not valid");
	if (!request->process || request->process->n_args == 0)
		return error_set(err, CODE_INVALID_ARGUMENT, "the process has no arguments");
	if (request->stdin_port || request->stdout_port || request->stderr_port)
		return error_set(err, CODE_INVALID_ARGUMENT, "vsock streams are not supported");
	if (!c->processes->pid || c->processes->exited)
		return error_set(err, CODE_FAILED_PRECONDITION, "container %s does not run", c->id);
	if (processes_sweep(c, request->exec_id) >= PROCESSES_MAX)
		return error_set(err, CODE_RESOURCE_EXHAUSTED, "too many processes in %s", c->id);
	if (process_find(c, request->exec_id))
		return error_set(err, CODE_ALREADY_EXISTS, "process %s exists", request->exec_id);
	return 0;
}

void exec_process(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__ExecProcessRequest *request = (const void *)message;
	struct container *c = container_get(stream, request->container_id);
	struct process *p = NULL;
	struct error err;
	int stdio[3];
	struct job_spec spec = {
		.work = exec_work,
		.arg = request,
		.stdio = stdio,
		.timeout_s = JOB_TIMEOUT_S,
		.done = exec_done,
		.stream = stream,
	};

	if (!c)
		return;
	if (exec_check(c, request, &err) == 0)
		p = process_new(request->exec_id, request->process->terminal, stdio, &err);
	if (!p) {
		rpc_reply_error(stream, &err);
		return;
	}
	p->next = c->processes->next;
	c->processes->next = p;
	spec.owner = p;
	p->job = job_start(&spec, &err);
	close_all(stdio);
	if (!p->job) {
		rpc_reply_error(stream, &err);
		process_remove(c, p);
	}
}

/* -- processes */

void signal_process(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__SignalProcessRequest *request = (const void *)message;
	struct process *p = process_get(stream, request->container_id, request->exec_id);
	int r = 0;

	if (!p)
		return;
	if (!p->pid) {
		rpc_fail(stream, CODE_FAILED_PRECONDITION, "the process does not exist yet");
		return;
	}
	/* Our child is ours until we reap it, so the pid cannot be anybody else's. */
	if (!*request->exec_id && request->signal == SIGKILL)
		r = cgroup_write(request->container_id, "cgroup.kill", "1");
	else if (!*request->exec_id && request->signal <= (uint32_t)SIGRTMAX)
		r = cgroup_signal(request->container_id, (int)request->signal) ? 0 : -ESRCH;
	else if (p->exited)
		r = -ESRCH;
	else if (kill(p->pid, (int)request->signal) < 0)
		r = -errno;
	if (r == -ESRCH)
		rpc_fail(stream, CODE_NOT_FOUND, "the process has ended");
	else if (r == -EINVAL)
		rpc_fail(stream, CODE_INVALID_ARGUMENT, "there is no signal %u", request->signal);
	else if (r < 0)
		rpc_fail(stream, CODE_INTERNAL, "signal %u: %s", request->signal, strerror(-r));
	else
		rpc_reply_empty(stream);
}

void wait_process(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__WaitProcessRequest *request = (const void *)message;
	struct process *p = process_get(stream, request->container_id, request->exec_id);

	if (p)
		process_wait(p, stream);
}

void read_stdout(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__ReadStreamRequest *request = (const void *)message;
	struct process *p = process_get(stream, request->container_id, request->exec_id);

	if (p)
		process_read(p, &p->out, stream, request->len);
}

void read_stderr(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__ReadStreamRequest *request = (const void *)message;
	struct process *p = process_get(stream, request->container_id, request->exec_id);

	if (p)
		process_read(p, &p->err, stream, request->len);
}

void write_stdin(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__WriteStreamRequest *request = (const void *)message;
	struct process *p = process_get(stream, request->container_id, request->exec_id);

	if (p)
		process_write(p, stream, request->data.data, request->data.len);
}

void close_stdin(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__CloseStdinRequest *request = (const void *)message;
	struct process *p = process_get(stream, request->container_id, request->exec_id);

	if (!p)
		return;
	process_close_stdin(p);
	rpc_reply_empty(stream);
}

void tty_win_resize(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__TtyWinResizeRequest *request = (const void *)message;
	struct process *p = process_get(stream, request->container_id, request->exec_id);
	struct error err;

	if (!p)
		return;
	if (process_resize(p, request->row, request->column, &err) < 0)
		rpc_reply_error(stream, &err);
	else
		rpc_reply_empty(stream);
}
