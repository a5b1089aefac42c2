#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>

#include "agent.pb-c.h"
#include "job.h"
#include "port.h"
#include "rpc.h"

#define READ_MAX   ((size_t)64 << 10)
#define PARKED_MAX ((size_t)32 << 20) /* of all processes' stdin together */

static size_t parked_bytes;

static void stream_ready(struct watch *w, uint32_t events);
static void input_ready(struct watch *w, uint32_t events);

struct process *process_new(const char *exec_id, bool terminal, int stdio[3], struct error *err)
{
	int pipes[3][2] = { { -1, -1 }, { -1, -1 }, { -1, -1 } };
	struct process *p;

	for (int i = 0; i < 3 && !terminal; i++) {
		if (pipe2(pipes[i], O_CLOEXEC) == 0)
			continue;
		(void)error_errno(err, "pipe");
		for (int k = 0; k < i; k++) {
			close(pipes[k][0]);
			close(pipes[k][1]);
		}
		return NULL;
	}
	p = xcalloc(1, sizeof(*p));
	p->exec_id = xstrdup(exec_id);
	p->terminal = terminal;
	p->in.watch = (struct watch){ .fd = pipes[0][1], .ready = input_ready };
	p->out.watch = (struct watch){ .fd = pipes[1][0], .ready = stream_ready };
	p->err.watch = (struct watch){ .fd = pipes[2][0], .ready = stream_ready };
	stdio[0] = pipes[0][0];
	stdio[1] = pipes[1][1];
	stdio[2] = pipes[2][1];
	/* Only our ends: the flag belongs to the open file, so each side of a pipe has its own. */
	for (int i = 0; i < 3 && !terminal; i++)
		(void)fcntl(pipes[i][i == 0], F_SETFL, O_NONBLOCK);
	return p;
}

void stdio_close(int stdio[3])
{
	for (int i = 0; i < 3; i++)
		close_fd(&stdio[i]);
}

static void abort_parked(uint32_t *parked)
{
	if (*parked)
		rpc_fail(*parked, CODE_ABORTED, "the process is gone");
	*parked = 0;
}

void process_free(struct process *p)
{
	job_disown(p->job);
	abort_parked(&p->in.parked);
	abort_parked(&p->out.parked);
	abort_parked(&p->err.parked);
	for (size_t i = 0; i < WAITERS_MAX; i++)
		abort_parked(&p->waiters[i]);
	watch_close(&p->in.watch);
	watch_close(&p->out.watch);
	watch_close(&p->err.watch);
	parked_bytes -= p->in.total;
	free(p->in.data);
	free(p->exec_id);
	free(p);
}

int process_set_terminal(struct process *p, int master_consume, struct error *err)
{
	_cleanup_close_ int master = master_consume;
	_cleanup_close_ int writer = fcntl(master, F_DUPFD_CLOEXEC, 3);

	if (writer < 0 || fcntl(master, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
		return error_errno(err, "terminal");
	p->out.watch.fd = fd_steal(&master);
	p->in.watch.fd = fd_steal(&writer);
	return 0;
}

int process_born(struct process *p, struct job_report *report, struct error *err)
{
	p->pid = report->pid;
	return p->terminal ? process_set_terminal(p, fd_steal(&report->fd), err) : 0;
}

static void reply_status(uint32_t stream, int status)
{
	Grpc__WaitProcessResponse response = GRPC__WAIT_PROCESS_RESPONSE__INIT;

	response.status = status;
	rpc_reply(stream, &response.base);
}

void process_exited(struct process *p, int wait_status)
{
	p->exited = true;
	p->status =
	        WIFSIGNALED(wait_status) ? 128 + WTERMSIG(wait_status) : WEXITSTATUS(wait_status);
	if (!p->held)
		process_tell(p);
}

void process_tell(struct process *p)
{
	p->held = false;
	for (size_t i = 0; i < WAITERS_MAX; i++) {
		if (!p->waiters[i])
			continue;
		reply_status(p->waiters[i], p->status);
		p->waiters[i] = 0;
		p->waited = true;
	}
}

bool process_spent(const struct process *p)
{
	return p->waited && p->out.watch.fd < 0 && p->err.watch.fd < 0;
}

void process_wait(struct process *p, uint32_t stream)
{
	if (p->exited && !p->held) {
		reply_status(stream, p->status);
		p->waited = true;
		return;
	}
	for (size_t i = 0; i < WAITERS_MAX; i++) {
		if (!p->waiters[i]) {
			p->waiters[i] = stream;
			return;
		}
	}
	rpc_fail(stream, CODE_RESOURCE_EXHAUSTED, "too many requests wait for this process");
}

static void reply_data(uint32_t stream, uint8_t *data, size_t len)
{
	Grpc__ReadStreamResponse response = GRPC__READ_STREAM_RESPONSE__INIT;

	response.data.data = data;
	response.data.len = len;
	rpc_reply(stream, &response.base);
}

/* Answer the parked read, or wait for what it needs: data, or room in the queue to the host. */
static void stream_serve(struct stream *s)
{
	static uint8_t buf[READ_MAX];
	ssize_t n;

	if (!s->parked)
		return;
	if (port_congested()) {
		watch_set(&s->watch, 0);
		return;
	}
	n = read(s->watch.fd, buf, s->parked_len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
		watch_set(&s->watch, EPOLLIN);
		return;
	}
	/* A pty says EIO when its last user has gone. Whatever else it is, there is no more data.
	 */
	if (n <= 0)
		watch_close(&s->watch);
	else
		watch_set(&s->watch, 0);
	reply_data(s->parked, buf, n > 0 ? (size_t)n : 0);
	s->parked = 0;
}

static void stream_ready(struct watch *w, uint32_t events)
{
	(void)events;
	stream_serve(container_of(w, struct stream, watch));
}

void process_read(struct process *p, struct stream *s, uint32_t stream, uint32_t len)
{
	if (!p->pid) {
		rpc_fail(stream, CODE_FAILED_PRECONDITION, "the process does not exist yet");
	} else if (len == 0) {
		rpc_fail(stream, CODE_INVALID_ARGUMENT, "a read of no bytes");
	} else if (s->parked) {
		rpc_fail(stream, CODE_FAILED_PRECONDITION, "another read waits for this stream");
	} else if (s->watch.fd < 0) {
		reply_data(stream, NULL, 0);
	} else {
		s->parked = stream;
		s->parked_len = len < READ_MAX ? len : READ_MAX;
		stream_serve(s);
	}
}

void process_resume(struct process *p)
{
	stream_serve(&p->out);
	stream_serve(&p->err);
}

static void reply_written(uint32_t stream, size_t len)
{
	Grpc__WriteStreamResponse response = GRPC__WRITE_STREAM_RESPONSE__INIT;

	response.len = (uint32_t)len;
	rpc_reply(stream, &response.base);
}

static void input_finish(struct input *in)
{
	parked_bytes -= in->total;
	free(in->data);
	in->data = NULL;
	in->len = in->total = 0;
	in->parked = 0;
	watch_set(&in->watch, 0);
	if (in->close_after)
		watch_close(&in->watch);
}

/* Write on; answer when all is written. */
static void input_serve(struct input *in)
{
	ssize_t n = write(in->watch.fd, in->data + (in->total - in->len), in->len);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		rpc_fail(in->parked, CODE_FAILED_PRECONDITION, "the process closed its stdin");
		in->close_after = true;
		input_finish(in);
		return;
	}
	if (n > 0)
		in->len -= (size_t)n;
	if (in->len > 0) {
		watch_set(&in->watch, EPOLLOUT);
		return;
	}
	reply_written(in->parked, in->total);
	input_finish(in);
}

static void input_ready(struct watch *w, uint32_t events)
{
	(void)events;
	input_serve(container_of(w, struct input, watch));
}

void process_write(struct process *p, uint32_t stream, const uint8_t *data, size_t len)
{
	struct input *in = &p->in;

	if (!p->pid) {
		rpc_fail(stream, CODE_FAILED_PRECONDITION, "the process does not exist yet");
	} else if (len == 0) {
		process_close_stdin(p);
		reply_written(stream, 0);
	} else if (in->parked) {
		rpc_fail(stream, CODE_FAILED_PRECONDITION, "another write waits for this process");
	} else if (in->watch.fd < 0) {
		rpc_fail(stream, CODE_FAILED_PRECONDITION, "stdin is closed");
	} else if (len > PARKED_MAX - parked_bytes) {
		rpc_fail(stream, CODE_RESOURCE_EXHAUSTED, "too much input waits in the guest");
	} else {
		parked_bytes += len;
		in->data = xcalloc(1, len);
		memcpy(in->data, data, len);
		in->len = in->total = len;
		in->parked = stream;
		input_serve(in);
	}
}

/* A terminal has no end of input of its own: its user types ^D. So nothing is closed there. */
void process_close_stdin(struct process *p)
{
	if (p->terminal)
		return;
	p->in.close_after = true;
	if (!p->in.parked)
		watch_close(&p->in.watch);
}

int process_resize(struct process *p, uint32_t row, uint32_t column, struct error *err)
{
	struct winsize size = { .ws_row = (unsigned short)row, .ws_col = (unsigned short)column };

	if (!p->terminal)
		return error_set(err, CODE_UNAVAILABLE, "the process has no terminal");
	if (row > UINT16_MAX || column > UINT16_MAX)
		return error_set(err, CODE_INVALID_ARGUMENT, "a terminal of %u by %u", row, column);
	/* After the end of the output there is nothing left to resize. */
	if (p->out.watch.fd >= 0 && ioctl(p->out.watch.fd, TIOCSWINSZ, &size) < 0)
		return error_errno(err, "TIOCSWINSZ");
	return 0;
}
