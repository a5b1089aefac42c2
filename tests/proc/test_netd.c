/* The real netd in a network namespace of the test's own. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fds.h"
#include "tests/proc/netd_rig.h"

/* A link may come: netd waits for it until it is told that none will. */
TEST(only_lo_is_answered_and_netd_waits)
{
	Ipc__NetdDone done = IPC__NETD_DONE__INIT;
	struct error err;
	struct started r;

	own_netns();
	ip("link set lo up");
	for (int with_link = 0; with_link < 2; with_link++) {
		r = netd_up();
		CHECK_INT(netd_scan(&r, &err), 0);
		if (with_link)
			veth();
		CHECK_INT(netd_scan(&r, &err), 0);
		if (with_link)
			CHECK_INT(netd_attach(&r, 0, &err), 0);
		CHECK_INT(role_ask(&r, &ipc_frontend_netd, NETD_DONE, &done.base, &err), 0);
		CHECK_INT(exit_code(role_ends(&r, 5000)), 0);
		netd_close(&r);
	}
}

/* What SCAN has found stays what is meant by a number. */
TEST(a_scan_that_has_found_links_is_the_last)
{
	Ipc__NetdScan m = IPC__NETD_SCAN__INIT;
	struct error err;
	struct started r;

	own_netns();
	veth();
	r = netd_up();
	CHECK_INT(netd_scan(&r, &err), 0);
	CHECK_INT(channel_send(r.channel, &ipc_frontend_netd, IPC_REQUEST, NETD_SCAN, 9, &m.base, NULL,
			  0, 1000, &err), 0);
	CHECK_INT(exit_code(role_ends(&r, 5000)), 70);
	netd_close(&r);
}

TEST(a_bridge_is_an_error_that_names_it_and_netd_goes_on)
{
	struct error err;
	struct started r;

	own_netns();
	ip("link add br0 type bridge");
	ip("link add eth0 type veth peer name peer0");
	r = netd_up();
	for (int i = 0; i < 3; i++) {
		CHECK_INT(netd_scan(&r, &err), EOPNOTSUPP);
		CHECK_CONTAINS(err.msg, "br0 (bridge) cannot be given to a VM");
	}
	ip("link del br0");
	CHECK_INT(netd_scan(&r, &err), 0);
	netd_close(&r);
}

/* One message from netd: its fds, or none. */
static size_t take(struct ipc_packet *p)
{
	struct error err = ERROR_INIT;

	if (channel_recv(netd_vmmd, &ipc_netd_vmmd, MSG_DONTWAIT, p, &err) != 1)
		test_fail(__FILE__, __LINE__, "nothing from netd: %s", err.msg);
	return p->fds.n;
}

TEST(a_link_is_attached_and_netd_leaves)
{
	Ipc__NetdDone done = IPC__NETD_DONE__INIT;
	struct ipc_packet queue, end;
	char before[NETD_DUMP_MAX], after[NETD_DUMP_MAX];
	struct ifreq ifr = { 0 };
	struct error err;
	struct started r;

	own_netns();
	veth();
	netns_dump(before);
	r = netd_up();
	CHECK_INT(netd_scan(&r, &err), 0);
	if (netd_attach(&r, 0, &err) != 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	CHECK_INT(take(&queue), 1);
	CHECK_INT(queue.hdr.type, NETD_VMMD_QUEUE);
	CHECK_INT(take(&end), 0);
	CHECK_INT(end.hdr.type, NETD_VMMD_END);
	CHECK(ioctl(queue.fds.fd[0], TUNGETIFF, &ifr) == 0);
	CHECK_STR(ifr.ifr_name, "tap0_bk");
	CHECK(!(ifr.ifr_flags & IFF_PERSIST));
	CHECK(system("ip link show tap0_bk | grep -q 'UP.*mtu 1[45]00'") == 0);
	CHECK(system("! ip -6 addr show tap0_bk | grep -q inet6") == 0);

	/* A second time is refused, and so is a link that is not there. */
	CHECK_INT(netd_attach(&r, 0, &err), EALREADY);
	CHECK_INT(netd_attach(&r, 7, &err), EINVAL);
	CHECK_INT(role_ask(&r, &ipc_frontend_netd, NETD_DONE, &done.base, &err), 0);
	CHECK_INT(exit_code(role_ends(&r, 5000)), 0);
	role_close(&r);
	/* With the last fd the tap goes; the qdisc is delete's. */
	ipc_packet_done(&queue);
	fd_close(&netd_vmmd);
	CHECK_INT(if_nametoindex("tap0_bk"), 0);
	netns_dump(after);
	CHECK(strcmp(before, after) != 0);
	CHECK(system("tc qdisc del dev eth0 ingress || tc qdisc del dev peer0 ingress") == 0);
	netns_dump(after);
	CHECK_STR(after, before);
}

/* G8: only what it has scanned, by its own number. Each failure leaves all as it was. */
TEST(an_attach_that_fails_changes_nothing)
{
	static const struct {
		const char *before, *after, *why;
	} cases[] = {
		{ "tc qdisc add dev eth0 clsact; tc qdisc add dev peer0 clsact",
			"tc qdisc del dev eth0 clsact; tc qdisc del dev peer0 clsact",
			"has an ingress or clsact qdisc that is not ours" },
		{ "tc qdisc add dev eth0 ingress; tc qdisc add dev peer0 ingress",
			"tc qdisc del dev eth0 ingress; tc qdisc del dev peer0 ingress",
			"has an ingress or clsact qdisc that is not ours" },
		{ "ip link del eth0", "ip link add eth0 type veth peer name peer0", "No such device" },
	};
	char before[NETD_DUMP_MAX], after[NETD_DUMP_MAX];
	struct error err;
	struct started r;

	own_netns();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (i == 0)
			veth();
		r = netd_up();
		CHECK_INT(netd_scan(&r, &err), 0);
		CHECK(system(cases[i].before) == 0);
		netns_dump(before);
		CHECK(netd_attach(&r, 0, &err) != 0);
		CHECK_CONTAINS(err.msg, "attach the link ");
		CHECK_CONTAINS(err.msg, cases[i].why);
		netns_dump(after);
		CHECK_STR(after, before);
		CHECK(system(cases[i].after) == 0);
		netd_close(&r);
	}
}

TEST(a_namespace_has_one_vm)
{
	struct error err;
	struct started r;
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI, .ifr_name = "tap0_bk" };
	int tap;

	own_netns();
	veth();
	tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	CHECK(ioctl(tap, TUNSETIFF, &ifr) == 0);
	r = netd_up();
	CHECK_INT(netd_scan(&r, &err), EBUSY);
	CHECK_CONTAINS(err.msg, "belongs to a VM that has this network namespace already");
	close(tap);
	netd_close(&r);
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
	CHECK_INT(netd_scan(&r, &err), 0);
	CHECK_INT(netd_attach(&r, 0, &err), 0); /* it is a link like any other */
	close(tap);
	netd_close(&r);
}

TEST(odd_bytes_of_a_name_do_not_reach_the_sentence)
{
	struct error err;
	struct started r;
	int tap;

	own_netns();
	tap = add_tap("e\x1b[1m\xff\x7f\xc2\x9b\\\"");
	r = netd_up();
	CHECK_INT(netd_scan(&r, &err), EOPNOTSUPP);
	CHECK_CONTAINS(err.msg, "the link e?[1m????\\\" (tun) cannot be given to a VM: its name");
	close(tap);
	netd_close(&r);
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
	CHECK_INT(netd_scan(&r, &err), EOPNOTSUPP);
	CHECK_CONTAINS(err.msg, "the links t0 (tun), t1 (tun), ");
	CHECK_CONTAINS(err.msg, "t7 (tun) and 992 more are more than the 8");
	netd_close(&r);
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
		got = netd_scan(&r, &err);
		if (got != EAGAIN)
			CHECK_INT(got, EOPNOTSUPP);
		CHECK_CONTAINS(err.msg, got == EAGAIN ? "changed during" : " more are more than");
	}
	kill(churn, SIGKILL);
	waitpid(churn, NULL, 0);
	netd_close(&r);
}

TEST(what_netd_holds)
{
	struct started r;

	own_netns();
	r = netd_up();
	check_shut_in(r.pid, TEST_UID, 1ULL << CAP_NET_ADMIN);
	CHECK(same_namespace(r.pid, getpid(), "net"));
	CHECK(!same_namespace(r.pid, getpid(), "mnt"));
	CHECK(!same_namespace(r.pid, getpid(), "ipc"));
	CHECK(!same_namespace(r.pid, getpid(), "uts"));
	netd_close(&r);
}

TEST(the_frontend_goes_away)
{
	struct started r;

	own_netns();
	r = netd_up();
	fd_close(&r.channel);
	CHECK_INT(exit_code(role_ends(&r, 5000)), 0);
	netd_close(&r);
}

TEST(the_supervisor_goes_away_before_lock)
{
	struct started r;

	own_netns();
	r = role_start("bulkhead-netd", NETD_FD_VOID, NETD_FD_VMMD, 0);
	fd_close(&r.ctl);
	CHECK_INT(exit_code(role_ends(&r, 5000)), 70);
	role_close(&r);
}

TEST(no_answer_before_lock)
{
	Ipc__NetdScan m = IPC__NETD_SCAN__INIT;
	struct error err;
	struct started r;
	char c;

	own_netns();
	r = role_start("bulkhead-netd", NETD_FD_VOID, NETD_FD_VMMD, 0);
	CHECK_INT(channel_send(r.channel, &ipc_frontend_netd, IPC_REQUEST, NETD_SCAN, 1, &m.base,
			  NULL, 0, 1000, &err), 0);
	usleep(200 * 1000);
	CHECK_INT(recv(r.channel, &c, 1, MSG_DONTWAIT), -1);
	role_lock(&r);
	CHECK_INT(poll(&(struct pollfd){ .fd = r.channel, .events = POLLIN }, 1, 5000), 1);
	CHECK(recv(r.channel, &c, 1, MSG_DONTWAIT | MSG_TRUNC) > 1);
	role_close(&r);
}

TEST(a_start_without_its_fds_fails_with_a_sentence)
{
	struct started r;
	struct ctl_msg msg;

	own_netns();
	/* The void at the wrong number: where it belongs there is nothing. */
	r = role_start("bulkhead-netd", NETD_FD_VOID + 3, -1, -1);
	CHECK_INT(exit_code(role_ends(&r, 5000)), 70);
	CHECK_INT(ctl_recv(r.ctl, MSG_DONTWAIT, &msg), 1);
	CHECK_INT(msg.type, CTL_FAILED);
	CHECK(msg.text[0] != '\0');
	role_close(&r);
}
