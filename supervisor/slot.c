#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "common/options.h"
#include "common/filter.h"
#include "ipc/channel.h"
#include "ipc/fds.h"
#include "ipc/role.h"
#include "ipc/tables.h"
#include "supervisor/job.h"
#include "supervisor/slot.h"

/* Nobody but the supervisor ends a program of the sandbox: systemd's signals at shutdown wait. */
static int block_signals(struct error *err)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return error_errno(err, errno, "block signals");
	return 0;
}

/* First out of the way of all numbers, then to their own, so that none overwrites another. */
static int place_fds(struct job *job, int *ret_channel, struct error *err)
{
	int channel = fcntl(SLOT_FD_JOB, F_DUPFD_CLOEXEC, SLOT_FDS_MAX);

	if (channel < 0 || dup3(SLOT_FD_BINARY, SLOT_EXEC_FD, O_CLOEXEC) < 0)
		return error_errno(err, errno, "move the job's channel and the binary");
	*ret_channel = channel;
	for (size_t i = 0; i < SLOT_FDS_MAX; i++) {
		if (job->fds[i] < 0)
			continue;
		job->fds[i] = fcntl(job->fds[i], F_DUPFD_CLOEXEC, SLOT_FDS_MAX);
		if (job->fds[i] < 0)
			return error_errno(err, errno, "move fd %zu", i);
	}
	/* Whatever does not become one of the program's fds now ends with execveat(). */
	if (close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return error_errno(err, errno, "close_range");
	for (size_t i = 0; i < SLOT_FDS_MAX; i++)
		if (job->fds[i] >= 0 && dup2(job->fds[i], (int)i) < 0)
			return error_errno(err, errno, "place fd %zu", i);
	return 0;
}

static const char *policy_of(const struct slot_options *o)
{
	if (o->kind == SLOT_VIRTIOFSD)
		return "virtiofsd";
	return slot_has_kvm(o) ? "qemu_kvm" : "qemu_tcg";
}

/*
 * Threads of virtiofsd's pool share two of malloc's arenas. With a limit of its own glibc counts the
 * CPUs at the ninth (sched_getaffinity), and virtiofsd's filter kills who does.
 */
static char *const environment_of_virtiofsd[] = { "MALLOC_ARENA_MAX=2", NULL };
static char *const no_environment[] = { NULL };

/* Becomes the program. Returns only on failure. */
static int run(const struct slot_options *options, struct job *job, int *ret_channel,
	struct error *err)
{
	char *argv[SLOT_ARGS_MAX + 2] = { (char *)options->binary };
	char *const *envp = options->kind == SLOT_VIRTIOFSD ? environment_of_virtiofsd : no_environment;
	const char *arg = job->args;
	int r;

	for (unsigned i = 1; i <= job->n_args; i++) {
		argv[i] = (char *)arg;
		arg += strlen(arg) + 1;
	}
	r = block_signals(err);
	if (r == 0)
		r = place_fds(job, ret_channel, err);
	if (r == 0)
		r = filter_load(policy_of(options), err);
	if (r < 0)
		return r;
	execveat(SLOT_EXEC_FD, "", argv, envp, AT_EMPTY_PATH);
	return error_errno(err, errno, "execute %s", options->binary);
}

/* An error is answered; nothing is written to the log, QEMU's filter may already hold. */
static _Noreturn void execute(const struct slot_options *options, struct job *job, uint32_t seq)
{
	struct error err = ERROR_INIT;
	int channel = SLOT_FD_JOB;

	run(options, job, &channel, &err);
	channel_send_error(channel, SLOT_EXEC, seq, &err, IPC_SEND_TIMEOUT_MS, NULL);
	_exit(ROLE_EXIT_FAILED);
}

/* 1: something is there to read; 0: the supervisor is gone */
static int wait_packet(struct error *err)
{
	struct pollfd pfds[] = {
		{ .fd = SLOT_FD_JOB, .events = POLLIN },
		{ .fd = FD_CTL, .events = POLLIN },
	};
	struct ctl_msg msg;
	int r;

	do
		r = poll(pfds, ARRAY_SIZE(pfds), -1);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return error_errno(err, errno, "poll");
	if (!pfds[1].revents)
		return 1;
	r = ctl_recv(FD_CTL, MSG_DONTWAIT, &msg);
	return r == 0 ? 0 : error_set(err, EPROTO, "the supervisor spoke after LOCK");
}

/* 0: the peer or the supervisor went away before EXEC */
static int serve(const struct slot_options *options, struct error *err)
{
	CLEANUP(job_free) struct job *job = job_new();
	int r;

	if (!job)
		return error_errno(err, ENOMEM, "a job");
	for (;;) {
		CLEANUP(ipc_packet_done) struct ipc_packet packet = { .fds = FDLIST_INIT };

		r = wait_packet(err);
		if (r <= 0)
			return r;
		r = channel_recv(SLOT_FD_JOB, &ipc_slot, MSG_DONTWAIT, &packet, err);
		if (r == -EAGAIN)
			continue;
		if (r == 0)
			return 0;
		if (r > 0)
			r = job_take(job, &packet, err);
		if (r < 0)
			return r;
		if (r == JOB_EXEC)
			execute(options, job, packet.hdr.seq);
	}
}

static int check_uid(const struct slot_options *o, struct error *err)
{
	if (o->uid >= (uid_t)-1)
		return error_set(err, EINVAL, "uid=%llu is not a uid", (unsigned long long)o->uid);
	if (o->kind == SLOT_QEMU && o->uid == 0)
		return error_set(err, EINVAL, "uid=0 is not for QEMU");
	return 0;
}

static int parse(int argc, char **argv, struct slot_options *o, struct error *err)
{
	const char *kind = NULL;
	const struct option table[] = {
		{ "kind", OPTION_TEXT, &kind, false },
		{ "uid", OPTION_NUMBER, &o->uid, false },
		{ "binary", OPTION_TEXT, &o->binary, false },
		{ "kernel", OPTION_TEXT, &o->kernel, true },
		{ "initrd", OPTION_TEXT, &o->initrd, true },
		{ "accel", OPTION_TEXT, &o->accel, true },
		{ "share", OPTION_TEXT, &o->share, true },
		{ 0 },
	};
	int r = options_parse(table, argc, argv, err);

	if (r < 0)
		return r;
	if (strcmp(kind, "qemu") == 0)
		o->kind = SLOT_QEMU;
	else if (strcmp(kind, "virtiofsd") == 0)
		o->kind = SLOT_VIRTIOFSD;
	else
		return error_set(err, EINVAL, "kind=%s is neither qemu nor virtiofsd", kind);
	return check_uid(o, err);
}

/*
 * virtiofsd's root is made from mountd's mount namespace. It is waited for
 * here and not before the fork: joining the cgroups, the exec and the dynamic
 * linker take longer than mountd does.
 */
static int wait_mountd(struct error *err)
{
	struct ctl_msg msg;
	int r = ctl_recv(FD_CTL, 0, &msg);

	if (r == 0)
		return error_set(err, EPIPE, "the supervisor went away");
	if (r < 0 || msg.type != CTL_GO)
		return error_set(err, EPROTO, "something else than GO from the supervisor");
	return 0;
}

int main(int argc, char **argv)
{
	struct slot_options options = { .kind = SLOT_QEMU };
	struct error err = ERROR_INIT;
	enum role role;
	int r;

	role_ignore_signals();
	r = parse(argc, argv, &options, &err);
	role = options.kind == SLOT_QEMU ? ROLE_QEMU : ROLE_VIRTIOFSD;
	if (r == 0 && options.kind == SLOT_VIRTIOFSD)
		r = wait_mountd(&err);
	if (r == 0)
		r = options.kind == SLOT_QEMU ? slot_isolate_qemu(&options, &err)
					      : slot_isolate_virtiofsd(&options, &err);
	if (r < 0)
		role_fail(role, &err);

	r = role_wait_lock(role, &err);
	if (r == 0)
		r = serve(&options, &err);
	if (r < 0) {
		log_error("slot of %s: %s", role_name(role), err.msg);
		return ROLE_EXIT_FAILED;
	}
	return 0;
}
