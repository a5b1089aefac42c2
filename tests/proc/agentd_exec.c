/* The real agentd: processes that are added to a container, terminals, memory that runs out. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "tests/proc/agentd_scripted.h"

static const char good[] = "{\"args\":[\"true\"],\"cwd\":\"/\",\"consoleSize\":{\"height\":5,\"width\":6}}";

static struct running init;

/* Container 0 runs; its init is process 1. */
static void up(void)
{
	need_root();
	scripted_start(&init);
}

static void down(void)
{
	running_done(&init);
	rig_done(&rig);
}

static void add(uint32_t process, bool terminal)
{
	rig_text(&rig, process, good);
	rig_expect_reply(&rig, AGENTD_EXEC, rig_exec(&rig, 0, process, terminal));
}

TEST(an_exec_runs_under_a_name_of_its_own)
{
	const Grpc__ExecProcessRequest *m;
	struct guest_request r, out, err, end;
	uint32_t seq;

	up();
	add(7, false);
	seq = rig_start_exec(&rig, 0, 7);
	guest_expect(rig.agent, "ExecProcess", &r);
	m = (void *)r.message;
	CHECK_STR(m->container_id, "cont0");
	CHECK_STR(m->exec_id, "x7");
	CHECK_STR(m->process->args[0], "true");
	CHECK(!m->process->terminal);
	guest_reply(rig.agent, r.stream, NULL);
	guest_request_done(&r);
	rig_expect_reply(&rig, AGENTD_START_EXEC, seq);
	guest_expect(rig.agent, "WaitProcess", &r);
	CHECK_STR(((Grpc__WaitProcessRequest *)r.message)->exec_id, "x7");
	guest_expect(rig.agent, "ReadStdout", &out);
	guest_expect(rig.agent, "ReadStderr", &err);
	guest_expect(rig.agent, "CloseStdin", &end);
	guest_reply(rig.agent, end.stream, NULL);
	reply_data(&out, "", 0);
	reply_data(&err, "", 0);
	reply_status(&r, 3);
	expect_exited(7, 3);
	rig_expect_reply(&rig, AGENTD_REMOVE_EXEC, rig_remove_exec(&rig, 0, 7));
	rig_expect_error(&rig, AGENTD_START_EXEC, rig_start_exec(&rig, 0, 7), ESRCH);
	guest_request_done(&r);
	guest_request_done(&out);
	guest_request_done(&err);
	guest_request_done(&end);
	down();
}

TEST(the_size_of_a_terminal_before_and_after_its_start)
{
	const Grpc__ExecProcessRequest *m;
	struct guest_request r, wait, out, size;
	uint32_t seq;

	up();
	add(2, true);
	rig_expect_reply(&rig, AGENTD_RESIZE, rig_resize(&rig, 0, 2, 120, 40));
	seq = rig_start_exec(&rig, 0, 2);
	guest_expect(rig.agent, "ExecProcess", &r);
	m = (void *)r.message;
	CHECK(m->process->terminal);
	CHECK_INT(m->process->consolesize->width, 120);
	CHECK_INT(m->process->consolesize->height, 40);
	/* While it is started: sent as soon as it can be. */
	rig_expect_reply(&rig, AGENTD_RESIZE, rig_resize(&rig, 0, 2, 121, 41));
	guest_reply(rig.agent, r.stream, NULL);
	rig_expect_reply(&rig, AGENTD_START_EXEC, seq);
	guest_expect(rig.agent, "WaitProcess", &wait);
	guest_expect(rig.agent, "ReadStdout", &out);
	guest_request_done(&r);
	guest_expect(rig.agent, "CloseStdin", &r);
	guest_request_done(&r);
	guest_expect(rig.agent, "TtyWinResize", &size);
	CHECK_INT(((Grpc__TtyWinResizeRequest *)size.message)->column, 121);
	CHECK_INT(((Grpc__TtyWinResizeRequest *)size.message)->row, 41);
	guest_request_done(&size);
	seq = rig_resize(&rig, 0, 2, 10, 20);
	guest_expect(rig.agent, "TtyWinResize", &size);
	guest_reply(rig.agent, size.stream, NULL);
	rig_expect_reply(&rig, AGENTD_RESIZE, seq);
	rig_expect_error(&rig, AGENTD_RESIZE, rig_resize(&rig, 0, 2, 65536, 1), EINVAL);
	/* No terminal, no process: nothing to do. */
	rig_expect_reply(&rig, AGENTD_RESIZE, rig_resize(&rig, 0, 1, 10, 20));
	rig_expect_reply(&rig, AGENTD_RESIZE, rig_resize(&rig, 0, 99, 10, 20));
	guest_request_done(&size);
	guest_request_done(&wait);
	guest_request_done(&out);
	down();
}

/* The guest forks for each start: the ninth is asked when one of the eight has started. */
TEST(starts_wait_for_each_other)
{
	struct guest_request r[9];
	uint32_t seq[9];

	up();
	for (uint32_t i = 0; i < 9; i++) {
		add(10 + i, false);
		seq[i] = rig_start_exec(&rig, 0, 10 + i);
		if (i < 8)
			guest_expect(rig.agent, "ExecProcess", &r[i]);
	}
	CHECK(!readable(rig.agent, 200));
	guest_fail(rig.agent, r[0].stream, 13, "it cannot be");
	rig_expect_error(&rig, AGENTD_START_EXEC, seq[0], EIO);
	rig_expect_error(&rig, AGENTD_START_EXEC, rig_start_exec(&rig, 0, 10), ESRCH);
	guest_expect(rig.agent, "ExecProcess", &r[8]);
	CHECK_STR(((Grpc__ExecProcessRequest *)r[8].message)->exec_id, "x18");
	for (int i = 0; i < 9; i++)
		guest_request_done(&r[i]);
	down();
}

TEST(what_was_sent_for_an_exec_goes_with_it)
{
	int fds, out;

	up();
	fds = rig_fds_of_agentd(&rig);
	rig_text(&rig, 5, "no JSON");
	out = rig_output(&rig, 5, MOUNTD_AGENTD_STDOUT);
	rig_expect_reply(&rig, AGENTD_REMOVE_EXEC, rig_remove_exec(&rig, 0, 5));
	CHECK_INT(rig_fds_of_agentd(&rig), fds);
	rig_text(&rig, 5, "no JSON");
	rig_expect_error(&rig, AGENTD_EXEC, rig_exec(&rig, 0, 5, false), EINVAL);
	/* Of a container that is not there. */
	rig_text(&rig, 5, good);
	rig_expect_error(&rig, AGENTD_EXEC, rig_exec(&rig, 9, 5, false), ENOENT);
	add(5, false);
	rig_expect_error(&rig, AGENTD_SIGNAL, rig_signal(&rig, 0, 5, 15, false), EBUSY);
	close(out);
	down();
}

TEST(before_its_text_has_come)
{
	up();
	rig_expect_error(&rig, AGENTD_EXEC, rig_exec(&rig, 0, 5, false), ENOBUFS);
	down();
}

TEST(a_text_that_is_too_long)
{
	Ipc__AgentdText m = IPC__AGENTD_TEXT__INIT;
	static uint8_t part[AGENTD_TEXT_PART];

	up();
	m.number = 3;
	m.data.data = part;
	m.data.len = sizeof(part);
	for (size_t n = sizeof(part); n <= AGENTD_TEXT_MAX; n += sizeof(part))
		rig_ask_ok(&rig, AGENTD_TEXT, &m);
	rig_ask(&rig, AGENTD_TEXT, &m);
	rig_expect_exit(&rig, 70);
	role_log_contains(&rig.s, "text 3 is longer than");
	running_done(&init);
	rig_done(&rig);
}

TEST(memory_that_runs_out)
{
	Grpc__OOMEvent oom = GRPC__OOMEVENT__INIT;
	Ipc__AgentdOom *event;

	up();
	CHECK(guest_oom_stream != 0);
	oom.container_id = (char[]){ "cont0" };
	guest_reply(rig.agent, guest_oom_stream, &oom.base);
	event = rig_expect_event(&rig, AGENTD_OOM);
	CHECK_INT(event->index, 0);
	ipc_free(&event->base);
	down();
}

/* Only keys that we know, each once: what the guest says besides goes nowhere. */
TEST(what_a_container_uses)
{
	Grpc__StatsContainerResponse response = GRPC__STATS_CONTAINER_RESPONSE__INIT;
	Grpc__CgroupStats stats = GRPC__CGROUP_STATS__INIT;
	Grpc__MemoryStats memory = GRPC__MEMORY_STATS__INIT;
	Grpc__Uint64Entry entry[3], *list[3];
	static const char *const keys[3] = { "anon", "anon", "evil" };
	Ipc__AgentdStats m = IPC__AGENTD_STATS__INIT;
	Ipc__AgentdStatsReply *reply;
	struct ipc_packet packet;
	struct guest_request r;
	struct error err = ERROR_INIT;

	up();
	rig_ask(&rig, AGENTD_STATS, &m);
	guest_expect(rig.agent, "StatsContainer", &r);
	for (size_t i = 0; i < 3; i++) {
		grpc__uint64_entry__init(&entry[i]);
		entry[i].key = (char *)keys[i];
		entry[i].value = i + 1;
		list[i] = &entry[i];
	}
	memory.stats = list;
	memory.n_stats = 3;
	stats.memory_stats = &memory;
	response.cgroup_stats = &stats;
	guest_reply(rig.agent, r.stream, &response.base);
	CHECK_INT(channel_recv(rig.s.channel, &ipc_frontend_agentd, 0, &packet, &err), 1);
	CHECK_INT(packet.hdr.kind, IPC_REPLY);
	reply = (Ipc__AgentdStatsReply *)ipc_decode(&packet, &err);
	CHECK(reply);
	CHECK_INT(reply->n_memory, 1);
	CHECK_INT(reply->memory[0]->key, 1);
	CHECK_INT(reply->memory[0]->value, 1);
	ipc_free(&reply->base);
	guest_request_done(&r);
	down();
}

/* ---- limits, and a VM that has grown ---- */

static void expect_limits(uint16_t type, int64_t quota, int64_t period, int64_t memory)
{
	struct ipc_packet packet;
	struct error err = ERROR_INIT;
	ProtobufCMessage *m;
	const Ipc__Limits *l;

	CHECK_INT(channel_recv(rig.s.channel, &ipc_frontend_agentd, 0, &packet, &err), 1);
	CHECK_INT(packet.hdr.kind, IPC_REPLY);
	CHECK_INT(packet.hdr.type, type);
	m = ipc_decode(&packet, &err);
	CHECK(m);
	l = type == AGENTD_LIMITS ? ((Ipc__AgentdLimitsReply *)m)->limits :
				    ((Ipc__AgentdCreateContainerReply *)m)->limits;
	CHECK(l);
	CHECK_INT(l->cpu_quota, quota);
	CHECK_INT(l->cpu_period, period);
	CHECK_INT(l->memory, memory);
	ipc_free(m);
}

TEST(create_tells_the_limits_of_config_json)
{
	need_root();
	rig_up(&rig);
	rig_sandbox(&rig);
	rig_config(&rig, 4, "{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":[\"a\"],\"cwd\":\"/\"},"
			    "\"root\":{\"path\":\"rootfs\"},\"linux\":{\"resources\":{"
			    "\"memory\":{\"limit\":123456789},\"cpu\":{\"quota\":5,\"period\":7}}}}");
	rig_create(&rig, 4, 9, false, false, false);
	guest_grant(rig.agent, "CreateContainer");
	expect_limits(AGENTD_CREATE_CONTAINER, 5, 7, 123456789);
	rig_done(&rig);
}

TEST(the_limits_of_an_update)
{
	static const struct {
		const char *text;
		int64_t quota, period, memory;
	} cases[] = {
		{ "{}", 0, 0, 0 },
		{ "{\"cpu\":{\"quota\":-1},\"memory\":{\"limit\":-1}}", -1, 0, -1 },
		{ "{\"memory\":{\"limit\":9223372036854771712}}", 0, 0, -1 }, /* of cgroup v1 */
		{ "{\"cpu\":{\"quota\":150000,\"period\":100000},\"memory\":{\"limit\":1073741824}}",
			150000, 100000, 1073741824 },
		{ "{\"cpu\":{\"period\":18446744073709551615}}", 0, INT32_MAX, 0 },
	};
	Ipc__AgentdLimits m = IPC__AGENTD_LIMITS__INIT;

	up();
	m.text = 100;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		rig_text(&rig, m.text, cases[i].text);
		rig_ask(&rig, AGENTD_LIMITS, &m);
		expect_limits(AGENTD_LIMITS, cases[i].quota, cases[i].period, cases[i].memory);
	}
	/* It is used up; what is none is refused, and used up too. */
	rig_expect_error(&rig, AGENTD_LIMITS, rig_ask(&rig, AGENTD_LIMITS, &m), ENOBUFS);
	rig_text(&rig, m.text, "{\"memory\":{\"limit\":\"much\"}}");
	CHECK_CONTAINS(rig_expect_error(&rig, AGENTD_LIMITS, rig_ask(&rig, AGENTD_LIMITS, &m), EINVAL),
		"limit");
	rig_expect_error(&rig, AGENTD_LIMITS, rig_ask(&rig, AGENTD_LIMITS, &m), ENOBUFS);
	down();
}

TEST(the_guest_is_to_use_what_was_plugged)
{
	const Grpc__OnlineCPUMemRequest *asked;
	Ipc__AgentdOnline m = IPC__AGENTD_ONLINE__INIT;
	struct guest_request r;
	uint32_t seq;

	up();
	m.vcpus = 3;
	m.plugged_mib = 256;
	seq = rig_ask(&rig, AGENTD_ONLINE, &m);
	guest_expect(rig.agent, "OnlineCPUMem", &r);
	asked = (void *)r.message;
	CHECK(asked->wait && !asked->cpu_only);
	CHECK_INT(asked->nb_cpus, 3);
	CHECK_INT(asked->plugged_mib, 256);
	guest_reply(rig.agent, r.stream, NULL);
	guest_request_done(&r);
	rig_expect_reply(&rig, AGENTD_ONLINE, seq);

	m.plugged_mib = 0;
	seq = rig_ask(&rig, AGENTD_ONLINE, &m);
	guest_expect(rig.agent, "OnlineCPUMem", &r);
	CHECK(((const Grpc__OnlineCPUMemRequest *)r.message)->cpu_only);
	guest_fail(rig.agent, r.stream, 4, "the guest uses 2 of 3 CPUs");
	guest_request_done(&r);
	CHECK_CONTAINS(rig_expect_error(&rig, AGENTD_ONLINE, seq, ETIMEDOUT), "uses 2 of 3 CPUs");
	down();
}
