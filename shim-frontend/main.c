/* bulkhead-frontend: serves containerd. See frontend.h; its fds are in ipc/fds.h. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/isolate.h"
#include "common/log.h"
#include "common/options.h"
#include "ipc/fds.h"
#include "ipc/role.h"
#include "shim-frontend/frontend.h"

/* 12 of its own, 3 of the event loop, 32 clients and one to refuse, 8 in a message, and spare. */
#define NOFILE              64

#define MEMORY_MIB_MAX      (64 << 20)

#define CALL_TIMEOUT_MAX_MS 600000
#define FRAME_TIMEOUT_MS    30000
#define HELLO_TIMEOUT_MS    60000

static int parse(int argc, char **argv, struct settings *s, uid_t *uid, struct error *err)
{
	uint64_t n_uid = 0, pid = 0, vcpus = 0, memory = 0, share = 1, v1 = 0, vsock = 0;
	uint64_t max_vcpus = 0, max_memory = 0, more_cpu = 0, more_memory = 0;
	uint64_t hello = HELLO_TIMEOUT_MS, call = CALL_TIMEOUT_MAX_MS, frame = FRAME_TIMEOUT_MS;
	const struct option table[] = {
		{ "uid", OPTION_NUMBER, &n_uid, false },
		{ "id", OPTION_TEXT, &s->id, false },
		{ "namespace", OPTION_TEXT, &s->namespace, false },
		{ "bundle", OPTION_TEXT, &s->bundle, false },
		{ "task_pid", OPTION_NUMBER, &pid, false },
		{ "vcpus", OPTION_NUMBER, &vcpus, false },
		{ "memory_mib", OPTION_NUMBER, &memory, false },
		/* the VM may grow so far; not above what it starts with: it does not */
		{ "max_vcpus", OPTION_NUMBER, &max_vcpus, true },
		{ "max_memory_mib", OPTION_NUMBER, &max_memory, true },
		{ "overhead_millicpus", OPTION_NUMBER, &more_cpu, true },
		{ "overhead_memory_mib", OPTION_NUMBER, &more_memory, true },
		{ "share", OPTION_NUMBER, &share, true },
		{ "vsock", OPTION_NUMBER, &vsock, true },
		/* the host's controllers are those of cgroup v1 */
		{ "cgroups_v1", OPTION_NUMBER, &v1, true },
		{ "hello_timeout_ms", OPTION_NUMBER, &hello, true },
		/* no call to another process waits longer */
		{ "call_timeout_ms", OPTION_NUMBER, &call, true },
		/* how long a client may take for one frame */
		{ "frame_timeout_ms", OPTION_NUMBER, &frame, true },
		{ 0 },
	};
	int r = options_parse(table, argc, argv, err);

	if (r < 0)
		return r;
	if (n_uid == 0 || n_uid > UINT32_MAX - 1 || pid == 0 || pid > INT_MAX || vcpus == 0 ||
		vcpus > 1024 || memory == 0 || memory > MEMORY_MIB_MAX || share > 1 ||
		vsock > 1 || v1 > 1)
		return error_set(err, EINVAL,
			"uid, task_pid, vcpus, memory_mib, share, vsock or cgroups_v1 is out of range");
	if (max_vcpus > 1024 || max_memory > MEMORY_MIB_MAX || more_cpu > UINT32_MAX ||
		more_memory > UINT32_MAX)
		return error_set(err, EINVAL,
			"max_vcpus, max_memory_mib or an overhead is out of range");
	if (hello == 0 || hello > CALL_TIMEOUT_MAX_MS || call == 0 || call > CALL_TIMEOUT_MAX_MS ||
		frame == 0 || frame > CALL_TIMEOUT_MAX_MS)
		return error_set(err, EINVAL, "a timeout is not between 1 and %d ms",
			CALL_TIMEOUT_MAX_MS);
	*uid = (uid_t)n_uid;
	s->task_pid = (uint32_t)pid;
	s->vcpus = (uint32_t)vcpus;
	s->memory_mib = (uint32_t)memory;
	s->max_vcpus = (uint32_t)(max_vcpus > vcpus ? max_vcpus : vcpus);
	s->max_memory_mib = (uint32_t)(max_memory > memory ? max_memory : memory);
	s->overhead_millicpus = (uint32_t)more_cpu;
	s->overhead_memory_mib = (uint32_t)more_memory;
	s->share = share;
	s->vsock = vsock;
	s->cgroups_v1 = v1;
	s->hello_timeout_ms = (int)hello;
	s->call_timeout_max_ms = (int)call;
	s->frame_timeout_ms = (int)frame;
	return id_check(s->id, err);
}

/*
 * The event loop's own fds are made before isolation, right behind ours, so
 * that the filter needs no call that makes one. *ret_end is the first number
 * behind them.
 */
static struct loop *make_loop(unsigned *ret_end, struct error *err)
{
	struct loop *loop;
	int end;

	for (int fd = 0; fd < FRONTEND_FD_END; fd++)
		if (fcntl(fd, F_GETFD) < 0) {
			error_set(err, EBADF, "fd %d is missing", fd);
			return NULL;
		}
	if (close_range(FRONTEND_FD_END, ~0U, 0) < 0) {
		error_errno(err, errno, "close_range");
		return NULL;
	}
	loop = loop_new(err);
	if (!loop)
		return NULL;
	end = dup(STDIN_FILENO);
	close(end);
	*ret_end = (unsigned)end;
	return loop;
}

static struct loop *start(uid_t uid, struct error *err)
{
	unsigned end = FRONTEND_FD_END;
	struct loop *loop = make_loop(&end, err);
	const struct isolation iso = {
		.name = "frontend",
		.first_free_fd = end,
		.void_pidfd = FRONTEND_FD_VOID,
		.void_namespaces = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
		.uid = uid,
		.nofile = NOFILE,
		.landlock = true,
		.policy = "frontend",
	};
	int flags = fcntl(FRONTEND_FD_LISTENER, F_GETFL);

	if (!loop)
		return NULL;
	/* A client that has gone away again must not let accept4() block. */
	if (flags < 0 || fcntl(FRONTEND_FD_LISTENER, F_SETFL, flags | O_NONBLOCK) < 0) {
		error_errno(err, errno, "the listening socket");
		return NULL;
	}
	if (isolate(&iso, err) < 0)
		return NULL;
	return loop;
}

int main(int argc, char **argv)
{
	static struct frontend fe;
	struct settings settings = { 0 };
	struct error err = ERROR_INIT, broken = ERROR_INIT;
	struct loop *loop;
	uid_t uid = 0;
	int r;

	role_ignore_signals();
	if (parse(argc, argv, &settings, &uid, &err) < 0)
		role_fail(ROLE_FRONTEND, &err);
	loop = start(uid, &err);
	if (!loop)
		role_fail(ROLE_FRONTEND, &err);
	r = role_wait_lock(ROLE_FRONTEND, &broken);
	if (r == -EPIPE)
		return 0;
	if (r < 0 && r != -ECANCELED)
		role_fail(ROLE_FRONTEND, &broken);
	if (frontend_init(&fe, &settings, loop, r < 0 ? &broken : NULL, &err) < 0)
		role_fail(ROLE_FRONTEND, &err);
	if (loop_run(loop, &err) < 0) {
		log_error("%s", err.msg);
		return ROLE_EXIT_FAILED;
	}
	frontend_done(&fe);
	loop_free(loop);
	return fe.exit_status;
}
