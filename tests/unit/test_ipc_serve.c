/* The loop of the blocking helpers. */
#include <errno.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/common.pb-c.h"
#include "ipc/persistd.pb-c.h"
#include "ipc/serve.h"
#include "ipc/tables.h"
#include "tests/lib/test.h"

enum { BEFORE = 1, AFTER = 2 };

static int calls;

static int handle(struct helper *h, const ProtobufCMessage *request, const ProtobufCMessage **reply,
	struct fdlist *fds, struct error *err)
{
	const Ipc__PersistdRecord *m = (const Ipc__PersistdRecord *)request;

	(void)reply;
	(void)fds;
	calls++;
	if (strcmp(m->id, "fail") == 0)
		return error_set(err, ENOSPC, "no room");
	if (strcmp(m->id, "done") == 0)
		h->done = true;
	return 0;
}

static const struct helper_request requests[] = {
	{ PERSISTD_RECORD, handle, BEFORE, AFTER },
};

static int pair[2];

static struct helper helper(uint32_t state)
{
	calls = 0;
	test_pair(pair);
	return (struct helper){ .channel = &ipc_frontend_persistd, .fd = pair[1],
		.requests = requests, .n_requests = 1, .state = state };
}

static void ask(uint16_t type, const char *id)
{
	Ipc__PersistdRecord m = IPC__PERSISTD_RECORD__INIT;
	struct error err;

	m.id = (char *)id;
	CHECK_INT(channel_send(pair[0], &ipc_frontend_persistd, IPC_REQUEST, type, 5, &m.base, NULL,
			  0, 0, &err), 0);
}

static void close_pair(void)
{
	close(pair[0]);
	close(pair[1]);
}

static int answer(struct error *ret)
{
	static struct ipc_packet p;
	int r = channel_recv(pair[0], &ipc_frontend_persistd, MSG_DONTWAIT, &p, ret);

	if (r != 1)
		return r;
	CHECK_INT(p.hdr.seq, 5);
	return ipc_decode_error(&p, ret) == 0 ? -ret->code : 1;
}

TEST(one_answer_for_each_request)
{
	struct helper h = helper(BEFORE);
	struct error err = ERROR_INIT;

	ask(PERSISTD_RECORD, "fail");
	ask(PERSISTD_RECORD, "done");
	CHECK_INT(helper_serve(&h, &err), 0);
	CHECK_INT(calls, 2);
	CHECK_INT(answer(&err), -ENOSPC);
	CHECK_STR(err.msg, "no room");
	CHECK_INT(answer(&err), 1);
	CHECK_INT(answer(&err), -EAGAIN);
	CHECK_INT(h.state, AFTER);
	close_pair();
}

TEST(a_failure_does_not_change_the_state)
{
	struct helper h = helper(BEFORE);
	struct error err = ERROR_INIT;

	ask(PERSISTD_RECORD, "fail");
	shutdown(pair[0], SHUT_WR);
	CHECK_INT(helper_serve(&h, &err), 0);
	CHECK_INT(h.state, BEFORE);
	close_pair();
}

TEST(once_is_once)
{
	struct helper h = helper(BEFORE);
	struct error err = ERROR_INIT;

	ask(PERSISTD_RECORD, "x");
	ask(PERSISTD_RECORD, "x");
	CHECK_INT(helper_serve(&h, &err), -EPROTO);
	CHECK_INT(calls, 1);
	CHECK_CONTAINS(err.msg, "unpermitted request 'record' in state 0x2");
	close_pair();
}

TEST(a_request_without_a_handler)
{
	struct helper h = helper(BEFORE);
	struct error err = ERROR_INIT;

	ask(PERSISTD_FORGET, "x");
	CHECK_INT(helper_serve(&h, &err), -EPROTO);
	CHECK_INT(calls, 0);
	close_pair();
}

TEST(the_frontend_is_gone)
{
	struct helper h = helper(BEFORE);
	struct error err = ERROR_INIT;

	close(pair[0]);
	CHECK_INT(helper_serve(&h, &err), 0);
	close(pair[1]);
}

static int seen;

static int source_ready(struct helper *h, struct helper_source *s, short revents, struct error *err)
{
	char c;

	(void)revents;
	CHECK_INT(read(s->fd, &c, 1), 1);
	seen++;
	if (c == 'e')
		return error_set(err, EIO, "source");
	h->done = c == 'd';
	return 0;
}

TEST(other_sources)
{
	struct helper h = helper(BEFORE);
	struct error err = ERROR_INIT;
	int pipefd[2];

	CHECK(pipe(pipefd) == 0);
	h.sources[1] = (struct helper_source){ .fd = pipefd[0], .events = POLLIN,
		.ready = source_ready };
	h.sources[2] = (struct helper_source){ .fd = -1, .events = POLLIN, .ready = source_ready };
	CHECK_INT(write(pipefd[1], "xd", 2), 2);
	CHECK_INT(helper_serve(&h, &err), 0);
	CHECK_INT(seen, 2);
	h.done = false;
	CHECK_INT(write(pipefd[1], "e", 1), 1);
	CHECK_INT(helper_serve(&h, &err), -EIO);
	close(pipefd[0]);
	close(pipefd[1]);
	close_pair();
}
