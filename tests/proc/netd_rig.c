#include "tests/proc/netd_rig.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
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

struct started netd_up(void)
{
	struct started r;
	int pair[2];

	test_pair(pair);
	r = role_up("bulkhead-netd", NETD_FD_VOID, NETD_FD_VMMD, pair[1]);
	close(pair[1]);
	fd_close(&netd_vmmd);
	netd_vmmd = pair[0];
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
