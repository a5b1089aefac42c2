#include "supervisor/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "ipc/fds.h"
#include "ipc/pair.h"
#include "ipc/tables.h"
#include "supervisor/cgroup.h"
#include "supervisor/child.h"

/* The channels, asker first: struct tree's pairs[], in this order. */
enum channel_id {
	CHANNEL_FRONTEND_NETD,
	CHANNEL_FRONTEND_MOUNTD,
	CHANNEL_FRONTEND_VMMD,
	CHANNEL_FRONTEND_AGENTD,
	CHANNEL_FRONTEND_PERSISTD,
	CHANNEL_MOUNTD_AGENTD,
	CHANNEL_MOUNTD_VMMD,
	CHANNEL_NETD_VMMD,
	CHANNEL_VMMD_AGENTD,
	CHANNEL_VMMD_SLOT,
	CHANNEL_MOUNTD_SLOT,
	CHANNEL_COUNT,
};

static const struct ipc_channel *const channels[CHANNEL_COUNT] = {
	[CHANNEL_FRONTEND_NETD] = &ipc_frontend_netd,
	[CHANNEL_FRONTEND_MOUNTD] = &ipc_frontend_mountd,
	[CHANNEL_FRONTEND_VMMD] = &ipc_frontend_vmmd,
	[CHANNEL_FRONTEND_AGENTD] = &ipc_frontend_agentd,
	[CHANNEL_FRONTEND_PERSISTD] = &ipc_frontend_persistd,
	[CHANNEL_MOUNTD_AGENTD] = &ipc_mountd_agentd,
	[CHANNEL_MOUNTD_VMMD] = &ipc_mountd_vmmd,
	[CHANNEL_NETD_VMMD] = &ipc_netd_vmmd,
	[CHANNEL_VMMD_AGENTD] = &ipc_vmmd_agentd,
	[CHANNEL_VMMD_SLOT] = &ipc_slot,
	[CHANNEL_MOUNTD_SLOT] = &ipc_slot,
};

_Static_assert(CHANNEL_COUNT <= ARRAY_SIZE(((struct tree *)0)->pairs), "room for every channel");

/* Where an fd of a role comes from. ASKER and ANSWERER are the two ends of a channel. */
enum source_kind {
	SOURCE_END,
	SOURCE_OURS,
	SOURCE_ASKER,
	SOURCE_ANSWERER,
	SOURCE_VOID,
	SOURCE_MOUNTD,
	SOURCE_VSOCK, /* as OURS; the last of a role, and not there without vsock */
};

struct source {
	enum source_kind kind;
	int which; /* OURS, VSOCK: an enum supervisor_fd; ASKER, ANSWERER: an enum channel_id */
};

#define OURS(fd)     { SOURCE_OURS, SUPERVISOR_FD_##fd }
#define VSOCK(fd)    { SOURCE_VSOCK, SUPERVISOR_FD_##fd }
#define ASKER(ch)    { SOURCE_ASKER, CHANNEL_##ch }
#define ANSWERER(ch) { SOURCE_ANSWERER, CHANNEL_##ch }
#define VOID	     { SOURCE_VOID, 0 }
#define MOUNTD	     { SOURCE_MOUNTD, 0 }

#define FIRST_FD     4
#define ROLE_FDS_MAX 10

/* From fd 4 on, in the order of ipc/fds.h. */
static const struct plan {
	const char *binary;
	bool in_vm; /* lives in the cgroup `vm`, with the VM's oom_score_adj */
	struct source fds[ROLE_FDS_MAX];
} plans[ROLE_COUNT] = {
	[ROLE_FRONTEND] = { "bulkhead-frontend", false,
		{ OURS(LISTENER), ASKER(FRONTEND_NETD), ASKER(FRONTEND_MOUNTD),
			ASKER(FRONTEND_VMMD), ASKER(FRONTEND_AGENTD), ASKER(FRONTEND_PERSISTD),
			OURS(EVENTS), VOID } },
	[ROLE_AGENTD] = { "bulkhead-agentd", false,
		{ ANSWERER(FRONTEND_AGENTD), ANSWERER(MOUNTD_AGENTD), ANSWERER(VMMD_AGENTD),
			VOID } },
	[ROLE_VMMD] = { "bulkhead-vmmd", false,
		{ ANSWERER(FRONTEND_VMMD), ANSWERER(MOUNTD_VMMD), ANSWERER(NETD_VMMD),
			ASKER(VMMD_AGENTD), ASKER(VMMD_SLOT), VOID, VSOCK(VHOST_VSOCK),
			VSOCK(VSOCK) } },
	[ROLE_PERSISTD] = { "bulkhead-persistd", false,
		{ ANSWERER(FRONTEND_PERSISTD), OURS(STATE), VOID } },
	[ROLE_NETD] = { "bulkhead-netd", false, { ANSWERER(FRONTEND_NETD), ASKER(NETD_VMMD), VOID } },
	[ROLE_MOUNTD] = { "bulkhead-mountd", false,
		{ ANSWERER(FRONTEND_MOUNTD), ASKER(MOUNTD_VMMD), ASKER(MOUNTD_AGENTD),
			ASKER(MOUNTD_SLOT), OURS(BUNDLE), VOID } },
	[ROLE_QEMU] = { "bulkhead-slot", true, { ANSWERER(VMMD_SLOT), OURS(QEMU), VOID } },
	[ROLE_VIRTIOFSD] = { "bulkhead-slot", true,
		{ ANSWERER(MOUNTD_SLOT), OURS(VIRTIOFSD), MOUNTD } },
};

int tree_prepare(struct tree *t, const struct supervisor_options *o, struct error *err)
{
	*t = (struct tree){ .options = o, .void_pidfd = -1, .void_hold = -1, .mountd_pidfd = -1 };
	for (size_t i = 0; i < ROLE_COUNT; i++)
		t->child[i].ctl = t->child[i].log = -1;
	t->null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (t->null < 0)
		return error_errno(err, errno, "/dev/null");
	for (size_t i = 0; i < CHANNEL_COUNT; i++)
		if (channel_pair(channels[i], t->pairs[i], err) < 0)
			return error_wrap(err, "channel %s", channels[i]->name);
	return void_create(o->dir, &t->void_pidfd, &t->void_hold, err);
}

static int source_fd(const struct tree *t, const struct source *s)
{
	switch (s->kind) {
	case SOURCE_OURS:
	case SOURCE_VSOCK:
		return s->which;
	case SOURCE_ASKER:
		return t->pairs[s->which][0];
	case SOURCE_ANSWERER:
		return t->pairs[s->which][1];
	case SOURCE_VOID:
		return t->void_pidfd;
	case SOURCE_MOUNTD:
		return t->mountd_pidfd;
	case SOURCE_END:
		break;
	}
	return -1;
}

/* ---- what each role is told ---- */

static void say_list(struct words *w, const char *key, const struct option_list *list)
{
	for (unsigned i = 0; i < list->n; i++)
		words_say(w, "%s=%s", key, list->item[i]);
}

static uid_t role_uid(const struct tree *t, enum role role)
{
	if (role == ROLE_MOUNTD || role == ROLE_VIRTIOFSD)
		return 0;
	return (uid_t)t->options->uid_base + role;
}

static void words_for(struct words *w, const struct tree *t, enum role role)
{
	const struct supervisor_options *o = t->options;

	words_say(w, "bulkhead-%s", role_name(role));
	words_say(w, "uid=%u", role_uid(t, role));
	switch (role) {
	case ROLE_FRONTEND:
		words_say(w, "id=%s", o->id);
		words_say(w, "namespace=%s", o->namespace);
		words_say(w, "bundle=%s", o->bundle);
		words_say(w, "task_pid=%d", t->task_pid);
		/* More than the v2 hierarchy: the controllers are elsewhere. */
		words_say(w, "cgroups_v1=%d", o->cgroups.n > 1);
		words_say(w, "vcpus=%llu", (unsigned long long)o->vcpus);
		words_say(w, "memory_mib=%llu", (unsigned long long)o->memory_mib);
		words_say(w, "max_vcpus=%llu", (unsigned long long)o->max_vcpus);
		words_say(w, "max_memory_mib=%llu", (unsigned long long)o->max_memory_mib);
		words_say(w, "overhead_millicpus=%llu", (unsigned long long)o->overhead_millicpus);
		words_say(w, "overhead_memory_mib=%llu",
			(unsigned long long)o->overhead_memory_mib);
		words_say(w, "share=1");
		words_say(w, "hello_timeout_ms=%llu", (unsigned long long)o->hello_timeout_ms);
		words_say(w, "vsock=%d", o->cid != 0);
		break;
	case ROLE_AGENTD:
		words_say(w, "sandbox=%s", o->id);
		words_say(w, "cid=%llu", (unsigned long long)o->cid);
		break;
	case ROLE_VMMD:
		words_say(w, "cid=%llu", (unsigned long long)o->cid);
		words_say(w, "accel=%s", o->accel);
		words_say(w, "append=%s", o->cmdline);
		words_say(w, "qemu=%s", o->qemu);
		break;
	case ROLE_MOUNTD:
		words_say(w, "share=%s/share", o->dir);
		words_say(w, "bundle=%s", o->bundle);
		words_say(w, "sandbox=%s", o->id);
		words_say(w, "virtiofsd=%s", o->virtiofsd);
		words_say(w, "virtio_fs_cache=%s", o->virtio_fs_cache);
		say_list(w, "rootfs_prefix", &o->rootfs_prefix);
		say_list(w, "stdio_prefix", &o->stdio_prefix);
		say_list(w, "log_prefix", &o->log_prefix);
		if (o->events)
			words_say(w, "events=%s", o->events);
		break;
	case ROLE_NETD:
		words_say(w, "model=%s", o->network_model);
		words_say(w, "queues=%llu", (unsigned long long)o->network_queues);
		words_say(w, "vhost=%d", !o->disable_vhost_net);
		break;
	case ROLE_QEMU:
		words_say(w, "kind=qemu");
		words_say(w, "binary=%s", o->qemu);
		words_say(w, "kernel=%s", o->kernel);
		words_say(w, "initrd=%s", o->initrd);
		words_say(w, "accel=%s", o->accel);
		break;
	case ROLE_VIRTIOFSD:
		words_say(w, "kind=virtiofsd");
		words_say(w, "binary=%s", o->virtiofsd);
		words_say(w, "share=%s/share", o->dir);
		break;
	default:
		break;
	}
}

/* ---- fork and exec ---- */

static int enter_vm(const struct supervisor_options *o, struct error *err)
{
	struct cgroups c;
	char text[16];
	_cleanup_close_ int fd = -1;
	int r;

	cgroup_from_list(&c, o->cgroups.item, o->cgroups.n);
	r = cgroup_join_vm(&c, err);
	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "%d", (int)o->vm_oom_score_adj - 1000);
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	/* Lowering it takes CAP_SYS_RESOURCE; without, the VM keeps ours, which is higher. */
	if (fd >= 0 && write(fd, text, strlen(text)) < 0 && errno != EACCES)
		return error_errno(err, errno, "set oom_score_adj to %s", text);
	return 0;
}

static _Noreturn void run_child(const struct tree *t, enum role role, int ctl, int log,
	char *const *argv)
{
	const struct plan *plan = &plans[role];
	int fds[FIRST_FD + ROLE_FDS_MAX] = { t->null, t->null, log, ctl };
	struct error err = ERROR_INIT;
	char path[1024];
	char *env[] = { NULL };
	sigset_t none;
	int n = FIRST_FD;

	for (size_t i = 0; i < ROLE_FDS_MAX && plan->fds[i].kind != SOURCE_END; i++)
		if (plan->fds[i].kind != SOURCE_VSOCK || t->options->cid)
			fds[n++] = source_fd(t, &plan->fds[i]);
	if (plan->in_vm && enter_vm(t->options, &err) < 0) {
		ctl_send(ctl, CTL_FAILED, role, 0, err.msg);
		_exit(1);
	}
	snprintf(path, sizeof(path), "%s/%s", t->options->libexec, plan->binary);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (child_place_fds(fds, n) < 0) {
		error_errno(&err, errno, "place the fds of %s", path);
		ctl_send(ctl, CTL_FAILED, role, 0, err.msg);
		_exit(127);
	}
	execve(path, argv, env);
	error_errno(&err, errno, "execute %s", path);
	ctl_send(FD_CTL, CTL_FAILED, role, 0, err.msg);
	_exit(127);
}

static int log_pair(int ret[2], struct error *err)
{
	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ret) < 0)
		return error_errno(err, errno, "log socket");
	/* Only the role writes, only we read. */
	shutdown(ret[0], SHUT_WR);
	return 0;
}

int tree_spawn(struct tree *t, enum role role, struct error *err)
{
	_cleanup_close_ int ctl = -1, log = -1;
	CLEANUP(words_done) struct words w = WORDS_INIT;
	struct child *c = &t->child[role];
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return error_errno(err, errno, "control socket");
	c->ctl = pair[0];
	ctl = pair[1];
	if (log_pair(pair, err) < 0)
		return -err->code;
	c->log = pair[0];
	log = pair[1];

	words_for(&w, t, role);
	c->pid = fork();
	if (c->pid < 0) {
		c->pid = 0;
		return error_errno(err, errno, "fork %s", role_name(role));
	}
	if (c->pid == 0)
		run_child(t, role, ctl, log, w.word);
	if (role == ROLE_MOUNTD) {
		t->mountd_pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
		if (t->mountd_pidfd < 0)
			return error_errno(err, errno, "pidfd of mountd");
	}
	return 0;
}

void tree_started(struct tree *t)
{
	for (size_t i = 0; i < CHANNEL_COUNT; i++) {
		fd_close(&t->pairs[i][0]);
		fd_close(&t->pairs[i][1]);
	}
	fd_close(&t->void_pidfd);
	fd_close(&t->void_hold);
	fd_close(&t->mountd_pidfd);
	fd_close(&t->null);
	for (int fd = SUPERVISOR_FD_LISTENER; fd < SUPERVISOR_FD_END; fd++)
		if (fd != SUPERVISOR_FD_LOG)
			close(fd);
}
