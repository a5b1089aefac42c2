/* The pod's links: found at Create, or not before Start; every step of theirs made to fail. */
#include <errno.h>
#include <unistd.h>

#include "tests/flow/frontend_harness.h"

static struct fx fx;
static struct client c;
static struct answer a;

static void begin(void)
{
	fx.events = 0; /* wanted */
	fx_start(&fx, NULL);
	fx_client(&fx, &c);
}

static void end(void)
{
	client_done(&c);
	fx_stop(&fx);
}

/* What netd finds goes to vmmd by netd itself, and to the guest before anything else. */
TEST (a_link_is_attached_and_the_guest_told) {
	fx_links = FX_LINK;
	begin();
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_STR(fx.trace,
		"netd.scan netd.part netd.attach netd.done mountd.add_container "
		"mountd.open_stdio mountd.start_share vmmd.launch vmmd.cont agentd.connect "
		"agentd.network agentd.create_sandbox agentd.create_container ");
	CHECK_CONTAINS(fx.logs, "network: eth0 (a plain device), MTU 1400");
	CHECK_INT(fx.ports, 0);
	close(fx.fd[P_NETD]);
	fx.fd[P_NETD] = -1;
	fx_pump(&fx, 50, NULL);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__CREATED);
	end();
}

TEST (a_step_of_the_network_fails) {
	static const char *const failing[][2] = {
		{ "netd.part", "attach the network" }, { "netd.attach", "attach the network" },
		{ "netd.done", "attach the network" },
		{ "agentd.network", "set up the network in the guest" },
	};

	fx_links = FX_LINK;
	for (size_t i = 0; i < sizeof(failing) / sizeof(failing[0]); i++) {
		memset(&fx, 0, sizeof(fx));
		fx_rule(&fx, failing[i][0], ACT_FAIL, EBUSY, "somebody is there");
		begin();
		CHECK(fx_create(&fx, &c, SANDBOX, &a) != 0);
		CHECK_CONTAINS(a.message, failing[i][1]);
		CHECK_CONTAINS(a.message, "somebody is there");
		CHECK(!strstr(fx.trace, "create_sandbox"));
		end();
	}
}

#define LATE "netd.scan netd.part netd.attach netd.done vmmd.add_nic agentd.network "

/* A sandbox whose pod has no link at Create. */
static void created(enum fx_links links)
{
	memset(&fx, 0, sizeof(fx));
	fx_links = links;
	begin();
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK(!strstr(fx.trace, "netd.done"));
	CHECK(!strstr(fx.logs, "no interface"));
	CHECK_INT(fx.ports, 4);
	fx.trace[0] = '\0';
}

static void netd_leaves(void)
{
	close(fx.fd[P_NETD]);
	fx.fd[P_NETD] = -1;
	fx_pump(&fx, 50, NULL);
	CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__RUNNING);
}

TEST (a_link_that_comes_before_start) {
	created(FX_LATER_LINK);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	CHECK_STR(fx.trace, LATE "agentd.start ");
	netd_leaves();
	end();
}

TEST (no_link_comes) {
	created(FX_LATER_NONE);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	CHECK_STR(fx.trace, "netd.scan netd.done agentd.start ");
	CHECK_CONTAINS(fx.logs, "has no interface besides lo");
	netd_leaves();
	end();
}

/* What comes after Start is not seen; another container of the pod asks nobody. */
TEST (links_are_looked_for_at_the_first_start_only) {
	created(FX_LATER_LINK);
	CHECK_INT(fx_create(&fx, &c, "c2", &a), 0);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	fx.trace[0] = '\0';
	CHECK_INT(fx_do_start(&fx, &c, "c2", &a), 0);
	CHECK_STR(fx.trace, "agentd.start ");
	end();
}

TEST (a_late_link_that_cannot_be_had_fails_start) {
	static const char *const failing[][2] = {
		{ "netd.part", "attach the network" },
		{ "netd.attach", "attach the network" },
		{ "netd.done", "attach the network" },
		{ "vmmd.add_nic", "plug the network in" },
		{ "agentd.network", "set up the network in the guest" },
	};

	for (size_t i = 0; i < sizeof(failing) / sizeof(failing[0]); i++) {
		created(FX_LATER_LINK);
		fx_rule(&fx, failing[i][0], ACT_FAIL, EBUSY, "somebody is there");
		/* A second Start is no way around it. */
		for (int k = 0; k < 2; k++) {
			CHECK(fx_do_start(&fx, &c, SANDBOX, &a) != 0);
			CHECK_CONTAINS(a.message, "start s1: ");
			CHECK_CONTAINS(a.message, failing[i][1]);
			CHECK_CONTAINS(a.message, "somebody is there");
			CHECK_INT(fx_state(&fx, &c, SANDBOX), CONTAINERD__STATUS__CREATED);
		}
		CHECK(!strstr(fx.trace, "agentd.start"));
		CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
		end();
	}
}

TEST (a_netd_that_waits_and_dies_ends_the_sandbox) {
	created(FX_LATER_LINK);
	close(fx.fd[P_NETD]);
	fx.fd[P_NETD] = -1;
	CHECK_INT(fx_wait_exit(&fx, 2000), 70);
	CHECK_CONTAINS(fx.logs, "netd is gone");
	end();
}
