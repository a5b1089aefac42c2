#include "tests/proc/common_role.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fds.h"
#include "tests/lib/void.h"

const char *role_options[2];

void need_root(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		test_skip("needs root");
}

int void_start(void)
{
	return test_void_shared(NULL);
}

struct started role_start(const char *binary, int number_of_void, int number_of_extra, int extra)
{
	int ctl[2], log[2], channel[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int nothing = void_start();
	char uid[32];
	const char *args[] = { uid, role_options[0], role_options[1], NULL };
	struct started r;

	snprintf(uid, sizeof(uid), "uid=%u", TEST_UID);
	test_pair(ctl);
	test_pair(channel);
	CHECK(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, log) == 0);

	struct test_fd fds[] = {
		{ 0, null }, { 1, null }, { 2, log[1] }, { FD_CTL, ctl[1] }, { 4, channel[1] },
		{ number_of_void, nothing }, { number_of_extra, extra }, { -1, -1 },
	};
	r = (struct started){
		.pid = test_spawn(binary, args, fds),
		.ctl = ctl[0],
		.log = log[0],
		.channel = channel[0],
	};
	close(ctl[1]);
	close(log[1]);
	close(channel[1]);
	close(nothing);
	close(null);
	return r;
}

static int wait_readable(int fd, int ms)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };

	return poll(&pfd, 1, ms);
}

void role_lock(struct started *r)
{
	struct ctl_msg msg;

	CHECK_INT(wait_readable(r->ctl, 5000), 1);
	CHECK_INT(ctl_recv(r->ctl, MSG_DONTWAIT, &msg), 1);
	if (msg.type != CTL_READY)
		test_fail(__FILE__, __LINE__, "control message %u: %s", msg.type, msg.text);
	CHECK_INT(ctl_send(r->ctl, CTL_LOCK, ROLE_SUPERVISOR, 0, NULL), 0);
}

struct started role_up(const char *binary, int number_of_void, int number_of_extra, int extra)
{
	struct started r = role_start(binary, number_of_void, number_of_extra, extra);

	role_lock(&r);
	return r;
}

int role_ends(struct started *r, int ms)
{
	int status = test_wait(r->pid, ms);

	r->pid = -1;
	return status;
}

void role_close(struct started *r)
{
	if (r->pid > 0) {
		kill(r->pid, SIGKILL);
		waitpid(r->pid, NULL, 0);
		r->pid = -1;
	}
	fd_close(&r->ctl);
	fd_close(&r->log);
	fd_close(&r->channel);
}

void role_log_contains(struct started *r, const char *text)
{
	char line[2048];
	ssize_t n;

	while (wait_readable(r->log, 2000) == 1) {
		n = recv(r->log, line, sizeof(line) - 1, MSG_DONTWAIT);
		if (n <= 0)
			break;
		line[n] = '\0';
		if (strstr(line, text))
			return;
	}
	test_fail(__FILE__, __LINE__, "no log line says '%s'", text);
}

int role_ask(struct started *r, const struct ipc_channel *def, uint16_t type,
	const ProtobufCMessage *request, struct error *err)
{
	return role_ask_for(r, def, type, request, NULL, err);
}

int role_ask_for(struct started *r, const struct ipc_channel *def, uint16_t type,
	const ProtobufCMessage *request, ProtobufCMessage **ret, struct error *err)
{
	static uint32_t seq;
	struct ipc_packet p;

	seq++;
	if (channel_send(r->channel, def, IPC_REQUEST, type, seq, request, NULL, 0, 5000, err) < 0)
		test_fail(__FILE__, __LINE__, "%s", err->msg);
	CHECK_INT(wait_readable(r->channel, 10000), 1);
	if (channel_recv(r->channel, def, MSG_DONTWAIT, &p, err) != 1)
		test_fail(__FILE__, __LINE__, "no answer: %s", err->msg);
	CHECK_INT(p.hdr.seq, seq);
	CHECK_INT(p.hdr.type, type);
	if (p.hdr.kind == IPC_REPLY) {
		if (ret)
			*ret = ipc_decode(&p, err);
		ipc_packet_done(&p);
		return 0;
	}
	CHECK_INT(p.hdr.kind, IPC_ERROR);
	CHECK_INT(ipc_decode_error(&p, err), 0);
	ipc_packet_done(&p);
	return err->code;
}

void proc_status(int pid, const char *key, char *ret, size_t size)
{
	char path[64], line[4096];
	size_t len = strlen(key);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	CHECK(f);
	ret[0] = '\0';
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, key, len) == 0 && line[len] == ':') {
			line[strcspn(line, "\n")] = '\0';
			snprintf(ret, size, "%s", line + len + 1 + (line[len + 1] == '\t'));
		}
	fclose(f);
}

static void check_status(int pid, const char *key, const char *want)
{
	char got[4096];

	proc_status(pid, key, got, sizeof(got));
	if (strcmp(got, want) != 0)
		test_fail(__FILE__, __LINE__, "%s is '%s', not '%s'", key, got, want);
}

/* What systemd sends at shutdown, and what a peer that has gone would cost. */
static void check_ignored(int pid)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGTERM, SIGPIPE };
	char text[64];

	proc_status(pid, "SigIgn", text, sizeof(text));
	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		if (!(strtoull(text, NULL, 16) >> (ignored[i] - 1) & 1))
			test_fail(__FILE__, __LINE__, "signal %d is not ignored", ignored[i]);
}

void check_shut_in(int pid, uid_t uid, unsigned long long caps)
{
	static const char *const empty[] = { "CapInh", "CapBnd", "CapAmb" };
	char text[128];

	snprintf(text, sizeof(text), "%u\t%u\t%u\t%u", uid, uid, uid, uid);
	check_status(pid, "Uid", text);
	check_status(pid, "Gid", text);
	check_status(pid, "Groups", " ");
	for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
		check_status(pid, empty[i], "0000000000000000");
	snprintf(text, sizeof(text), "%016llx", caps);
	check_status(pid, "CapPrm", text);
	check_status(pid, "CapEff", text);
	check_status(pid, "NoNewPrivs", "1");
	check_status(pid, "Seccomp", "2");
	check_status(pid, "Threads", "1");
	check_ignored(pid);
}

bool same_namespace(int pid, int other, const char *kind)
{
	char path[64];
	struct stat a, b;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, kind);
	CHECK(stat(path, &a) == 0);
	snprintf(path, sizeof(path), "/proc/%d/ns/%s", other, kind);
	CHECK(stat(path, &b) == 0);
	return a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}
