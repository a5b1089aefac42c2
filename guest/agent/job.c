#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "loop.h"

#define JOBS_MAX 32

struct job {
	struct watch watch;
	pid_t pid;
	job_done *done;
	void *owner;
	uint32_t stream;
};

struct message {
	bool failed;
	pid_t pid;
	struct error err;
};

static unsigned int running;

bool jobs_running(void)
{
	return running > 0;
}

static void reset_signals(void)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
}

static void send_message(int sock, const struct message *m, int fd)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)m, .iov_len = sizeof(*m) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		struct cmsghdr *c;

		msg.msg_control = control.bytes;
		msg.msg_controllen = sizeof(control.bytes);
		c = CMSG_FIRSTHDR(&msg);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	(void)sendmsg(sock, &msg, MSG_NOSIGNAL);
}

/* What it says of a job that has no time left. */
static const struct message too_late = {
	.failed = true,
	.err = { CODE_DEADLINE_EXCEEDED, "the guest took too long" },
};

static void on_alarm(int sig)
{
	(void)sig;
	send_message(3, &too_late, -1);
	kill(0, SIGKILL); /* the job's process group: this child and crun, not the containers */
}

static int receive_fd(struct msghdr *msg)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(msg);
	int fd = -1;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

/*
 * Make stdio the standard descriptors and sock the only other one. A copy of anything else would
 * keep it open for as long as the job runs: another process's stdin, for one, could not be closed.
 */
static int keep_descriptors(const int *stdio, int sock)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int i = 0; i < 3; i++)
		if (dup2(stdio && stdio[i] >= 0 ? stdio[i] : null, i) < 0)
			return -1;
	if (sock != 3 && dup3(sock, 3, O_CLOEXEC) < 0)
		return -1;
	return close_range(4, ~0U, 0);
}

_Noreturn static void job_child(int sock, const struct job_spec *spec)
{
	struct job_report report = { .fd = -1 };
	struct message m = { 0 };

	setpgid(0, 0);
	reset_signals();
	signal(SIGALRM, on_alarm);
	alarm(spec->timeout_s);
	if (keep_descriptors(spec->stdio, sock) < 0)
		m.failed = error_errno(&m.err, "descriptors of a job") < 0;
	else
		m.failed = spec->work(spec->arg, &report, &m.err) < 0;
	m.pid = report.pid;
	send_message(3, &m, report.fd);
	_exit(0);
}

static void job_ready(struct watch *w, uint32_t events)
{
	struct job *job = container_of(w, struct job, watch);
	struct job_report report = { .fd = -1 };
	struct message m;
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = &m, .iov_len = sizeof(m) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};

	(void)events;
	if (recvmsg(w->fd, &msg, MSG_CMSG_CLOEXEC) == (ssize_t)sizeof(m)) {
		report.pid = m.pid;
		report.fd = receive_fd(&msg);
	} else {
		int status = 0;

		/* It is a zombie, or about to be: nobody else collects it while a job runs. */
		(void)waitpid(job->pid, &status, 0);
		m.failed = true;
		(void)error_set(&m.err, CODE_INTERNAL,
		        "the agent's process for it ended with wait status 0x%x", status);
	}
	watch_close(w);
	running--;
	job->done(job->owner, job->stream, &report, m.failed ? &m.err : NULL);
	close_fd(&report.fd);
	free(job);
}

struct job *job_start(const struct job_spec *spec, struct error *err)
{
	struct job *job;
	int sock[2];
	pid_t pid;

	if (running >= JOBS_MAX) {
		(void)error_set(err, CODE_RESOURCE_EXHAUSTED, "too many requests at once");
		return NULL;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sock) < 0) {
		(void)error_errno(err, "socketpair");
		return NULL;
	}
	pid = fork();
	if (pid == 0)
		job_child(sock[1], spec);
	close(sock[1]);
	if (pid < 0) {
		(void)error_errno(err, "fork");
		close(sock[0]);
		return NULL;
	}
	job = xcalloc(1, sizeof(*job));
	*job = (struct job){
		.watch = { .fd = sock[0], .ready = job_ready },
		.pid = pid,
		.done = spec->done,
		.owner = spec->owner,
		.stream = spec->stream,
	};
	running++;
	watch_set(&job->watch, EPOLLIN);
	return job;
}

void job_disown(struct job *job)
{
	if (job)
		job->owner = NULL;
}

int job_run(const char *const argv[], struct error *err)
{
	char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	char *const env[] = { path, NULL };
	pid_t pid = fork();
	int status;

	if (pid < 0)
		return error_errno(err, "fork");
	if (pid == 0) {
		execve(argv[0], (char *const *)(uintptr_t)argv, env);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return error_errno(err, "waitpid");
	return status;
}
