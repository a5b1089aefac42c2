/*
 * ttRPC's frame, the same towards containerd and the guest's agent
 * (containerd/ttrpc, PROTOCOL.md): ten bytes, then the data.
 *
 *	0  u32 BE  length of the data, at most 4 MiB
 *	4  u32 BE  stream id: odd, from the client
 *	8  u8      type
 *	9  u8      flags, 0 for unary calls
 */
#pragma once

#include <stdint.h>

#define TTRPC_HEADER_LEN 10
#define TTRPC_DATA_MAX	 (4U << 20)

enum ttrpc_type {
	TTRPC_REQUEST = 1,
	TTRPC_RESPONSE = 2,
	TTRPC_DATA = 3,
	TTRPC_HELLO = 0x48, /* ours: the first frame of our guest agent, stream 0, a text */
};

struct ttrpc_header {
	uint32_t length;
	uint32_t stream;
	uint8_t type;
	uint8_t flags;
};

static inline void ttrpc_header_write(const struct ttrpc_header *h, uint8_t out[TTRPC_HEADER_LEN])
{
	for (int i = 0; i < 4; i++) {
		out[i] = (uint8_t)(h->length >> (24 - 8 * i));
		out[4 + i] = (uint8_t)(h->stream >> (24 - 8 * i));
	}
	out[8] = h->type;
	out[9] = h->flags;
}

static inline struct ttrpc_header ttrpc_header_read(const uint8_t in[TTRPC_HEADER_LEN])
{
	struct ttrpc_header h = { .type = in[8], .flags = in[9] };

	for (int i = 0; i < 4; i++) {
		h.length = h.length << 8 | in[i];
		h.stream = h.stream << 8 | in[4 + i];
	}
	return h;
}

/* google.rpc.Code, as far as it is used */
enum ttrpc_code {
	TTRPC_OK = 0,
	TTRPC_CANCELLED = 1,
	TTRPC_UNKNOWN = 2,
	TTRPC_INVALID_ARGUMENT = 3,
	TTRPC_DEADLINE_EXCEEDED = 4,
	TTRPC_NOT_FOUND = 5,
	TTRPC_ALREADY_EXISTS = 6,
	TTRPC_PERMISSION_DENIED = 7,
	TTRPC_RESOURCE_EXHAUSTED = 8,
	TTRPC_FAILED_PRECONDITION = 9,
	TTRPC_UNIMPLEMENTED = 12,
	TTRPC_INTERNAL = 13,
	TTRPC_UNAVAILABLE = 14,
};
