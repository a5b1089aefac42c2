/*
 * An attach that fails, or ends with netd's death, at each of its system calls:
 * the namespace is as it was, byte for byte, and there is a sentence.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/proc/netd_fault.h"

static void send_attach(struct started *r)
{
	Ipc__NetdAttach m = IPC__NETD_ATTACH__INIT;
	struct error err = ERROR_INIT;

	CHECK_INT(channel_send(r->channel, &ipc_frontend_netd, IPC_REQUEST, NETD_ATTACH, 77, &m.base,
			  NULL, 0, 5000, &err), 0);
}

static bool is_request(const struct user_regs_struct *regs)
{
	return regs->orig_rax == SYS_recvmsg; /* what is undone of the answer has been seen */
}

static bool is_answered(const struct started *r, const struct user_regs_struct *regs)
{
	struct pollfd answered = { .fd = r->channel, .events = POLLIN };

	return regs->orig_rax == SYS_ppoll && poll(&answered, 1, 0) == 1;
}

static bool can_fail(unsigned long long nr)
{
	return nr == SYS_sendmsg || nr == SYS_recvmsg || nr == SYS_ioctl;
}

/* From the request until netd waits for the next one. */
static const struct netd_window attach = { is_request, is_answered, can_fail };

/* Whether the attach was refused, with a sentence. */
static bool refused(struct started *r)
{
	struct error err = ERROR_INIT;
	struct ipc_packet p;
	bool is_error;

	CHECK_INT(channel_recv(r->channel, &ipc_frontend_netd, MSG_DONTWAIT, &p, &err), 1);
	is_error = p.hdr.kind == IPC_ERROR;
	if (is_error) {
		CHECK_INT(ipc_decode_error(&p, &err), 0);
		CHECK_CONTAINS(err.msg, "attach the link ");
	}
	ipc_packet_done(&p);
	return is_error;
}

/* Of the same pod, before anybody has cleaned up: takes over what it finds. Killed in its turn. */
static void next_sandbox(void)
{
	struct started r = netd_up();
	struct error err = ERROR_INIT;

	CHECK_INT(netd_scan(&r, &err), 0);
	if (netd_attach(&r, 0, &err) != 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	netd_close(&r);
}

/* One attach with this fault. Afterwards everything is as before, with `delete` where netd is gone. */
static void attach_with(struct netd_fault *f, const char *before, struct netd_tally *t)
{
	struct started r = netd_up();
	char after[NETD_DUMP_MAX];
	struct error err;
	bool lives;

	CHECK_INT(netd_scan(&r, &err), 0);
	netd_seize(&r);
	send_attach(&r);
	lives = netd_follow(&r, f, &attach);
	if (lives && refused(&r)) {
		t->refused++;
		fd_close(&netd_vmmd); /* a tap may be on its way */
		netns_dump(after);
		CHECK_STR(after, before);
		netd_close(&r);
		return;
	}
	if (lives)
		t->attached++;
	else
		t->ended++;
	netd_close(&r);
	if (!lives)
		next_sandbox();
	CHECK_INT(netd_clean(), 0);
	netns_dump(after);
	CHECK_STR(after, before);
}

static struct netd_tally at_every_call(bool kill)
{
	own_netns();
	veth();
	return netd_at_every_call(kill, attach_with);
}

TEST(every_call_of_an_attach_fails_once)
{
	struct netd_tally t = at_every_call(false);

	CHECK(t.refused > 15); /* a tap, its set-up, two qdiscs, two filters, the fds: asked and answered */
}

TEST(netd_is_killed_at_every_call_of_an_attach)
{
	struct netd_tally t = at_every_call(true);

	CHECK(t.ended > 20);
}

/* ---- what an attach has made ---- */

TEST(frames_go_both_ways)
{
	struct ipc_packet queue = { .fds = FDLIST_INIT };
	struct error err = ERROR_INIT;
	struct started r;
	int peer, own;

	own_netns();
	veth();
	r = netd_up();
	CHECK_INT(netd_scan(&r, &err), 0);
	CHECK_INT(netd_attach(&r, 0, &err), 0); /* the first of a dump: the lower number */
	CHECK_INT(channel_recv(netd_vmmd, &ipc_netd_vmmd, MSG_DONTWAIT, &queue, &err), 1);
	own = if_nametoindex("eth0") < if_nametoindex("peer0");
	peer = packet_socket(own ? "peer0" : "eth0");
	frame_to_tap(queue.fds.fd[0], 0xa1);
	CHECK(frame_arrives(peer, 0xa1));
	frame_to_link(peer, 0xa2);
	CHECK(frame_arrives(queue.fds.fd[0], 0xa2));
	close(peer);
	ipc_packet_done(&queue);
	netd_close(&r);
}

TEST(a_tap_of_that_name_is_not_taken)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, .ifr_name = "tap0_bk" };
	struct error err = ERROR_INIT;
	struct started r;
	int tap;

	own_netns();
	veth();
	r = netd_up();
	CHECK_INT(netd_scan(&r, &err), 0);
	tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	CHECK(ioctl(tap, TUNSETIFF, &ifr) == 0 && ioctl(tap, TUNSETPERSIST, 1) == 0);
	close(tap); /* nobody has it: a second one could */
	CHECK_INT(netd_attach(&r, 0, &err), EBUSY);
	CHECK_CONTAINS(err.msg, "there is a link tap0_bk in the pod already");
	netd_close(&r);
}

/* As netd makes it. */
static void add_ours(const char *link)
{
	char command[128];

	snprintf(command, sizeof(command), "tc qdisc add dev %s ingress_block %u ingress", link,
		0x80000000U | if_nametoindex(link));
	CHECK(system(command) == 0);
}

TEST(what_is_not_ours_stays)
{
	char before[NETD_DUMP_MAX], after[NETD_DUMP_MAX];

	own_netns();
	veth();
	CHECK(system("tc qdisc add dev eth0 ingress; tc qdisc add dev peer0 ingress_block 7 ingress; "
		     "tc filter add block 7 protocol all prio 1 u32 match u32 0 0 "
		     "action mirred egress redirect dev eth0") == 0);
	netns_dump(before);
	CHECK_INT(netd_clean(), 0);
	netns_dump(after);
	CHECK_STR(after, before);
}

TEST(nothing_is_taken_from_a_vm)
{
	char before[NETD_DUMP_MAX], after[NETD_DUMP_MAX];
	struct started r;
	struct error err;

	own_netns();
	veth();
	r = netd_up();
	CHECK_INT(netd_scan(&r, &err), 0);
	CHECK_INT(netd_attach(&r, 0, &err), 0);
	netns_dump(before);
	CHECK_INT(netd_clean(), 0);
	netns_dump(after);
	CHECK_STR(after, before);
	netd_close(&r);
}

#define PAIRS 40

TEST(more_links_than_one_look_finds)
{
	char name[16], args[64];

	own_netns();
	for (int i = 0; i < PAIRS; i++) {
		snprintf(args, sizeof(args), "link add a%d type veth peer name b%d", i, i);
		ip(args);
		for (const char *c = "ab"; *c; c++) {
			snprintf(name, sizeof(name), "%c%d", *c, i);
			add_ours(name);
		}
	}
	CHECK_INT(netd_clean(), 0);
	CHECK(system("! tc qdisc show | grep ingress") == 0);
}
