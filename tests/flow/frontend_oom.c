/* Memory runs out, in the guest or on the host: each container's own word for it comes before its exit. */
#include <errno.h>
#include <signal.h>

#include "common/clock.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/vmmd.pb-c.h"
#include "tests/flow/frontend_harness.h"

#define EXITED IPC__VM_EVENT__KIND__EXITED

static struct fx fx;
static struct client c;
static struct answer a;

static void begin(void)
{
	memset(&fx, 0, sizeof(fx));
	fx_start(&fx, NULL);
	fx_client(&fx, &c);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
}

/* Two containers that run, and one that waits for its Start. */
static void pod(void)
{
	begin();
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	CHECK_INT(fx_do_start(&fx, &c, "c2", &a), 0);
	CHECK_INT(fx_create(&fx, &c, "c3", &a), 0);
}

/* As the supervisor says it, and vmmd after it. */
static void host_kills_qemu(void)
{
	fx_ctl(&fx, CTL_OOM, ROLE_QEMU, 137, "");
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_QEMU, 137, "");
	fx_vm_event(&fx, EXITED, 137, "");
}

static void guest_kills(uint32_t index)
{
	Ipc__AgentdOom oom = IPC__AGENTD_OOM__INIT;
	struct error err = ERROR_INIT;

	oom.index = index;
	CHECK_INT(channel_send(fx.fd[P_AGENTD], &ipc_frontend_agentd, IPC_EVENT, AGENTD_OOM, 0,
			  &oom.base, NULL, 0, 1000, &err), 0);
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (const char *at = text; (at = strstr(at, what)); at++)
		n++;
	return n;
}

/* `first` comes before `second`, each once. */
static void in_order(const char *first, const char *second)
{
	const char *at = strstr(fx.topics, first);

	CHECK_INT(count(fx.topics, first), 1);
	CHECK_INT(count(fx.topics, second), 1);
	if (!strstr(at, second))
		test_fail(__FILE__, __LINE__, "%s is not before %s: %s", first, second, fx.topics);
}

static void all_have_exited(int ms)
{
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:s1 ", ms));
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:c2 ", ms));
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:c3 ", ms));
	fx_pump(&fx, 100, NULL);
	CHECK_INT(fx.recorded, 137);
	CHECK_INT(fx.n_records, 3);
	CHECK_INT(count(fx.topics, "/tasks/exit:"), 3);
}

static void check_oom_of_two(void)
{
	in_order("/tasks/oom:s1 ", "/tasks/exit:s1 ");
	in_order("/tasks/oom:c2 ", "/tasks/exit:c2 ");
	CHECK_INT(count(fx.topics, "/tasks/oom:"), 2); /* the third did nothing yet */
}

static void end(void)
{
	static const char *const ids[] = { "c3", "c2", SANDBOX };

	for (size_t i = 0; i < 3; i++)
		if (fx_state(&fx, &c, ids[i]) == CONTAINERD__STATUS__STOPPED)
			CHECK_INT(fx_delete(&fx, &c, ids[i], &a), 0);
	fx_shutdown(&fx, &c);
	client_done(&c);
	fx_stop(&fx);
}

TEST (the_host_kills_qemu) {
	uint32_t wait;

	pod();
	wait = fx_send_wait(&c, "c2", 0);
	host_kills_qemu();
	all_have_exited(3000);
	check_oom_of_two();
	CHECK_INT(count(fx.trace, "mountd.mark_oom"), 2);
	CHECK(fx_answer(&fx, &c, wait, &a, 1000));
	CHECK_CONTAINS(fx.logs, "dead: the host's OOM killer ended QEMU");
	fx_create(&fx, &c, "c4", &a);
	CHECK_CONTAINS(a.message, "the VM is gone: the host's OOM killer ended QEMU");
	end();
}

/* What the supervisor has said is heard first, whoever is read first. */
TEST (vmmd_is_read_before_the_supervisor) {
	pod();
	CHECK_INT(kill(fx.pid, SIGSTOP), 0);
	fx_vm_event(&fx, EXITED, 137, "");
	fx_ctl(&fx, CTL_OOM, ROLE_QEMU, 137, "");
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_QEMU, 137, "");
	CHECK_INT(kill(fx.pid, SIGCONT), 0);
	all_have_exited(3000);
	check_oom_of_two();
	end();
}

/* The VM goes by our own hand then, for the same reason. */
TEST (the_host_kills_virtiofsd) {
	pod();
	fx_ctl(&fx, CTL_OOM, ROLE_VIRTIOFSD, 1, "");
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_VIRTIOFSD, 1, "");
	CHECK(fx_until(&fx, fx.trace, "ctl.kill_vm", 1000));
	all_have_exited(3000);
	check_oom_of_two();
	CHECK_CONTAINS(fx.logs, "dead: the host's OOM killer ended virtiofsd");
	end();
}

/* QMP is lost first, then the reason is known. */
TEST (qmp_is_lost_before_the_reason_is_known) {
	pod();
	fx.no_kill = true;
	fx_vm_event(&fx, IPC__VM_EVENT__KIND__QMP_LOST, 0, "QEMU closed QMP");
	CHECK(fx_until(&fx, fx.trace, "ctl.kill_vm", 1000));
	host_kills_qemu();
	all_have_exited(3000);
	check_oom_of_two();
	CHECK_CONTAINS(fx.logs, "dead: the host's OOM killer ended QEMU");
	end();
}

TEST (who_ended_otherwise_did_not_run_out_of_memory) {
	pod();
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_QEMU, 137, ""); /* SIGKILL, but nobody has counted it */
	fx_vm_event(&fx, EXITED, 137, "");
	all_have_exited(3000);
	CHECK_INT(count(fx.topics, "/tasks/oom:"), 0);
	CHECK_INT(count(fx.trace, "mountd.mark_oom"), 0);
	end();
}

TEST (a_vm_that_we_kill_did_not_run_out_of_memory) {
	pod();
	fx_rule(&fx, "agentd.signal", ACT_SILENT, 0, NULL);
	fx_send_wait(&c, SANDBOX, 0);
	CHECK_INT(fx_kill(&fx, &c, SANDBOX, SIGKILL, &a), 0);
	all_have_exited(5000);
	CHECK_INT(count(fx.topics, "/tasks/oom:"), 0);
	CHECK_INT(count(fx.trace, "mountd.mark_oom"), 0);
	end();
}

/* ---- the mark in the bundle ---- */

/* The guest's or the host's: the exit waits for the mark. */
static void exit_waits(void (*kill_it)(void))
{
	fx_rule(&fx, "mountd.mark_oom", ACT_SILENT, 0, NULL);
	kill_it();
	CHECK(fx_until(&fx, fx.topics, "/tasks/oom:s1 ", 2000));
	CHECK(fx_until(&fx, fx.trace, "persistd.record", 2000));
	fx_pump(&fx, 300, NULL);
	CHECK_INT(count(fx.topics, "/tasks/exit:"), 0);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
	fx.n_rules = 0;
	fx_answer_held(&fx);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:s1 ", 500));
	in_order("/tasks/oom:s1 ", "/tasks/exit:s1 ");
	end();
}

static void in_the_guest(void)
{
	guest_kills(fx.last_index);
	fx_exited(&fx, fx.last_process, 137);
}

TEST (an_exit_waits_for_the_mark_of_the_guests_oom) {
	begin();
	exit_waits(in_the_guest);
}

TEST (an_exit_waits_for_the_mark_of_the_hosts_oom) {
	begin();
	exit_waits(host_kills_qemu);
}

/* A second container's memory runs out twice: told twice, marked once; nobody else is marked. */
TEST (marked_once) {
	pod();
	guest_kills(2);
	guest_kills(2);
	fx_exited(&fx, 2, 137);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:c2 ", 3000));
	CHECK_INT(count(fx.topics, "/tasks/oom:c2 "), 2);
	CHECK_INT(count(fx.topics, "/tasks/oom:"), 2);
	CHECK_INT(count(fx.trace, "mountd.mark_oom"), 1);
	host_kills_qemu(); /* the others, later */
	all_have_exited(3000);
	CHECK_INT(count(fx.topics, "/tasks/oom:s1 "), 1);
	CHECK_INT(count(fx.topics, "/tasks/oom:c2 "), 2);
	CHECK_INT(count(fx.trace, "mountd.mark_oom"), 2);
	end();
}

TEST (a_mark_that_cannot_be_made_is_logged) {
	begin();
	fx_rule(&fx, "mountd.mark_oom", ACT_FAIL, EROFS, "make 'oom': read-only");
	in_the_guest();
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:s1 ", 1000));
	in_order("/tasks/oom:s1 ", "/tasks/exit:s1 ");
	CHECK_CONTAINS(fx.logs, "container s1: its bundle is not marked as out of memory: ");
	CHECK_CONTAINS(fx.logs, "make 'oom': read-only");
	end();
}

TEST (a_silent_mountd_keeps_no_exit) {
	int64_t begun;

	pod();
	fx_rule(&fx, "mountd.mark_oom", ACT_SILENT, 0, NULL);
	begun = clock_ms();
	host_kills_qemu();
	all_have_exited(3000);
	CHECK(clock_ms() - begun >= 900 && clock_ms() - begun < 3000);
	check_oom_of_two();
	CHECK_CONTAINS(fx.logs, "its bundle is not marked as out of memory: ");
	/* Nor anything else that is asked meanwhile. */
	CHECK_INT(fx_state(&fx, &c, "c2"), CONTAINERD__STATUS__STOPPED);
	fx.n_rules = 0;
	fx_answer_held(&fx);
	end();
}

/* Its Create, and so it, may be undone before mountd answers. */
TEST (a_container_that_goes_while_it_is_marked) {
	begin();
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	fx_rule(&fx, "mountd.mark_oom", ACT_SILENT, 0, NULL);
	guest_kills(fx.last_index);
	CHECK(fx_until(&fx, fx.trace, "mountd.mark_oom", 1000));
	fx_delete(&fx, &c, "c2", &a);
	fx.n_rules = 0;
	fx_answer_held(&fx);
	fx_exited(&fx, 1, 0);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:s1 ", 2000));
	end();
}
