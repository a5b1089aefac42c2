/* The VM ends: by itself, with virtiofsd, by the guest; at every moment. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "common/clock.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/vmmd.pb-c.h"
#include "tests/flow/frontend_harness.h"

#define EXITED   IPC__VM_EVENT__KIND__EXITED
#define PANICKED IPC__VM_EVENT__KIND__GUEST_PANICKED
#define LOST     IPC__VM_EVENT__KIND__QMP_LOST
#define POWEROFF IPC__VM_EVENT__KIND__GUEST_SHUTDOWN

static struct fx fx;
static struct client c;
static struct answer a;

static void pod(void)
{
	memset(&fx, 0, sizeof(fx));
	fx.events = 0;
	fx_start(&fx, NULL);
	fx_client(&fx, &c);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
}

static void check_all_137(void)
{
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:s1", 3000));
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:c2", 3000));
	CHECK_INT(fx.recorded, 137);
	CHECK_INT(fx.n_records, 2);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__STOPPED);
	CHECK_INT(fx_state(&fx, &c, "c2"), CONTAINERD__STATUS__STOPPED);
	CHECK_INT(fx_kill(&fx, &c, "c2", SIGKILL, &a), TTRPC_NOT_FOUND);
	fx_create(&fx, &c, "c3", &a);
	CHECK_INT(a.code, TTRPC_UNAVAILABLE);
	CHECK_CONTAINS(a.message, "create c3: the VM is gone: ");
	CHECK_INT(fx_delete(&fx, &c, "c2", &a), 0);
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	fx_shutdown(&fx, &c);
	client_done(&c);
	fx_stop(&fx);
}

TEST (qemu_dies_vmmd_speaks_first) {
	pod();
	fx_vm_event(&fx, EXITED, 1, "out of luck");
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_QEMU, 1, "");
	check_all_137();
	CHECK_CONTAINS(fx.logs, "out of luck");
}

TEST (qemu_dies_the_supervisor_speaks_first) {
	pod();
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_QEMU, 139, "");
	fx_pump(&fx, 20, NULL);
	fx_vm_event(&fx, EXITED, 139, "segfault");
	check_all_137();
	CHECK_CONTAINS(fx.logs, "QEMU ended with status 139: segfault");
}

TEST (qemu_dies_and_vmmd_says_nothing) {
	pod();
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_QEMU, 139, "");
	check_all_137();
	CHECK_CONTAINS(fx.logs, "QEMU ended with status 139");
}

TEST (virtiofsd_dies) {
	pod();
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_VIRTIOFSD, 139, "");
	CHECK(fx_until(&fx, fx.trace, "ctl.kill_vm", 1000));
	check_all_137();
	CHECK_CONTAINS(fx.logs, "virtiofsd ended with status 139");
}

TEST (the_guest_panics) {
	pod();
	fx_vm_event(&fx, PANICKED, 0, "");
	CHECK(fx_until(&fx, fx.trace, "ctl.kill_vm", 1000));
	check_all_137();
}

TEST (qmp_is_lost) {
	pod();
	fx_vm_event(&fx, LOST, 0, "a line of 2 MiB");
	CHECK(fx_until(&fx, fx.trace, "ctl.kill_vm", 1000));
	check_all_137();
}

TEST (the_guest_powers_off) {
	pod();
	fx_vm_event(&fx, POWEROFF, 0, "");
	fx_pump(&fx, 50, NULL);
	fx_vm_event(&fx, EXITED, 0, "");
	check_all_137();
	CHECK_CONTAINS(fx.logs, "the guest has shut down");
}

TEST (the_guest_powers_off_and_qemu_stays) {
	pod();
	fx_vm_event(&fx, POWEROFF, 0, "");
	CHECK(fx_until(&fx, fx.trace, "ctl.kill_vm", 3000));
	check_all_137();
}

TEST (the_agent_is_lost) {
	Ipc__AgentdLost lost = IPC__AGENTD_LOST__INIT;
	struct error err;

	pod();
	lost.reason = (char *)"a frame of 5 MiB";
	CHECK(channel_send(fx.fd[P_AGENTD], &ipc_frontend_agentd, IPC_EVENT, AGENTD_LOST, 0,
		      &lost.base, NULL, 0, 1000, &err) == 0);
	CHECK(fx_until(&fx, fx.trace, "ctl.kill_vm", 1000));
	check_all_137();
	CHECK_CONTAINS(fx.logs, "the guest's agent is lost: a frame of 5 MiB");
}

TEST (the_pods_own_container_ends) {
	pod();
	fx_exited(&fx, 1, 3);
	CHECK(fx_until(&fx, fx.trace, "ctl.kill_vm", 1000));
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:s1", 1000));
	fx_vm_event(&fx, EXITED, 137, "");
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:c2", 3000));
	CHECK_INT(fx.recorded, 137);
	CHECK_INT(fx.n_records, 2);
	CHECK_INT(fx_delete(&fx, &c, "c2", &a), 0);
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	fx_shutdown(&fx, &c);
	client_done(&c);
	fx_stop(&fx);
}

/* With nothing else in it the VM is let alone, but nothing can come any more. */
TEST (nothing_comes_after_the_pods_own_container) {
	pod();
	CHECK_INT(fx_kill(&fx, &c, "c2", SIGKILL, &a), 0);
	fx_exited(&fx, 2, 137);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:c2", 1000));
	fx_exited(&fx, 1, 0);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:s1", 1000));
	fx_create(&fx, &c, "c3", &a);
	CHECK_INT(a.code, TTRPC_UNAVAILABLE);
	CHECK_CONTAINS(a.message, "create c3: the container that holds the pod, s1, has ended");
	CHECK(!fx.kill_vm);
	CHECK_INT(fx_delete(&fx, &c, "c2", &a), 0);
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	fx_shutdown(&fx, &c);
	client_done(&c);
	fx_stop(&fx);
}

/* One that has exited already keeps its status. */
TEST (an_exit_before_the_end_counts) {
	pod();
	fx_rule(&fx, "persistd.record", ACT_SILENT, 0, NULL);
	fx_exited(&fx, 1, 3);
	fx_pump(&fx, 50, NULL);
	fx_vm_event(&fx, EXITED, 1, "bad");
	fx_pump(&fx, 50, NULL);
	fx.n_rules = 0;
	fx_answer_held(&fx);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:c2", 3000));
	CHECK_INT(fx.n_records, 2);
	{
		Containerd__DeleteResponse *d;

		CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
		d = containerd__delete_response__unpack(NULL, a.len, a.payload);
		CHECK_INT(d->exit_status, 3);
		containerd__delete_response__free_unpacked(d, NULL);
	}
	client_done(&c);
	fx_stop(&fx);
}

/* QEMU dies while the first Create waits: its last words, not "timed out", and soon. */
static void dies_during(const char *what)
{
	Containerd__CreateTaskRequest r = CONTAINERD__CREATE_TASK_REQUEST__INIT;
	uint32_t stream;
	int64_t t;

	memset(&fx, 0, sizeof(fx));
	fx.events = 0;
	fx_rule(&fx, what, ACT_SILENT, 0, NULL);
	fx_start(&fx, (const char *const[]){ "vsock=1", NULL });
	fx_client(&fx, &c);
	r.id = (char *)SANDBOX;
	stream = fx_send(&c, "Create", &r.base);
	CHECK(fx_until(&fx, fx.trace, what, 2000));
	t = clock_ms();
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_QEMU, 1, "");
	fx_vm_event(&fx, EXITED, 1, "qemu: -cpu host: not available");
	/* vmmd itself says so at once. */
	if (strncmp(what, "vmmd.", 5) == 0) {
		fx_pump(&fx, 20, NULL);
		fx_answer_held(&fx);
	}
	CHECK(fx_answer(&fx, &c, stream, &a, 3000));
	CHECK(clock_ms() - t < 1000);
	CHECK(a.code != 0);
	CHECK_CONTAINS(a.message, "create s1: ");
	CHECK_CONTAINS(a.message, "qemu: -cpu host: not available");
	CHECK_CONTAINS(fx.trace, "mountd.remove_container");
	CHECK_INT(fx_state(&fx, &c, SANDBOX), -TTRPC_NOT_FOUND);
	fx_shutdown(&fx, &c);
	client_done(&c);
	fx_stop(&fx);
}

TEST (qemu_dies_during_create) {
	dies_during("vmmd.launch");
	dies_during("vmmd.cont");
	dies_during("vmmd.connect");
	dies_during("agentd.connect");
	dies_during("agentd.create_sandbox");
	dies_during("agentd.create_container");
}

/* agentd notices first; the reason comes while everything is undone. */
TEST (the_reason_comes_late) {
	memset(&fx, 0, sizeof(fx));
	fx.events = 0;
	fx_rule(&fx, "agentd.connect", ACT_FAIL, EPIPE, "the stream has ended");
	fx_rule(&fx, "vmmd.stop", ACT_SILENT, 0, NULL);
	fx_start(&fx, NULL);
	fx_client(&fx, &c);
	{
		Containerd__CreateTaskRequest r = CONTAINERD__CREATE_TASK_REQUEST__INIT;
		uint32_t stream;

		r.id = (char *)SANDBOX;
		stream = fx_send(&c, "Create", &r.base);
		CHECK(fx_until(&fx, fx.trace, "vmmd.stop", 2000));
		fx_vm_event(&fx, EXITED, 1, "no memory");
		fx_answer_held(&fx);
		CHECK(fx_answer(&fx, &c, stream, &a, 3000));
	}
	CHECK_CONTAINS(a.message, "the stream has ended (QEMU ended with status 1: no memory)");
	client_done(&c);
	fx_stop(&fx);
}

TEST (start_is_answered_when_the_vm_dies) {
	Containerd__StartRequest r = CONTAINERD__START_REQUEST__INIT;
	uint32_t stream;

	pod();
	fx_rule(&fx, "agentd.start", ACT_SILENT, 0, NULL);
	r.id = (char *)"c2";
	stream = fx_send(&c, "Start", &r.base);
	CHECK(fx_until(&fx, fx.trace, "agentd.start agentd.", 100) ||
		strstr(fx.trace, "agentd.start"));
	fx_pump(&fx, 50, NULL);
	fx_vm_event(&fx, EXITED, 1, "bye");
	CHECK(fx_answer(&fx, &c, stream, &a, 2000));
	CHECK_INT(a.code, TTRPC_UNAVAILABLE);
	CHECK_CONTAINS(a.message, "start c2: the VM is gone: QEMU ended with status 1: bye");
	check_all_137();
}

/* A large one takes its time to die: the sandbox goes on, and tells of the exits then. */
TEST (a_vm_that_dies_slowly) {
	pod();
	fx.no_kill = true;
	fx_vm_event(&fx, PANICKED, 0, "");
	fx_pump(&fx, 3500, NULL);
	CHECK(!strstr(fx.logs, "QEMU does not end"));
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_QEMU, 137, "");
	fx_vm_event(&fx, EXITED, 137, "");
	check_all_137();
}

/* The last rung: a VM that cannot be killed takes the sandbox with it. */
TEST (a_vm_that_does_not_die) {
	pod();
	fx.no_kill = true;
	fx_vm_event(&fx, PANICKED, 0, "");
	CHECK_INT(fx_wait_exit(&fx, 14000), 70);
	CHECK_CONTAINS(fx.logs, "QEMU does not end");
	client_done(&c);
	fx_stop(&fx);
}

TEST (virtiofsd_dies_before_the_vm) {
	memset(&fx, 0, sizeof(fx));
	fx.events = 0;
	fx_start(&fx, NULL);
	fx_client(&fx, &c);
	fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_VIRTIOFSD, 1, "cannot");
	fx_pump(&fx, 50, NULL);
	CHECK(fx_create(&fx, &c, SANDBOX, &a) != 0);
	CHECK_CONTAINS(a.message, "virtiofsd ended with status 1: cannot");
	fx_shutdown(&fx, &c);
	client_done(&c);
	fx_stop(&fx);
}
