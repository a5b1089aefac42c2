#include "crun.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "job.h"

#define CRUN_STATE "/run/bulkhead/crun"
#define ARGS_MAX   16

#define CRUN	   "/usr/bin/crun"
#define CRUN_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

static char *binary; /* what is executed: set once, before the first job */

static int copy_crun(int to)
{
	_cleanup_close_ int from = open(CRUN, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (from < 0)
		return -1;
	do {
		n = sendfile(to, from, NULL, 1 << 20);
	} while (n > 0);
	return (int)n;
}

/*
 * crun does not trust the file it was started from, as a container could write to it through
 * /proc/PID/exe: it makes a copy and starts again from that, each time. A sealed memfd it takes
 * as it is. So there is one, which saves every call half of what crun takes to start.
 */
void crun_init(void)
{
	int fd = memfd_create("crun", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || copy_crun(fd) < 0 || fcntl(fd, F_ADD_SEALS, CRUN_SEALS) < 0)
		die("a sealed copy of " CRUN ": %s", strerror(errno));
	/* By this name, as a job has none of the agent's descriptors. */
	binary = xasprintf("/proc/1/fd/%d", fd);
}

/* The files one call of crun needs, named after the calling process, which makes one at a time. */
struct call {
	char *log, *pid, *json, *tty;
};

static struct call call_begin(void)
{
	pid_t self = getpid();

	return (struct call){
		.log = xasprintf("/run/bulkhead/%d.log", self),
		.pid = xasprintf("/run/bulkhead/%d.pid", self),
		.json = xasprintf("/run/bulkhead/%d.json", self),
		.tty = xasprintf("/run/bulkhead/%d.tty", self),
	};
}

static void call_end(struct call *call)
{
	char *const names[] = { call->log, call->pid, call->json, call->tty };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		(void)unlink(names[i]);
		free(names[i]);
	}
}

/* crun writes "<time>: <message>" lines; the last one is the cause. */
static const char *last_message(char *log)
{
	size_t len = strlen(log);
	char *line, *colon;

	while (len > 0 && log[len - 1] == '\n')
		log[--len] = '\0';
	line = strrchr(log, '\n');
	line = line ? line + 1 : log;
	colon = strstr(line, "Z: ");
	return colon ? colon + 3 : line;
}

/* Run crun with these arguments after the general ones. */
static int crun(const struct call *call, const char *const args[], struct error *err)
{
	_cleanup_free_ char *log_arg = xasprintf("--log=%s", call->log);
	const char *argv[ARGS_MAX] = { binary, "--root=" CRUN_STATE,
		"--cgroup-manager=cgroupfs", log_arg };
	char log[4096] = "";
	size_t n = 4;
	int status;

	while (*args && n < ARGS_MAX - 1)
		argv[n++] = *args++;
	status = job_run(argv, err);
	if (status < 0)
		return -1;
	if (status == 0)
		return 0;
	(void)file_read(call->log, log, sizeof(log));
	if (WIFEXITED(status) && *log)
		return error_set(err, CODE_INTERNAL, "%s", last_message(log));
	return error_set(err, CODE_INTERNAL, "crun ended with wait status 0x%x", status);
}

static int write_json(const char *path, struct json_object *json, struct error *err)
{
	const char *text = json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN);
	int r = file_create(path, text, strlen(text));

	if (r < 0) {
		errno = -r;
		return error_errno(err, "write %s", path);
	}
	return 0;
}

/* crun connects here and sends the pty's master, without waiting for an answer. */
static int tty_listen(const char *path, struct error *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strncpy(addr.sun_path, path, sizeof(addr.sun_path) - 1);
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, 1) < 0)
		return error_errno(err, "console socket %s", path);
	return fd_steal(&fd);
}

static int tty_receive(int listener, struct error *err)
{
	_cleanup_close_ int conn = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	char data[256];
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = data, .iov_len = sizeof(data) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *c;
	int fd;

	if (conn < 0 || recvmsg(conn, &msg, MSG_CMSG_CLOEXEC) < 0)
		return error_errno(err, "console socket");
	c = CMSG_FIRSTHDR(&msg);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return error_set(err, CODE_INTERNAL, "crun sent no terminal");
	memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

static int read_pid(const char *path, pid_t *ret_pid, struct error *err)
{
	char text[32];

	if (file_read(path, text, sizeof(text)) <= 0)
		return error_set(err, CODE_INTERNAL, "crun wrote no pid file");
	*ret_pid = (pid_t)strtol(text, NULL, 10);
	return 0;
}

/* Run one of the two calls that make a process and collect what it made. */
static int make_process(const struct call *call, const struct crun_process *p,
        const char *const args[], pid_t *ret_pid, int *ret_master, struct error *err)
{
	_cleanup_close_ int listener = -1;

	if (p->terminal) {
		listener = tty_listen(call->tty, err);
		if (listener < 0)
			return -1;
	}
	if (crun(call, args, err) < 0 || read_pid(call->pid, ret_pid, err) < 0)
		return -1;
	*ret_master = -1;
	if (p->terminal) {
		*ret_master = tty_receive(listener, err);
		if (*ret_master < 0)
			return -1;
	}
	return 0;
}

static int create_in(const struct call *call, const struct crun_process *p, const char *bundle,
        pid_t *ret_pid, int *ret_master, struct error *err)
{
	_cleanup_free_ char *config = xasprintf("%s/config.json", bundle);
	_cleanup_free_ char *bundle_arg = xasprintf("--bundle=%s", bundle);
	_cleanup_free_ char *pid_arg = xasprintf("--pid-file=%s", call->pid);
	_cleanup_free_ char *tty_arg = xasprintf("--console-socket=%s", call->tty);
	const char *const args[] = { "create", bundle_arg, pid_arg, p->terminal ? tty_arg : p->id,
		p->terminal ? p->id : NULL, NULL };
	int r = make_dirs(bundle);

	if (r < 0) {
		errno = -r;
		return error_errno(err, "mkdir %s", bundle);
	}
	if (write_json(config, p->json, err) < 0)
		return -1;
	return make_process(call, p, args, ret_pid, ret_master, err);
}

int crun_create(const struct crun_process *p, pid_t *ret_pid, int *ret_master, struct error *err)
{
	_cleanup_free_ char *bundle = xasprintf("%s/%s", CRUN_BUNDLES, p->id);
	struct call call;
	struct error ignored;
	int r;

	/* An earlier try that was killed half-way may have left something. */
	(void)crun_delete(p->id, &ignored);
	call = call_begin();
	r = create_in(&call, p, bundle, ret_pid, ret_master, err);
	call_end(&call);
	if (r < 0)
		(void)crun_delete(p->id, &ignored);
	return r;
}

int crun_exec(const struct crun_process *p, pid_t *ret_pid, int *ret_master, struct error *err)
{
	struct call call = call_begin();
	_cleanup_free_ char *json_arg = xasprintf("--process=%s", call.json);
	_cleanup_free_ char *pid_arg = xasprintf("--pid-file=%s", call.pid);
	_cleanup_free_ char *tty_arg = xasprintf("--console-socket=%s", call.tty);
	const char *const args[] = { "exec", "--detach", json_arg, pid_arg,
		p->terminal ? tty_arg : p->id, p->terminal ? p->id : NULL, NULL };
	int r = write_json(call.json, p->json, err);

	if (r == 0)
		r = make_process(&call, p, args, ret_pid, ret_master, err);
	call_end(&call);
	return r;
}

int crun_start(const char *id, struct error *err)
{
	const char *const args[] = { "start", id, NULL };
	struct call call = call_begin();
	int r = crun(&call, args, err);

	call_end(&call);
	return r;
}

int crun_update(const char *id, struct json_object *resources, struct error *err)
{
	struct call call = call_begin();
	_cleanup_free_ char *json_arg = xasprintf("--resources=%s", call.json);
	const char *const args[] = { "update", json_arg, id, NULL };
	int r = write_json(call.json, resources, err);

	if (r == 0)
		r = crun(&call, args, err);
	call_end(&call);
	return r;
}

int crun_delete(const char *id, struct error *err)
{
	_cleanup_free_ char *state = xasprintf("%s/%s", CRUN_STATE, id);
	_cleanup_free_ char *bundle = xasprintf("%s/%s", CRUN_BUNDLES, id);
	const char *const args[] = { "delete", "--force", id, NULL };
	struct call call = call_begin();
	int r = 0;

	if (access(state, F_OK) == 0)
		r = crun(&call, args, err);
	call_end(&call);
	if (r == 0)
		remove_tree(bundle);
	return r;
}
