/*
 * What the supervisor hears of a role: control messages (ipc/ctl.c) and log
 * lines (supervisor/relay.c).
 *
 *	u8 what	0: a control message, the rest as ctl_say() has it
 *		1: u16, a control packet as it is, with an fd
 *		2: u16, a log line
 *		3: a second passes
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "supervisor/supervisor.h"
#include "tests/fuzz/lib/packet.h"
#include "tests/fuzz/lib/sim.h"

enum { ROLE_CTL = 4, ROLE_LOG, ROLE_OUT };

struct run {
	struct bytes in;
	int ctl, log, out; /* ours; out: what becomes of the lines */
	struct relay relay;
};

static void send_with_fd(int to, const uint8_t *data, size_t len)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)data, .iov_len = len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = sizeof(control) };

	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.align), &to, sizeof(int));
	sendmsg(to, &mh, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool next(void *ctx)
{
	struct run *run = ctx;
	const uint8_t *p;
	size_t len;

	if (run->ctl < 0)
		return false;
	if (run->in.left == 0) {
		sim_close(&run->ctl);
		return true;
	}
	switch (in_u8(&run->in) % 4) {
	case 0:
		ctl_say(run->ctl, &run->in);
		break;
	case 1:
		p = in_bytes(&run->in, 1024, &len);
		send_with_fd(run->ctl, p, len);
		break;
	case 2:
		p = in_bytes(&run->in, 4096, &len);
		send(run->log, p, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	default:
		sim_advance(1000);
	}
	return true;
}

/* One line for each: whatever a role says, it makes no second one, and ends no quote. */
static void check_out(int fd)
{
	char text[8192];
	ssize_t n;

	while ((n = recv(fd, text, sizeof(text), MSG_DONTWAIT)) > 0) {
		bool quoted = false;
		unsigned quotes = 0;

		SIM_CHECK(n > 5 && memcmp(text, "time=", 5) == 0 && text[n - 1] == '\n');
		for (ssize_t i = 0; i < n - 1; i++) {
			SIM_CHECK((unsigned char)text[i] >= ' ' && text[i] != 0x7f);
			quotes += text[i] == '"' && !quoted;
			quoted = text[i] == '\\' && !quoted;
		}
		SIM_CHECK(quotes == 4);
	}
}

static int role(void *ctx)
{
	struct run *run = ctx;
	struct ctl_msg msg;
	int r = 1;

	while (r != 0) {
		r = ctl_recv(ROLE_CTL, MSG_DONTWAIT, &msg);
		SIM_CHECK(r == 1 || r == 0 || r == -EAGAIN || r == -EPROTO);
		if (r == 1) {
			SIM_CHECK(msg.role < ROLE_COUNT && role_name((enum role)msg.role));
			SIM_CHECK(memchr(msg.text, '\0', sizeof(msg.text)));
		}
		relay_drain(&run->relay, ROLE_LOG, ROLE_OUT, role_name(ROLE_AGENTD), "id");
		check_out(run->out);
		if (r == -EAGAIN && !next(ctx))
			return -1;
	}
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run run = { .in = { data, size } };
	struct sim sim = { .next = next, .role = role, .ctx = &run, .closes_fds = true };

	run.ctl = sim_pair(SOCK_SEQPACKET, ROLE_CTL);
	run.log = sim_pair(SOCK_DGRAM, ROLE_LOG);
	run.out = sim_pair(SOCK_DGRAM, ROLE_OUT);
	SIM_CHECK(sim_run(&sim) == 0);
	return 0;
}
