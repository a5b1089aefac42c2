#include "supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/fdio.h"
#include "common/isolate.h"
#include "common/log.h"
#include "ipc/role.h"
#include "supervisor/cgroup.h"
#include "supervisor/tree.h"

#define START_TIMEOUT_MS 10000
#define CAUSE_TIMEOUT_MS 100

enum phase {
	PHASE_STARTING, /* roles report READY or FAILED */
	PHASE_LOCKED,	/* any end but a planned one is ours */
	PHASE_FAILED,	/* only the frontend lives, to say why */
};

struct supervisor {
	struct supervisor_options options;
	struct tree tree;
	enum phase phase;
	int signals;	/* signalfd of SIGCHLD */
	int vm_kill;	/* cgroup.kill of `vm`; -1: no cgroup v2 */
	int oom;	/* counts what the host's OOM killer ended of us; -1: nobody does */
	uint64_t oom_kills; /* that are explained */
	bool vm_ends;	    /* QEMU has ended, or will, by our hand: what virtiofsd does then follows */
	int own_log[2]; /* our own lines take the same way as everybody's */
	struct relay own_relay;
	bool over;
	bool unexplained; /* over, and whoever ended so far has only followed another */
};

/* ---- log ---- */

static void drain_logs(struct supervisor *s)
{
	relay_drain(&s->own_relay, s->own_log[0], SUPERVISOR_FD_LOG, role_name(ROLE_SUPERVISOR),
		s->options.id);
	for (size_t i = 0; i < ROLE_COUNT; i++) {
		struct child *c = &s->tree.child[i];

		if (c->log >= 0)
			relay_drain(&c->relay, c->log, SUPERVISOR_FD_LOG, role_name((enum role)i),
				s->options.id);
	}
}

static int open_own_log(struct supervisor *s, struct error *err)
{
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, s->own_log) < 0)
		return error_errno(err, errno, "log socket");
	if (dup2(s->own_log[1], STDERR_FILENO) < 0)
		return error_errno(err, errno, "log socket");
	fd_close(&s->own_log[1]);
	return 0;
}

static _Noreturn void end(struct supervisor *s, int status)
{
	drain_logs(s);
	_exit(status);
}

/* ---- the end of children ---- */

static void close_child(struct child *c)
{
	fd_close(&c->ctl);
	fd_close(&c->log);
	c->pid = 0;
}

/*
 * A role could not start. The frontend stays to answer the first Create with
 * the sentence; all others, still waiting for LOCK, see their control socket
 * close and exit.
 */
static void start_failed(struct supervisor *s, enum role role, const char *text)
{
	struct child *frontend = &s->tree.child[ROLE_FRONTEND];

	if (s->phase != PHASE_STARTING)
		return;
	log_error("%s could not start: %s", role_name(role), text);
	s->phase = PHASE_FAILED;
	if (role == ROLE_FRONTEND ||
		ctl_send(frontend->ctl, CTL_FAILED, role, 0, text) < 0) {
		s->over = true;
		return;
	}
	for (size_t i = 0; i < ROLE_COUNT; i++)
		if (i != ROLE_FRONTEND)
			fd_close(&s->tree.child[i].ctl);
}

/* The end, for a reason that has yet to be reaped. */
static void follow(struct supervisor *s)
{
	s->unexplained |= !s->over;
	s->over = true;
}

/* -EPIPE: it has died, and is yet to be reaped. Any other error is said. */
static int tell(struct supervisor *s, enum role to, enum ctl_type type, enum role who, int status)
{
	int r = ctl_send(s->tree.child[to].ctl, type, who, status, NULL);

	if (r == -ECONNRESET)
		r = -EPIPE;
	if (r < 0 && r != -EPIPE)
		log_error("%s does not take its control messages: %s", role_name(to),
			strerrordesc_np(-r));
	return r;
}

static void tell_exit(struct supervisor *s, enum role to, enum role who, int status)
{
	if (s->tree.child[to].ctl >= 0 && tell(s, to, CTL_CHILD_EXIT, who, status) < 0)
		follow(s);
}

/* How a process ended. Its system call's number, the kernel tells none but its own log. */
static void describe_end(int status, char *ret, size_t size)
{
	const char *hint = status == 128 + SIGSYS ? ", for a system call its filter forbids" : "";

	if (status > 128)
		snprintf(ret, size, "was killed by signal %d (%s)%s", status - 128,
			sigabbrev_np(status - 128), hint);
	else
		snprintf(ret, size, "ended with status %d", status);
}

/*
 * Has the host's OOM killer ended it? The kernel counts, and names nobody: QEMU's end is by SIGKILL
 * then. virtiofsd are two processes, of which the one that is left ends by itself; once QEMU has
 * ended, or is being killed, virtiofsd's end says nothing.
 */
static bool is_oom(struct supervisor *s, enum role role, int status)
{
	uint64_t kills;

	if (role == ROLE_QEMU ? status != 128 + SIGKILL : status == 0 || s->vm_ends)
		return false;
	if (s->oom < 0 || !cgroup_oom_kills(s->oom, &kills) || kills <= s->oom_kills)
		return false;
	s->oom_kills = kills;
	return true;
}

static void vm_part_ended(struct supervisor *s, enum role role, int status, const char *how)
{
	log_info("%s %s", role_name(role), how);
	if (is_oom(s, role, status)) {
		log_error("the host's OOM killer ended %s: the pod's cgroup or the host has no memory "
			  "left, whatever the guest has; raise the limit of that cgroup (the overhead of "
			  "the RuntimeClass) or free memory of the host",
			role == ROLE_QEMU ? "QEMU" : "virtiofsd");
		if (s->tree.child[ROLE_FRONTEND].ctl >= 0 &&
			tell(s, ROLE_FRONTEND, CTL_OOM, role, status) < 0)
			follow(s);
	}
	s->vm_ends |= role == ROLE_QEMU;
	tell_exit(s, ROLE_FRONTEND, role, status);
	if (role == ROLE_QEMU)
		tell_exit(s, ROLE_VMMD, role, status);
}

static void role_ended(struct supervisor *s, enum role role, int status)
{
	char text[128], how[96];

	relay_drain(&s->tree.child[role].relay, s->tree.child[role].log, SUPERVISOR_FD_LOG,
		role_name(role), s->options.id);
	close_child(&s->tree.child[role]);
	describe_end(status, how, sizeof(how));
	if (s->phase == PHASE_STARTING) {
		snprintf(text, sizeof(text), "it %s before it was ready", how);
		start_failed(s, role, text);
		return;
	}
	if (s->phase == PHASE_FAILED) {
		s->over |= role == ROLE_FRONTEND;
		return;
	}
	if (role == ROLE_NETD && status == 0)
		return; /* its work is done */
	if (role == ROLE_QEMU || role == ROLE_VIRTIOFSD) {
		vm_part_ended(s, role, status, how);
		return;
	}
	if (status != 0 || role != ROLE_FRONTEND)
		log_error("%s %s", role_name(role), how);
	/* A signal is a cause, and the frontend's clean end; any other may have followed one. */
	if (status <= 128 && (role != ROLE_FRONTEND || status != 0)) {
		follow(s);
	} else {
		s->over = true;
		s->unexplained = false;
	}
}

static void reap(struct supervisor *s)
{
	struct signalfd_siginfo drop;
	siginfo_t info = { 0 };

	while (read(s->signals, &drop, sizeof(drop)) > 0)
		;
	for (;;) {
		int r = waitid(P_ALL, 0, &info, WEXITED | WNOHANG);

		if (r < 0 && errno == EINTR)
			continue; /* no other signal may come for who has ended */
		if (r < 0 || info.si_pid == 0)
			return;
		int status = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;

		for (size_t i = 0; i < ROLE_COUNT; i++)
			if (s->tree.child[i].pid == info.si_pid) {
				role_ended(s, (enum role)i, status);
				break;
			}
		info.si_pid = 0;
	}
}

/* ---- control messages ---- */

static void kill_vm(struct supervisor *s, enum role by)
{
	log_info("%s asks for the end of the VM", role_name(by));
	s->vm_ends = true;
	if (s->vm_kill < 0 || write(s->vm_kill, "1", 1) != 1) {
		log_error("no cgroup.kill: the sandbox ends with the VM");
		s->over = true;
	}
}

static void handle_ctl(struct supervisor *s, enum role role, const struct ctl_msg *m)
{
	struct child *c = &s->tree.child[role];
	int r = 0;

	if (m->role != role) {
		log_error("%s sent control message %u as if it were %s", role_name(role), m->type,
			role_name(m->role));
		s->over = true;
	} else if (s->phase == PHASE_STARTING && m->type == CTL_READY && !c->ready) {
		c->ready = true;
		/* virtiofsd's slot makes its namespace from mountd's. */
		if (role == ROLE_MOUNTD)
			r = tell(s, ROLE_VIRTIOFSD, CTL_GO, ROLE_VIRTIOFSD, 0);
		if (r < 0 && r != -EPIPE)
			start_failed(s, ROLE_VIRTIOFSD, "it does not take its control messages");
	} else if (s->phase == PHASE_STARTING && m->type == CTL_FAILED) {
		start_failed(s, role, m->text);
	} else if (s->phase == PHASE_FAILED && role != ROLE_FRONTEND) {
		; /* it was on its way */
	} else if (s->phase == PHASE_FAILED && m->type == CTL_READY && !c->ready) {
		c->ready = true;
	} else if (m->type == CTL_STOP && role == ROLE_FRONTEND) {
		s->over = true;
	} else if (m->type == CTL_KILL_VM && s->phase == PHASE_LOCKED &&
		   (role == ROLE_FRONTEND || role == ROLE_VMMD)) {
		kill_vm(s, role);
	} else if (s->phase == PHASE_FAILED && m->type == CTL_KILL_VM) {
		; /* there is none */
	} else {
		log_error("%s sent control message %u, which it may not now", role_name(role),
			m->type);
		s->over = true;
	}
}

static void read_ctl(struct supervisor *s, enum role role)
{
	struct child *c = &s->tree.child[role];
	struct ctl_msg m;
	int r = ctl_recv(c->ctl, MSG_DONTWAIT, &m);

	if (r == 1) {
		handle_ctl(s, role, &m);
	} else if (r == 0) {
		/* Its exit follows, or it has become QEMU or virtiofsd. */
		fd_close(&c->ctl);
	} else if (r != -EAGAIN) {
		log_error("%s sent something that is no control message", role_name(role));
		s->over = true;
	}
}

/* Waits for anything and handles it. False when the deadline has passed. */
static bool step(struct supervisor *s, int timeout_ms)
{
	struct pollfd pfds[2 + 2 * ROLE_COUNT];
	int n = 0, r;

	pfds[n++] = (struct pollfd){ .fd = s->signals, .events = POLLIN };
	pfds[n++] = (struct pollfd){ .fd = s->own_log[0], .events = POLLIN };
	for (size_t i = 0; i < ROLE_COUNT; i++) {
		pfds[n++] = (struct pollfd){ .fd = s->tree.child[i].ctl, .events = POLLIN };
		pfds[n++] = (struct pollfd){ .fd = s->tree.child[i].log, .events = POLLIN };
	}
	r = fd_poll(pfds, (nfds_t)n, timeout_ms);
	if (r == 0)
		return false;
	if (r < 0 && errno != EINTR)
		s->over = true;
	drain_logs(s);
	/* What a role said last comes before its end. */
	for (size_t i = 0; i < ROLE_COUNT; i++)
		if (s->tree.child[i].ctl >= 0 && pfds[2 + 2 * i].revents)
			read_ctl(s, (enum role)i);
	if (pfds[0].revents)
		reap(s);
	return true;
}

/*
 * A process closes its fds before it can be reaped: those that it talked to see that, exit, and
 * may be reaped before it. So that the log has the cause too, it gets a moment.
 */
static void wait_cause(struct supervisor *s)
{
	int64_t deadline = clock_ms() + CAUSE_TIMEOUT_MS;

	while (s->unexplained && step(s, clock_left_ms(deadline)))
		;
}

/* ---- start ---- */

static const struct option *option_table(struct supervisor_options *o)
{
	static struct option table[40];
	const struct option rows[] = {
		{ "id", OPTION_TEXT, &o->id, false },
		{ "namespace", OPTION_TEXT, &o->namespace, false },
		{ "bundle", OPTION_TEXT, &o->bundle, false },
		{ "dir", OPTION_TEXT, &o->dir, false },
		{ "libexec", OPTION_TEXT, &o->libexec, false },
		{ "qemu", OPTION_TEXT, &o->qemu, false },
		{ "virtiofsd", OPTION_TEXT, &o->virtiofsd, false },
		{ "virtio_fs_cache", OPTION_TEXT, &o->virtio_fs_cache, false },
		{ "kernel", OPTION_TEXT, &o->kernel, false },
		{ "initrd", OPTION_TEXT, &o->initrd, false },
		{ "cmdline", OPTION_TEXT, &o->cmdline, false },
		{ "accel", OPTION_TEXT, &o->accel, false },
		{ "accel_why", OPTION_TEXT, &o->accel_why, false },
		{ "events", OPTION_TEXT, &o->events, true },
		{ "uid_base", OPTION_NUMBER, &o->uid_base, false },
		{ "network_model", OPTION_TEXT, &o->network_model, false },
		{ "network_queues", OPTION_NUMBER, &o->network_queues, false },
		{ "disable_vhost_net", OPTION_NUMBER, &o->disable_vhost_net, false },
		{ "vcpus", OPTION_NUMBER, &o->vcpus, false },
		{ "memory_mib", OPTION_NUMBER, &o->memory_mib, false },
		{ "max_vcpus", OPTION_NUMBER, &o->max_vcpus, false },
		{ "max_memory_mib", OPTION_NUMBER, &o->max_memory_mib, false },
		{ "overhead_millicpus", OPTION_NUMBER, &o->overhead_millicpus, false },
		{ "overhead_memory_mib", OPTION_NUMBER, &o->overhead_memory_mib, false },
		{ "hello_timeout_ms", OPTION_NUMBER, &o->hello_timeout_ms, false },
		{ "cid", OPTION_NUMBER, &o->cid, true },
		{ "vm_oom_score_adj", OPTION_NUMBER, &o->vm_oom_score_adj, false },
		{ "t0_us", OPTION_NUMBER, &o->t0_us, false },
		{ "rootfs_prefix", OPTION_LIST, &o->rootfs_prefix, true },
		{ "stdio_prefix", OPTION_LIST, &o->stdio_prefix, true },
		{ "log_prefix", OPTION_LIST, &o->log_prefix, true },
		{ "cgroup", OPTION_LIST, &o->cgroups, true },
	};

	_Static_assert(ARRAY_SIZE(rows) < ARRAY_SIZE(table), "the last row ends the table");
	memcpy(table, rows, sizeof(rows));
	return table;
}

/* The pid the host knows us by: procfs here is still the host's. */
static int host_pid(pid_t *ret, struct error *err)
{
	char text[16];
	ssize_t n = readlink("/proc/self", text, sizeof(text) - 1);

	if (n <= 0)
		return error_errno(err, errno, "read /proc/self");
	text[n] = '\0';
	*ret = (pid_t)strtol(text, NULL, 10);
	return 0;
}

/* Our roles are a little likelier to be killed than containerd, never as protected. */
static void raise_oom_score(void)
{
	_cleanup_close_ int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	char text[24] = "";
	long value;

	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return;
	value = strtol(text, NULL, 10);
	if (value < -1000 || value >= 1000)
		return;
	snprintf(text, sizeof(text), "%ld", value + 1);
	if (write(fd, text, strlen(text)) < 0)
		log_warn("oom_score_adj: %s", strerrordesc_np(errno));
}

static int join_cgroup(struct supervisor *s, struct error *err)
{
	struct cgroups c;
	char path[CGROUP_PATH_MAX + 64];
	int r;

	cgroup_from_list(&c, s->options.cgroups.item, s->options.cgroups.n);
	r = cgroup_join(&c, err);
	if (r < 0)
		return r;
	/* A cgroup that was there before us may have counted already. */
	s->oom = cgroup_open_oom_kills(&c);
	if (s->oom >= 0 && !cgroup_oom_kills(s->oom, &s->oom_kills))
		fd_close(&s->oom);
	s->vm_kill = -1;
	if (c.v2) {
		cgroup_file(&c, 0, "vm", "cgroup.kill", path);
		s->vm_kill = open(path, O_WRONLY | O_CLOEXEC);
		if (s->vm_kill < 0)
			return error_errno(err, errno, "open %s", path);
	}
	return 0;
}

static bool all_ready(const struct supervisor *s)
{
	for (size_t i = 0; i < ROLE_COUNT; i++)
		if (i != ROLE_SUPERVISOR && !s->tree.child[i].ready)
			return false;
	return true;
}

/* When something has failed, the frontend is still waited for: it needs the void, and has to say it. */
static bool is_settled(const struct supervisor *s)
{
	return s->phase == PHASE_FAILED ? s->tree.child[ROLE_FRONTEND].ready : all_ready(s);
}

/* mountd first: virtiofsd's slot gets a pidfd of it, and waits for its mount namespace. */
static int start_roles(struct supervisor *s, struct error *err)
{
	static const enum role order[] = { ROLE_MOUNTD, ROLE_VIRTIOFSD, ROLE_QEMU, ROLE_VMMD,
		ROLE_NETD, ROLE_PERSISTD, ROLE_AGENTD, ROLE_FRONTEND };
	int64_t deadline = clock_ms() + START_TIMEOUT_MS;
	struct error ignored;
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(order) && r == 0; i++) {
		r = tree_spawn(&s->tree, order[i], err);
		if (r == 0)
			continue;
		if (order[i] == ROLE_FRONTEND || tree_spawn(&s->tree, ROLE_FRONTEND, &ignored) < 0)
			return r;
		start_failed(s, order[i], err->msg);
	}
	while (!s->over && !is_settled(s)) {
		if (step(s, clock_left_ms(deadline)))
			continue;
		s->over = s->phase == PHASE_FAILED;
		start_failed(s, ROLE_SUPERVISOR, "not every role was ready within 10 s");
	}
	return 0;
}

/* From here on the supervisor can do nothing but reap, relay and kill. */
static int shut_in(struct supervisor *s, struct error *err)
{
	const struct isolation iso = {
		.name = "supervisor",
		.first_free_fd = 128,
		.void_pidfd = fd_steal(&s->tree.void_pidfd),
		.void_namespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS,
		.uid = (uid_t)s->options.uid_base + ROLE_SUPERVISOR,
		.nofile = 128,
		.may_write_files = true,
		.policy = "supervisor",
	};
	time_t now = time(NULL);
	struct tm tm;

	int r;

	gmtime_r(&now, &tm); /* libc opens its timezone file once, now */
	r = isolate(&iso, err);
	tree_started(&s->tree); /* after it: the void must live until we are in it */
	return r;
}

static void lock(struct supervisor *s)
{
	struct timespec ts;
	uint64_t us;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	us = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
	log_info("phase=lock t_us=%llu", (unsigned long long)(us - s->options.t0_us));
	log_info("accel=%s%s%s", s->options.accel, *s->options.accel_why ? ": " : "",
		s->options.accel_why);
	if (s->options.cid)
		log_info("agent_transport=vsock: CID %llu, which every process of this host can dial",
			(unsigned long long)s->options.cid);
	s->phase = PHASE_LOCKED;
	for (size_t i = 0; i < ROLE_COUNT; i++)
		if (s->tree.child[i].ctl >= 0 && tell(s, (enum role)i, CTL_LOCK, (enum role)i, 0) < 0)
			follow(s);
}

static int start(struct supervisor *s, int argc, char **argv, struct error *err)
{
	sigset_t chld;
	int r;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	sigprocmask(SIG_BLOCK, &chld, NULL);
	s->signals = signalfd(-1, &chld, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->signals < 0)
		return error_errno(err, errno, "signalfd");
	r = open_own_log(s, err);
	if (r == 0)
		r = options_parse(option_table(&s->options), argc, argv, err);
	if (r == 0)
		r = join_cgroup(s, err);
	if (r < 0)
		return r;
	raise_oom_score();
	r = tree_prepare(&s->tree, &s->options, err);
	if (r == 0)
		r = host_pid(&s->tree.task_pid, err);
	if (r == 0)
		r = start_roles(s, err);
	return r;
}

int main(int argc, char **argv)
{
	static struct supervisor s;
	struct error err = ERROR_INIT;

	role_ignore_signals();
	if (start(&s, argc, argv, &err) < 0 || shut_in(&s, &err) < 0) {
		log_error("%s", err.msg);
		end(&s, ROLE_EXIT_FAILED);
	}
	if (s.phase == PHASE_STARTING && !s.over)
		lock(&s);
	while (!s.over)
		step(&s, -1);
	wait_cause(&s);
	end(&s, 0);
}
