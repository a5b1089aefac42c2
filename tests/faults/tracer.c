/*
 * tracer: runs a program under ptrace without being its parent, so that whoever started it notices
 * nothing: same pid, same fds, same end.
 *
 *	tracer DIR PROGRAM ARG...	PROGRAM's policies are noted in DIR
 *
 * Installed as <prefix>/bin/containerd-shim-bulkhead-v2 it runs the same path with ".real" at its
 * end, and its settings are the lines of <prefix>/etc/bulkhead/trace:
 *
 *	report=DIR		note which policy rules are used in a new file in DIR
 *	log=FILE		one line is added there for each fault, and for each process that a
 *				signal has ended
 *	list=yes		and one for each call that could be made to fail
 *	process=NAME		where to make one fail; "any": in each process of ours
 *	fail=KIND N		its N-th call of that kind
 *	every=N			instead: one in N, scattered
 */
#include "tests/faults/tracer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/mem.h"

#define OPTIONS                                                                                    \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE |  \
		PTRACE_O_TRACEEXEC)

static struct settings settings = { .kind = FAULT_NONE };
static struct process *processes;
static struct thread *threads;
static bool vm_runs;

const char *call_name(uint64_t nr)
{
	static char number[32];
	static char *name;

	free(name);
	name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_X86_64, (int)nr);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)nr);
	return name ? name : number;
}

/* Whole lines, added by one write: the tracers of `start` and `delete` share the file. */
__attribute__((format(printf, 1, 2))) static void log_line(const char *fmt, ...)
{
	char line[256];
	va_list ap;
	int fd;

	if (!settings.log[0])
		return;
	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	fd = open(settings.log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, line, strlen(line)) < 0)
		_exit(1);
	close(fd);
}

/* ---- who is there ---- */

static struct process *find_process(pid_t pid)
{
	struct process *p = processes;

	while (p && p->pid != pid)
		p = p->next;
	return p;
}

static struct thread *find_thread(pid_t tid)
{
	struct thread *t = threads;

	while (t && t->tid != tid)
		t = t->next;
	return t;
}

static pid_t status_number(pid_t tid, const char *key)
{
	char path[64], line[128];
	long value = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, key, strlen(key)) == 0)
			value = strtol(line + strlen(key), NULL, 10);
	if (f)
		fclose(f);
	return (pid_t)value;
}

static struct process *add_process(pid_t pid)
{
	struct process *p = calloc(1, sizeof(*p)), *parent = find_process(status_number(pid, "PPid:"));

	if (!p)
		_exit(1);
	p->pid = pid;
	p->policy = parent ? parent->policy : -1;
	if (parent)
		snprintf(p->name, sizeof(p->name), "%.24s.%u", parent->name, ++parent->forked);
	p->next = processes;
	processes = p;
	return p;
}

/* The first stop of a new thread may come before its maker's: /proc says whose it is. Its maker
 * stands meanwhile, and is its parent still. */
static struct thread *add_thread(pid_t tid)
{
	struct thread *t = calloc(1, sizeof(*t));
	pid_t pid = status_number(tid, "Tgid:");

	if (!t)
		_exit(1);
	t->tid = tid;
	t->process = find_process(pid);
	if (!t->process)
		t->process = add_process(pid ? pid : tid);
	t->process->threads++;
	t->next = threads;
	threads = t;
	return t;
}

static void remove_thread(struct thread *t)
{
	struct process *p = t->process;

	for (struct thread **at = &threads; *at; at = &(*at)->next)
		if (*at == t) {
			*at = t->next;
			break;
		}
	free(t);
	if (--p->threads > 0)
		return;
	for (struct process **at = &processes; *at; at = &(*at)->next)
		if (*at == p) {
			*at = p->next;
			break;
		}
	free(p);
}

/* Its last argument, and whether one of them is `word`. */
static bool look_at_arguments(pid_t pid, const char *word, char *last, size_t size)
{
	char path[64], text[4096];
	ssize_t n;
	bool found = false;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	for (char *at = text; at < text + n; at += strlen(at) + 1) {
		found |= strcmp(at, word) == 0;
		snprintf(last, size, "%.31s", at);
	}
	return found;
}

/* From what it executes now. */
static void name_process(struct process *p)
{
	char path[64], exe[PATH_MAX], last[sizeof(p->name)] = "";
	const char *name;
	ssize_t n;
	bool is_qemu = look_at_arguments(p->pid, "kind=qemu", last, sizeof(last));

	snprintf(path, sizeof(path), "/proc/%d/exe", p->pid);
	n = readlink(path, exe, sizeof(exe) - 1);
	exe[n > 0 ? n : 0] = '\0';
	name = strrchr(exe, '/') ? strrchr(exe, '/') + 1 : exe;
	if (strncmp(name, "containerd-shim-", 16) == 0)
		name = last; /* start, delete */
	else if (strcmp(name, "bulkhead-slot") == 0)
		name = is_qemu ? "slot-qemu" : "slot-virtiofsd";
	else if (strncmp(name, "bulkhead-", 9) == 0)
		name += 9;
	else if (strncmp(name, "qemu-system", 11) == 0)
		name = "qemu";
	snprintf(p->name, sizeof(p->name), "%.31s", name);
	p->forked = 0;
	memset(p->calls, 0, sizeof(p->calls));
	vm_runs |= strcmp(p->name, "qemu") == 0;
}

/* Without a name it has executed nothing yet: it is the wrapper, and waits for us. */
static bool is_ours(const struct process *p)
{
	return p->name[0] && strncmp(p->name, "qemu", 4) != 0 && strncmp(p->name, "virtiofsd", 9) != 0;
}

/* Whose calls are looked at: a stop for each is what makes everything slow. */
static bool is_wanted(const struct process *p)
{
	if (settings.report[0])
		return true;
	if (settings.list || strcmp(settings.process, "any") == 0)
		return is_ours(p);
	return strcmp(p->name, settings.process) == 0;
}

/* ---- calls ---- */

static void enter(struct thread *t, const struct __ptrace_syscall_info *info)
{
	t->in_call = true;
	t->call = (struct call){ .nr = info->entry.nr };
	for (int i = 0; i < 6; i++)
		t->call.args[i] = info->entry.args[i];
	t->call.loads = uses_loads(t->tid, &t->call);
	if (is_ours(t->process))
		fault_enter(t, &settings);
}

static const char *stage_of(const struct process *p)
{
	return vm_runs ? "vm" : p->policy >= 0 ? "shut" : "open";
}

static void leave(struct thread *t, const struct __ptrace_syscall_info *info)
{
	struct process *p = t->process;

	if (!t->in_call)
		return;
	t->in_call = false;
	t->call.result = info->exit.rval;
	fault_leave(t);
	if (t->call.injected)
		log_line("fault %s %s(0x%llx, 0x%llx) %s\n", p->name, call_name(t->call.nr),
			(unsigned long long)t->call.args[0],
			(unsigned long long)t->call.args[1], stage_of(p));
	else if (p->policy >= 0 && settings.report[0])
		uses_note(p->policy, &t->call);
	if (settings.list && t->call.kinds) {
		static FILE *list;

		if (!list) {
			list = fopen(settings.log, "ae");
			setlinebuf(list);
		}
		fault_list(list, t, stage_of(p));
	}
	/* After it is noted: the call that loads a filter is not yet under it. */
	if (t->call.loads >= 0 && t->call.result == 0 && !t->call.injected)
		p->policy = t->call.loads;
}

static void at_call(struct thread *t)
{
	struct __ptrace_syscall_info info;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof(info), &info) < 0)
		return;
	if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
		enter(t, &info);
	else if (info.op == PTRACE_SYSCALL_INFO_EXIT)
		leave(t, &info);
}

/* ---- stops ---- */

static void at_end(struct thread *t, int status)
{
	const struct process *p = t->process;
	int sig = WIFSIGNALED(status) ? WTERMSIG(status) : 0;

	/* Its last call is the one that its filter forbids, if it died of that. */
	if (sig && sig != SIGKILL && t->tid == p->pid)
		log_line("signal %s %s after %s\n", p->name, sigabbrev_np(sig),
			call_name(t->call.nr));
	if (t->in_call && p->policy >= 0 && settings.report[0])
		uses_note(p->policy, &t->call);
	remove_thread(t);
}

static bool stops_group(int sig)
{
	return sig == SIGSTOP || sig == SIGTSTP || sig == SIGTTIN || sig == SIGTTOU;
}

static void at_fork(pid_t maker)
{
	unsigned long made;

	if (ptrace(PTRACE_GETEVENTMSG, maker, NULL, &made) == 0 && !find_thread((pid_t)made))
		add_thread((pid_t)made);
}

static void at_stop(struct thread *t, int status)
{
	long go_on = PTRACE_CONT;
	int sig = WSTOPSIG(status), event = status >> 16, deliver = 0;

	if (sig == (SIGTRAP | 0x80))
		at_call(t);
	else if (event == PTRACE_EVENT_EXEC)
		name_process(t->process);
	else if (event == PTRACE_EVENT_FORK || event == PTRACE_EVENT_VFORK ||
		 event == PTRACE_EVENT_CLONE)
		at_fork(t->tid);
	else if (event == PTRACE_EVENT_STOP && stops_group(sig))
		go_on = PTRACE_LISTEN;
	else if (!event)
		deliver = sig;
	if (go_on == PTRACE_CONT && is_wanted(t->process))
		go_on = PTRACE_SYSCALL;
	/* ESRCH: it was killed while it stood. */
	ptrace((enum __ptrace_request)go_on, t->tid, NULL, (void *)(intptr_t)deliver);
}

static void follow(void)
{
	int status;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL)) > 0 || errno == EINTR) {
		struct thread *t = find_thread(tid);

		if (tid < 0)
			continue;
		if (WIFSTOPPED(status))
			at_stop(t ? t : add_thread(tid), status);
		else if (t)
			at_end(t, status);
	}
}

/* ---- start ---- */

/* Nobody's child and no fd of the program to be, so that nobody waits for us. */
static _Noreturn void trace(pid_t pid, int ready)
{
	if (fork() != 0)
		_exit(0);
	if (setsid() < 0 || chdir("/") < 0 || ptrace(PTRACE_SEIZE, pid, NULL, OPTIONS) < 0)
		_exit(1);
	uses_init();
	add_thread(pid);
	if (write(ready, "", 1) != 1)
		_exit(1);
	close_range(0, ~0U, 0);
	open("/dev/null", O_RDWR);
	dup2(0, 1);
	dup2(0, 2);
	follow();
	if (settings.report[0])
		uses_write(settings.report);
	_exit(0);
}

static void be_traced(void)
{
	int ready[2];
	char byte;
	pid_t tracee = getpid(), pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		exit(125);
	pid = fork();
	if (pid == 0)
		trace(tracee, ready[1]);
	close(ready[1]);
	waitpid(pid, NULL, 0);
	if (pid < 0 || read(ready[0], &byte, 1) != 1)
		exit(125);
	close(ready[0]);
}

static void set(const char *key, char *value)
{
	char kind[32];

	if (strcmp(key, "report") == 0)
		snprintf(settings.report, sizeof(settings.report), "%s", value);
	else if (strcmp(key, "log") == 0)
		snprintf(settings.log, sizeof(settings.log), "%s", value);
	else if (strcmp(key, "list") == 0)
		settings.list = true;
	else if (strcmp(key, "process") == 0)
		snprintf(settings.process, sizeof(settings.process), "%s", value);
	else if (strcmp(key, "every") == 0)
		settings.every = strtoul(value, NULL, 10);
	else if (strcmp(key, "fail") == 0 && sscanf(value, "%31s %lu", kind, &settings.ordinal) >= 1)
		settings.kind = fault_kind_of(kind);
	else
		exit(124);
}

static void read_settings(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[600];

	while (f && fgets(line, sizeof(line), f)) {
		char *value = strchr(line, '=');

		if (!value)
			exit(124);
		*value++ = '\0';
		value[strcspn(value, "\n")] = '\0';
		set(line, value);
	}
	if (f)
		fclose(f);
}

int main(int argc, char **argv)
{
	char self[PATH_MAX - 16], path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		return 125;
	self[n] = '\0';
	if (strstr(self, "/bin/containerd-shim-")) {
		snprintf(path, sizeof(path), "%s.real", self);
		argv[0] = path;
		*strstr(self, "/bin/containerd-shim-") = '\0';
		strcat(self, "/etc/bulkhead/trace");
		read_settings(self);
	} else if (argc > 2) {
		snprintf(settings.report, sizeof(settings.report), "%s", argv[1]);
		argv += 2;
		snprintf(path, sizeof(path), "%s", argv[0]);
	} else {
		fprintf(stderr, "usage: tracer DIR PROGRAM ARG...\n");
		return 2;
	}
	be_traced();
	execv(path, argv);
	return 127;
}
