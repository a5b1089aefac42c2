/* Update: a VM that grows first, by what, in which order; and what a step that fails leaves. */
#include <errno.h>

#include "ipc/vmmd.pb-c.h"
#include "tests/flow/frontend_harness.h"

#define MIB	(1LL << 20)
#define ASK	"agentd.text agentd.limits "
#define SET	"agentd.text agentd.update "
#define GROW	ASK "vmmd.add_memory vmmd.add_cpu agentd.online " SET

static struct fx fx;
static struct client c;
static struct answer a;

/* A VM of 2 CPUs and 256 MiB, of which 100 millicpus and 64 MiB are for itself. */
static const char *const options[] = { "max_vcpus=5", "max_memory_mib=1000",
	"overhead_millicpus=100", "overhead_memory_mib=64", NULL };

static void running(void)
{
	fx.events = 0;
	fx_start(&fx, options);
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

/* fx_send() packs at once: nothing of it is needed afterwards. */
static uint32_t send_update(const char *id, int64_t quota, int64_t period, int64_t memory)
{
	Containerd__UpdateTaskRequest r = CONTAINERD__UPDATE_TASK_REQUEST__INIT;
	Containerd__Any any = CONTAINERD__ANY__INIT;

	fx.limits[0] = quota;
	fx.limits[1] = period;
	fx.limits[2] = memory;
	any.value.data = (uint8_t *)(char[]){ "{}" };
	any.value.len = 2;
	r.id = (char *)id;
	r.resources = &any;
	return fx_send(&c, "Update", &r.base);
}

static int update(int64_t quota, int64_t period, int64_t memory)
{
	fx.trace[0] = '\0';
	CHECK(fx_answer(&fx, &c, send_update(SANDBOX, quota, period, memory), &a, 10000));
	return a.code;
}

TEST (a_vm_is_started_with_room_for_what_may_come) {
	running();
	CHECK_INT(fx.max_vcpus, 5);
	CHECK_INT(fx.max_memory_mib, 256 + 6 * 128); /* whole blocks */
	end();
	memset(&fx, 0, sizeof(fx));
	fx.events = 0;
	fx_start(&fx, NULL); /* no maximum: it does not grow */
	fx_client(&fx, &c);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx.max_vcpus, 0);
	CHECK_INT(fx.max_memory_mib, 0);
	end();
}

TEST (what_fits_makes_nothing_grow) {
	running();
	CHECK_INT(update(190000, 100000, 192 * MIB), 0);
	CHECK_STR(fx.trace, ASK SET);
	CHECK_INT(update(0, 0, 0), 0);
	CHECK_INT(update(-1, 0, -1), 0); /* no limit any more */
	CHECK_STR(fx.trace, ASK SET);
	end();
}

TEST (what_does_not_fit_comes_first) {
	running();
	CHECK_INT(update(250000, 100000, 200 * MIB), 0);
	CHECK_STR(fx.trace, GROW);
	CHECK_INT(fx.plugged_mib, 128);
	CHECK_INT(fx.online_vcpus, 3);
	CHECK_INT(fx.online_mib, 128);
	/* It is there: nothing is plugged twice, and nothing is taken away. */
	CHECK_INT(update(290000, 0, 320 * MIB), 0);
	CHECK_STR(fx.trace, ASK SET);
	CHECK_INT(update(100000, 0, 64 * MIB), 0);
	CHECK_STR(fx.trace, ASK SET);
	/* The rest, up to the maximum and not one byte more. */
	CHECK_INT(update(490000, 0, 936 * MIB), 0);
	CHECK_STR(fx.trace, ASK "vmmd.add_memory vmmd.add_cpu vmmd.add_cpu agentd.online " SET);
	CHECK_INT(fx.plugged_mib, 6 * 128);
	CHECK_INT(fx.plugged_cpus, 3);
	CHECK_INT(fx.online_mib, 6 * 128);
	CHECK_CONTAINS(fx.logs, "the VM has 5 CPUs and 1024 MiB now");
	end();
}

TEST (beyond_the_maximum_nothing_happens) {
	static const struct {
		int64_t quota, period, memory;
		const char *says;
	} cases[] = {
		{ 490001, 100000, 0, "with this limit the VM would need 6 CPUs: max_vcpus is 5" },
		{ 0, 0, 936 * MIB + 1, "would need 1001 MiB of memory: max_memory_mib is 1000" },
		{ INT64_MAX, 1, 0, "max_vcpus is 5" },
		{ INT64_MAX, INT64_MIN, 0, "max_vcpus is 5" },
		{ INT64_MAX, INT64_MAX, 0, "max_vcpus is 5" },
		{ 0, 0, INT64_MAX, "max_memory_mib is 1000" },
		{ 250000, 0, INT64_MAX, "max_memory_mib is 1000" },
	};

	running();
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CHECK_INT(update(cases[i].quota, cases[i].period, cases[i].memory),
			TTRPC_RESOURCE_EXHAUSTED);
		CHECK_CONTAINS(a.message, "update s1: size the VM: ");
		CHECK_CONTAINS(a.message, cases[i].says);
		CHECK_STR(fx.trace, ASK);
	}
	CHECK_INT(update(100000, 100000, MIB), 0);
	end();
}

TEST (the_others_count_while_they_live) {
	memset(&fx, 0, sizeof(fx));
	fx.created_with[0] = 100000;
	fx.created_with[2] = 100 * MIB;
	running();
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	CHECK_INT(fx_do_start(&fx, &c, "c2", &a), 0);
	/* 100 + 1000 + 1000 millicpus, 64 + 100 + 100 MiB. */
	CHECK_INT(update(100001, 0, 0), 0);
	CHECK_CONTAINS(fx.trace, "vmmd.add_cpu");
	CHECK(!strstr(fx.trace, "add_memory")); /* it is not raised: what there was is enough */
	CHECK_INT(update(0, 0, 101 * MIB), 0);
	CHECK_STR(fx.trace, ASK "vmmd.add_memory agentd.online " SET);
	fx_exited(&fx, fx.last_process, 0);
	CHECK(fx_until(&fx, fx.topics, "/tasks/exit:c2", 3000));
	/* Its share is free: 100 + 2900, 64 + 320. */
	CHECK_INT(update(290000, 0, 320 * MIB), 0);
	CHECK_STR(fx.trace, ASK SET);
	end();
}

TEST (a_step_that_fails_leaves_the_old_limits) {
	static const struct {
		const char *what, *step, *then;
	} cases[] = {
		{ "agentd.limits", "read the limits", GROW },
		{ "vmmd.add_memory", "plug memory in", GROW },
		/* What is plugged stays, and is not plugged again. */
		{ "vmmd.add_cpu", "plug CPUs in", ASK "vmmd.add_cpu agentd.online " SET },
		{ "agentd.online", "let the guest use them", ASK "agentd.online " SET },
		{ "agentd.update", "set the limits", ASK SET },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		memset(&fx, 0, sizeof(fx));
		running();
		fx_rule(&fx, cases[i].what, ACT_FAIL, EIO, "it does not want to");
		CHECK(update(250000, 100000, 200 * MIB) != 0);
		CHECK_CONTAINS(a.message, "update s1: ");
		CHECK_CONTAINS(a.message, cases[i].step);
		CHECK_CONTAINS(a.message, "it does not want to");
		CHECK_INT(strstr(fx.trace, "agentd.update") != NULL,
			strcmp(cases[i].what, "agentd.update") == 0);
		fx.n_rules = 0;
		CHECK_INT(update(250000, 100000, 200 * MIB), 0);
		CHECK_STR(fx.trace, cases[i].then);
		CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
		end();
	}
}

/* The limits of one that failed do not count for the others. */
TEST (a_failed_update_is_not_added_up) {
	running();
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	fx_rule(&fx, "agentd.update", ACT_FAIL, EIO, "no");
	CHECK(update(0, 0, 900 * MIB) != 0);
	fx.n_rules = 0;
	fx.trace[0] = '\0';
	CHECK(fx_answer(&fx, &c, send_update("c2", 0, 0, 900 * MIB), &a, 10000));
	CHECK_INT(a.code, 0);
	end();
}

TEST (one_after_another) {
	uint32_t stream[18];
	unsigned refused = 0;

	running();
	fx_rule(&fx, "agentd.limits", ACT_SILENT, 0, NULL);
	for (size_t i = 0; i < 18; i++)
		stream[i] = send_update(SANDBOX, 0, 0, 100 * MIB);
	CHECK(fx_answer(&fx, &c, stream[17], &a, 2000));
	CHECK_INT(a.code, TTRPC_RESOURCE_EXHAUSTED);
	CHECK_CONTAINS(a.message, "16 others are waiting");
	fx.n_rules = 0;
	fx_answer_held(&fx);
	for (size_t i = 0; i < 17; i++) {
		CHECK(fx_answer(&fx, &c, stream[i], &a, 5000));
		refused += a.code != 0;
	}
	CHECK_INT(refused, 0);
	end();
}

TEST (the_container_goes_while_it_waits) {
	uint32_t stream;

	running();
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	fx_rule(&fx, "agentd.limits", ACT_SILENT, 0, NULL);
	stream = send_update("c2", 250000, 100000, 300 * MIB);
	CHECK(fx_until(&fx, fx.trace, "agentd.limits", 2000));
	CHECK_INT(fx_delete(&fx, &c, "c2", &a), 0);
	fx.n_rules = 0;
	fx_answer_held(&fx);
	CHECK(fx_answer(&fx, &c, stream, &a, 5000));
	CHECK_INT(a.code, TTRPC_FAILED_PRECONDITION);
	CHECK_CONTAINS(a.message, "the container has been deleted");
	CHECK(!strstr(fx.trace, "vmmd.add_"));
	end();
}

TEST (the_vm_dies_on_the_way) {
	static const char *const at[] = { "vmmd.add_memory", "vmmd.add_cpu", "agentd.online",
		"agentd.update" };

	for (size_t i = 0; i < sizeof(at) / sizeof(at[0]); i++) {
		uint32_t stream;

		memset(&fx, 0, sizeof(fx));
		running();
		fx_rule(&fx, at[i], ACT_SILENT, 0, NULL);
		stream = send_update(SANDBOX, 250000, 100000, 200 * MIB);
		CHECK(fx_until(&fx, fx.trace, at[i], 2000));
		fx_ctl(&fx, CTL_CHILD_EXIT, ROLE_QEMU, 137, "");
		fx_vm_event(&fx, IPC__VM_EVENT__KIND__EXITED, 137, "");
		fx_pump(&fx, 50, NULL);
		fx.n_rules = 0;
		fx_answer_held(&fx);
		CHECK(fx_answer(&fx, &c, stream, &a, 5000));
		CHECK(a.code != 0);
		end();
	}
}
