/* Pids: who is asked what runs, what containerd is shown of it, and that it never fails. */
#include <errno.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/flow/frontend_harness.h"

#define DETAILS "containerd.runc.v1.ProcessDetails"

static struct fx fx;
static struct client c;
static struct answer a;

static void running(void)
{
	fx.events = 0;
	fx_start(&fx, NULL);
	fx_client(&fx, &c);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	fx.trace[0] = '\0';
}

static void end(void)
{
	client_done(&c);
	fx_stop(&fx);
}

/* Of the answer in `a`: one process with the task's pid, and this text; NULL: no details at all. */
static void check_text(const char *text)
{
	Containerd__PidsResponse *r;
	Containerd__ProcessDetails *d;

	CHECK_INT(a.code, 0);
	r = containerd__pids_response__unpack(NULL, a.len, a.payload);
	CHECK(r);
	CHECK_INT(r->n_processes, 1);
	CHECK_INT(r->processes[0]->pid, TASK_PID);
	CHECK(!r->processes[0]->info == !text);
	if (text) {
		CHECK_STR(r->processes[0]->info->type_url, DETAILS);
		d = containerd__process_details__unpack(NULL, r->processes[0]->info->value.len,
			r->processes[0]->info->value.data);
		CHECK(d);
		CHECK_STR(d->exec_id, text);
		containerd__process_details__free_unpacked(d, NULL);
	}
	containerd__pids_response__free_unpacked(r, NULL);
}

static void pids(const char *text)
{
	CHECK(fx_answer(&fx, &c, fx_send_id(&c, "Pids", SANDBOX), &a, 10000));
	check_text(text);
}

static uint32_t exec(const char *eid)
{
	CHECK_INT(fx_exec(&fx, &c, eid, &a), 0);
	CHECK_INT(fx_start_exec(&fx, &c, eid, &a), 0);
	return fx.last_exec;
}

#define PROCESSES_MAX 8

/* What agentd is to say, until it says something else. */
static struct {
	Ipc__AgentdProcessesReply reply;
	Ipc__AgentdProcessesReply__Process process[PROCESSES_MAX], *list[PROCESSES_MAX];
} said;

static void say_nothing(void)
{
	said.reply = (Ipc__AgentdProcessesReply)IPC__AGENTD_PROCESSES_REPLY__INIT;
	said.reply.processes = said.list;
	fx.processes = &said.reply;
}

static void say(uint32_t pid, uint32_t process, const char *command)
{
	Ipc__AgentdProcessesReply__Process *p = &said.process[said.reply.n_processes];

	ipc__agentd_processes_reply__process__init(p);
	p->pid = pid;
	p->process = process;
	p->command = (char *)command;
	said.list[said.reply.n_processes++] = p;
}

TEST (a_line_for_each_process) {
	uint32_t one, two;

	running();
	one = exec("one");
	two = exec("two");
	CHECK_INT(fx_exec(&fx, &c, "added", &a), 0);
	say_nothing();
	say(300, fx.last_process, "sleep 1000");
	pids("300 - sleep 1000\n- two -\n- one -");
	say(317, one, "sh -c \"a; b\"");
	say(318, 0, "[kworker/0:1]");
	say(4294967295, two, "?");
	pids("300 - sleep 1000\n317 one sh -c \"a; b\"\n318 - [kworker/0:1]\n4294967295 two ?");
	said.reply.more = 7;
	say(1, 4711, "of nobody we know");
	pids("300 - sleep 1000\n317 one sh -c \"a; b\"\n318 - [kworker/0:1]\n4294967295 two ?\n"
	     "1 - of nobody we know\n- - (7 more)");
	CHECK(strstr(fx.trace, "agentd.processes agentd.processes agentd.processes "));
	end();
}

/* The ids of the execs that run, as far as there are any. */
TEST (an_agent_that_cannot_say_it) {
	running();
	pids(NULL);
	exec("one");
	exec("two");
	pids("two one");
	CHECK(strstr(fx.trace, "agentd.processes"));
	end();
}

TEST (a_guest_that_refuses) {
	static const int codes[] = { EBUSY, ENOSPC, ENOTCONN, ETIMEDOUT, EIO, ENOENT };

	running();
	exec("one");
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		fx.n_rules = 0;
		fx_rule(&fx, "agentd.processes", ACT_FAIL, codes[i], "not now");
		pids("one");
	}
	end();
}

static unsigned times_asked(void)
{
	unsigned n = 0;

	for (const char *s = fx.trace; (s = strstr(s, "agentd.processes ")); s++)
		n++;
	return n;
}

/*
 * Within a second, one after the other or many at once, and what comes later disturbs nobody. Of many
 * only a few ask: the others would stand before a Kill.
 */
TEST (a_silent_guest) {
	uint32_t asked[20];
	int64_t start;

	running();
	exec("one");
	say_nothing();
	say(300, fx.last_process, "sleep 1000");
	fx_rule(&fx, "agentd.processes", ACT_SILENT, 0, NULL);
	start = clock_ms();
	pids("one");
	CHECK(clock_ms() - start >= 900 && clock_ms() - start < 2000);
	start = clock_ms();
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++)
		asked[i] = fx_send_id(&c, "Pids", SANDBOX);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	CHECK(clock_ms() - start < 500);
	for (size_t i = 0; i < ARRAY_SIZE(asked); i++) {
		CHECK(fx_answer(&fx, &c, asked[i], &a, 2000));
		check_text("one");
	}
	CHECK(clock_ms() - start < 2000);
	CHECK_INT(times_asked(), 1 + 4);
	fx_answer_held(&fx);
	fx.n_rules = 0;
	pids("300 - sleep 1000\n- one -");
	end();
}

/* Nobody is asked about what does not run: created, paused, stopped. */
TEST (what_is_answered_from_memory) {
	fx.events = 0;
	fx_start(&fx, NULL);
	fx_client(&fx, &c);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	pids(NULL);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	exec("one");
	CHECK(fx_answer(&fx, &c, fx_send_id(&c, "Pause", SANDBOX), &a, 2000));
	pids("one");
	CHECK(fx_answer(&fx, &c, fx_send_id(&c, "Resume", SANDBOX), &a, 2000));
	CHECK(!strstr(fx.trace, "agentd.processes"));
	fx_exited(&fx, fx.last_process, 0);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit", 2000));
	pids("one"); /* its own exit has not been told */
	CHECK(!strstr(fx.trace, "agentd.processes"));
	end();
}

/* It ends, the VM ends, it is deleted, while the guest is asked. */
TEST (a_container_that_is_gone_meanwhile) {
	uint32_t asked;

	running();
	exec("one");
	say_nothing();
	say(300, fx.last_process, "sleep 1000");
	fx_rule(&fx, "agentd.processes", ACT_SILENT, 0, NULL);
	asked = fx_send_id(&c, "Pids", SANDBOX);
	CHECK(fx_until(&fx, fx.trace, "agentd.processes", 2000));
	fx_exited(&fx, fx.last_process, 0);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit", 2000));
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	fx_answer_held(&fx);
	CHECK(fx_answer(&fx, &c, asked, &a, 2000));
	check_text(NULL);
	CHECK(fx_answer(&fx, &c, fx_send_id(&c, "Pids", SANDBOX), &a, 2000));
	CHECK_INT(a.code, TTRPC_NOT_FOUND);
	end();
}

TEST (a_vm_that_is_gone_meanwhile) {
	uint32_t asked;
	int64_t start;

	running();
	exec("one");
	fx_rule(&fx, "agentd.processes", ACT_SILENT, 0, NULL);
	asked = fx_send_id(&c, "Pids", SANDBOX);
	CHECK(fx_until(&fx, fx.trace, "agentd.processes", 2000));
	start = clock_ms();
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_QEMU, 137, "");
	CHECK(fx_answer(&fx, &c, asked, &a, 900));
	CHECK_INT(a.code, 0);
	CHECK(clock_ms() - start < 900);
	fx.trace[0] = '\0';
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:" SANDBOX, 3000));
	pids(NULL);
	CHECK(!strstr(fx.trace, "agentd.processes"));
	end();
}

/* containerd cannot read an answer with such a text in it. */
TEST (an_agentd_that_breaks_its_word) {
	static const char *const bad[] = { "\xff", "a\nb", "\x1b[31m", "\x7f" };

	running();
	exec("one");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		say_nothing();
		say(1, fx.last_process, "sh");
		say(2, 0, bad[i]);
		pids("one");
	}
	end();
}
