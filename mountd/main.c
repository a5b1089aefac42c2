/*
 * mountd: root file systems, the share, stdio FIFOs. See README.md.
 *
 *	parse argv
 *	M: the mount namespace and the share (privilege)
 *	open the directories that requests are served from (privilege)
 *	isolate
 *	LOCK, serve
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "common/log.h"
#include "ipc/fds.h"
#include "ipc/role.h"
#include "ipc/tables.h"
#include "mountd/mountd.h"
#include "mountd/spec.h"

/* Channels, prefixes, one worker's files and the fds in transit. */
#define NOFILE 128
/* What parsing a config.json of 4 MiB may cost at worst, with room. */
#define DATA_MAX (512UL << 20)

/* overlayfs does all that the guest asks with the credentials of whoever mounted it: ours. */
static const int caps[] = {
	CAP_SYS_ADMIN, CAP_DAC_OVERRIDE, CAP_CHOWN, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP,
	-1,
};

struct settings {
	uint64_t uid, timeout_ms;
	const char *share, *bundle, *virtiofsd, *cache;
	struct option_list rootfs, stdio, log;
};

static int parse(int argc, char **argv, struct settings *s, struct mountd *m, struct error *err)
{
	const struct option table[] = {
		{ "uid", OPTION_NUMBER, &s->uid, false },
		{ "share", OPTION_TEXT, &s->share, false },
		{ "bundle", OPTION_TEXT, &s->bundle, false },
		{ "sandbox", OPTION_TEXT, &m->sandbox, false },
		{ "rootfs_prefix", OPTION_LIST, &s->rootfs, true },
		{ "stdio_prefix", OPTION_LIST, &s->stdio, true },
		{ "log_prefix", OPTION_LIST, &s->log, true },
		{ "events", OPTION_TEXT, &m->events, true },
		{ "virtiofsd", OPTION_TEXT, &s->virtiofsd, false },
		{ "virtio_fs_cache", OPTION_TEXT, &s->cache, false },
		{ "timeout_ms", OPTION_NUMBER, &s->timeout_ms, true },
		{ 0 },
	};
	int r = options_parse(table, argc, argv, err);

	if (r < 0)
		return r;
	if (s->uid != 0)
		return error_set(err, EINVAL, "uid=%llu: mountd is uid 0",
			(unsigned long long)s->uid);
	if (s->timeout_ms < 1 || s->timeout_ms > 600000)
		return error_set(err, EINVAL, "timeout_ms=%llu is not between 1 and 600000",
			(unsigned long long)s->timeout_ms);
	m->workers.timeout_ms = (int)s->timeout_ms;
	return virtiofsd_args(s->virtiofsd, s->cache, &m->virtiofsd_args, err);
}

/* A bundle is a name in a directory: the other containers' bundles lie in the same. */
static int open_bundles(struct mountd *m, const char *path, struct error *err)
{
	_cleanup_free_ char *parent = NULL;
	const char *slash = strrchr(path, '/');

	if (!path_is_normal(path) || slash == path)
		return error_set(err, EINVAL, "bundle " PATH_FMT " is not a path in a directory",
			path);
	parent = strndup(path, (size_t)(slash - path));
	if (!parent)
		return error_errno(err, ENOMEM, "bundle");
	m->bundles = path_open(AT_FDCWD, parent, O_PATH | O_DIRECTORY, 0);
	if (m->bundles < 0)
		return error_errno(err, -m->bundles, "open " PATH_FMT, parent);
	m->bundle = slash + 1;
	return 0;
}

static int open_proc(struct mountd *m, struct error *err)
{
	struct statfs st;

	m->proc = path_open(AT_FDCWD, "/proc", O_PATH | O_DIRECTORY, 0);
	if (m->proc < 0)
		return error_errno(err, -m->proc, "open /proc");
	if (fstatfs(m->proc, &st) < 0 || st.f_type != PROC_SUPER_MAGIC)
		return error_set(err, ENODEV, "/proc is not a procfs");
	return 0;
}

/*
 * Directories of the host's namespace are useless here: nothing can be bound
 * from them, nor mounted on them. So all are opened after M was made.
 */
static int prepare(struct mountd *m, const struct settings *s, struct error *err)
{
	int r;

	/* So that our own fds are exactly those behind MOUNTD_FD_END. */
	if (close_range(MOUNTD_FD_END, ~0U, 0) < 0)
		return error_errno(err, errno, "close_range");
	r = share_init(&m->share, s->share, err);
	if (r == 0)
		r = open_proc(m, err);
	if (r == 0)
		r = open_bundles(m, s->bundle, err);
	if (r == 0)
		r = prefixes_open(&m->rootfs, "rootfs_prefixes", &s->rootfs, err);
	if (r == 0)
		r = prefixes_open(&m->stdio.fifos, "stdio_prefixes", &s->stdio, err);
	if (r == 0)
		r = prefixes_open(&m->stdio.logs, "log_prefix", &s->log, err);
	if (r == 0)
		spec_prepare();
	return r;
}

/* The first number that is free: all lower ones are ours, having been opened in a row. */
static int next_fd(struct error *err)
{
	_cleanup_close_ int fd = dup(STDIN_FILENO);

	return fd < 0 ? error_errno(err, errno, "dup") : fd;
}

static int shut_in(struct error *err)
{
	struct isolation iso = {
		.name = "mountd",
		.void_pidfd = MOUNTD_FD_VOID,
		/* Not CLONE_NEWNS: M is the point of mountd. */
		.void_namespaces = CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET,
		.uid = 0,
		.caps = caps,
		.nofile = NOFILE,
		.may_fork = true,
		/* Mount points made in a container's root have the modes they are given. */
		.umask = 022,
		.policy = "mountd",
	};
	int next = next_fd(err);

	if (next < 0)
		return next;
#ifndef __SANITIZE_ADDRESS__ /* whose shadow memory is larger than any limit */
	const struct rlimit data = { DATA_MAX, DATA_MAX };

	if (setrlimit(RLIMIT_DATA, &data) < 0)
		return error_errno(err, errno, "limit memory");
#endif
	/* Workers are not waited for: their pidfds tell. */
	signal(SIGCHLD, SIG_IGN);
	iso.first_free_fd = (unsigned)next;
	return isolate(&iso, err);
}

static int on_ctl(struct helper *h, struct helper_source *source, short revents, struct error *err)
{
	struct ctl_msg msg;

	(void)revents;
	if (ctl_recv(source->fd, MSG_DONTWAIT, &msg) != 0)
		return error_set(err, EPROTO, "an unexpected message from the supervisor");
	h->done = true;
	return 0;
}

int main(int argc, char **argv)
{
	static struct mountd m = {
		.share = SHARE_INIT,
		.proc = -1,
		.bundles = -1,
		.workers = WORKERS_INIT(MOUNTD_TIMEOUT_MS),
		.disks = DISKS_INIT,
	};
	struct settings settings = { .timeout_ms = MOUNTD_TIMEOUT_MS };
	struct error err = ERROR_INIT;
	struct helper h = {
		.channel = &ipc_frontend_mountd,
		.fd = MOUNTD_FD_FRONTEND,
		.requests = mountd_requests,
		.n_requests = mountd_n_requests,
		.state = MOUNTD_STATE_READY,
		.ctx = &m,
		.sources = { { FD_CTL, POLLIN, on_ctl } },
	};

	role_ignore_signals();
	if (parse(argc, argv, &settings, &m, &err) < 0 || prepare(&m, &settings, &err) < 0 ||
		shut_in(&err) < 0)
		role_fail(ROLE_MOUNTD, &err);
	if (role_wait_lock(ROLE_MOUNTD, &err) < 0 || helper_serve(&h, &err) < 0) {
		log_error("%s", err.msg);
		return ROLE_EXIT_FAILED;
	}
	if (m.peer_lost) {
		log_error("the frontend or a receiver broke the protocol: the sandbox ends");
		return ROLE_EXIT_FAILED;
	}
	return 0;
}
