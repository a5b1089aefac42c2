/* The real agentd and what a guest says that runs in a container. */
#include <errno.h>
#include <string.h>

#include "common/clock.h"
#include "tests/proc/agentd_scripted.h"

#define LIST_MAX 5000

static struct running init;
static struct guest_request asked;
static Bulkhead__ListedProcess said[LIST_MAX], *list[LIST_MAX];
static Bulkhead__ListProcessesResponse response = BULKHEAD__LIST_PROCESSES_RESPONSE__INIT;

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

static uint32_t ask(uint32_t index)
{
	Ipc__AgentdProcesses m = IPC__AGENTD_PROCESSES__INIT;

	m.index = index;
	return rig_ask(&rig, AGENTD_PROCESSES, &m);
}

static uint32_t asked_guest(void)
{
	uint32_t seq = ask(0);

	guest_expect(rig.agent, "ListProcesses", &asked);
	CHECK_STR(((Bulkhead__ListProcessesRequest *)asked.message)->container_id, "cont0");
	return seq;
}

static void say(uint32_t pid, const char *exec_id, const void *command, size_t len)
{
	Bulkhead__ListedProcess *p = &said[response.n_processes];

	bulkhead__listed_process__init(p);
	p->pid = pid;
	p->first = exec_id != NULL;
	if (exec_id)
		p->exec_id = (char *)exec_id;
	p->command = (ProtobufCBinaryData){ len, (uint8_t *)command };
	response.processes = list;
	list[response.n_processes++] = p;
}

/* Sends what was said; ipc_free() the answer. */
static Ipc__AgentdProcessesReply *told(void)
{
	struct ipc_packet packet;
	struct error err = ERROR_INIT;
	Ipc__AgentdProcessesReply *reply;

	guest_reply(rig.agent, asked.stream, &response.base);
	guest_request_done(&asked);
	response.n_processes = 0;
	CHECK_INT(channel_recv(rig.s.channel, &ipc_frontend_agentd, 0, &packet, &err), 1);
	CHECK_INT(packet.hdr.kind, IPC_REPLY);
	CHECK_INT(packet.hdr.type, AGENTD_PROCESSES);
	reply = (Ipc__AgentdProcessesReply *)ipc_decode(&packet, &err);
	CHECK(reply);
	for (size_t i = 0; i < reply->n_processes; i++) {
		const char *command = reply->processes[i]->command;

		CHECK(command[0] && strlen(command) <= AGENTD_COMMAND_MAX);
		for (const char *s = command; *s; s++)
			CHECK(*s >= ' ' && *s < 0x7f);
	}
	return reply;
}

static void check(const Ipc__AgentdProcessesReply__Process *p, uint32_t pid, uint32_t process,
	const char *command)
{
	CHECK_INT(p->pid, pid);
	CHECK_INT(p->process, process);
	CHECK_STR(p->command, command);
}

static void start_exec(uint32_t process)
{
	struct guest_request r;
	uint32_t seq;

	rig_text(&rig, process, "{\"args\":[\"true\"],\"cwd\":\"/\"}");
	rig_expect_reply(&rig, AGENTD_EXEC, rig_exec(&rig, 0, process, false));
	seq = rig_start_exec(&rig, 0, process);
	guest_grant(rig.agent, "ExecProcess");
	rig_expect_reply(&rig, AGENTD_START_EXEC, seq);
	for (int i = 0; i < 4; i++) {
		CHECK(guest_next(rig.agent, &r));
		guest_request_done(&r);
	}
}

/* The frontend hears of numbers that it gave, never of names that the guest chose. */
TEST(which_processes_they_are)
{
	Ipc__AgentdProcessesReply *reply;

	up();
	start_exec(7);
	asked_guest();
	say(81, "", "sleep\0" "1000\0", 11);
	say(99, "x7", "sh\0-c\0a \"b\"\0", 12);
	say(100, NULL, "[kworker/0:1]", 13);
	say(101, "x8", "no such exec", 12); /* and not cut at a name's end */
	say(102, "x7", "again", 5);
	say(103, "cont0", "nor is this one", 15);
	reply = told();
	CHECK_INT(reply->n_processes, 6);
	CHECK_INT(reply->more, 0);
	check(reply->processes[0], 81, 1, "sleep 1000");
	check(reply->processes[1], 99, 7, "sh -c a \"b\"");
	check(reply->processes[2], 100, 0, "[kworker/0:1]");
	check(reply->processes[3], 101, 0, "no such exec");
	check(reply->processes[4], 102, 0, "again");
	check(reply->processes[5], 103, 0, "nor is this one");
	ipc_free(&reply->base);
	rig_expect_error(&rig, AGENTD_PROCESSES, ask(5), ENOENT);
	down();
}

TEST(commands_are_made_printable)
{
	Ipc__AgentdProcessesReply *reply;
	uint8_t bytes[256];

	up();
	asked_guest();
	say(1, NULL, "\x1b[31mred\x1b[0m\n2 e1 fake", 22);
	say(2, NULL, "\xff\xfe\x80", 3);
	say(3, NULL, "", 0);
	say(UINT32_MAX, NULL, "\0\0\0", 3);
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)i;
	say(5, NULL, bytes, sizeof(bytes));
	reply = told();
	CHECK_INT(reply->n_processes, 5);
	check(reply->processes[0], 1, 0, "[31mred [0m 2 e1 fake");
	check(reply->processes[1], 2, 0, "?");
	check(reply->processes[2], 3, 0, "?");
	check(reply->processes[3], UINT32_MAX, 0, "?");
	CHECK_INT(strlen(reply->processes[4]->command), '~' - '!' + 1);
	ipc_free(&reply->base);
	down();
}

/* As many as fit, each as long as may be; the rest is counted. */
TEST(more_than_a_packet_takes)
{
	static char longest[3 << 20];
	Ipc__AgentdProcessesReply *reply;

	up();
	memset(longest, 'x', sizeof(longest));
	asked_guest();
	say(1, NULL, longest, sizeof(longest));
	reply = told();
	CHECK_INT(reply->n_processes, 1);
	CHECK_INT(strlen(reply->processes[0]->command), AGENTD_COMMAND_MAX);
	CHECK_STR(reply->processes[0]->command + AGENTD_COMMAND_MAX - 4, "x...");
	ipc_free(&reply->base);

	for (size_t len = 1; len <= 512; len *= 8) {
		asked_guest();
		for (size_t i = 0; i < LIST_MAX; i++)
			say(UINT32_MAX, NULL, longest, len);
		response.more = 3;
		reply = told();
		response.more = 0;
		CHECK(reply->n_processes >= 100);
		CHECK_INT(reply->n_processes + reply->more, LIST_MAX + 3);
		ipc_free(&reply->base);
	}
	down();
}

TEST(an_agent_that_is_not_ours)
{
	static const int unknown[] = { TTRPC_UNIMPLEMENTED, TTRPC_NOT_FOUND, TTRPC_INVALID_ARGUMENT };
	uint32_t seq;

	up();
	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		Ipc__AgentdProcessesReply *reply;
		struct ipc_packet packet;
		struct error err = ERROR_INIT;

		asked_guest();
		guest_fail(rig.agent, asked.stream, unknown[i], "bulkhead.AgentService/ListProcesses does not exist");
		guest_request_done(&asked);
		CHECK_INT(channel_recv(rig.s.channel, &ipc_frontend_agentd, 0, &packet, &err), 1);
		CHECK_INT(packet.hdr.kind, IPC_REPLY);
		reply = (Ipc__AgentdProcessesReply *)ipc_decode(&packet, &err);
		CHECK(reply);
		CHECK_INT(reply->n_processes, 0);
		ipc_free(&reply->base);
	}
	seq = asked_guest();
	guest_fail(rig.agent, asked.stream, TTRPC_RESOURCE_EXHAUSTED, "not now");
	CHECK_CONTAINS(rig_expect_error(&rig, AGENTD_PROCESSES, seq, ENOSPC), "not now");
	guest_request_done(&asked);
	down();
}

TEST(a_guest_that_does_not_say_it)
{
	struct guest_request late;
	Ipc__AgentdProcessesReply *reply;
	int64_t start = clock_ms();
	uint32_t seq;

	up();
	seq = asked_guest();
	start = clock_ms();
	CHECK_CONTAINS(rig_expect_error(&rig, AGENTD_PROCESSES, seq, ETIMEDOUT), "within 1 s");
	CHECK(clock_ms() - start >= 900 && clock_ms() - start < 2500);
	/* Too late is no lie, and nothing that anybody hears of. */
	late = asked;
	asked_guest();
	guest_reply(rig.agent, late.stream, &response.base);
	say(3, NULL, "sh", 2);
	reply = told();
	CHECK_INT(reply->n_processes, 1);
	check(reply->processes[0], 3, 0, "sh");
	ipc_free(&reply->base);
	guest_request_done(&late);
	down();
}

/* Fields of other types, and bytes that are no message. */
TEST(answers_of_another_shape)
{
	static const struct {
		const char *bytes;
		uint32_t len;
	} bad[] = {
		{ "\x12\x02\x08\x01", 4 },	       /* a number where processes are */
		{ "\x12\x04\x0a\x02\x20\x01", 6 },     /* a number for a command */
		{ "\x12\x04\x0a\x02\x0a\x00", 6 },     /* a text for a pid */
		{ "\x12\x02\x12\x00", 4 },	       /* a text for a number */
		{ "\x12\x03\x0a\x05\x08", 5 },	       /* longer than the rest */
	};

	need_root();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint32_t seq;

		up();
		seq = asked_guest();
		guest_frame(rig.agent, bad[i].len, asked.stream, TTRPC_RESPONSE, 0, bad[i].bytes,
			bad[i].len);
		rig_expect_error(&rig, AGENTD_PROCESSES, seq, EPROTO);
		expect_lost("the answer to ListProcesses cannot be decoded");
		guest_request_done(&asked);
		down();
	}
}

/* What it leaves unanswered is kept, and must not keep a Kill from it. */
TEST(a_guest_that_is_asked_over_and_over)
{
	struct guest_request r = { 0 };
	int waiting = 90;
	uint32_t seq;

	up();
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 1000; i++)
			ask(0);
		for (int i = 0; i < 1000; i++)
			rig_expect_any_error(&rig, ETIMEDOUT);
	}
	for (int i = 0; i < waiting; i++)
		ask(0);
	do {
		ask(0);
		waiting++;
	} while (!readable(rig.s.channel, 20));
	rig_expect_any_error(&rig, EBUSY);
	while (--waiting > 0)
		rig_expect_any_error(&rig, ETIMEDOUT);
	seq = rig_signal(&rig, 0, 1, 9, false);
	do {
		guest_request_done(&r);
		CHECK(guest_next(rig.agent, &r));
	} while (strcmp(r.method, "ListProcesses") == 0);
	CHECK_STR(r.method, "SignalProcess");
	guest_reply(rig.agent, r.stream, NULL);
	rig_expect_reply(&rig, AGENTD_SIGNAL, seq);
	guest_request_done(&r);
	down();
}
