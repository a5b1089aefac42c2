/*
 * ListProcesses: what runs in a container.
 *
 * A job's child looks, and it must not be held up by what it looks at. The name of a process
 * (/proc/PID/comm) can be had at any time. Its arguments (/proc/PID/cmdline) are read from its
 * memory, under the lock of its mappings, and whoever holds that lock may wait for a file of the
 * share, of a FUSE server in the container or of userfaultfd: for ever, if the container wants it.
 * So a child of the child reads the arguments, into memory that both see. One that makes no way is
 * killed, which ends a wait for that lock, and another goes on behind the process it was stuck at,
 * whose name is told instead; after READ_MS the names have to do for all that are left.
 */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "bulkhead.pb-c.h"
#include "cgroup.h"
#include "container.h"
#include "job.h"
#include "table.h"

#define LISTINGS_MAX 4   /* at once: jobs are for what changes containers first */
#define LISTED_MAX   256 /* more than one container's init and execs: those are always listed */
#define COMMAND_MAX  256 /* bytes of the arguments */
#define COMM_MAX     64
#define READ_MS      600 /* for all arguments */
#define STUCK_MS     200 /* and for those of one process */
#define TIMEOUT_S    1   /* for everything: who asks does not wait longer */

struct listed {
	pid_t pid;
	const struct process *known; /* what it is the first process of, or NULL */
	char comm[COMM_MAX];         /* in brackets */
	char command[COMMAND_MAX + 1];
	size_t len;
	atomic_bool read; /* set when command and len are final; len 0: it has no arguments */
};

struct listing {
	const struct container *container;
	unsigned int n, more;
	struct listed list[LISTED_MAX];
};

static unsigned int listings;

static void add(struct listing *l, pid_t pid, const struct process *known)
{
	if (l->n == LISTED_MAX) {
		l->more++;
		return;
	}
	l->list[l->n].pid = pid;
	l->list[l->n++].known = known;
}

static void add_known(struct listing *l)
{
	const struct process *init = l->container->processes;

	for (const struct process *p = init; p; p = p->next)
		if (p->pid && !p->exited)
			add(l, p->pid, p);
}

static void add_unknown(pid_t pid, void *ctx)
{
	struct listing *l = ctx;

	for (const struct process *p = l->container->processes; p; p = p->next)
		if (p->pid == pid && !p->exited)
			return;
	add(l, pid, NULL);
}

static void read_comm(struct listed *p)
{
	char path[32], name[COMM_MAX - 2];

	(void)snprintf(path, sizeof(path), "/proc/%d/comm", p->pid);
	if (file_read(path, name, sizeof(name)) < 0)
		name[0] = '\0'; /* it has ended */
	name[strcspn(name, "\n")] = '\0';
	(void)snprintf(p->comm, sizeof(p->comm), "[%s]", name);
}

_Noreturn static void read_commands(struct listing *l, unsigned int from)
{
	for (unsigned int i = from; i < l->n; i++) {
		struct listed *p = &l->list[i];
		char path[32];
		ssize_t n;

		(void)snprintf(path, sizeof(path), "/proc/%d/cmdline", p->pid);
		n = file_read(path, p->command, sizeof(p->command));
		p->len = n > 0 ? (size_t)n : 0;
		atomic_store(&p->read, true);
	}
	_exit(0);
}

/* The first whose arguments are not read. */
static unsigned int first_unread(const struct listing *l, unsigned int from)
{
	while (from < l->n && atomic_load(&l->list[from].read))
		from++;
	return from;
}

/* Reads the arguments from one process on, until end at most. Where it was then: l->n, or stuck. */
static unsigned int read_some(struct listing *l, unsigned int from, uint64_t end)
{
	uint64_t moved = now_ms();
	unsigned int at = from;
	pid_t pid = fork();

	if (pid == 0)
		read_commands(l, from);
	while (pid > 0 && waitpid(pid, NULL, WNOHANG) == 0) {
		unsigned int was = at;
		uint64_t now = now_ms();

		at = first_unread(l, at);
		if (at != was)
			moved = now;
		if (now >= end || now - moved >= STUCK_MS) {
			/* Not waited for: the agent collects it, whenever it ends. */
			(void)kill(pid, SIGKILL);
			break;
		}
		sleep_ms(1);
	}
	return first_unread(l, at);
}

static void read_all(struct listing *l)
{
	uint64_t end = now_ms() + READ_MS;

	for (unsigned int i = 0; i < l->n; i++)
		read_comm(&l->list[i]);
	for (unsigned int at = 0; at < l->n && now_ms() < end; at++)
		at = read_some(l, at, end);
}

static void describe(const struct listed *p, Bulkhead__ListedProcess *ret)
{
	bool arguments = atomic_load(&p->read) && p->len > 0;

	bulkhead__listed_process__init(ret);
	ret->pid = (uint32_t)p->pid;
	ret->first = p->known != NULL;
	if (p->known)
		ret->exec_id = p->known->exec_id;
	ret->command.data = (uint8_t *)(uintptr_t)(arguments ? p->command : p->comm);
	ret->command.len = arguments ? p->len : strlen(p->comm);
}

/* The answer, in a file that the agent reads. */
static int write_answer(const struct listing *l, struct error *err)
{
	Bulkhead__ListProcessesResponse response = BULKHEAD__LIST_PROCESSES_RESPONSE__INIT;
	Bulkhead__ListedProcess said[LISTED_MAX], *list[LISTED_MAX];
	_cleanup_free_ uint8_t *bytes = NULL;
	int fd = memfd_create("processes", MFD_CLOEXEC);
	size_t len;

	for (unsigned int i = 0; i < l->n; i++) {
		describe(&l->list[i], &said[i]);
		list[i] = &said[i];
	}
	response.processes = list;
	response.n_processes = l->n;
	response.more = l->more;
	len = bulkhead__list_processes_response__get_packed_size(&response);
	bytes = xcalloc(1, len + 1);
	(void)bulkhead__list_processes_response__pack(&response, bytes);
	if (fd < 0 || write(fd, bytes, len) != (ssize_t)len)
		return error_errno(err, "processes");
	return fd;
}

static int list_work(const void *arg, struct job_report *report, struct error *err)
{
	struct listing *l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE,
	        MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (l == MAP_FAILED)
		return error_errno(err, "mmap");
	l->container = arg;
	add_known(l);
	cgroup_each(l->container->id, add_unknown, l);
	read_all(l);
	report->fd = write_answer(l, err);
	return report->fd < 0 ? -1 : 0;
}

static void list_done(
        void *owner, uint32_t stream, struct job_report *report, const struct error *err)
{
	_cleanup_free_ uint8_t *bytes = NULL;
	struct stat st = { 0 };

	(void)owner;
	listings--;
	if (err) {
		rpc_reply_error(stream, err);
		return;
	}
	if (fstat(report->fd, &st) == 0)
		bytes = xcalloc(1, (size_t)st.st_size + 1);
	if (!bytes || pread(report->fd, bytes, (size_t)st.st_size, 0) != st.st_size)
		rpc_fail(stream, CODE_INTERNAL, "processes: %s", strerror(errno));
	else
		rpc_reply_packed(stream, bytes, (size_t)st.st_size);
}

void list_processes(uint32_t stream, const ProtobufCMessage *message)
{
	const Bulkhead__ListProcessesRequest *request = (const void *)message;
	const struct container *c = container_get(stream, request->container_id);
	struct error err;
	/* No owner: the container may be gone before the answer, and nobody misses it. */
	const struct job_spec spec = {
		.work = list_work,
		.arg = c,
		.timeout_s = TIMEOUT_S,
		.done = list_done,
		.stream = stream,
	};

	if (!c)
		return;
	if (listings == LISTINGS_MAX) {
		rpc_fail(stream, CODE_RESOURCE_EXHAUSTED, "%d lists of processes are being made",
		        LISTINGS_MAX);
		return;
	}
	if (job_start(&spec, &err))
		listings++;
	else
		rpc_reply_error(stream, &err);
}
