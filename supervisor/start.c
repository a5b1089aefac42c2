#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/io.h"
#include "common/log.h"
#include "supervisor/cgroup.h"
#include "supervisor/child.h"
#include "supervisor/launcher.h"
#include "supervisor/netns.h"
#include "supervisor/process.h"
#include "supervisor/spec.h"
#include "supervisor/supervisor.h"
#include "supervisor/vm_size.h"
#include "supervisor/vsock.h"

struct launch {
	const struct config *config;
	const struct args *args;
	char bundle[PATH_MAX];
	const char *events; /* TTRPC_ADDRESS, or NULL */
	struct spec spec;
	struct vm_size size;
	struct cgroups cgroups;
	struct sandbox sandbox;
	int fd[SUPERVISOR_FD_END]; /* by the number it is to have */
	int netns;                 /* -1: a new one */
	unsigned cid;              /* of the guest; 0: its agent has a port */
	pid_t supervisor;
};

static uint64_t now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* ---- sockets ---- */

static int unix_address(struct sockaddr_un *sa, const char *path, struct error *err)
{
	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(sa->sun_path))
		return error_set(err, ENAMETOOLONG, "socket path %s is too long", path);
	strcpy(sa->sun_path, path);
	return 0;
}

/* A connected socket, or -errno. */
static int unix_connect(const char *path, struct error *err)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un sa;

	if (fd < 0)
		return error_errno(err, errno, "socket");
	if (unix_address(&sa, path, err) < 0)
		return -err->code;
	if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		return error_errno(err, errno, "connect to %s", path);
	return fd_steal(&fd);
}

static int make_socket_dir(struct error *err)
{
	struct stat st;

	/* containerd makes /run/containerd; in its absence nobody else owns it either. */
	if (mkdir("/run/containerd", 0711) < 0 && errno != EEXIST)
		return error_errno(err, errno, "make /run/containerd");
	if (mkdir(SOCKET_DIR, 0711) < 0 && errno != EEXIST)
		return error_errno(err, errno, "make " SOCKET_DIR);
	if (lstat(SOCKET_DIR, &st) < 0)
		return error_errno(err, errno, SOCKET_DIR);
	if (!S_ISDIR(st.st_mode) || st.st_uid != 0 || (st.st_mode & 022))
		return error_set(err, EPERM, SOCKET_DIR " is not a directory only root can write");
	return 0;
}

static int listen_on(const struct sandbox *s, struct error *err)
{
	_cleanup_close_ int fd = -1;
	struct sockaddr_un sa;
	mode_t mask;
	int r = make_socket_dir(err);

	if (r == 0)
		r = unix_address(&sa, s->socket, err);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return error_errno(err, errno, "socket");
	mask = umask(0177); /* 0600 from its first moment */
	r = bind(fd, (struct sockaddr *)&sa, sizeof(sa));
	umask(mask);
	if (r < 0 || listen(fd, 64) < 0)
		return error_errno(err, errno, "listen on %s", s->socket);
	return fd_steal(&fd);
}

/* ---- what the supervisor gets ---- */

/* A binary that root will let run: nobody else may have been able to change it. */
static int open_binary(const char *what, const char *path, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct stat st;

	if (fd < 0)
		return error_errno(err, errno, "%s %s (install it, or set %s= in bulkhead.conf)",
			what, path, what);
	if (fstat(fd, &st) < 0)
		return error_errno(err, errno, "%s %s", what, path);
	if (!S_ISREG(st.st_mode) || !(st.st_mode & 0111))
		return error_set(err, EACCES, "%s %s is not an executable file", what, path);
	if (st.st_uid != 0 || (st.st_mode & 022))
		return error_set(err, EPERM, "%s %s can be written by others than root", what,
			path);
	return fd_steal(&fd);
}

static int check_image(const char *what, const char *path, struct error *err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return error_errno(err, errno,
			"the guest's %s %s (build the guest image, or set %s= in bulkhead.conf)",
			what, path, what);
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL, "the guest's %s %s is not a file", what, path);
	return 0;
}

static int open_null(struct error *err)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	return fd < 0 ? error_errno(err, errno, "/dev/null") : fd;
}

/* containerd's log FIFO; without one, or one that is something else, the log goes nowhere. */
static int open_log(int bundle, struct error *err)
{
	_cleanup_close_ int fd =
		openat(bundle, "log", O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISFIFO(st.st_mode))
		return open_null(err);
	return fd_steal(&fd);
}

static int open_events(const char *path, struct error *err)
{
	struct error ignored;
	int fd = path ? unix_connect(path, &ignored) : -1;

	/* Not fatal: the frontend asks mountd for a new connection when it has something to send. */
	return fd >= 0 ? fd : open_null(err);
}

/* For vmmd alone; where the agent has a port nobody gets them. */
static int open_vsock(struct launch *l, struct error *err)
{
	int *vhost = &l->fd[SUPERVISOR_FD_VHOST_VSOCK], *sock = &l->fd[SUPERVISOR_FD_VSOCK];

	if (config_is_vsock(l->config))
		return vsock_open(vhost, sock, err);
	*vhost = open_null(err);
	if (*vhost >= 0)
		*sock = open_null(err);
	return *sock < 0 ? -err->code : 0;
}

static int open_fds(struct launch *l, struct error *err)
{
	const struct config *c = l->config;
	int *fd = l->fd, r;

	fd[SUPERVISOR_FD_QEMU] = open_binary("qemu", c->qemu, err);
	if (fd[SUPERVISOR_FD_QEMU] < 0)
		return -err->code;
	fd[SUPERVISOR_FD_VIRTIOFSD] = open_binary("virtiofsd", c->virtiofsd, err);
	if (fd[SUPERVISOR_FD_VIRTIOFSD] < 0)
		return -err->code;
	r = check_image("kernel", c->kernel, err);
	if (r == 0)
		r = check_image("initrd", c->initrd, err);
	if (r < 0)
		return r;
	fd[SUPERVISOR_FD_LOG] = open_log(fd[SUPERVISOR_FD_BUNDLE], err);
	if (fd[SUPERVISOR_FD_LOG] < 0)
		return -err->code;
	fd[SUPERVISOR_FD_EVENTS] = open_events(l->events, err);
	return fd[SUPERVISOR_FD_EVENTS] < 0 ? -err->code : open_vsock(l, err);
}

/* Whoever asks for no namespace wants the host's. */
static int check_namespaces(const struct spec *spec, struct error *err)
{
	const struct {
		bool has;
		const char *what, *kind;
	} needed[] = {
		{ spec->has_netns, "hostNetwork", "network" },
		{ spec->has_pidns, "hostPID", "pid" },
		{ spec->has_ipcns, "hostIPC", "ipc" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (!needed[i].has)
			return error_set(err, EINVAL,
				"%s is not available in a VM: config.json asks for no %s namespace",
				needed[i].what, needed[i].kind);
	return 0;
}

/* The pod's network namespace, never the host's. */
static int open_netns(struct launch *l, struct error *err)
{
	l->netns = -1;
	if (!l->spec.netns_path[0])
		return 0;
	l->netns = netns_open(l->spec.netns_path, err);
	return l->netns < 0 ? -err->code : 0;
}

/* ---- clone ---- */

static void say_number(struct words *w, const char *key, uint64_t value)
{
	words_say(w, "%s=%llu", key, (unsigned long long)value);
}

static void supervisor_words(const struct launch *l, uint64_t t0, struct words *w)
{
	const struct config *c = l->config;

	words_say(w, "bulkhead-supervisor");
	words_say(w, "id=%s", l->args->id);
	words_say(w, "namespace=%s", l->args->namespace);
	words_say(w, "bundle=%s", l->bundle);
	words_say(w, "dir=%s", l->sandbox.dir);
	words_say(w, "libexec=%s", c->libexec);
	words_say(w, "qemu=%s", c->qemu);
	words_say(w, "virtiofsd=%s", c->virtiofsd);
	words_say(w, "virtio_fs_cache=%s", c->virtio_fs_cache);
	words_say(w, "kernel=%s", c->kernel);
	words_say(w, "initrd=%s", c->initrd);
	words_say(w, "cmdline=%s", c->cmdline);
	words_say(w, "accel=%s", c->accel);
	words_say(w, "accel_why=%s", c->accel_why);
	words_say(w, "network_model=%s", c->network_model);
	say_number(w, "network_queues", c->network_queues);
	say_number(w, "disable_vhost_net", c->disable_vhost_net);
	if (l->events)
		words_say(w, "events=%s", l->events);
	say_number(w, "uid_base", sandbox_uid_base(&l->sandbox, c));
	say_number(w, "vcpus", l->size.vcpus);
	say_number(w, "memory_mib", l->size.memory_mib);
	say_number(w, "max_vcpus", l->size.max_vcpus);
	say_number(w, "max_memory_mib", l->size.max_memory_mib);
	say_number(w, "overhead_millicpus", c->overhead_millicpus);
	say_number(w, "overhead_memory_mib", l->size.overhead_memory_mib);
	say_number(w, "hello_timeout_ms", c->hello_timeout_ms);
	say_number(w, "cid", l->cid);
	say_number(w, "vm_oom_score_adj",
		(uint64_t)((l->spec.has_oom_score_adj ? l->spec.oom_score_adj : 0) + 1000));
	say_number(w, "t0_us", t0);
	for (unsigned i = 0; i < c->rootfs_prefix.n; i++)
		words_say(w, "rootfs_prefix=%s", c->rootfs_prefix.item[i]);
	for (unsigned i = 0; i < c->stdio_prefix.n; i++)
		words_say(w, "stdio_prefix=%s", c->stdio_prefix.item[i]);
	for (unsigned i = 0; i < c->log_prefix.n; i++)
		words_say(w, "log_prefix=%s", c->log_prefix.item[i]);
	for (unsigned i = 0; i < l->cgroups.n; i++)
		words_say(w, "cgroup=%s", l->cgroups.dir[i]);
}

/* In the clone: PID 1 of a new namespace, as root. Reports what failed on the pipe. */
static _Noreturn void become_supervisor(struct launch *l, struct words *w, int report)
{
	char path[CONFIG_PATH_MAX + 32];
	char *env[] = { NULL };
	int code;

	snprintf(path, sizeof(path), "%s/bulkhead-supervisor", l->config->libexec);
	/* Its own session: nothing containerd's terminal or process group sends reaches it. */
	if (setsid() >= 0 &&
		(l->netns >= 0 ? setns(l->netns, CLONE_NEWNET) : unshare(CLONE_NEWNET)) == 0 &&
		chdir("/") == 0) {
		/* Out of the way of the numbers to be filled. */
		int high = fcntl(report, F_DUPFD_CLOEXEC, 128);

		if (high >= 0)
			report = high;
		l->fd[0] = l->fd[1] = open("/dev/null", O_RDWR | O_CLOEXEC);
		l->fd[2] = l->fd[SUPERVISOR_FD_LOG]; /* what the dynamic linker has to say */
		if (high >= 0 && l->fd[0] >= 0 && child_place_fds(l->fd, SUPERVISOR_FD_END) == 0)
			execve(path, w->word, env);
	}
	code = errno;
	if (write(report, &code, sizeof(code)) < 0)
		_exit(126);
	_exit(127);
}

static int clone_supervisor(struct launch *l, uint64_t t0, struct error *err)
{
	struct clone_args ca = { .flags = CLONE_NEWPID, .exit_signal = SIGCHLD };
	_cleanup_close_ int report = -1, report_end = -1;
	CLEANUP(words_done) struct words w = WORDS_INIT;
	int fds[2], code = 0;
	ssize_t n;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, errno, "pipe");
	report = fds[0];
	report_end = fds[1];
	supervisor_words(l, t0, &w);
	l->supervisor = (pid_t)syscall(SYS_clone3, &ca, sizeof(ca));
	if (l->supervisor < 0) {
		l->supervisor = 0;
		return error_errno(err, errno, "clone the supervisor into a PID namespace");
	}
	if (l->supervisor == 0)
		become_supervisor(l, &w, report_end);
	fd_close(&report_end);
	/* End of file: it runs. */
	n = read_full(report, &code, sizeof(code));
	if (n != 0)
		return error_errno(err, n == sizeof(code) ? code : EPROTO,
			"run %s/bulkhead-supervisor", l->config->libexec);
	return 0;
}

/* ---- the address file and the answer ---- */

/* containerd 1.6 loses every sandbox at restart without this file. */
static int write_address(int bundle, const char *address, struct error *err)
{
	_cleanup_close_ int fd = openat(bundle, ".address",
		O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r;

	if (fd < 0)
		return error_errno(err, errno, "write the bundle's address file");
	r = write_full(fd, address, strlen(address));
	if (r == 0 && renameat(bundle, ".address", bundle, "address") < 0)
		r = -errno;
	return r < 0 ? error_errno(err, -r, "write the bundle's address file") : 0;
}

static int print_address(const char *address, struct error *err)
{
	int r = write_full(STDOUT_FILENO, address, strlen(address));

	return r < 0 ? error_errno(err, -r, "print the address") : 0;
}

/* ---- the two kinds of start ---- */

/* A container of a pod whose sandbox lives: containerd talks to that one. */
static int start_in_pod(struct launch *l, struct error *err)
{
	struct sandbox pod;
	struct error why = ERROR_INIT;
	int fd, r;

	r = sandbox_init(&pod, l->config, l->args, l->spec.sandbox_id, err);
	if (r < 0)
		return r;
	fd = unix_connect(pod.socket, &why);
	if (fd < 0)
		return error_set(err, ESRCH, "the pod's sandbox %s is not running (%s)",
			l->spec.sandbox_id, why.msg);
	close(fd);
	r = write_address(l->fd[SUPERVISOR_FD_BUNDLE], pod.address, err);
	return r < 0 ? r : print_address(pod.address, err);
}

/* The directory of the same name from before: of a live sandbox, or what a dead one left. */
static int make_sandbox(struct launch *l, struct error *err)
{
	struct sandbox old;
	struct error why = ERROR_INIT;
	int fd, r;

	r = sandbox_init(&l->sandbox, l->config, l->args, l->args->id, err);
	if (r == 0)
		r = sandbox_create(&l->sandbox, l->config, l->args, l->args->id, l->bundle, err);
	if (r != -EEXIST)
		return r;
	fd = unix_connect(l->sandbox.socket, &why);
	if (fd >= 0) {
		close(fd);
		return r;
	}
	sandbox_init(&old, l->config, l->args, l->args->id, &why);
	if (sandbox_open(&old, &why) == 0) {
		log_debug("cleaning up after an earlier sandbox of this id");
		launcher_teardown(&old, l->config);
	}
	sandbox_done(&old);
	return sandbox_create(&l->sandbox, l->config, l->args, l->args->id, l->bundle, err);
}

static int record(const struct launch *l, struct error *err)
{
	_cleanup_free_ char *cgroups = cgroup_format(&l->cgroups);

	if (!cgroups)
		return error_errno(err, ENOMEM, "record the cgroups");
	if (l->netns >= 0 && sandbox_write(&l->sandbox, "netns", l->spec.netns_path, err) < 0)
		return -err->code;
	return sandbox_write(&l->sandbox, "cgroups", cgroups, err);
}

static int start_sandbox(struct launch *l, uint64_t t0, struct error *err)
{
	int r = check_namespaces(&l->spec, err);

	if (r == 0)
		r = vm_size(l->config, &l->spec, &l->size, err);
	if (r == 0)
		r = open_fds(l, err);
	if (r == 0)
		r = open_netns(l, err);
	if (r == 0)
		r = cgroup_locate(&l->cgroups, l->spec.cgroups_path, l->args->id, err);
	if (r == 0)
		r = make_sandbox(l, err);
	/* The leased uids are numbers that no other sandbox tries. */
	if (r == 0 && config_is_vsock(l->config))
		r = vsock_take_cid(l->fd[SUPERVISOR_FD_VHOST_VSOCK],
			sandbox_uid_base(&l->sandbox, l->config), SANDBOX_UIDS, &l->cid, err);
	if (r < 0)
		return r;

	l->fd[SUPERVISOR_FD_STATE] =
		openat(l->sandbox.dir_fd, "state", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (l->fd[SUPERVISOR_FD_STATE] < 0)
		return error_errno(err, errno, "%s/state", l->sandbox.dir);
	r = record(l, err); /* before they are made: whatever happens, delete knows */
	if (r == 0)
		r = cgroup_create(&l->cgroups, err);
	if (r < 0)
		return r;
	l->fd[SUPERVISOR_FD_LISTENER] = listen_on(&l->sandbox, err);
	if (l->fd[SUPERVISOR_FD_LISTENER] < 0)
		return -err->code;
	r = clone_supervisor(l, t0, err);
	if (r == 0)
		r = process_record(&l->sandbox, l->supervisor, err);
	if (r == 0)
		r = write_address(l->fd[SUPERVISOR_FD_BUNDLE], l->sandbox.address, err);
	if (r == 0)
		r = print_address(l->sandbox.address, err);
	return r;
}

static void undo(struct launch *l)
{
	if (l->supervisor > 0) {
		kill(l->supervisor, SIGKILL);
		waitpid(l->supervisor, NULL, 0);
	}
	if (l->sandbox.dir_fd >= 0)
		launcher_teardown(&l->sandbox, l->config);
	if (l->fd[SUPERVISOR_FD_BUNDLE] >= 0) {
		unlinkat(l->fd[SUPERVISOR_FD_BUNDLE], ".address", 0);
		unlinkat(l->fd[SUPERVISOR_FD_BUNDLE], "address", 0);
	}
}

static void launch_done(struct launch *l)
{
	for (size_t i = 0; i < ARRAY_SIZE(l->fd); i++)
		fd_close(&l->fd[i]);
	fd_close(&l->netns);
	sandbox_done(&l->sandbox);
}

int launcher_start(const struct config *c, const struct args *a, struct error *err)
{
	static struct launch l;
	uint64_t t0 = now_us();
	int r;

	l = (struct launch){
		.config = c, .args = a, .netns = -1, .events = getenv("TTRPC_ADDRESS")
	};
	l.sandbox.dir_fd = -1;
	for (size_t i = 0; i < ARRAY_SIZE(l.fd); i++)
		l.fd[i] = -1;
	if (l.events && !l.events[0])
		l.events = NULL;
	if (!getcwd(l.bundle, sizeof(l.bundle)))
		return error_errno(err, errno, "the bundle's path");
	l.fd[SUPERVISOR_FD_BUNDLE] = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l.fd[SUPERVISOR_FD_BUNDLE] < 0)
		return error_errno(err, errno, "the bundle");

	r = spec_read(l.fd[SUPERVISOR_FD_BUNDLE], &l.spec, err);
	if (r == 0 && l.spec.kind == CONTAINER_POD)
		r = start_in_pod(&l, err);
	else if (r == 0) {
		r = start_sandbox(&l, t0, err);
		if (r < 0)
			undo(&l);
		else
			launcher_gc_in_background(c);
	}
	launch_done(&l);
	return r < 0 ? error_wrap(err, "start %s", a->id) : 0;
}
