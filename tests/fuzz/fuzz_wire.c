/*
 * ttRPC's bytes by themselves (shim-frontend/wire.c): frames come out of a
 * stream as they went in, however it is cut into pieces, and wire_strings_ok()
 * says of a message what its unpacked strings say.
 *
 *	u8	0: u8 which message, the rest is the message
 *		else: at most that many times 16 bytes in a frame, the rest are pieces
 *		of the stream, each u16 and bytes
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "ipc/alloc.h"
#include "shim-frontend/proto/task.pb-c.h"
#include "shim-frontend/wire.h"
#include "tests/fuzz/lib/input.h"
#include "tests/fuzz/lib/sim.h"
#include "ttrpc.pb-c.h"

/* ---- messages ---- */

/* What is known of it, and nothing else, is there again after packing. */
static void check_known(const ProtobufCMessage *msg)
{
	size_t len = protobuf_c_message_get_packed_size(msg);
	uint8_t *bytes;
	ProtobufCMessage *again;

	if (message_has_unknown_fields(msg))
		return;
	bytes = malloc(len + 1);
	SIM_CHECK(bytes && protobuf_c_message_pack(msg, bytes) == len);
	again = protobuf_c_message_unpack(msg->descriptor, NULL, len, bytes);
	SIM_CHECK(again && !message_has_unknown_fields(again));
	protobuf_c_message_free_unpacked(again, NULL);
	free(bytes);
}

static void check_message(struct bytes *in)
{
	static const ProtobufCMessageDescriptor *const messages[] = {
		&ttrpc__request__descriptor, &ttrpc__response__descriptor,
		&containerd__create_task_request__descriptor, &containerd__kill_request__descriptor,
	};
	const ProtobufCMessageDescriptor *d = messages[in_u8(in) % ARRAY_SIZE(messages)];
	bool ok = wire_strings_ok(d, in->p, in->left);
	ProtobufCMessage *msg = capped_unpack(d, in->left, in->p, 1 << 20);
	Ttrpc__Request *request = (Ttrpc__Request *)msg;

	if (msg && ok && d == &ttrpc__request__descriptor)
		/* A byte that ends a string too early would have been one of it. */
		SIM_CHECK(strlen(request->service) + strlen(request->method) <= in->left);
	if (msg) {
		check_known(msg);
		protobuf_c_message_free_unpacked(msg, NULL);
	}
}

/* ---- frames ---- */

/* The same stream in one piece, as the protocol's description has it. */
struct stream {
	uint8_t bytes[1 << 16];
	size_t len, at;
	uint64_t skip;
};

/* What the next frame must be. False: it is not complete. */
static bool expect(struct stream *s, size_t max, struct ttrpc_header *h, const uint8_t **data)
{
	uint64_t n = s->len - s->at < s->skip ? s->len - s->at : s->skip;

	s->at += n;
	s->skip -= n;
	if (s->len - s->at < TTRPC_HEADER_LEN)
		return false;
	*h = ttrpc_header_read(s->bytes + s->at);
	if (h->length <= max && s->len - s->at - TTRPC_HEADER_LEN < h->length)
		return false;
	*data = s->bytes + s->at + TTRPC_HEADER_LEN;
	s->at += TTRPC_HEADER_LEN;
	if (h->length > max)
		s->skip = h->length;
	else
		s->at += h->length;
	return true;
}

static void take_frames(struct inbuf *b, struct stream *s, size_t max)
{
	struct ttrpc_header got = { 0 }, want = { 0 };
	const uint8_t *data = NULL, *bytes = NULL;
	int r;

	do {
		bool complete = expect(s, max, &want, &bytes);

		r = inbuf_frame(b, max, &got, &data);
		SIM_CHECK((r != 0) == complete);
		if (r == 0)
			break;
		SIM_CHECK(r == (want.length > max ? -EMSGSIZE : 1));
		SIM_CHECK(got.length == want.length && got.stream == want.stream);
		SIM_CHECK(got.type == want.type && got.flags == want.flags);
		SIM_CHECK(r < 0 || memcmp(data, bytes, got.length) == 0);
	} while (r != 0);
	SIM_CHECK(inbuf_partial(b) == (s->skip > 0 || s->len > s->at));
}

static void check_frames(struct bytes *in, size_t max)
{
	static struct stream s;
	struct inbuf b = { 0 };
	int fds[2], r;

	s.len = s.at = 0;
	s.skip = 0;
	SIM_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
	while (in->left > 0) {
		size_t len;
		const uint8_t *p = in_bytes(in, sizeof(s.bytes) - s.len, &len);

		if (len == 0)
			continue;
		SIM_CHECK(send(fds[0], p, len, MSG_NOSIGNAL) == (ssize_t)len);
		memcpy(s.bytes + s.len, p, len);
		s.len += len;
		/* Never more at once than there is room for: the rest comes with the next. */
		while ((r = inbuf_fill(&b, fds[1])) > 0) {
			size_t all = s.len;

			s.len = s.at + (b.len - b.off);
			SIM_CHECK(s.len <= all);
			take_frames(&b, &s, max);
			s.len = all;
		}
		SIM_CHECK(r == -EAGAIN);
	}
	inbuf_done(&b);
	close(fds[0]);
	close(fds[1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };
	size_t max = 16 * (size_t)in_u8(&in);

	if (max == 0)
		check_message(&in);
	else
		check_frames(&in, max);
	return 0;
}
