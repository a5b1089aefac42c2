/* The real netd in a network namespace of the test's own. */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fds.h"
#include "ipc/netd.pb-c.h"
#include "ipc/tables.h"
#include "tests/proc/common_role.h"

static void own_netns(void)
{
	need_root();
	CHECK(unshare(CLONE_NEWNET) == 0);
}

static void ip(const char *args)
{
	char command[256];

	snprintf(command, sizeof(command), "ip %s", args);
	if (system(command) != 0)
		test_fail(__FILE__, __LINE__, "%s", command);
}

static struct started netd_up(void)
{
	return role_up("bulkhead-netd", NETD_FD_VOID, -1, -1);
}

static int scan(struct started *r, struct error *err)
{
	Ipc__NetdScan m = IPC__NETD_SCAN__INIT;

	return role_ask(r, &ipc_frontend_netd, NETD_SCAN, &m.base, err);
}

static int code(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(only_lo_is_answered_and_netd_is_done)
{
	struct error err;
	struct started r;

	own_netns();
	ip("link set lo up");
	r = netd_up();
	CHECK_INT(scan(&r, &err), 0);
	CHECK_INT(code(role_ends(&r, 5000)), 0);
	role_close(&r);
}

TEST(a_veth_is_an_error_that_names_it_and_netd_goes_on)
{
	struct error err;
	struct started r;

	own_netns();
	ip("link add eth0 type veth peer name peer0");
	r = netd_up();
	for (int i = 0; i < 3; i++) {
		CHECK_INT(scan(&r, &err), EOPNOTSUPP);
		CHECK_CONTAINS(err.msg, "eth0 (veth)");
		CHECK_CONTAINS(err.msg, "peer0 (veth)");
		CHECK_CONTAINS(err.msg, "run without CNI");
	}
	ip("link del eth0");
	CHECK_INT(scan(&r, &err), 0);
	CHECK_INT(code(role_ends(&r, 5000)), 0);
	role_close(&r);
}

static int add_tap(const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	CHECK(ioctl(fd, TUNSETIFF, &ifr) == 0);
	return fd;
}

TEST(the_name_decides_nothing_the_flag_does)
{
	struct error err;
	struct started r;
	int tap;

	own_netns();
	ip("link set lo name loop");
	tap = add_tap("lo");
	r = netd_up();
	CHECK_INT(scan(&r, &err), EOPNOTSUPP);
	CHECK_CONTAINS(err.msg, "the link lo (tun)");
	close(tap);
	if (scan(&r, &err) != 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	role_close(&r);
}

TEST(odd_bytes_of_a_name_do_not_reach_the_sentence)
{
	struct error err;
	struct started r;
	int tap;

	own_netns();
	tap = add_tap("e\x1b[1m\xff\x7f\xc2\x9b\\\"");
	r = netd_up();
	CHECK_INT(scan(&r, &err), EOPNOTSUPP);
	CHECK_CONTAINS(err.msg, "the link e?[1m????\\\" (tun): ");
	close(tap);
	role_close(&r);
}

#define MANY 1000

TEST(a_thousand_links_are_counted_the_first_named)
{
	struct error err;
	struct started r;
	char name[IFNAMSIZ];
	int tap;

	own_netns();
	for (int i = 0; i < MANY; i++) {
		snprintf(name, sizeof(name), "t%d", i);
		tap = add_tap(name);
		/* They go with the namespace, all at once: one by one takes 17 ms each. */
		CHECK(ioctl(tap, TUNSETPERSIST, 1) == 0);
		close(tap);
	}
	r = netd_up();
	CHECK_INT(scan(&r, &err), EOPNOTSUPP);
	CHECK_CONTAINS(err.msg, "the links t0 (tun), t1 (tun), ");
	CHECK_CONTAINS(err.msg, "t7 (tun) and 992 more: ");
	role_close(&r);
}

TEST(links_that_come_and_go_meanwhile)
{
	struct error err;
	struct started r;
	pid_t churn;
	int got;

	own_netns();
	for (int i = 0; i < 40; i++) {
		char args[64];

		snprintf(args, sizeof(args), "link add a%d type veth peer name b%d", i, i);
		ip(args);
	}
	r = netd_up();
	churn = fork();
	if (churn == 0)
		for (;;)
			close(add_tap("churn"));
	for (int i = 0; i < 50; i++) {
		got = scan(&r, &err);
		if (got != EAGAIN)
			CHECK_INT(got, EOPNOTSUPP);
		CHECK_CONTAINS(err.msg, got == EAGAIN ? "changed during" : " more: networks");
	}
	kill(churn, SIGKILL);
	waitpid(churn, NULL, 0);
	role_close(&r);
}

TEST(what_netd_holds)
{
	struct started r;

	own_netns();
	r = netd_up();
	check_shut_in(r.pid, TEST_UID, 0);
	CHECK(same_namespace(r.pid, getpid(), "net"));
	CHECK(!same_namespace(r.pid, getpid(), "mnt"));
	CHECK(!same_namespace(r.pid, getpid(), "ipc"));
	CHECK(!same_namespace(r.pid, getpid(), "uts"));
	role_close(&r);
}

TEST(the_frontend_goes_away)
{
	struct started r;

	own_netns();
	r = netd_up();
	fd_close(&r.channel);
	CHECK_INT(code(role_ends(&r, 5000)), 0);
	role_close(&r);
}

TEST(the_supervisor_goes_away_before_lock)
{
	struct started r;

	own_netns();
	r = role_start("bulkhead-netd", NETD_FD_VOID, -1, -1);
	fd_close(&r.ctl);
	CHECK_INT(code(role_ends(&r, 5000)), 70);
	role_close(&r);
}

TEST(no_answer_before_lock)
{
	Ipc__NetdScan m = IPC__NETD_SCAN__INIT;
	struct error err;
	struct started r;
	char c;

	own_netns();
	r = role_start("bulkhead-netd", NETD_FD_VOID, -1, -1);
	CHECK_INT(channel_send(r.channel, &ipc_frontend_netd, IPC_REQUEST, NETD_SCAN, 1, &m.base,
			  NULL, 0, 1000, &err), 0);
	usleep(200 * 1000);
	CHECK_INT(recv(r.channel, &c, 1, MSG_DONTWAIT), -1);
	role_lock(&r);
	CHECK_INT(code(role_ends(&r, 5000)), 0);
	role_close(&r);
}

TEST(a_start_without_its_fds_fails_with_a_sentence)
{
	struct started r;
	struct ctl_msg msg;

	own_netns();
	/* The void at the wrong number: where it belongs there is nothing. */
	r = role_start("bulkhead-netd", NETD_FD_VOID + 3, -1, -1);
	CHECK_INT(code(role_ends(&r, 5000)), 70);
	CHECK_INT(ctl_recv(r.ctl, MSG_DONTWAIT, &msg), 1);
	CHECK_INT(msg.type, CTL_FAILED);
	CHECK(msg.text[0] != '\0');
	role_close(&r);
}
