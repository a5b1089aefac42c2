#include "tests/proc/agentd_scripted.h"

#include <errno.h>
#include <poll.h>
#include <time.h>

struct rig rig;

bool readable(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, ms) == 1;
}

void expect_exited(uint32_t process, uint32_t status)
{
	Ipc__AgentdExited *e = rig_expect_event(&rig, AGENTD_EXITED);
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	CHECK_INT(e->process, process);
	CHECK_INT(e->status, status);
	CHECK(e->exited_at_ns <= (int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
	CHECK(e->exited_at_ns > ((int64_t)now.tv_sec - 30) * 1000000000);
	ipc_free(&e->base);
}

void scripted_container(bool in, bool out, bool err)
{
	uint32_t seq = rig_create(&rig, 0, 1, in, out, err);

	guest_grant(rig.agent, "CreateContainer");
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER, seq);
	seq = rig_start(&rig, 0);
	guest_grant(rig.agent, "StartContainer");
	rig_expect_reply(&rig, AGENTD_START, seq);
}

void scripted_start(struct running *run)
{
	rig_up(&rig);
	rig_sandbox(&rig);
	scripted_container(false, false, false);
	guest_expect(rig.agent, "WaitProcess", &run->wait);
	guest_expect(rig.agent, "ReadStdout", &run->out);
	guest_expect(rig.agent, "ReadStderr", &run->err);
	guest_expect(rig.agent, "CloseStdin", &run->end);
	guest_reply(rig.agent, run->end.stream, NULL);
}

void running_done(struct running *run)
{
	guest_request_done(&run->wait);
	guest_request_done(&run->out);
	guest_request_done(&run->err);
	guest_request_done(&run->end);
}

void reply_data(const struct guest_request *r, const void *data, size_t len)
{
	Grpc__ReadStreamResponse reply = GRPC__READ_STREAM_RESPONSE__INIT;

	reply.data.data = (uint8_t *)data;
	reply.data.len = len;
	guest_reply(rig.agent, r->stream, &reply.base);
}

void reply_status(const struct guest_request *r, int status)
{
	Grpc__WaitProcessResponse reply = GRPC__WAIT_PROCESS_RESPONSE__INIT;

	reply.status = status;
	guest_reply(rig.agent, r->stream, &reply.base);
}

void expect_lost(const char *reason)
{
	Ipc__AgentdLost *e = rig_expect_event(&rig, AGENTD_LOST);

	CHECK_CONTAINS(e->reason, reason);
	ipc_free(&e->base);
}

void expect_useless(void)
{
	rig_expect_error(&rig, AGENTD_REMOVE, rig_remove(&rig, 0), ENOTCONN);
	rig_expect_reply(&rig, AGENTD_REMOVE, rig_remove(&rig, 0));
	rig_expect_silence(&rig, 100);
	fd_close(&rig.s.channel);
	rig_expect_exit(&rig, 0);
	rig_done(&rig);
}
