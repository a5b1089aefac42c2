/*
 * Every table of ipc/tables.c from both ends: channel_recv() and ipc_decode()
 * of packets that a real socket carried. What gets through is what our own
 * side would have written, with the fds the table promises, and no other fd
 * stays.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "ipc/alloc.h"
#include "ipc/tables.h"
#include "tests/fuzz/lib/packet.h"
#include "tests/fuzz/lib/sim.h"

#define ROLE_FD 4

struct run {
	struct bytes in;
	struct peer_end peer;
};

static bool next(void *ctx)
{
	struct run *run = ctx;

	if (run->peer.fd < 0)
		return false;
	if (run->in.left > 0)
		peer_send(&run->peer, &run->in);
	else
		peer_close(&run->peer);
	return true;
}

static void check_fds(const struct ipc_packet *p)
{
	bool carries = p->hdr.kind == IPC_EVENT || p->hdr.kind == IPC_REPLY;

	SIM_CHECK(p->fds.n == p->hdr.nfds);
	SIM_CHECK(p->fds.n == (carries ? p->row->nfds : 0));
	for (size_t i = 0; i < p->fds.n; i++)
		SIM_CHECK(fd_check_kind(p->fds.fd[i], p->row->fds[i], NULL) == 0);
}

static void check_message(const struct ipc_packet *p, const ProtobufCMessage *msg)
{
	static uint8_t again[IPC_PAYLOAD_MAX];

	SIM_CHECK(protobuf_c_message_check(msg));
	SIM_CHECK(!message_has_unknown_fields(msg));
	SIM_CHECK(protobuf_c_message_get_packed_size(msg) == p->hdr.len);
	SIM_CHECK(protobuf_c_message_pack(msg, again) == p->hdr.len);
	SIM_CHECK(memcmp(again, p->payload, p->hdr.len) == 0);
}

static void decode(const struct ipc_packet *p)
{
	struct error err = ERROR_INIT, theirs = ERROR_INIT;
	ProtobufCMessage *msg;

	if (p->hdr.kind == IPC_ERROR) {
		if (ipc_decode_error(p, &theirs) == 0)
			SIM_CHECK(strnlen(theirs.msg, sizeof(theirs.msg)) < sizeof(theirs.msg));
		SIM_CHECK(!ipc_decode(p, &err));
		return;
	}
	SIM_CHECK(ipc_decode_error(p, &theirs) < 0);
	msg = ipc_decode(p, &err);
	SIM_CHECK(!msg == !!err.code);
	if (msg)
		check_message(p, msg);
	ipc_free(msg);
}

static int role(void *ctx)
{
	const struct run *run = ctx;
	int r;

	do {
		static struct ipc_packet p;
		struct error err = ERROR_INIT;

		while ((r = channel_recv(ROLE_FD, run->peer.channel, MSG_DONTWAIT, &p, &err)) ==
			-EAGAIN)
			if (!next(ctx))
				return -1;
		SIM_CHECK((r < 0) == !!err.code);
		if (r > 0) {
			check_fds(&p);
			decode(&p);
		}
		ipc_packet_done(&p);
	} while (r != 0);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct run run = { .in = { data, size } };
	struct sim sim = { .next = next, .role = role, .ctx = &run, .closes_fds = true };
	uint8_t which = in_u8(&run.in);
	const int on = 1;
	size_t n = 0;

	while (ipc_channels[n])
		n++;
	peer_open(&run.peer, ipc_channels[(which & 0x7f) % n], ROLE_FD);
	/* Then the kernel adds control data of its own: no channel of ours has any. */
	if (which & 0x80)
		setsockopt(ROLE_FD, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	/* Whatever it may not be, it comes to an end. */
	SIM_CHECK(sim_run(&sim) == 0);
	return 0;
}
