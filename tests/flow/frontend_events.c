/* What containerd is told, in which order, and what becomes of it when containerd is away. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "tests/flow/frontend_harness.h"

static struct fx fx;
static struct client c;
static struct answer a;

static void begin(void)
{
	fx_start(&fx, NULL);
	fx_client(&fx, &c);
}

static void end(void)
{
	client_done(&c);
	fx_stop(&fx);
}

static void life(const char *id)
{
	CHECK_INT(fx_create(&fx, &c, id, &a), 0);
	CHECK_INT(fx_do_start(&fx, &c, id, &a), 0);
	fx_exited(&fx, fx.last_process, 0);
	while (fx_state(&fx, &c, id) != CONTAINERD__STATUS__STOPPED)
		fx_pump(&fx, 1, NULL);
	CHECK_INT(fx_delete(&fx, &c, id, &a), 0);
}

#define LIFE(id) "/tasks/create:" id " /tasks/start:" id " /tasks/exit:" id " /tasks/delete:" id " "

TEST (without_a_socket_nothing_is_sent) {
	fx.events = -1;
	begin();
	life(SANDBOX);
	CHECK_INT(fx.n_opens, 0);
	fx_shutdown(&fx, &c);
	end();
}

TEST (in_order) {
	begin();
	life(SANDBOX);
	life("c2");
	life("c3");
	CHECK(fx_until(&fx, fx.topics, "delete:c3", 2000));
	CHECK_STR(fx.topics, LIFE("s1") LIFE("c2") LIFE("c3"));
	CHECK_INT(fx.n_opens, 0);
	end();
}

/* The second is not sent before the first is acknowledged. */
TEST (one_at_a_time) {
	begin();
	fx.events_silent = true;
	life(SANDBOX);
	fx_pump(&fx, 100, NULL);
	CHECK_STR(fx.topics, "/tasks/create:s1 ");
	end();
}

/* containerd goes away before it acknowledges: that event comes again, and the rest. */
TEST (resent_after_a_restart) {
	begin();
	fx.events_silent = true;
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK(fx_until(&fx, fx.topics, "create:s1", 1000));
	fx.topics[0] = '\0';
	fd_close(&fx.events);
	fx.events_silent = false;
	fx.events_dead = true; /* and nobody listens */
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	CHECK(fx_until(&fx, fx.trace, "mountd.open_events mountd.open_events", 5000));
	CHECK_STR(fx.topics, "");
	fx.events_dead = false;
	CHECK(fx_until(&fx, fx.topics, "start:s1", 5000));
	CHECK_STR(fx.topics, "/tasks/create:s1 /tasks/start:s1 ");
	CHECK_INT(fx.n_opens, 1);
	end();
}

/* It was away for long, so the next try is far away: its Delete says that it is there again. */
TEST (delete_does_not_wait_for_the_next_try) {
	begin();
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	CHECK(fx_until(&fx, fx.topics, "start:s1", 1000));
	fd_close(&fx.events);
	fx.events_dead = true;
	fx.topics[0] = fx.trace[0] = '\0';
	fx_exited(&fx, fx.last_process, 0);
	/* After 0, 250, 750, 1750 and 3750 ms; the next is 4 s later. */
	CHECK(fx_until(&fx, fx.trace, "mountd.open_events mountd.open_events mountd.open_events "
		"mountd.open_events mountd.open_events", 10000));
	fx.events_dead = false;
	CHECK_INT(fx_delete(&fx, &c, SANDBOX, &a), 0);
	CHECK(fx_until(&fx, fx.topics, "delete:s1", 2000));
	CHECK_STR(fx.topics, "/tasks/exit:s1 /tasks/delete:s1 ");
	end();
}

/* With nothing to say there is nothing to do: no call, no timer, no wake-up. */
TEST (idle_without_containerd) {
	char path[64], line[256];
	long before = -1, after = -1;
	long *to[] = { &before, &after };

	begin();
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK(fx_until(&fx, fx.topics, "create:s1", 1000));
	fx_pump(&fx, 100, NULL);
	fd_close(&fx.events);
	fx_pump(&fx, 100, NULL);
	snprintf(path, sizeof(path), "/proc/%d/status", fx.pid);
	for (int i = 0; i < 2; i++) {
		FILE *f = fopen(path, "re");

		CHECK(f);
		while (fgets(line, sizeof(line), f))
			if (sscanf(line, "voluntary_ctxt_switches: %ld", to[i]) == 1)
				break;
		fclose(f);
		if (i == 0)
			fx_pump(&fx, 3000, NULL);
	}
	CHECK_INT(after, before);
	CHECK_INT(fx.n_opens, 0);
	/* Then the next one connects at once. */
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	CHECK(fx_until(&fx, fx.topics, "start:s1", 1000));
	CHECK_INT(fx.n_opens, 1);
	end();
}

TEST (a_connection_that_closes_at_once_is_no_storm) {
	int64_t t = clock_ms();

	begin();
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK(fx_until(&fx, fx.topics, "create:s1", 1000));
	fd_close(&fx.events);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	while (clock_ms() - t < 2000) {
		fx_pump(&fx, 1, NULL);
		fd_close(&fx.events);
	}
	CHECK(fx.n_opens < 8);
	end();
}

TEST (a_refused_event_does_not_block_the_others) {
	begin();
	fx.event_code = TTRPC_INVALID_ARGUMENT;
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK(fx_until(&fx, fx.topics, "create:s1 /tasks/create:s1 /tasks/create:s1", 5000));
	fx.event_code = 0;
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	CHECK(fx_until(&fx, fx.topics, "start:s1", 5000));
	CHECK_CONTAINS(fx.logs, "containerd refuses /tasks/create");
	end();
}

TEST (garbage_for_an_answer) {
	begin();
	fx.events_silent = true;
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK(fx_until(&fx, fx.topics, "create:s1", 1000));
	CHECK(send(fx.events, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 12, 0) == 12);
	fx.events_silent = false;
	CHECK(fx_until(&fx, fx.topics, "create:s1 /tasks/create:s1", 3000));
	end();
}

/* containerd does not read: 1,024 are kept, exits longest. */
TEST (the_queue_has_an_end) {
	begin();
	fx.events_silent = true;
	CHECK_INT(fx_create(&fx, &c, SANDBOX, &a), 0);
	CHECK_INT(fx_do_start(&fx, &c, SANDBOX, &a), 0);
	for (int i = 0; i < 300; i++) {
		char id[32];

		snprintf(id, sizeof(id), "c%d", i);
		life(id);
		fx.trace[0] = '\0';
	}
	CHECK_CONTAINS(fx.logs, "events wait for containerd");
	/* It comes back. */
	fx.events_silent = false;
	fx.topics[0] = '\0';
	fx.n_events = 0;
	fd_close(&fx.events);
	for (int i = 0; i < 500 && !strstr(fx.topics, "delete:c299"); i++)
		fx_pump(&fx, 10, NULL);
	CHECK_INT(fx.n_events, 1024);
	for (int i = 0; i < 300; i++) {
		char text[64];

		snprintf(text, sizeof(text), "/tasks/exit:c%d ", i);
		CHECK_CONTAINS(fx.topics, text);
	}
	end();
}

TEST (shutdown_waits_for_the_last_events) {
	Containerd__ShutdownRequest r = CONTAINERD__SHUTDOWN_REQUEST__INIT;

	begin();
	fx.events_silent = true;
	life(SANDBOX);
	CHECK_INT(fx_call(&fx, &c, "Shutdown", &r.base, &a), 0);
	fx_pump(&fx, 100, NULL);
	CHECK(!fx.stop);
	fx.events_silent = false;
	fx.topics[0] = '\0';
	fd_close(&fx.events);
	CHECK_INT(fx_wait_exit(&fx, 4000), 0);
	CHECK_STR(fx.topics, LIFE("s1"));
	end();
}
