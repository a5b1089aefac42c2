/* Execs, Pause, Update, Stats, ResizePty: who is asked, what is told, and what a failure leaves. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "ipc/agentd.pb-c.h"
#include "tests/flow/frontend_harness.h"

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
}

static void end(void)
{
	client_done(&c);
	fx_stop(&fx);
}

static int kill_exec(const char *eid, uint32_t signal)
{
	Containerd__KillRequest r = CONTAINERD__KILL_REQUEST__INIT;

	r.id = (char *)SANDBOX;
	r.exec_id = (char *)eid;
	r.signal = signal;
	return fx_call(&fx, &c, "Kill", &r.base, &a);
}

static int ask(const char *method)
{
	CHECK(fx_answer(&fx, &c, fx_send_id(&c, method, SANDBOX), &a, 10000));
	return a.code;
}

TEST (an_exec_from_its_beginning_to_its_end) {
	running();
	CHECK_INT(fx_exec(&fx, &c, "e", &a), 0);
	CHECK(strstr(fx.trace, "agentd.text agentd.exec "));
	CHECK_INT(fx_state_exec(&fx, &c, "e"), CONTAINERD__STATUS__CREATED);
	CHECK_INT(fx_exec(&fx, &c, "e", &a), TTRPC_ALREADY_EXISTS);
	CHECK_INT(kill_exec("e", SIGTERM), TTRPC_FAILED_PRECONDITION);
	CHECK_INT(fx_start_exec(&fx, &c, "e", &a), 0);
	CHECK(strstr(fx.trace, "agentd.exec mountd.open_stdio agentd.start_exec "));
	CHECK_INT(fx_start_exec(&fx, &c, "e", &a), TTRPC_FAILED_PRECONDITION);
	CHECK_INT(fx_delete_exec(&fx, &c, "e", &a), TTRPC_FAILED_PRECONDITION);
	CHECK_INT(kill_exec("e", SIGTERM), 0);
	fx_exited(&fx, fx.last_exec, 9);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:" SANDBOX, 3000));
	CHECK_INT(fx_state_exec(&fx, &c, "e"), CONTAINERD__STATUS__STOPPED);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	CHECK_INT((int)fx.n_records, 0);
	CHECK_INT(kill_exec("e", SIGKILL), TTRPC_NOT_FOUND);
	CHECK_INT(fx_delete_exec(&fx, &c, "e", &a), 0);
	CHECK_INT(fx_state_exec(&fx, &c, "e"), -TTRPC_NOT_FOUND);
	CHECK(fx_until(&fx, fx.trace, "agentd.remove_exec", 2000));
	CHECK(strstr(fx.topics, "/tasks/exec-added:" SANDBOX " /tasks/exec-started:" SANDBOX
				" /tasks/exit:" SANDBOX));
	end();
}

TEST (the_exit_waits_for_the_answer_of_its_start) {
	running();
	CHECK_INT(fx_exec(&fx, &c, "e", &a), 0);
	fx_rule(&fx, "agentd.start_exec", ACT_SILENT, 0, NULL);
	{
		Containerd__StartRequest r = CONTAINERD__START_REQUEST__INIT;
		uint32_t start;

		r.id = (char *)SANDBOX;
		r.exec_id = (char *)"e";
		start = fx_send(&c, "Start", &r.base);
		CHECK(fx_until(&fx, fx.trace, "agentd.start_exec", 2000));
		fx_exited(&fx, fx.last_exec, 0);
		CHECK(!fx_answer(&fx, &c, start, &a, 100));
		CHECK(!strstr(fx.topics, "/tasks/exit"));
		fx_answer_held(&fx);
		CHECK(fx_answer(&fx, &c, start, &a, 2000));
	}
	CHECK(fx_until(&fx, fx.topics, "/tasks/exec-started:" SANDBOX " /tasks/exit:" SANDBOX, 2000));
	end();
}

TEST (what_cannot_be_added_leaves_nothing) {
	running();
	fx_rule(&fx, "agentd.exec", ACT_FAIL, EINVAL, "it is bad");
	CHECK_INT(fx_exec(&fx, &c, "e", &a), TTRPC_INVALID_ARGUMENT);
	CHECK(strstr(a.message, "exec e in " SANDBOX) && strstr(a.message, "it is bad"));
	CHECK(strstr(fx.trace, "agentd.remove_exec"));
	CHECK(!strstr(fx.topics, "exec-added"));
	fx.n_rules = 0;
	CHECK_INT(fx_exec(&fx, &c, "e", &a), 0);
	end();
}

TEST (streams_that_cannot_be_opened) {
	running();
	CHECK_INT(fx_exec(&fx, &c, "e", &a), 0);
	fx_rule(&fx, "mountd.open_stdio", ACT_FAIL, EINVAL, "it is a directory");
	CHECK_INT(fx_start_exec(&fx, &c, "e", &a), TTRPC_INVALID_ARGUMENT);
	CHECK(strstr(a.message, "start exec e of " SANDBOX ": open stdio: it is a directory"));
	CHECK(strstr(fx.trace, "agentd.remove_exec"));
	CHECK(!strstr(fx.trace, "agentd.start_exec"));
	CHECK_INT(fx_state_exec(&fx, &c, "e"), CONTAINERD__STATUS__STOPPED);
	CHECK_INT(fx_delete_exec(&fx, &c, "e", &a), 0);
	end();
}

/* Who waits is told, nobody else: nothing has run. */
TEST (a_start_that_fails) {
	Containerd__WaitRequest w = CONTAINERD__WAIT_REQUEST__INIT;
	uint32_t wait;

	running();
	CHECK_INT(fx_exec(&fx, &c, "e", &a), 0);
	w.id = (char *)SANDBOX;
	w.exec_id = (char *)"e";
	wait = fx_send(&c, "Wait", &w.base);
	fx_rule(&fx, "agentd.start_exec", ACT_FAIL, ENOENT, "no such file");
	CHECK_INT(fx_start_exec(&fx, &c, "e", &a), TTRPC_UNKNOWN);
	CHECK(fx_answer(&fx, &c, wait, &a, 2000));
	CHECK_INT(fx_state_exec(&fx, &c, "e"), CONTAINERD__STATUS__STOPPED);
	CHECK_INT(fx_start_exec(&fx, &c, "e", &a), TTRPC_FAILED_PRECONDITION);
	CHECK(!strstr(fx.topics, "/tasks/exec-started") && !strstr(fx.topics, "/tasks/exit"));
	CHECK_INT(fx_delete_exec(&fx, &c, "e", &a), 0);
	CHECK_INT(fx_state_exec(&fx, &c, "e"), -TTRPC_NOT_FOUND);
	end();
}

/* Its container ends and is deleted while it runs, and while it is started. */
TEST (an_exec_goes_with_its_container) {
	Containerd__StartRequest r = CONTAINERD__START_REQUEST__INIT;
	Containerd__WaitRequest w = CONTAINERD__WAIT_REQUEST__INIT;
	uint32_t start, wait;

	running();
	CHECK_INT(fx_exec(&fx, &c, "runs", &a), 0);
	CHECK_INT(fx_start_exec(&fx, &c, "runs", &a), 0);
	CHECK_INT(fx_exec(&fx, &c, "starts", &a), 0);
	fx_rule(&fx, "agentd.start_exec", ACT_SILENT, 0, NULL);
	r.id = w.id = (char *)SANDBOX;
	r.exec_id = (char *)"starts";
	w.exec_id = (char *)"runs";
	wait = fx_send(&c, "Wait", &w.base);
	start = fx_send(&c, "Start", &r.base);
	CHECK(!fx_answer(&fx, &c, start, &a, 100));
	fx_exited(&fx, fx.last_process, 0);
	CHECK(fx_until(&fx, fx.trace, "persistd.record", 2000));
	CHECK_INT(fx_exec(&fx, &c, "late", &a), TTRPC_FAILED_PRECONDITION);
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	CHECK(fx_answer(&fx, &c, wait, &a, 2000));
	CHECK_INT(a.code, 0);
	fx_answer_held(&fx);
	CHECK(fx_answer(&fx, &c, start, &a, 2000));
	CHECK_INT(a.code, TTRPC_FAILED_PRECONDITION);
	end();
}

TEST (the_vms_end_is_the_end_of_execs_first) {
	running();
	CHECK_INT(fx_exec(&fx, &c, "e", &a), 0);
	CHECK_INT(fx_start_exec(&fx, &c, "e", &a), 0);
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_QEMU, 137, "");
	CHECK(fx_until(&fx, fx.trace, "persistd.record", 3000));
	CHECK_INT(fx_state_exec(&fx, &c, "e"), CONTAINERD__STATUS__STOPPED);
	CHECK_INT(fx_exec(&fx, &c, "late", &a), TTRPC_FAILED_PRECONDITION);
	end();
}

TEST (no_more_than_so_many) {
	char eid[16];
	int i;

	running();
	for (i = 0; i < 128; i++) {
		snprintf(eid, sizeof(eid), "e%d", i);
		CHECK_INT(fx_exec(&fx, &c, eid, &a), 0);
	}
	CHECK_INT(fx_exec(&fx, &c, "more", &a), TTRPC_RESOURCE_EXHAUSTED);
	CHECK_INT(fx_delete_exec(&fx, &c, "e5", &a), 0);
	CHECK_INT(fx_exec(&fx, &c, "more", &a), 0);
	end();
}

TEST (pause_and_resume) {
	running();
	CHECK_INT(ask("Resume"), TTRPC_FAILED_PRECONDITION);
	CHECK_INT(ask("Pause"), 0);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__PAUSED);
	CHECK_INT(ask("Pause"), TTRPC_FAILED_PRECONDITION);
	CHECK_INT(fx_exec(&fx, &c, "e", &a), TTRPC_FAILED_PRECONDITION);
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), TTRPC_FAILED_PRECONDITION);
	CHECK_INT(ask("Resume"), 0);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	CHECK(fx_until(&fx, fx.topics, "/tasks/paused:" SANDBOX " /tasks/resumed:" SANDBOX, 2000));
	/* Silence: not paused, and said so in time. */
	fx_rule(&fx, "agentd.pause", ACT_FAIL, ETIMEDOUT, "it does not stop");
	CHECK_INT(ask("Pause"), TTRPC_DEADLINE_EXCEEDED);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	end();
}

TEST (memory_that_ran_out_is_told_before_the_exit) {
	Ipc__AgentdOom oom = IPC__AGENTD_OOM__INIT;
	struct error err = ERROR_INIT;

	running();
	oom.index = fx.last_index;
	CHECK_INT(channel_send(fx.fd[P_AGENTD], &ipc_frontend_agentd, IPC_EVENT, AGENTD_OOM, 0,
			  &oom.base, NULL, 0, 1000, &err), 0);
	fx_exited(&fx, fx.last_process, 137);
	CHECK(fx_until(&fx, fx.topics, "/tasks/oom:" SANDBOX " /tasks/exit:" SANDBOX, 3000));
	end();
}

/* 200,000 bytes in parts that fit the channel; more than the limit is not even sent. */
TEST (a_large_process_goes_in_parts) {
	Containerd__ExecProcessRequest r = CONTAINERD__EXEC_PROCESS_REQUEST__INIT;
	Containerd__Any spec = CONTAINERD__ANY__INIT;
	static uint8_t text[AGENTD_TEXT_MAX + 1];

	running();
	memset(text, ' ', sizeof(text));
	spec.value.data = text;
	spec.value.len = 200000;
	r.id = (char *)SANDBOX;
	r.exec_id = (char *)"e";
	r.spec = &spec;
	CHECK_INT(fx_call(&fx, &c, "Exec", &r.base, &a), 0);
	CHECK_INT((int)fx.text_len, 200000);
	spec.value.len = AGENTD_TEXT_MAX + 1;
	r.exec_id = (char *)"f";
	CHECK_INT(fx_call(&fx, &c, "Exec", &r.base, &a), TTRPC_INVALID_ARGUMENT);
	CHECK_INT((int)fx.text_len, 200000);
	r.spec = NULL;
	CHECK_INT(fx_call(&fx, &c, "Exec", &r.base, &a), TTRPC_INVALID_ARGUMENT);
	end();
}

TEST (stats_update_and_what_is_not_there) {
	Containerd__StatsResponse *s;
	Containerd__UpdateTaskRequest u = CONTAINERD__UPDATE_TASK_REQUEST__INIT;
	Containerd__Any resources = CONTAINERD__ANY__INIT;

	running();
	CHECK_INT(ask("Stats"), 0);
	s = containerd__stats_response__unpack(NULL, a.len, a.payload);
	CHECK(s && s->stats);
	CHECK_STR(s->stats->type_url, "io.containerd.cgroups.v2.Metrics");
	containerd__stats_response__free_unpacked(s, NULL);
	resources.value.data = (uint8_t *)(char[]){ "{}" };
	resources.value.len = 2;
	u.id = (char *)SANDBOX;
	u.resources = &resources;
	CHECK_INT(fx_call(&fx, &c, "Update", &u.base, &a), 0);
	fx_rule(&fx, "agentd.update", ACT_FAIL, EIO, "memory.max is 1, not 2");
	CHECK_INT(fx_call(&fx, &c, "Update", &u.base, &a), TTRPC_UNKNOWN);
	CHECK(strstr(a.message, "memory.max"));
	CHECK_INT(ask("Checkpoint"), TTRPC_UNIMPLEMENTED);
	fx_exited(&fx, fx.last_process, 0);
	CHECK(fx_until(&fx, fx.trace, "persistd.record", 2000));
	CHECK_INT(ask("Stats"), TTRPC_FAILED_PRECONDITION);
	CHECK_INT(fx_call(&fx, &c, "Update", &u.base, &a), TTRPC_FAILED_PRECONDITION);
	CHECK_INT(ask("Pause"), TTRPC_FAILED_PRECONDITION);
	end();
}
