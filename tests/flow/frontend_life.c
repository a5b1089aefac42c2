/* Start, State, Wait, Kill, Delete, Pids, Connect, Shutdown; exits and who hears of them when. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/flow/frontend_harness.h"

static struct fx fx;
static struct client c;
static struct answer a;

static void begin(void)
{
	fx.events = 0;
	fx_start(&fx, NULL);
	fx_client(&fx, &c);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
}

static void running(void)
{
	begin();
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
}

static void end(void)
{
	client_done(&c);
	fx_stop(&fx);
}

static void check_wait_answer(uint32_t status)
{
	Containerd__WaitResponse *w = containerd__wait_response__unpack(NULL, a.len, a.payload);

	CHECK_INT(a.code, 0);
	CHECK(w && w->exited_at);
	CHECK_INT(w->exit_status, status);
	CHECK_INT(w->exited_at->seconds, 1700000000);
	CHECK_INT(w->exited_at->nanos, 123456789);
	containerd__wait_response__free_unpacked(w, NULL);
}

TEST (a_whole_life) {
	Containerd__PidsRequest pids = CONTAINERD__PIDS_REQUEST__INIT;
	Containerd__ConnectRequest connect_request = CONTAINERD__CONNECT_REQUEST__INIT;
	Containerd__PidsResponse *p;
	Containerd__ConnectResponse *cr;
	Containerd__DeleteResponse *d;
	uint32_t wait;
	int fds;

	running();
	fds = fx_count_fds(&fx);
	pids.id = connect_request.id = (char *)SANDBOX;
	CHECK_INT(fx_call(&fx, &c, "Pids", &pids.base, &a), 0);
	p = containerd__pids_response__unpack(NULL, a.len, a.payload);
	CHECK_INT(p->n_processes, 1);
	CHECK_INT(p->processes[0]->pid, TASK_PID);
	containerd__pids_response__free_unpacked(p, NULL);
	CHECK_INT(fx_call(&fx, &c, "Connect", &connect_request.base, &a), 0);
	cr = containerd__connect_response__unpack(NULL, a.len, a.payload);
	CHECK_INT(cr->task_pid, TASK_PID);
	CHECK_INT(cr->shim_pid, TASK_PID);
	containerd__connect_response__free_unpacked(cr, NULL);
	wait = fx_send_wait(&c, SANDBOX, 0);
	CHECK(!fx_answer(&fx, &c, wait, &a, 50));
	fx_exited(&fx, fx.last_process, 7);
	CHECK(fx_answer(&fx, &c, wait, &a, 2000));
	check_wait_answer(7);
	CHECK_INT(fx.recorded, 7);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__STOPPED);
	CHECK_INT(fx_call(&fx, &c, "Pids", &pids.base, &a), 0);
	p = containerd__pids_response__unpack(NULL, a.len, a.payload);
	CHECK_INT(p->n_processes, 1);
	containerd__pids_response__free_unpacked(p, NULL);
	/* after the fact */
	wait = fx_send_wait(&c, SANDBOX, 0);
	CHECK(fx_answer(&fx, &c, wait, &a, 2000));
	check_wait_answer(7);
	CHECK_INT(fx_kill(&fx, &c, SANDBOX, SIGKILL, &a), TTRPC_NOT_FOUND);
	CHECK_CONTAINS(a.message, "process already finished");
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), TTRPC_FAILED_PRECONDITION);
	fx.trace[0] = '\0';
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	d = containerd__delete_response__unpack(NULL, a.len, a.payload);
	CHECK_INT(d->exit_status, 7);
	CHECK_INT(d->pid, TASK_PID);
	CHECK_INT(d->exited_at->seconds, 1700000000);
	containerd__delete_response__free_unpacked(d, NULL);
	CHECK_STR(fx.trace, "agentd.remove mountd.remove_container ");
	CHECK_INT(fx_state(&fx, &c, SANDBOX), -TTRPC_NOT_FOUND);
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), TTRPC_NOT_FOUND);
	CHECK_INT(fx_call(&fx, &c, "Connect", &connect_request.base, &a), TTRPC_NOT_FOUND);
	CHECK_INT(fx_count_fds(&fx), fds);
	CHECK(fx_until(&fx, fx.topics, "/tasks/delete", 1000));
	CHECK_STR(fx.topics, "/tasks/create:s1 /tasks/start:s1 /tasks/exit:s1 /tasks/delete:s1 ");
	fx.trace[0] = '\0';
	fx_shutdown(&fx, &c);
	CHECK_STR(fx.trace, "vmmd.stop ctl.stop ");
	end();
}

TEST (wrong_states) {
	running();
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), TTRPC_FAILED_PRECONDITION);
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), TTRPC_FAILED_PRECONDITION);
	CHECK_INT(fx_do_start(&fx, &c, "nobody", &a), TTRPC_NOT_FOUND);
	CHECK_INT(fx_kill(&fx, &c, "nobody", SIGKILL, &a), TTRPC_NOT_FOUND);
	CHECK_INT(fx_delete(&fx, &c, "nobody", &a), TTRPC_NOT_FOUND);
	CHECK_INT(fx_kill(&fx, &c, SANDBOX, 0, &a), TTRPC_INVALID_ARGUMENT);
	CHECK_INT(fx_kill(&fx, &c, SANDBOX, 65, &a), TTRPC_INVALID_ARGUMENT);
	CHECK_INT(fx_state(&fx, &c, "../s1"), -TTRPC_INVALID_ARGUMENT);
	end();
}

static int close_stdin(const char *id)
{
	Containerd__CloseIORequest r = CONTAINERD__CLOSE_IOREQUEST__INIT;

	r.id = (char *)id;
	r.stdin = 1;
	return fx_call(&fx, &c, "CloseIO", &r.base, &a);
}

TEST (close_io) {
	running();
	fx.trace[0] = '\0';
	/* It has no stdin. */
	CHECK_INT(close_stdin(SANDBOX), 0);
	CHECK_STR(fx.trace, "");
	CHECK_INT(close_stdin("c2"), TTRPC_NOT_FOUND);
	fx.stdin_path = "/run/fifo/in";
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	fx.trace[0] = '\0';
	CHECK_INT(close_stdin("c2"), 0);
	CHECK_INT(close_stdin("c2"), 0);
	CHECK_STR(fx.trace, "agentd.close_stdin agentd.close_stdin ");
	fx_rule(&fx, "agentd.close_stdin", ACT_FAIL, EIO, "no");
	CHECK_INT(close_stdin("c2"), TTRPC_UNKNOWN);
	end();
}

TEST (no_such_exec) {
	Containerd__StateRequest r = CONTAINERD__STATE_REQUEST__INIT;

	running();
	r.id = (char *)SANDBOX;
	r.exec_id = (char *)"e1";
	CHECK_INT(fx_call(&fx, &c, "State", &r.base, &a), TTRPC_NOT_FOUND);
	CHECK_INT(fx_call(&fx, &c, "Delete", &r.base, &a), TTRPC_NOT_FOUND);
	CHECK_INT(fx_call(&fx, &c, "CloseIO", &r.base, &a), TTRPC_NOT_FOUND);
	end();
}

TEST (an_exit_that_races_start_waits_for_its_answer) {
	Containerd__StartRequest r = CONTAINERD__START_REQUEST__INIT;
	uint32_t start, wait;

	begin();
	fx_rule(&fx, "agentd.start", ACT_SILENT, 0, NULL);
	r.id = (char *)SANDBOX;
	wait = fx_send_wait(&c, SANDBOX, 0);
	start = fx_send(&c, "Start", &r.base);
	CHECK(fx_until(&fx, fx.trace, "agentd.start", 2000));
	fx_exited(&fx, fx.last_process, 3);
	fx_pump(&fx, 100, NULL);
	CHECK_INT(fx.n_records, 0);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__CREATED);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), TTRPC_FAILED_PRECONDITION);
	fx_answer_held(&fx);
	CHECK(fx_answer(&fx, &c, start, &a, 2000));
	CHECK_INT(a.code, 0);
	CHECK(fx_answer(&fx, &c, wait, &a, 2000));
	check_wait_answer(3);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit", 1000));
	CHECK_STR(fx.topics, "/tasks/create:s1 /tasks/start:s1 /tasks/exit:s1 ");
	end();
}

TEST (start_fails_and_delete_still_works) {
	begin();
	fx_rule(&fx, "agentd.start", ACT_FAIL, ENOENT, "exec \"nope\": no such file");
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), TTRPC_UNKNOWN);
	CHECK_STR(a.message, "start s1: exec \"nope\": no such file");
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__CREATED);
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx.recorded, 137);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), -TTRPC_NOT_FOUND);
	CHECK(fx_until(&fx, fx.topics, "/tasks/delete", 1000));
	CHECK_STR(fx.topics, "/tasks/create:s1 /tasks/exit:s1 /tasks/delete:s1 ");
	end();
}

/* Told to nobody before it is recorded. */
TEST (an_exit_is_recorded_first) {
	uint32_t wait;

	running();
	fx_rule(&fx, "persistd.record", ACT_SILENT, 0, NULL);
	wait = fx_send_wait(&c, SANDBOX, 0);
	fx_exited(&fx, fx.last_process, 9);
	CHECK(!fx_answer(&fx, &c, wait, &a, 200));
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	CHECK(!strstr(fx.topics, "exit"));
	fx_answer_held(&fx);
	CHECK(fx_answer(&fx, &c, wait, &a, 1000));
	check_wait_answer(9);
	end();
}

/* A disk that fails must not keep the pod for ever. */
TEST (an_exit_that_cannot_be_recorded_is_told_all_the_same) {
	uint32_t wait;

	running();
	fx_rule(&fx, "persistd.record", ACT_SILENT, 0, NULL);
	wait = fx_send_wait(&c, SANDBOX, 0);
	fx_exited(&fx, fx.last_process, 9);
	CHECK(fx_answer(&fx, &c, wait, &a, 3000));
	check_wait_answer(9);
	CHECK_CONTAINS(fx.logs, "could not be recorded");
	end();
}

TEST (exits_are_told_once) {
	running();
	fx_exited(&fx, fx.last_process, 1);
	fx_exited(&fx, fx.last_process, 2);
	fx_exited(&fx, 999, 2);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit", 1000));
	fx_pump(&fx, 100, NULL);
	CHECK(!strstr(strstr(fx.topics, "/tasks/exit") + 1, "/tasks/exit"));
	CHECK_INT(fx.n_records, 1);
	CHECK_INT(fx.recorded, 1);
	end();
}

TEST (a_thousand_waiters) {
	static struct client w[10];
	uint32_t stream[10][100];
	long before, after;

	running();
	before = fx_rss_kib(&fx);
	for (int i = 0; i < 10; i++) {
		fx_client(&fx, &w[i]);
		for (int k = 0; k < 100; k++)
			stream[i][k] = fx_send_wait(&w[i], SANDBOX, 0);
	}
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	/* Half of the clients vanish. */
	for (int i = 0; i < 5; i++)
		client_done(&w[i]);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	fx_exited(&fx, fx.last_process, 5);
	for (int i = 5; i < 10; i++)
		for (int k = 0; k < 100; k++) {
			CHECK(fx_answer(&fx, &w[i], stream[i][k], &a, 2000));
			check_wait_answer(5);
		}
	after = fx_rss_kib(&fx);
#if !defined(__SANITIZE_ADDRESS__)
	CHECK(after < before + 2048);
#endif
	(void)before;
	(void)after;
	for (int i = 5; i < 10; i++)
		client_done(&w[i]);
	fx_pump(&fx, 50, NULL);
	end();
}

TEST (wait_honours_the_clients_deadline) {
	uint32_t wait;
	int64_t t = clock_ms();

	running();
	wait = fx_send_wait(&c, SANDBOX, 100000000);
	CHECK(fx_answer(&fx, &c, wait, &a, 2000));
	CHECK_INT(a.code, TTRPC_DEADLINE_EXCEEDED);
	CHECK(clock_ms() - t < 1500);
	fx_exited(&fx, fx.last_process, 0);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit", 1000));
	end();
}

/* ---- Kill ---- */

TEST (kill_is_a_question_to_agentd) {
	running();
	fx.trace[0] = '\0';
	CHECK_INT(fx_kill(&fx, &c, SANDBOX, SIGTERM, &a), 0);
	CHECK_STR(fx.trace, "agentd.signal ");
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	fx_rule(&fx, "agentd.signal", ACT_FAIL, ESRCH, "no such process");
	CHECK_INT(fx_kill(&fx, &c, SANDBOX, SIGTERM, &a), TTRPC_NOT_FOUND);
	CHECK_CONTAINS(a.message, "process already finished");
	end();
}

TEST (kill_all_goes_on_when_the_init_has_ended) {
	Containerd__KillRequest kill = CONTAINERD__KILL_REQUEST__INIT;

	kill.id = (char *)SANDBOX;
	kill.signal = SIGKILL;
	kill.all = true;
	running();
	fx_exited(&fx, fx.last_process, 0);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit", 1000));
	fx.trace[0] = '\0';
	CHECK_INT(fx_call(&fx, &c, "Kill", &kill.base, &a), 0);
	CHECK_STR(fx.trace, "agentd.signal ");
	fx_rule(&fx, "agentd.signal", ACT_FAIL, ESRCH, "no such process");
	CHECK_INT(fx_call(&fx, &c, "Kill", &kill.base, &a), 0);
	end();
}

TEST (kill_of_one_that_was_never_started_ends_it) {
	uint32_t wait;

	begin();
	wait = fx_send_wait(&c, SANDBOX, 0);
	CHECK_INT(fx_kill(&fx, &c, SANDBOX, SIGKILL, &a), 0);
	CHECK(fx_answer(&fx, &c, wait, &a, 2000));
	CHECK_INT(a.code, 0);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__STOPPED);
	CHECK_INT(fx.recorded, 137);
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	end();
}

/* Two containers; the app container is c2. */
static void pod(void)
{
	running();
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	CHECK_INT(fx_do_start(&fx, &c, "c2", &a), 0);
}

TEST (a_silent_guest_and_a_gentle_signal) {
	int64_t t;

	pod();
	fx_rule(&fx, "agentd.signal", ACT_SILENT, 0, NULL);
	t = clock_ms();
	CHECK_INT(fx_kill(&fx, &c, "c2", SIGTERM, &a), TTRPC_DEADLINE_EXCEEDED);
	CHECK(clock_ms() - t >= 2900 && clock_ms() - t < 3500);
	CHECK(!fx.kill_vm);
	CHECK_INT(fx_state(&fx, &c, "c2"), CONTAINERD__STATUS__RUNNING);
	end();
}

static void check_everything_ended(void)
{
	CHECK(fx.kill_vm);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:s1", 2000));
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:c2", 2000));
	CHECK_INT(fx_state(&fx, &c, "c2"), CONTAINERD__STATUS__STOPPED);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__STOPPED);
	CHECK_INT(fx.n_records, 2);
	CHECK_INT(fx.recorded, 137);
	CHECK_INT(fx_delete(&fx, &c, "c2", &a), 0);
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	fx_shutdown(&fx, &c);
}

TEST (a_silent_guest_and_sigkill) {
	int64_t t;

	pod();
	fx_rule(&fx, "agentd.signal", ACT_SILENT, 0, NULL);
	t = clock_ms();
	CHECK_INT(fx_kill(&fx, &c, "c2", SIGKILL, &a), 0);
	CHECK(clock_ms() - t >= 2900 && clock_ms() - t < 4000);
	check_everything_ended();
	end();
}

TEST (a_silent_guest_and_any_signal_to_the_sandbox) {
	pod();
	fx_rule(&fx, "agentd.signal", ACT_SILENT, 0, NULL);
	CHECK_INT(fx_kill(&fx, &c, SANDBOX, SIGTERM, &a), 0);
	check_everything_ended();
	end();
}

TEST (kill_has_no_queue_before_it) {
	Containerd__KillRequest r = CONTAINERD__KILL_REQUEST__INIT;
	uint32_t stream[1000];

	running();
	fx_rule(&fx, "agentd.signal", ACT_SILENT, 0, NULL);
	r.id = (char *)SANDBOX;
	r.signal = SIGTERM;
	for (int i = 0; i < 1000; i++)
		stream[i] = fx_send(&c, "Kill", &r.base);
	for (int i = 0; i < 400 && fx.n_held < 1000; i++)
		fx_pump(&fx, 5, NULL);
	CHECK_INT(fx.n_held, 1000);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	fx_answer_held(&fx);
	for (int i = 0; i < 1000; i++) {
		CHECK(fx_answer(&fx, &c, stream[i], &a, 2000));
		CHECK_INT(a.code, 0);
	}
	end();
}

/* ---- Delete ---- */

TEST (delete_does_not_wait_long_for_anybody) {
	int64_t t;

	running();
	fx_exited(&fx, fx.last_process, 4);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit", 1000));
	fx_rule(&fx, "agentd.remove", ACT_SILENT, 0, NULL);
	t = clock_ms();
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	CHECK(clock_ms() - t < 3000);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), -TTRPC_NOT_FOUND);
	/* The work goes on when the guest answers at last. */
	CHECK(!strstr(fx.trace, "mountd.remove_container"));
	fx_answer_held(&fx);
	CHECK(fx_until(&fx, fx.trace, "mountd.remove_container", 1000));
	fx_shutdown(&fx, &c);
	end();
}

TEST (delete_goes_on_after_an_error) {
	running();
	fx_exited(&fx, fx.last_process, 4);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit", 1000));
	fx_rule(&fx, "agentd.remove", ACT_FAIL, EIO, "the guest cannot");
	fx_rule(&fx, "mountd.remove_container", ACT_FAIL, EBUSY, "busy");
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	CHECK_CONTAINS(fx.trace, "agentd.remove mountd.remove_container ");
	CHECK_CONTAINS(fx.logs, "the guest cannot");
	end();
}

/* ---- Shutdown ---- */

TEST (shutdown_with_containers_is_ignored) {
	Containerd__ShutdownRequest r = CONTAINERD__SHUTDOWN_REQUEST__INIT;

	running();
	r.id = (char *)SANDBOX;
	CHECK_INT(fx_call(&fx, &c, "Shutdown", &r.base, &a), 0);
	fx_pump(&fx, 50, NULL);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	CHECK(!fx.stop);
	end();
}

TEST (shutdown_now) {
	Containerd__ShutdownRequest r = CONTAINERD__SHUTDOWN_REQUEST__INIT;
	int64_t t = clock_ms();

	pod();
	r.now = 1;
	CHECK_INT(fx_call(&fx, &c, "Shutdown", &r.base, &a), 0);
	CHECK_INT(fx_wait_exit(&fx, 4000), 0);
	CHECK(clock_ms() - t < 2500);
	CHECK(fx.stop);
	CHECK_INT(fx.n_records, 2);
	CHECK_CONTAINS(fx.topics, "/tasks/exit:s1");
	CHECK_CONTAINS(fx.topics, "/tasks/exit:c2");
	end();
}

/* containerd sends several for one pod. Each is answered, and the VM is stopped once. */
TEST (shutdowns_of_many_at_once) {
	Containerd__ShutdownRequest r = CONTAINERD__SHUTDOWN_REQUEST__INIT;
	static struct client w[8];
	uint32_t stream[8][4];

	pod();
	fx_rule(&fx, "vmmd.stop", ACT_SILENT, 0, NULL);
	r.now = 1;
	for (int i = 0; i < 8; i++) {
		fx_client(&fx, &w[i]);
		for (int k = 0; k < 4; k++)
			stream[i][k] = fx_send(&w[i], "Shutdown", &r.base);
	}
	for (int i = 0; i < 8; i++)
		for (int k = 0; k < 4; k++) {
			CHECK(fx_answer(&fx, &w[i], stream[i][k], &a, 2000));
			CHECK_INT(a.code, 0);
		}
	fx_answer_held(&fx);
	CHECK_INT(fx_wait_exit(&fx, 4000), 0);
	CHECK(fx.stop);
	CHECK(!strstr(strstr(fx.trace, "vmmd.stop ") + 1, "vmmd.stop "));
	for (int i = 0; i < 8; i++)
		client_done(&w[i]);
	end();
}

TEST (shutdown_keeps_its_budget_when_nobody_answers) {
	Containerd__ShutdownRequest r = CONTAINERD__SHUTDOWN_REQUEST__INIT;
	int64_t t;

	pod();
	fx_rule(&fx, "vmmd.stop", ACT_SILENT, 0, NULL);
	fx_rule(&fx, "persistd.record", ACT_SILENT, 0, NULL);
	fx.events_silent = true;
	fx_exited(&fx, 1, 0);
	r.now = 1;
	t = clock_ms();
	CHECK_INT(fx_call(&fx, &c, "Shutdown", &r.base, &a), 0);
	CHECK_INT(fx_call(&fx, &c, "Shutdown", &r.base, &a), 0);
	CHECK_INT(fx_wait_exit(&fx, 4000), 0);
	CHECK(clock_ms() - t < 2500);
	CHECK(fx.stop);
	end();
}

TEST (the_supervisor_goes) {
	running();
	close(fx.fd[P_CTL]);
	fx.fd[P_CTL] = -1;
	CHECK_INT(fx_wait_exit(&fx, 1000), 0);
	end();
}
