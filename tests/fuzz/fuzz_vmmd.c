/*
 * vmmd behind its isolation, all of it: the frontend's requests, mountd's
 * connection, the slot's answer, the supervisor's control messages, QEMU's QMP
 * and stderr.
 *
 *	u8 what	0: a packet of the frontend	1: of mountd	2: of the slot
 *		3: the slot becomes QEMU (its channel ends)	4: a control message
 *		5: bytes on QMP	6: the right answer on QMP	7: bytes on stderr
 *		8: time passes	9: something is closed
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "ipc/fds.h"
#include "ipc/slot.pb-c.h"
#include "ipc/tables.h"
#include "tests/fuzz/lib/packet.h"
#include "tests/fuzz/lib/sim.h"
#include "vmmd/vmmd.h"

/* The order in which vmmd gives the slot QEMU's fds is not ours to know: by what they carry. */
#define STREAMS_MAX 8

static struct run {
	struct bytes in;
	struct peer_end frontend, mountd, netd, agentd, slot;
	int ctl;
	int stream[STREAMS_MAX], n_streams; /* QEMU's ends, as they came */
	int qmp, err;			    /* the one that we have read a command from; stderr */
} run;

static const char greeting[] = "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n";

static void fds_came(void *ctx, const struct ipc_header *hdr, const uint8_t *payload,
	struct fdlist *fds)
{
	Ipc__SlotFd *msg;

	(void)ctx;
	if (hdr->type != SLOT_FD || fds->n != 1 || run.n_streams == STREAMS_MAX)
		return;
	msg = ipc__slot_fd__unpack(NULL, hdr->len, payload);
	SIM_CHECK(msg);
	if (msg->target == 2)
		run.err = sim_ours(fdlist_steal(fds, 0));
	else
		run.stream[run.n_streams++] = sim_ours(fdlist_steal(fds, 0));
	ipc__slot_fd__free_unpacked(msg, NULL);
}

static void say(int fd, const void *data, size_t len)
{
	if (fd >= 0 && len > 0)
		send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* QMP's is the first that vmmd makes. */
static int qmp(void)
{
	peer_read(&run.slot);
	return run.n_streams > 0 ? run.stream[0] : -1;
}

/* What a QEMU answers: the greeting first, then each command by its id. */
static void answer_qmp(void)
{
	static char command[QMP_COMMAND_MAX + 2];
	char text[512];
	int fd = qmp();
	ssize_t n = fd < 0 ? 0 : recv(fd, command, sizeof(command) - 1, MSG_DONTWAIT);
	const char *id, *value = "{}";

	if (n <= 0) {
		say(fd, greeting, sizeof(greeting) - 1);
		return;
	}
	command[n] = '\0';
	id = strstr(command, "\"id\":");
	SIM_CHECK(id);
	for (const char *more; (more = strstr(id + 1, "\"id\":"));)
		id = more; /* the arguments may have one too */
	if (strstr(command, "query-fdsets"))
		value = "[]";
	else if (strstr(command, "query-hotpluggable-cpus"))
		value = "[{\"props\": {\"socket-id\": 1, \"core-id\": 0, \"thread-id\": 0}}]";
	n = snprintf(text, sizeof(text), "{\"return\": %s, \"id\": %d}\r\n", value, atoi(id + 5));
	say(fd, text, (size_t)n);
}

static void close_one(uint8_t which)
{
	struct peer_end *const ends[] = { &run.mountd, &run.agentd, &run.slot, &run.netd };

	switch (which % 6) {
	case 0:
	case 1:
	case 2:
		peer_close(ends[which % 6]);
		break;
	case 3:
		sim_close(&run.err);
		break;
	case 4:
		if (qmp() >= 0)
			sim_close(&run.stream[0]);
		break;
	default:
		sim_close(&run.ctl);
	}
}

static void end(void)
{
	peer_close(&run.slot);
	peer_close(&run.frontend);
	sim_close(&run.ctl);
}

static void happen(unsigned what)
{
	static const int pauses[] = { 1, 100, 1000, 5000, 10000 };
	const uint8_t *p;
	size_t len;

	switch (what) {
	case 0:
		peer_send(&run.frontend, &run.in);
		break;
	case 1:
		peer_send(&run.mountd, &run.in);
		break;
	case 2:
		peer_send(&run.slot, &run.in);
		break;
	case 3:
		peer_read(&run.slot);
		peer_close(&run.slot);
		break;
	case 4:
		ctl_say(run.ctl, &run.in);
		break;
	case 5:
		p = in_bytes(&run.in, UINT16_MAX, &len);
		say(qmp(), p, len);
		break;
	case 6:
		answer_qmp();
		break;
	case 7:
		p = in_bytes(&run.in, UINT16_MAX, &len);
		peer_read(&run.slot);
		say(run.err, p, len);
		break;
	case 8:
		sim_advance(pauses[in_u8(&run.in) % 5]);
		break;
	default:
		close_one(in_u8(&run.in));
	}
}

static bool next(void *ctx)
{
	bool at_once;

	(void)ctx;
	if (run.frontend.fd < 0)
		return false;
	if (run.in.left == 0) {
		end();
		return true;
	}
	do
		happen(in_what(&run.in, 10, &at_once));
	while (at_once);
	return true;
}

static int role(void *ctx)
{
	static const struct vmmd_options options = {
		.uid = 1,
		.machine = MACHINE_Q35,
		.accel = ACCEL_TCG,
		.append = "console=hvc0",
		.qemu = "/usr/bin/qemu-system-x86_64",
		.name = "s1",
	};
	struct error err = ERROR_INIT;
	int r = vmmd_serve(&options, &err);

	(void)ctx;
	SIM_CHECK(r == 0 || err.code);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sim sim = { .next = next, .role = role, .closes_fds = true };

	run.in = (struct bytes){ data, size };
	run.n_streams = 0;
	run.err = -1;
	peer_open(&run.frontend, &ipc_frontend_vmmd, VMMD_FD_FRONTEND);
	peer_open(&run.mountd, &ipc_mountd_vmmd, VMMD_FD_MOUNTD);
	peer_open(&run.netd, &ipc_netd_vmmd, VMMD_FD_NETD);
	peer_open(&run.agentd, &ipc_vmmd_agentd, VMMD_FD_AGENTD);
	peer_open(&run.slot, &ipc_slot, VMMD_FD_SLOT);
	run.slot.fds_came = fds_came;
	run.ctl = sim_pair(SOCK_SEQPACKET, FD_CTL);
	sim_run(&sim);
	return 0;
}
