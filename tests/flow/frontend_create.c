/* Create: the order, and every step made to fail, to stay silent, to die. */
#include <errno.h>
#include <unistd.h>

#include "tests/flow/frontend_harness.h"

static struct fx fx;
static struct client c;
static struct answer a;

#define FIRST                                                                              \
	"netd.scan mountd.add_container mountd.open_stdio mountd.start_share vmmd.launch " \
	"vmmd.cont agentd.connect agentd.create_sandbox agentd.create_container "

/* By vsock there is one step more. */
static const char *const vsock[] = { "vsock=1", NULL };
static const char *const quick[] = { "vsock=1", "call_timeout_ms=150", "hello_timeout_ms=100", NULL };

static void begin(const char *const *options)
{
	fx.events = 0; /* wanted */
	fx_start(&fx, options);
	fx_client(&fx, &c);
}

static void end(void)
{
	client_done(&c);
	fx_stop(&fx);
}

TEST (create_asks_everybody_in_order) {
	begin(NULL);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), -TTRPC_NOT_FOUND);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_STR(fx.trace, FIRST);
	CHECK_STR(fx.last_bundle, "");
	CHECK_INT(fx.last_index, 1);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__CREATED);
	CHECK(fx_until(&fx, fx.topics, "/tasks/create:s1 ", 1000));
	end();
}

TEST (by_vsock_vmmd_connects) {
	begin(vsock);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_STR(fx.trace,
		"netd.scan mountd.add_container mountd.open_stdio mountd.start_share vmmd.launch "
		"vmmd.cont vmmd.connect agentd.connect agentd.create_sandbox "
		"agentd.create_container ");
	end();
}

TEST (create_without_share_starts_no_file_server) {
	const char *const options[] = { "share=0", NULL };

	begin(options);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK(!strstr(fx.trace, "start_share"));
	end();
}

TEST (later_containers_find_the_vm) {
	begin(NULL);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	fx.trace[0] = '\0';
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	CHECK_STR(fx.trace,
		"persistd.forget mountd.add_container mountd.open_stdio "
		"agentd.create_container ");
	CHECK_STR(fx.last_bundle, "c2");
	CHECK_INT(fx.last_index, 2);
	CHECK_INT(fx_state(&fx, &c, "c2"), CONTAINERD__STATUS__CREATED);
	end();
}

TEST (the_sandbox_comes_first) {
	begin(NULL);
	CHECK_INT(fx_create(&fx, &c, "c2", &a), TTRPC_FAILED_PRECONDITION);
	CHECK_CONTAINS(a.message,
		"create c2: the container of the sandbox itself, s1, comes first");
	CHECK_STR(fx.trace, "");
	end();
}

TEST (create_twice) {
	begin(NULL);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), TTRPC_ALREADY_EXISTS);
	CHECK_STR(fx.trace, FIRST);
	end();
}

/* While the first Create is on its way. */
TEST (create_twice_at_once) {
	Containerd__CreateTaskRequest r = CONTAINERD__CREATE_TASK_REQUEST__INIT;
	uint32_t first, second;

	begin(NULL);
	fx_rule(&fx, "vmmd.launch", ACT_SILENT, 0, NULL);
	r.id = (char *)SANDBOX;
	r.bundle = (char *)BUNDLE;
	first = fx_send(&c, "Create", &r.base);
	CHECK(fx_until(&fx, fx.trace, "vmmd.launch", 2000));
	CHECK_INT(fx_state(&fx, &c, SANDBOX), -TTRPC_NOT_FOUND);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), TTRPC_ALREADY_EXISTS);
	r.id = (char *)"c2";
	r.bundle = (char *)"/";
	second = fx_send(&c, "Create", &r.base);
	fx_pump(&fx, 20, NULL);
	fx_answer_held(&fx);
	CHECK(fx_answer(&fx, &c, first, &a, 2000));
	CHECK_INT(a.code, 0);
	CHECK(fx_answer(&fx, &c, second, &a, 2000));
	CHECK_INT(a.code, TTRPC_INVALID_ARGUMENT); /* its bundle has no name */
	r.bundle = (char *)"/somewhere/c3/";
	r.id = (char *)"c3";
	CHECK_INT(fx_call(&fx, &c, "Create", &r.base, &a), 0);
	CHECK_STR(fx.last_bundle, "c3");
	end();
}

struct step {
	const char *what, *name, *undone;
};

/* What must follow the failure of each step, in this order. */
#define STOP_UNDO "vmmd.stop mountd.remove_container "
static const struct step steps[] = {
	{ "netd.scan", "scan the network", "" },
	{ "mountd.add_container", "mount its file systems", "" },
	{ "mountd.open_stdio", "open stdio", "mountd.remove_container " },
	{ "mountd.start_share", "start the file server", "mountd.remove_container " },
	{ "vmmd.launch", "start the VM", "ctl.kill_vm mountd.remove_container " },
	{ "vmmd.cont", "run the VM", STOP_UNDO },
	{ "vmmd.connect", "connect to the guest's agent", STOP_UNDO },
	{ "agentd.connect", "wait for the guest's agent", STOP_UNDO },
	{ "agentd.create_sandbox", "create the sandbox in the guest", STOP_UNDO },
	{ "agentd.create_container", "create the container in the guest", STOP_UNDO },
};

static void check_nothing_left(int fds_before, const char *sentence)
{
	char text[700];

	fx_pump(&fx, 20, NULL);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), -TTRPC_NOT_FOUND);
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), TTRPC_NOT_FOUND);
	/* netd may leave once it has answered; nothing else has changed. */
	CHECK_INT(fx_count_fds(&fx), fds_before);
	CHECK(!strstr(fx.topics, "/tasks"));
	fx_create(&fx, &c, SANDBOX, &a);
	CHECK(a.code != 0);
	snprintf(text, sizeof(text), "create s1: the sandbox has failed: %s", sentence);
	CHECK_CONTAINS(a.message, text);
	CHECK(!strstr(fx.logs, "<3>the sandbox is over"));
	fx_shutdown(&fx, &c);
	end();
}

static void step_fails(const struct step *s)
{
	char sentence[256], trace[1024];
	int fds;
	const char *after;

	memset(&fx, 0, sizeof(fx));
	fx_rule(&fx, s->what, ACT_FAIL, ENOENT, "no such thing");
	begin(vsock);
	fx_state(&fx, &c, SANDBOX);
	fds = fx_count_fds(&fx);
	/* A file that is missing is no missing container. */
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), TTRPC_UNKNOWN);
	snprintf(sentence, sizeof(sentence), "create s1: %s: no such thing", s->name);
	CHECK_STR(a.message, sentence);
	after = strstr(fx.trace, s->what) + strlen(s->what) + 1;
	snprintf(trace, sizeof(trace), "%s", after);
	CHECK_STR(trace, s->undone);
	check_nothing_left(fds, sentence);
}

TEST (each_step_fails) {
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		step_fails(&steps[i]);
}

static void step_is_silent(const struct step *s)
{
	char sentence[256];
	int fds;

	memset(&fx, 0, sizeof(fx));
	fx_rule(&fx, s->what, ACT_SILENT, 0, NULL);
	begin(quick);
	fx_state(&fx, &c, SANDBOX);
	fds = fx_count_fds(&fx);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), TTRPC_DEADLINE_EXCEEDED);
	snprintf(sentence, sizeof(sentence), "create s1: %s: ", s->name);
	CHECK_CONTAINS(a.message, sentence);
	CHECK_CONTAINS(a.message, "did not answer");
	/* The VM is gone in any case. */
	if (strstr(fx.trace, "vmmd.launch"))
		CHECK(strstr(fx.trace, "vmmd.stop") || fx.kill_vm);
	/* Its answer after all: dropped, whatever has become of the Create. */
	fx_answer_held(&fx);
	check_nothing_left(fds, sentence);
}

TEST (each_step_is_silent) {
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		step_is_silent(&steps[i]);
}

static void peer_goes(const struct step *s, enum action action, const char *cause)
{
	Containerd__CreateTaskRequest r = CONTAINERD__CREATE_TASK_REQUEST__INIT;
	char sentence[256];
	uint32_t stream;

	memset(&fx, 0, sizeof(fx));
	fx_rule(&fx, s->what, action, 0, NULL);
	begin(vsock);
	r.id = (char *)SANDBOX;
	stream = fx_send(&c, "Create", &r.base);
	CHECK(fx_answer(&fx, &c, stream, &a, 5000));
	CHECK_INT(a.code, TTRPC_UNAVAILABLE);
	snprintf(sentence, sizeof(sentence), "create s1: %s: ", s->name);
	CHECK_CONTAINS(a.message, sentence);
	CHECK_CONTAINS(a.message, cause);
	CHECK_INT(fx_wait_exit(&fx, 2000), 70);
	CHECK_CONTAINS(fx.logs, "the sandbox is over");
	end();
}

TEST (peer_dies_at_each_step) {
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		peer_goes(&steps[i], ACT_DIE, "is gone");
}

TEST (peer_breaks_the_protocol_at_each_step) {
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
		peer_goes(&steps[i], ACT_GARBAGE, "is lost: channel");
}

TEST (netd_may_leave_after_its_answer) {
	int fds;

	begin(NULL);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	fds = fx_count_fds(&fx);
	close(fx.fd[P_NETD]);
	fx.fd[P_NETD] = -1;
	fx_pump(&fx, 50, NULL);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__CREATED);
	CHECK(fx_count_fds(&fx) <= fds);
	end();
}

TEST (a_helper_that_goes_ends_the_sandbox) {
	static const enum peer_nr who[] = { P_MOUNTD, P_VMMD, P_AGENTD, P_PERSISTD, P_NETD };

	for (size_t i = 0; i < sizeof(who) / sizeof(who[0]); i++) {
		memset(&fx, 0, sizeof(fx));
		begin(NULL);
		fx_state(&fx, &c, SANDBOX);
		close(fx.fd[who[i]]);
		fx.fd[who[i]] = -1;
		CHECK_INT(fx_wait_exit(&fx, 2000), 70);
		CHECK_CONTAINS(fx.logs, "is gone");
		end();
	}
}

/* Undo of a later container: agentd and mountd forget it, the sandbox stays. */
TEST (later_step_fails) {
	static const struct {
		const char *what, *trace;
	} later[] = {
		{ "mountd.add_container", "persistd.forget mountd.add_container " },
		{ "mountd.open_stdio",
			"persistd.forget mountd.add_container mountd.open_stdio "
			"agentd.remove mountd.remove_container " },
		{ "agentd.create_container",
			"persistd.forget mountd.add_container mountd.open_stdio "
			"agentd.create_container agentd.remove mountd.remove_container " },
	};

	for (size_t i = 0; i < sizeof(later) / sizeof(later[0]); i++) {
		memset(&fx, 0, sizeof(fx));
		begin(NULL);
		CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
		fx.trace[0] = '\0';
		fx_rule(&fx, later[i].what, ACT_FAIL, EBUSY, "is in use");
		CHECK_INT(fx_create(&fx, &c, "c2", &a), TTRPC_FAILED_PRECONDITION);
		CHECK_CONTAINS(a.message, "is in use");
		CHECK_STR(fx.trace, later[i].trace);
		CHECK_INT(fx_state(&fx, &c, "c2"), -TTRPC_NOT_FOUND);
		fx.n_rules = 0;
		CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
		CHECK_INT(fx.last_index, 3); /* never used again */
		CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__CREATED);
		end();
	}
}

/* "Some role could not start": said by every Create, ended by Shutdown. */
TEST (a_role_that_failed_is_told_by_create) {
	fx.events = 0;
	fx_start_unlocked(&fx, NULL);
	fx_ctl(&fx, CTL_FAILED, ROLE_VMMD, 0, "isolation, stage filter: no");
	/* It has died, of course. */
	close(fx.fd[P_VMMD]);
	fx.fd[P_VMMD] = -1;
	fx_client(&fx, &c);
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), TTRPC_UNAVAILABLE);
	CHECK_STR(a.message, "create s1: vmmd: isolation, stage filter: no");
	CHECK_INT(fx_state(&fx, &c, SANDBOX), -TTRPC_NOT_FOUND);
	fx_shutdown(&fx, &c);
	end();
}

TEST (nobody_is_served_before_lock) {
	uint32_t stream;

	fx.events = -1;
	fx_start_unlocked(&fx, NULL);
	fx_client(&fx, &c); /* the backlog takes it */
	stream = fx_send_wait(&c, SANDBOX, 0);
	CHECK(!fx_answer(&fx, &c, stream, &a, 300));
	fx_ctl(&fx, CTL_LOCK, ROLE_FRONTEND, 0, NULL);
	CHECK(fx_answer(&fx, &c, stream, &a, 2000));
	CHECK_INT(a.code, TTRPC_NOT_FOUND);
	end();
}

TEST (bad_requests_change_nothing) {
	Containerd__CreateTaskRequest r = CONTAINERD__CREATE_TASK_REQUEST__INIT;
	Containerd__Mount mount = CONTAINERD__MOUNT__INIT, *mounts[100];
	static const char *const ids[] = { "", "-a", ".a", "a/b", "../s1", "a b", "\xc3\xa4",
		"a\xd9\xa3",
		"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx" };

	begin(NULL);
	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++)
		CHECK_INT(fx_create(&fx, &c, ids[i], &a), TTRPC_INVALID_ARGUMENT);
	r.id = (char *)SANDBOX;
	r.checkpoint = (char *)"/x";
	CHECK_INT(fx_call(&fx, &c, "Create", &r.base, &a), TTRPC_UNIMPLEMENTED);
	r.checkpoint = (char *)"";
	for (int i = 0; i < 100; i++)
		mounts[i] = &mount;
	r.rootfs = mounts;
	r.n_rootfs = 100;
	CHECK_INT(fx_call(&fx, &c, "Create", &r.base, &a), TTRPC_INVALID_ARGUMENT);
	CHECK_STR(fx.trace, "");
	/* More than a packet holds: said, undone. */
	{
		char *big = malloc(40000);

		memset(big, 'x', 39999);
		big[39999] = '\0';
		mount.source = big;
		r.n_rootfs = 1;
		CHECK_INT(fx_call(&fx, &c, "Create", &r.base, &a), TTRPC_RESOURCE_EXHAUSTED);
		CHECK_CONTAINS(a.message, "mount its file systems: add_container: 4");
		free(big);
	}
	end();
}

TEST (the_clients_deadline_counts) {
	Containerd__CreateTaskRequest r = CONTAINERD__CREATE_TASK_REQUEST__INIT;
	uint8_t buf[256];
	uint32_t stream;

	begin(NULL);
	fx_rule(&fx, "agentd.connect", ACT_SILENT, 0, NULL);
	r.id = (char *)SANDBOX;
	stream = fx_send_raw(&c, "containerd.task.v2.Task", "Create", buf,
		containerd__create_task_request__pack(&r, buf), 300000000);
	CHECK(fx_answer(&fx, &c, stream, &a, 3000));
	CHECK_INT(a.code, TTRPC_DEADLINE_EXCEEDED);
	CHECK_CONTAINS(fx.trace, "vmmd.stop mountd.remove_container ");
	end();
}
