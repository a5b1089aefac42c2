/* Model macvtap: whose device it is, what netd still may, what is left. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/proc/netd_fault.h"

static void need_macvtap(void)
{
	role_options[0] = "model=macvtap";
	own_netns();
	if (system("ip link add m0 type veth peer name m1 && "
		   "ip link add link m0 name m2 type macvtap mode passthru") != 0)
		test_skip("no macvtap");
	ip("link del m0");
}

static int this_netns(void)
{
	return open("/proc/self/ns/net", O_RDONLY); /* `ip` is to have it too */
}

/* A namespace of its own, in which eth0 leads to `peer` of the host's. */
static int pod(int host, const char *peer)
{
	char args[128];
	int fd;

	CHECK(unshare(CLONE_NEWNET) == 0);
	fd = this_netns();
	snprintf(args, sizeof(args),
		"link add eth0 mtu 1400 type veth peer name %s netns /proc/self/fd/%d", peer, host);
	ip(args);
	ip("link set eth0 addrgenmode none up");
	ip("addr add 10.0.0.2/24 dev eth0");
	CHECK(setns(host, CLONE_NEWNET) == 0);
	snprintf(args, sizeof(args), "link set %s addrgenmode none up", peer);
	ip(args);
	CHECK(setns(fd, CLONE_NEWNET) == 0);
	return fd;
}

/* Attached in the namespace that this process is in: its one queue. netd has left. */
static int attached(void)
{
	Ipc__NetdDone done = IPC__NETD_DONE__INIT;
	struct ipc_packet queue = { .fds = FDLIST_INIT };
	struct error err = ERROR_INIT;
	struct started r = netd_up();
	struct ifreq is = { 0 };
	int fd;

	CHECK_INT(netd_scan(&r, &err), 0);
	if (netd_attach(&r, 0, &err) != 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	CHECK_INT(netd_attach(&r, 1, &err), EINVAL); /* the macvtap is no link of the pod's */
	CHECK_INT(channel_recv(netd_vmmd, &ipc_netd_vmmd, MSG_DONTWAIT, &queue, &err), 1);
	CHECK_INT(role_ask(&r, &ipc_frontend_netd, NETD_DONE, &done.base, &err), 0);
	CHECK_INT(exit_code(role_ends(&r, 5000)), 0);
	fd = fdlist_steal(&queue.fds, 0);
	CHECK(ioctl(fd, TUNGETIFF, &is) == 0);
	CHECK_STR(is.ifr_name, "tap0_bk");
	ipc_packet_done(&queue);
	netd_close(&r);
	return fd;
}

/* Their ifindexes are the same: a node that is named by it would be one pod's for both. */
TEST(two_pods_reach_each_its_own_peer)
{
	int host, netns[2], tap[2], peer[2];
	unsigned ifindex[2];

	need_macvtap();
	host = this_netns();
	for (int i = 0; i < 2; i++) {
		netns[i] = pod(host, i == 0 ? "h0" : "h1");
		tap[i] = attached();
		ifindex[i] = if_nametoindex("tap0_bk");
	}
	CHECK(ifindex[0] != 0);
	CHECK_INT(ifindex[0], ifindex[1]);
	CHECK(setns(host, CLONE_NEWNET) == 0);
	for (int i = 0; i < 2; i++)
		peer[i] = packet_socket(i == 0 ? "h0" : "h1");
	for (int i = 0; i < 2; i++) {
		frame_to_tap(tap[i], (unsigned char)(0xa0 + i));
		CHECK(frame_arrives(peer[i], (unsigned char)(0xa0 + i)));
		CHECK(!frame_arrives(peer[!i], (unsigned char)(0xa0 + i)));
		frame_to_link(peer[i], (unsigned char)(0xb0 + i));
		CHECK(frame_arrives(tap[i], (unsigned char)(0xb0 + i)));
		CHECK(!frame_arrives(tap[!i], (unsigned char)(0xb0 + i)));
	}
	for (int i = 0; i < 2; i++) {
		close(tap[i]);
		close(peer[i]);
		close(netns[i]);
	}
	close(host);
}

static void dump(char ret[NETD_DUMP_MAX])
{
	FILE *f = popen("ip -o -d link; ip -o addr; ip route; tc qdisc show", "r");
	size_t n;

	CHECK(f);
	n = fread(ret, 1, NETD_DUMP_MAX - 1, f);
	ret[n] = '\0';
	pclose(f);
}

TEST(delete_takes_it_and_the_link_is_as_it_was)
{
	char before[NETD_DUMP_MAX], after[NETD_DUMP_MAX];
	int host, netns;

	need_macvtap();
	host = this_netns();
	netns = pod(host, "h0");
	dump(before);
	for (int i = 0; i < 2; i++) {
		close(attached());
		CHECK(if_nametoindex("tap0_bk") != 0);
		CHECK_INT(netd_clean(), 0);
		dump(after);
		CHECK_STR(after, before);
	}
	close(netns);
	close(host);
}

/* By its group: nobody else's goes, of whatever name and kind. */
TEST(what_is_not_ours_stays)
{
	char before[NETD_DUMP_MAX], after[NETD_DUMP_MAX];
	char args[160];

	need_macvtap();
	veth();
	snprintf(args, sizeof(args), "link add link eth0 name tap0_bk group %u type macvtap mode passthru",
		TEST_UID + 8);
	ip(args);
	snprintf(args, sizeof(args), "link add link peer0 name other group %u type macvtap mode passthru",
		TEST_UID);
	ip(args);
	snprintf(args, sizeof(args), "link add tap1_bk group %u type veth peer name x", TEST_UID);
	ip(args);
	dump(before);
	CHECK_INT(netd_clean(), 0);
	dump(after);
	CHECK_STR(after, before);
}

/* Nothing of what made the device is left to netd: no privilege, no directory, no second socket. */
TEST(what_netd_holds)
{
	int host, netns;
	struct started r;

	need_macvtap();
	host = this_netns();
	netns = pod(host, "h0");
	r = netd_up();
	check_shut_in(r.pid, TEST_UID, 1ULL << CAP_NET_ADMIN);
	CHECK(!same_namespace(r.pid, getpid(), "mnt"));
	for (int i = 0; i < 64; i++) {
		char path[64], target[128];
		ssize_t n;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", r.pid, i);
		n = readlink(path, target, sizeof(target) - 1);
		if (n < 0)
			continue;
		target[n] = '\0';
		/* 0 to 2, control, channels, the route socket: below 8. */
		if (i >= 8)
			CHECK_STR(target, "/node (deleted)");
	}
	netd_close(&r);
	close(netns);
	close(host);
}

TEST(a_link_that_comes_later_is_refused)
{
	struct started r;
	struct error err = ERROR_INIT;

	need_macvtap();
	r = netd_up();
	CHECK_INT(netd_scan(&r, &err), 0);
	veth();
	CHECK_INT(netd_scan(&r, &err), 0);
	CHECK_INT(netd_attach(&r, 0, &err), EOPNOTSUPP);
	CHECK_CONTAINS(err.msg, "attach the link ");
	CHECK_CONTAINS(err.msg, "network_model=macvtap");
	netd_close(&r);
}

/* Two links, of which the second has a macvlan already: the first one is given back too. */
TEST(a_link_that_cannot_be_had_changes_nothing)
{
	char before[NETD_DUMP_MAX], after[NETD_DUMP_MAX];
	struct started r;
	struct error err = ERROR_INIT;
	int host, netns;

	need_macvtap();
	host = this_netns();
	netns = pod(host, "h0");
	ip("link add mv0 link eth0 type macvlan mode bridge");
	dump(before);
	r = netd_up();
	CHECK_INT(netd_scan(&r, &err), 0);
	CHECK_INT(netd_attach(&r, 0, &err), EINVAL);
	CHECK_CONTAINS(err.msg, "make the macvtap tap0_bk");
	netd_close(&r);
	dump(after);
	CHECK_STR(after, before);
	close(netns);
	close(host);
}

TEST(several_queues)
{
	struct ipc_packet p = { .fds = FDLIST_INIT };
	struct error err = ERROR_INIT;
	struct started r;
	int host, netns, tap[4];

	need_macvtap();
	role_options[1] = "queues=4";
	host = this_netns();
	netns = pod(host, "h0");
	r = netd_up();
	CHECK_INT(netd_scan(&r, &err), 0);
	CHECK_INT(netd_attach(&r, 0, &err), 0);
	for (int i = 0; i < 4; i++) {
		struct ifreq is = { 0 };

		CHECK_INT(channel_recv(netd_vmmd, &ipc_netd_vmmd, MSG_DONTWAIT, &p, &err), 1);
		tap[i] = fdlist_steal(&p.fds, 0);
		CHECK(ioctl(tap[i], TUNGETIFF, &is) == 0);
		CHECK(is.ifr_flags & IFF_MULTI_QUEUE);
		ipc_packet_done(&p);
	}
	for (int i = 0; i < 4; i++)
		close(tap[i]);
	netd_close(&r);
	close(netns);
	close(host);
}

/* ---- one call fails, or is netd's last ---- */

static bool is_connected(const struct user_regs_struct *regs)
{
	return regs->orig_rax == SYS_getsockname; /* libnl's last word about the route socket */
}

static bool is_shutting_in(const struct started *r, const struct user_regs_struct *regs)
{
	(void)r;
	return regs->orig_rax == SYS_setns;
}

static bool can_fail(unsigned long long nr)
{
	static const unsigned long long calls[] = {
		SYS_sendmsg, SYS_recvmsg, SYS_socket, SYS_setsockopt, SYS_bind, SYS_recvfrom, SYS_fsopen,
		SYS_fsconfig, SYS_fsmount, SYS_mknodat, SYS_openat, SYS_ioctl, SYS_unlinkat,
	};

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (nr == calls[i])
			return true;
	return false;
}

/* All that is privileged: the links are looked at, each gets its macvtap, the nodes are opened. */
static const struct netd_window making = { is_connected, is_shutting_in, can_fail };

static void attach_with(struct netd_fault *f, const char *before, struct netd_tally *t)
{
	struct started r = netd_begun();
	char after[NETD_DUMP_MAX];
	struct error err = ERROR_INIT;

	if (!netd_follow(&r, f, &making)) {
		t->ended++;
		netd_close(&r);
		CHECK_INT(netd_clean(), 0);
	} else {
		role_lock(&r);
		if (netd_scan(&r, &err) != 0)
			test_fail(__FILE__, __LINE__, "%s", err.msg);
		if (netd_attach(&r, 0, &err) == 0) {
			t->attached++;
			netd_close(&r);
			CHECK_INT(netd_clean(), 0);
		} else {
			t->refused++;
			CHECK_CONTAINS(err.msg, "attach the link ");
			netd_close(&r); /* it has undone all itself */
		}
	}
	netns_dump(after);
	CHECK_STR(after, before);
}

static struct netd_tally at_every_call(bool kill)
{
	need_macvtap();
	veth();
	return netd_at_every_call(kill, attach_with);
}

TEST(every_call_that_makes_them_fails_once)
{
	struct netd_tally t = at_every_call(false);

	CHECK(t.refused > 30);
}

TEST(netd_is_killed_at_every_call_that_makes_them)
{
	struct netd_tally t = at_every_call(true);

	CHECK(t.ended > 40);
}
