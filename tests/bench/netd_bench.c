/*
 * What the pod's link costs until its tap is vmmd's: the real netd, in a
 * namespace of this process's own with a veth in it, beside ip and tc, which
 * make a tap of the same kind and the same redirects, each by one batch.
 *
 *	BULKHEAD_BUILD=DIR netd_bench
 *
 * One line for each request, in microseconds or numbers:
 *
 *	time	SCAN|ATTACH|ip and tc	QUEUES	US
 *	calls	SCAN|ATTACH	QUEUES	SYSTEM-CALLS	EXECS
 */
#include <poll.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <time.h>
#include <unistd.h>

#include "tests/proc/netd_rig.h"

#define ROUNDS 41 /* the first is not counted */

TEST_PATIENCE(300)

static const unsigned queues[] = { 1, 4 };

static long now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static struct started up(unsigned n)
{
	static char option[32];

	snprintf(option, sizeof(option), "queues=%u", n);
	role_options[0] = option;
	return netd_up();
}

/* The taps go with vmmd's end of the channel, the qdiscs as `delete` takes them. */
static void down(struct started *r)
{
	netd_close(r);
	CHECK_INT(netd_clean(), 0);
}

static void one_attach(unsigned n, bool counts)
{
	struct started r = up(n);
	struct error err = ERROR_INIT;
	long begin = now_us(), scanned, attached;

	CHECK_INT(netd_scan(&r, &err), 0);
	scanned = now_us();
	CHECK_INT(netd_attach(&r, 0, &err), 0);
	attached = now_us();
	if (counts)
		printf("time\tSCAN\t%u\t%ld\ntime\tATTACH\t%u\t%ld\n", n, scanned - begin, n,
			attached - scanned);
	down(&r);
}

static void by_hand(unsigned n, bool counts)
{
	char script[1024];
	long begin;

	snprintf(script, sizeof(script),
		"ip -batch - <<. && tc -batch - <<.\n"
		"tuntap add dev hand0 mode tap vnet_hdr%s\n"
		"link set hand0 mtu 1400 addrgenmode none up\n"
		".\n"
		"qdisc add dev eth0 ingress\n"
		"qdisc add dev hand0 ingress\n"
		"filter add dev eth0 parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev hand0\n"
		"filter add dev hand0 parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev eth0\n"
		".\n", n > 1 ? " multi_queue" : "");
	begin = now_us();
	CHECK(system(script) == 0);
	if (counts)
		printf("time\tip and tc\t%u\t%ld\n", n, now_us() - begin);
	ip("link del hand0");
	CHECK(system("tc qdisc del dev eth0 ingress") == 0);
}

TEST(times)
{
	own_netns();
	veth();
	for (unsigned i = 0; i < ROUNDS; i++)
		for (size_t q = 0; q < sizeof(queues) / sizeof(*queues); q++) {
			one_attach(queues[q], i > 0);
			by_hand(queues[q], i > 0);
		}
}

/* From the request, which netd has not seen yet, until it waits for the next one. */
static void count(struct started *r, uint16_t type, const ProtobufCMessage *request, const char *name, unsigned n)
{
	struct pollfd answered = { .fd = r->channel, .events = POLLIN };
	struct ipc_packet answer = { .fds = FDLIST_INIT };
	struct user_regs_struct regs;
	struct error err = ERROR_INIT;
	unsigned calls = 0, execs = 0;

	netd_seize(r);
	CHECK_INT(channel_send(r->channel, &ipc_frontend_netd, IPC_REQUEST, type, 77, request, NULL, 0, 5000, &err), 0);
	for (;;) {
		CHECK(netd_step(r, &regs));
		if (calls > 0 && regs.orig_rax == SYS_ppoll && poll(&answered, 1, 0) == 1)
			break;
		if (calls > 0 || regs.orig_rax == SYS_recvmsg)
			calls++;
		if (regs.orig_rax == SYS_execve || regs.orig_rax == SYS_execveat)
			execs++;
		CHECK(netd_step(r, &regs)); /* its end */
	}
	CHECK(ptrace(PTRACE_DETACH, r->pid, 0, 0) == 0);
	CHECK_INT(channel_recv(r->channel, &ipc_frontend_netd, 0, &answer, &err), 1);
	CHECK_INT(answer.hdr.kind, IPC_REPLY);
	ipc_packet_done(&answer);
	printf("calls\t%s\t%u\t%u\t%u\n", name, n, calls, execs);
}

TEST(system_calls)
{
	Ipc__NetdScan scan = IPC__NETD_SCAN__INIT;
	Ipc__NetdAttach attach = IPC__NETD_ATTACH__INIT;
	struct started r;

	own_netns();
	veth();
	for (size_t q = 0; q < sizeof(queues) / sizeof(*queues); q++) {
		r = up(queues[q]);
		count(&r, NETD_SCAN, &scan.base, "SCAN", queues[q]);
		count(&r, NETD_ATTACH, &attach.base, "ATTACH", queues[q]);
		down(&r);
	}
}
