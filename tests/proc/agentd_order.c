/* The real agentd and a frontend, a mountd or a vmmd that keep to no order. What they say: hostile.h */
#include <unistd.h>

#include "tests/proc/agentd_scripted.h"

static void expect_broken(const char *log)
{
	rig_expect_exit(&rig, 70);
	role_log_contains(&rig.s, log);
	rig_done(&rig);
}

TEST(broken_order)
{
	need_root();
	rig_up(&rig);
	rig_create_sandbox(&rig);
	expect_broken("unpermitted request 'create_sandbox' in state 0x1");

	rig_up(&rig);
	rig_connect(&rig, 1000);
	expect_broken("connect: before the agent's stream has come");

	rig_up(&rig);
	rig_stream(&rig);
	rig_connect(&rig, 0);
	expect_broken("connect: a deadline of 0 ms");

	rig_up(&rig);
	rig_stream(&rig);
	rig_connect(&rig, 1000);
	rig_connect(&rig, 1000);
	expect_broken("unpermitted request 'connect' in state 0x2");

	rig_up(&rig);
	rig_sandbox(&rig);
	rig_create_sandbox(&rig);
	expect_broken("unpermitted request 'create_sandbox' in state 0x10");

	rig_up(&rig);
	rig_sandbox(&rig);
	rig_create(&rig, 1, 1, false, false, false);
	expect_broken("create_container: before config.json of container 1 has come");

	rig_up(&rig);
	rig_sandbox(&rig);
	rig_create(&rig, 0, 1, false, true, false);
	expect_broken("create_container: before the streams of process 1 have come");
}

TEST(other_sandbox)
{
	Ipc__AgentdCreateSandbox m = IPC__AGENTD_CREATE_SANDBOX__INIT;

	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	guest_hello(rig.agent);
	rig_expect_reply(&rig, AGENTD_CONNECT, rig_connect(&rig, 5000));
	rig_config(&rig, 0, NULL);
	m.sandbox_id = (char[]){ "sb2" };
	rig_ask(&rig, AGENTD_CREATE_SANDBOX, &m);
	expect_broken("create_sandbox: for another sandbox than this");
}

TEST(same_container_again)
{
	struct running run;

	need_root();
	scripted_start(&run);
	rig_config(&rig, 0, NULL);
	rig_create(&rig, 0, 2, false, false, false);
	running_done(&run);
	expect_broken("create_container: container 0 or process 2 exists");

	scripted_start(&run);
	rig_config(&rig, 1, NULL);
	rig_create(&rig, 1, 1, false, false, false);
	running_done(&run);
	expect_broken("create_container: container 1 or process 1 exists");
}

TEST(too_many_requests)
{
	struct running run;

	need_root();
	scripted_start(&run);
	for (int i = 0; i < 1025; i++)
		rig_signal(&rig, 0, 1, 15, true);
	running_done(&run);
	expect_broken("more than 1024 requests at once");

	scripted_start(&run);
	rig_signal(&rig, 0, 1, 15, true);
	rig.seq--;
	rig_signal(&rig, 0, 1, 15, true);
	running_done(&run);
	expect_broken("signal: request 5 is not answered yet");
}

TEST(fds_twice)
{
	int fd;

	need_root();
	rig_up(&rig);
	rig_config(&rig, 3, NULL);
	rig_config(&rig, 3, NULL);
	expect_broken("config 3 came twice");

	rig_up(&rig);
	fd = rig_output(&rig, 3, MOUNTD_AGENTD_STDOUT);
	close(fd);
	fd = rig_output(&rig, 3, MOUNTD_AGENTD_STDOUT);
	close(fd);
	expect_broken("stdout 3 came twice");

	rig_up(&rig);
	rig_stream(&rig);
	fd_close(&rig.agent);
	fd_close(&rig.console);
	rig_stream(&rig);
	expect_broken("the agent stream came twice");
}

/* What leads somewhere else than to the guest that agentd was told of is not taken. */
TEST(stream_that_is_not_the_guests)
{
	need_root();
	rig_up_by_vsock(&rig, 7);
	rig_stream(&rig);
	expect_broken("the agent stream leads to CID 0, the guest's is 7");
}

TEST(stream_by_vsock)
{
	need_root();
	if (access("/sys/module/vsock_loopback", F_OK) < 0)
		test_skip("no vsock_loopback");
	rig_up_by_vsock(&rig, 7);
	rig_stream_by_vsock(&rig);
	expect_broken("the agent stream leads to CID 1, the guest's is 7");

	rig_up(&rig);
	rig_stream_by_vsock(&rig);
	expect_broken("the agent stream leads to CID 1, the guest's is 0");

	/* And that of the guest is, with no call that a port would not need but one. */
	rig_up_by_vsock(&rig, 1);
	rig_stream_by_vsock(&rig);
	guest_hello(rig.agent);
	rig_expect_reply(&rig, AGENTD_CONNECT, rig_connect(&rig, 5000));
	fd_close(&rig.agent);
	ipc_free(rig_expect_event(&rig, AGENTD_LOST));
	rig_done(&rig);
}
