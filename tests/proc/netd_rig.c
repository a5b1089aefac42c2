#include "tests/proc/netd_rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fds.h"

int netd_vmmd = -1;

void own_netns(void)
{
	need_root();
	CHECK(unshare(CLONE_NEWNET) == 0);
}

void ip(const char *args)
{
	char command[256];

	snprintf(command, sizeof(command), "ip %s", args);
	if (system(command) != 0)
		test_fail(__FILE__, __LINE__, "%s", command);
}

void veth(void)
{
	ip("link add eth0 mtu 1400 type veth peer name peer0");
	/* What IPv6 does by itself takes a second or two, in which every dump is another. */
	ip("link set eth0 addrgenmode none up");
	ip("link set peer0 addrgenmode none up");
	ip("addr add 10.0.0.2/24 dev eth0");
	ip("addr add fd00::2/64 dev eth0 nodad");
	/* That there is a carrier the kernel tells a little later, which makes another dump. */
	CHECK(system("for i in $(seq 100); do "
		     "[ $(ip -o link show up | grep -c ' state UP ') = 2 ] && exit 0; sleep 0.05; "
		     "done; exit 1") == 0);
}

void netns_dump(char ret[NETD_DUMP_MAX])
{
	FILE *f = popen("ip -o link; ip -o addr; tc qdisc show; "
			"for l in eth0 peer0; do tc filter show dev $l ingress; done 2>&1", "r");
	size_t n;

	CHECK(f);
	n = fread(ret, 1, NETD_DUMP_MAX - 1, f);
	ret[n] = '\0';
	pclose(f);
}

static struct started start(struct started (*how)(const char *, int, int, int))
{
	struct started r;
	int pair[2];

	test_pair(pair);
	r = how("bulkhead-netd", NETD_FD_VOID, NETD_FD_VMMD, pair[1]);
	close(pair[1]);
	fd_close(&netd_vmmd);
	netd_vmmd = pair[0];
	return r;
}

struct started netd_up(void)
{
	return start(role_up);
}

struct started netd_begun(void)
{
	struct started r;
	int status;

	test_spawn_traced = true;
	r = start(role_start);
	test_spawn_traced = false;
	CHECK_INT(waitpid(r.pid, &status, __WALL), r.pid);
	CHECK(WIFSTOPPED(status));
	CHECK(ptrace(PTRACE_SETOPTIONS, r.pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
	return r;
}

void netd_close(struct started *r)
{
	role_close(r);
	fd_close(&netd_vmmd);
}

int netd_scan(struct started *r, struct error *err)
{
	Ipc__NetdScan m = IPC__NETD_SCAN__INIT;

	return role_ask(r, &ipc_frontend_netd, NETD_SCAN, &m.base, err);
}

int netd_attach(struct started *r, uint32_t index, struct error *err)
{
	Ipc__NetdAttach m = IPC__NETD_ATTACH__INIT;

	m.index = index;
	return role_ask(r, &ipc_frontend_netd, NETD_ATTACH, &m.base, err);
}

int exit_code(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int netd_clean(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char uid[32];
	const char *args[] = { uid, "clean=1", NULL };
	const struct test_fd fds[] = { { 0, null }, { 1, null }, { 2, STDERR_FILENO }, { -1, -1 } };
	int pid;

	snprintf(uid, sizeof(uid), "uid=%u", TEST_UID);
	pid = test_spawn("bulkhead-netd", args, fds);
	close(null);
	return exit_code(test_wait(pid, 5000));
}

/* ---- its system calls ---- */

#define SYSCALL_STOP (SIGTRAP | 0x80)

bool netd_step(const struct started *r, struct user_regs_struct *regs)
{
	int status;

	do {
		CHECK(ptrace(PTRACE_SYSCALL, r->pid, 0, 0) == 0);
		CHECK_INT(waitpid(r->pid, &status, __WALL), r->pid);
		if (!WIFSTOPPED(status))
			return false;
	} while (WSTOPSIG(status) != SYSCALL_STOP);
	CHECK(ptrace(PTRACE_GETREGS, r->pid, 0, regs) == 0);
	return true;
}

void netd_seize(const struct started *r)
{
	int status;

	CHECK(ptrace(PTRACE_SEIZE, r->pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
	CHECK(ptrace(PTRACE_INTERRUPT, r->pid, 0, 0) == 0);
	CHECK_INT(waitpid(r->pid, &status, __WALL), r->pid);
}

/* ---- frames ---- */

#define VNET_HDR 10 /* struct virtio_net_hdr, which comes before each frame of a tap */
#define FRAME	 60

int packet_socket(const char *link)
{
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
		.sll_ifindex = (int)if_nametoindex(link) };
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));

	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
	return fd;
}

static const unsigned char frame[VNET_HDR + FRAME] = { [VNET_HDR] = 2, [VNET_HDR + 5] = 1,
	[VNET_HDR + 6] = 2, [VNET_HDR + 11] = 2, [VNET_HDR + 12] = 0x88, 0xb5 };

void frame_to_tap(int tap, unsigned char mark)
{
	unsigned char f[sizeof(frame)];

	memcpy(f, frame, sizeof(f));
	f[sizeof(f) - 1] = mark;
	CHECK_INT(write(tap, f, sizeof(f)), sizeof(f));
}

void frame_to_link(int fd, unsigned char mark)
{
	unsigned char f[FRAME];

	memcpy(f, frame + VNET_HDR, sizeof(f));
	f[sizeof(f) - 1] = mark;
	CHECK_INT(send(fd, f, sizeof(f), 0), FRAME);
}

bool frame_arrives(int fd, unsigned char mark)
{
	unsigned char got[2048];

	while (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 1000) == 1) {
		ssize_t n = read(fd, got, sizeof(got));

		if (n >= FRAME && got[n - 1] == mark)
			return true;
	}
	return false;
}
