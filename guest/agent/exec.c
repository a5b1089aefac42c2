/* The requests about processes: those that are added to a container, signals, waits, streams. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>

#include "cgroup.h"
#include "container.h"
#include "crun.h"
#include "job.h"
#include "oci_json.h"
#include "process.h"
#include "table.h"

#define PROCESSES_MAX 128 /* of one container */
#define JOB_TIMEOUT_S 60

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
	stdio_close(stdio);
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
