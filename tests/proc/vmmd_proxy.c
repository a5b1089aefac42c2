#include "tests/proc/vmmd_proxy.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/slot.pb-c.h"

#define QMP_NUMBER 10
#define LINE_ROOM  (256 * 1024)

struct stream {
	char line[LINE_ROOM];
	size_t len;
	int fd; /* came with it; -1: none */
};

/* ---- the slot's job ---- */

static int swap_qmp(struct proxy *p, struct ipc_packet *packet)
{
	int pair[2];

	p->vmmd = fdlist_steal(&packet->fds, 0);
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	p->qemu = pair[0];
	return pair[1];
}

/* 0: the slot has become QEMU, or not: either way it has closed its end. */
static int pass_job(struct proxy *p)
{
	struct ipc_packet packet;
	struct error err = ERROR_INIT;
	ProtobufCMessage *msg;
	int fd = -1, r = channel_recv(p->job_vmmd, &ipc_slot, 0, &packet, &err);

	if (r <= 0)
		return r;
	msg = ipc_decode(&packet, &err);
	CHECK(msg);
	if (packet.hdr.type == SLOT_FD) {
		const Ipc__SlotFd *m = (const Ipc__SlotFd *)msg;

		fd = m->target == QMP_NUMBER ? swap_qmp(p, &packet) :
					       fdlist_steal(&packet.fds, 0);
	}
	CHECK_INT(channel_send(p->job_slot, &ipc_slot, packet.hdr.kind, packet.hdr.type,
			  packet.hdr.seq, msg, &fd, fd >= 0 ? 1 : 0, 1000, &err),
		0);
	if (fd >= 0)
		close(fd);
	ipc_free(msg);
	return packet.hdr.type == SLOT_EXEC ? 0 : 1;
}

static void pass_jobs(struct proxy *p)
{
	char c;

	while (pass_job(p) > 0)
		;
	/* The end says that QEMU runs; a word of the slot's is a failure, and shows as silence. */
	if (recv(p->job_slot, &c, 1, 0) == 0)
		close(p->job_vmmd);
	close(p->job_slot);
}

/* ---- QMP ---- */

static void send_all(int to, const char *data, size_t len, int fd)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { .buf = { 0 } };
	struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd >= 0) {
		mh.msg_control = &control;
		mh.msg_controllen = sizeof(control.buf);
		*CMSG_FIRSTHDR(&mh) = (struct cmsghdr){ .cmsg_level = SOL_SOCKET,
			.cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&mh)), &fd, sizeof(int));
	}
	sendmsg(to, &mh, MSG_NOSIGNAL);
}

static bool receive(int from, struct stream *s)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = s->line + s->len, .iov_len = LINE_ROOM - 1 - s->len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control.buf) };
	ssize_t n = recvmsg(from, &mh, MSG_CMSG_CLOEXEC);

	if (n <= 0)
		return false;
	if (mh.msg_controllen >= CMSG_LEN(sizeof(int)))
		memcpy(&s->fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(int));
	s->len += (size_t)n;
	s->line[s->len] = '\0';
	return true;
}

static void refuse(struct proxy *p, const char *line)
{
	const char *id = strstr(line, "\"id\":");
	const char *name = strstr(line, "\"execute\":\"");
	char text[160];

	CHECK(id && name);
	for (const char *next; (next = strstr(id + 1, "\"id\":"));)
		id = next;
	snprintf(p->failed, sizeof(p->failed), "%.*s", (int)strcspn(name + 11, "\""), name + 11);
	snprintf(text, sizeof(text),
		"{\"error\":{\"class\":\"GenericError\",\"desc\":\"made to fail\"},\"id\":%ld}\r\n",
		strtol(id + 5, NULL, 10));
	send_all(p->vmmd, text, strlen(text), -1);
	p->fired = true;
}

static void on_command(struct proxy *p, struct stream *s)
{
	pthread_mutex_lock(&p->lock);
	if (++p->commands == p->fail_at)
		refuse(p, s->line);
	else
		send_all(p->qemu, s->line, s->len, s->fd);
	pthread_mutex_unlock(&p->lock);
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

static void on_word(struct proxy *p, const char *line, size_t len)
{
	if (!strstr(line, "\"id\": \"test\"")) {
		send_all(p->vmmd, line, len, -1);
		return;
	}
	pthread_mutex_lock(&p->lock);
	p->answer = strndup(line, len);
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->lock);
}

static void lines(struct proxy *p, struct stream *s, bool of_qemu)
{
	char *nl;

	while ((nl = memchr(s->line, '\n', s->len))) {
		size_t len = (size_t)(nl + 1 - s->line);
		char kept = *(nl + 1);
		size_t all = s->len;

		*(nl + 1) = '\0';
		s->len = len;
		if (of_qemu)
			on_word(p, s->line, len);
		else
			on_command(p, s);
		*(nl + 1) = kept;
		s->len = all - len;
		memmove(s->line, nl + 1, s->len + 1);
	}
}

static void *run(void *ctx)
{
	static struct stream from_vmmd, from_qemu;
	struct proxy *p = ctx;

	from_vmmd.fd = from_qemu.fd = -1;
	pass_jobs(p);
	for (;;) {
		struct pollfd pfds[] = { { p->vmmd, POLLIN, 0 }, { p->qemu, POLLIN, 0 },
			{ p->wake[0], POLLIN, 0 } };

		if (poll(pfds, 3, -1) < 0)
			continue;
		if (pfds[2].revents)
			break;
		if (pfds[0].revents && !receive(p->vmmd, &from_vmmd))
			break;
		lines(p, &from_vmmd, false);
		if (pfds[1].revents && !receive(p->qemu, &from_qemu))
			break;
		lines(p, &from_qemu, true);
	}
	close(p->vmmd);
	close(p->qemu);
	return NULL;
}

void proxy_start(struct proxy *p, int job_vmmd, int job_slot)
{
	*p = (struct proxy){ .job_vmmd = job_vmmd, .job_slot = job_slot, .vmmd = -1, .qemu = -1 };
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->cond, NULL);
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p->wake), 0);
	CHECK_INT(pthread_create(&p->thread, NULL, run, p), 0);
}

void proxy_done(struct proxy *p)
{
	close(p->wake[1]);
	pthread_join(p->thread, NULL);
	close(p->wake[0]);
}

void proxy_arm(struct proxy *p, unsigned n)
{
	pthread_mutex_lock(&p->lock);
	p->commands = 0;
	p->fail_at = n;
	p->fired = false;
	pthread_mutex_unlock(&p->lock);
}

bool proxy_fired(struct proxy *p)
{
	bool fired;

	pthread_mutex_lock(&p->lock);
	fired = p->fired;
	p->fail_at = 0;
	pthread_mutex_unlock(&p->lock);
	return fired;
}

char *proxy_ask(struct proxy *p, const char *command, const char *arguments)
{
	struct timespec until;
	char line[512], *answer;

	snprintf(line, sizeof(line), "{\"execute\":\"%s\"%s%s,\"id\":\"test\"}\n", command,
		*arguments ? ",\"arguments\":" : "", arguments);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 10;
	pthread_mutex_lock(&p->lock);
	send_all(p->qemu, line, strlen(line), -1);
	while (!p->answer)
		CHECK_INT(pthread_cond_timedwait(&p->cond, &p->lock, &until), 0);
	answer = p->answer;
	p->answer = NULL;
	pthread_mutex_unlock(&p->lock);
	return answer;
}
