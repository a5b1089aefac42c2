/* Disks in Create and Delete: plugged once, shared, taken away with the last; every step made to fail. */
#include <errno.h>

#include "tests/flow/frontend_harness.h"

static struct fx fx;
static struct client c;
static struct answer a;

static const char *const quick[] = { "call_timeout_ms=150", NULL };

/* The disks that the next ADD_CONTAINER answers with. */
static void answer_with(unsigned n, const uint32_t *disks)
{
	fx.n_disks = n;
	memcpy(fx.disks, disks, n * sizeof(*disks));
}

#define DISKS(...) answer_with(sizeof((uint32_t[]){ __VA_ARGS__ }) / 4, (uint32_t[]){ __VA_ARGS__ })
#define NO_DISKS() answer_with(0, NULL)

static void forget_traces(void)
{
	fx.trace[0] = fx.disk_trace[0] = '\0';
}

static void begin(const char *const *options)
{
	memset(&fx, 0, sizeof(fx));
	fx_start(&fx, options);
	fx_client(&fx, &c);
}

/* A pod with its first container, which has no disk. */
static void begin_pod(const char *const *options)
{
	begin(options);
	fx.pod = true;
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	forget_traces();
}

static void end(void)
{
	client_done(&c);
	fx_stop(&fx);
}

TEST (the_first_container_has_disks) {
	begin(NULL);
	DISKS(2, 3);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_STR(fx.trace,
		"netd.scan mountd.add_container mountd.open_stdio mountd.start_share vmmd.launch "
		"vmmd.cont agentd.connect mountd.add_block vmmd.add_block mountd.add_block "
		"vmmd.add_block agentd.create_sandbox agentd.create_container ");
	CHECK_STR(fx.disk_trace, "+2 +3ro ");
	CHECK_INT(fx.ports, 2); /* no others come */
	forget_traces();
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	CHECK_STR(fx.disk_trace, "-2 -3 !2 !3 ");
	/* The guest has unmounted them before, and mountd forgets them behind. */
	CHECK_CONTAINS(fx.trace, "agentd.remove vmmd.remove vmmd.remove mountd.remove_container ");
	end();
}

TEST (ports_for_what_may_come) {
	begin(NULL);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx.ports, 0);
	end();
	begin(NULL);
	fx.pod = true;
	DISKS(2);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx.ports, 9);
	end();
}

TEST (a_disk_is_plugged_once_and_goes_with_its_last_user) {
	begin_pod(NULL);
	DISKS(2);
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	CHECK_STR(fx.trace,
		"persistd.forget mountd.add_container mountd.add_block vmmd.add_block "
		"mountd.open_stdio agentd.create_container ");
	DISKS(2, 3);
	CHECK_INT(fx_create(&fx, &c, "c3", &a), 0);
	CHECK_STR(fx.disk_trace, "+2 +3ro ");
	forget_traces();
	CHECK_INT(fx_delete(&fx, &c, "c2", &a), 0);
	CHECK_STR(fx.disk_trace, "");
	CHECK_INT(fx_delete(&fx, &c, "c3", &a), 0);
	CHECK_STR(fx.disk_trace, "-2 -3 !2 !3 ");
	end();
}

/* Undo of a later container: what was plugged for it goes, and what others have stays. */
TEST (each_step_of_a_container_with_disks_fails) {
	static const struct {
		const char *what, *name, *after, *disks;
		int skip;
	} steps[] = {
		{ "mountd.add_container", "mount its file systems", "", "", 0 },
		{ "mountd.add_block", "give the VM its disks", "mountd.remove_container ", "!3 !5 ", 0 },
		{ "vmmd.add_block", "give the VM its disks", "mountd.remove_container ", "+3ro !3 !5 ", 0 },
		{ "mountd.add_block", "give the VM its disks", "vmmd.remove mountd.remove_container ", "+3ro -3 !3 !5 ", 1 },
		{ "vmmd.add_block", "give the VM its disks", "vmmd.remove mountd.remove_container ", "+3ro +5ro -3 !3 !5 ", 1 },
		{ "mountd.open_stdio", "open stdio",
			"agentd.remove vmmd.remove vmmd.remove mountd.remove_container ", "+3ro +5ro -3 -5 !3 !5 ", 0 },
		{ "agentd.create_container", "create the container in the guest",
			"agentd.remove vmmd.remove vmmd.remove mountd.remove_container ", "+3ro +5ro -3 -5 !3 !5 ", 0 },
	};

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		char sentence[128];
		const char *after;

		begin_pod(NULL);
		DISKS(2);
		CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
		forget_traces();
		DISKS(2, 3, 5);
		fx_rule(&fx, steps[i].what, ACT_FAIL, EIO, "does not work");
		fx.rules[0].skip = steps[i].skip;
		CHECK(fx_create(&fx, &c, "c3", &a) != 0);
		snprintf(sentence, sizeof(sentence), "create c3: %s: does not work", steps[i].name);
		CHECK_STR(a.message, sentence);
		after = strstr(fx.trace, steps[i].what);
		for (int k = 0; k < steps[i].skip; k++)
			after = strstr(after + 1, steps[i].what);
		after += strlen(steps[i].what) + 1;
		CHECK_STR(after, steps[i].after);
		CHECK_STR(fx.disk_trace, steps[i].disks);
		/* and again, with what mountd has for them now */
		fx.n_rules = 0;
		forget_traces();
		DISKS(2, 7);
		CHECK_INT(fx_create(&fx, &c, "c3", &a), 0);
		CHECK_STR(fx.disk_trace, "+7ro ");
		end();
	}
}

TEST (the_first_container_fails_with_its_disks) {
	static const char *const steps[] = { "mountd.open_stdio", "vmmd.launch", "agentd.connect", "mountd.add_block",
		"vmmd.add_block", "agentd.create_container" };

	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		begin(NULL);
		DISKS(2);
		fx_rule(&fx, steps[i], ACT_FAIL, EIO, "does not work");
		CHECK(fx_create(&fx, &c, SANDBOX, &a) != 0);
		CHECK_CONTAINS(a.message, "does not work");
		/* They have gone with the VM. */
		CHECK_CONTAINS(fx.disk_trace, "!2 ");
		CHECK(!strstr(fx.disk_trace, "-2"));
		fx_shutdown(&fx, &c);
		end();
	}
}

/* It may have got it all the same: so it is to be taken away, and as long as it is not mountd goes on to know it. */
TEST (vmmd_is_silent_about_a_disk) {
	begin_pod(quick);
	DISKS(2);
	fx_rule(&fx, "vmmd.add_block", ACT_SILENT, 0, NULL);
	CHECK_INT(fx_create(&fx, &c, "c2", &a), TTRPC_DEADLINE_EXCEEDED);
	CHECK_CONTAINS(a.message, "create c2: give the VM its disks: ");
	CHECK_STR(fx.disk_trace, "+2 ");
	CHECK_CONTAINS(fx.logs, "disk 2 stays in the VM: ");
	fx_answer_held(&fx);
	fx_pump(&fx, 50, NULL);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__CREATED);
	end();
}

TEST (a_disk_that_the_guest_keeps) {
	begin_pod(NULL);
	DISKS(2);
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	forget_traces();
	fx_rule(&fx, "vmmd.remove", ACT_FAIL, EBUSY, "the guest refuses to let go of it");
	CHECK_INT(fx_delete(&fx, &c, "c2", &a), 0);
	CHECK_STR(fx.disk_trace, "-2 "); /* mountd goes on to know it */
	CHECK_CONTAINS(fx.logs, "disk 2 stays in the VM: the guest refuses to let go of it");
	/* Who names it again finds it there. */
	fx.n_rules = 0;
	forget_traces();
	CHECK_INT(fx_create(&fx, &c, "c3", &a), 0);
	CHECK_STR(fx.disk_trace, "");
	CHECK_INT(fx_delete(&fx, &c, "c3", &a), 0);
	CHECK_STR(fx.disk_trace, "-2 !2 ");
	end();
}

TEST (a_disk_that_has_gone_by_itself_is_gone) {
	begin_pod(NULL);
	DISKS(2);
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	forget_traces();
	fx_rule(&fx, "vmmd.remove", ACT_FAIL, ENOENT, "there is no disk 2");
	CHECK_INT(fx_delete(&fx, &c, "c2", &a), 0);
	CHECK_STR(fx.disk_trace, "-2 !2 ");
	end();
}

static uint32_t send_create(const char *id)
{
	Containerd__CreateTaskRequest r = CONTAINERD__CREATE_TASK_REQUEST__INIT;
	char bundle[64];

	snprintf(bundle, sizeof(bundle), "/somewhere/%s", id);
	r.id = (char *)id;
	r.bundle = bundle;
	return fx_send(&c, "Create", &r.base);
}

/* What mountd knows of a disk that leaves must not be asked: the answer would be about one that has gone. */
TEST (create_waits_for_a_disk_that_leaves) {
	uint32_t delete, create;

	begin_pod(NULL);
	DISKS(2);
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	forget_traces();
	fx_rule(&fx, "vmmd.remove", ACT_SILENT, 0, NULL);
	delete = fx_send_id(&c, "Delete", "c2");
	CHECK(fx_until(&fx, fx.trace, "vmmd.remove", 2000));
	DISKS(4);
	create = send_create("c3");
	fx_pump(&fx, 100, NULL);
	CHECK(!strstr(fx.trace, "add_container"));
	fx_answer_held(&fx);
	CHECK(fx_answer(&fx, &c, delete, &a, 2000));
	CHECK_INT(a.code, 0);
	CHECK(fx_answer(&fx, &c, create, &a, 2000));
	CHECK_INT(a.code, 0);
	CHECK_STR(fx.disk_trace, "-2 !2 +4 ");
	CHECK(strstr(fx.trace, "mountd.remove_container") < strstr(fx.trace, "mountd.add_container"));
	end();
}

/* And the other way round: the answer may be about the disk. */
TEST (delete_waits_for_mountds_answer) {
	uint32_t delete, create;

	begin_pod(NULL);
	DISKS(2);
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	forget_traces();
	fx_rule(&fx, "mountd.add_container", ACT_SILENT, 0, NULL);
	create = send_create("c3");
	CHECK(fx_until(&fx, fx.trace, "add_container", 2000));
	delete = fx_send_id(&c, "Delete", "c2");
	fx_pump(&fx, 100, NULL);
	CHECK_STR(fx.disk_trace, "");
	fx_answer_held(&fx);
	CHECK(fx_answer(&fx, &c, create, &a, 2000));
	CHECK_INT(a.code, 0);
	CHECK(fx_answer(&fx, &c, delete, &a, 4000));
	/* c3 has it now: it was never away. */
	CHECK_STR(fx.disk_trace, "");
	end();
}

/* The same when there is no answer but an error. */
TEST (delete_waits_for_mountds_refusal) {
	uint32_t delete, create;

	begin_pod(quick);
	DISKS(2);
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	forget_traces();
	fx_rule(&fx, "mountd.add_container", ACT_SILENT, 0, NULL);
	create = send_create("c3");
	CHECK(fx_until(&fx, fx.trace, "add_container", 2000));
	delete = fx_send_id(&c, "Delete", "c2");
	CHECK(fx_answer(&fx, &c, create, &a, 2000));
	CHECK_INT(a.code, TTRPC_DEADLINE_EXCEEDED);
	fx_answer_held(&fx);
	CHECK(fx_answer(&fx, &c, delete, &a, 4000));
	CHECK_INT(a.code, 0);
	CHECK(fx_until(&fx, fx.disk_trace, "-2 !2 ", 2000));
	end();
}

TEST (a_mountd_with_disks_that_cannot_be_is_lost) {
	static const uint32_t many[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17 };

	for (int i = 0; i < 2; i++) {
		uint32_t create;

		begin(NULL);
		if (i)
			answer_with(17, many);
		else
			DISKS(0);
		create = send_create(SANDBOX);
		CHECK(fx_answer(&fx, &c, create, &a, 2000));
		CHECK_CONTAINS(a.message, "mountd is lost: add_container: a disk that there cannot be");
		CHECK_INT(fx_wait_exit(&fx, 2000), 70);
		end();
	}
}
