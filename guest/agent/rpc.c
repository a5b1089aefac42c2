#include "rpc.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "agent.pb-c.h"
#include "port.h"
#include "ttrpc.pb-c.h"

/*
 * A message of many empty submessages takes up to fifty times its size once it is decoded, so what
 * one request may allocate is capped. Everything is freed at once.
 */
#define ARENA_MAX ((size_t)24 << 20)

struct chunk {
	struct chunk *next;
	max_align_t bytes[];
};

struct arena {
	ProtobufCAllocator allocator;
	struct chunk *chunks;
	size_t used;
};

static void *arena_alloc(void *opaque, size_t size)
{
	struct arena *arena = opaque;
	struct chunk *chunk;

	if (size > ARENA_MAX - arena->used)
		return NULL;
	chunk = xcalloc(1, sizeof(*chunk) + size);
	chunk->next = arena->chunks;
	arena->chunks = chunk;
	arena->used += sizeof(*chunk) + size;
	if (arena->used > ARENA_MAX)
		arena->used = ARENA_MAX;
	return chunk->bytes;
}

static void arena_free(void *opaque, void *p)
{
	(void)opaque;
	(void)p;
}

static void arena_init(struct arena *arena)
{
	*arena = (struct arena){ .allocator = { arena_alloc, arena_free, arena } };
}

static void arena_done(struct arena *arena)
{
	while (arena->chunks) {
		struct chunk *next = arena->chunks->next;

		free(arena->chunks);
		arena->chunks = next;
	}
}

static void send_response(uint32_t stream, const Ttrpc__Response *response)
{
	size_t len = ttrpc__response__get_packed_size(response);
	_cleanup_free_ uint8_t *bytes = xcalloc(1, len + 1);

	(void)ttrpc__response__pack(response, bytes);
	port_send(stream, FRAME_RESPONSE, bytes, len);
}

void rpc_reply_packed(uint32_t stream, uint8_t *payload, size_t len)
{
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;

	response.payload.len = len;
	response.payload.data = payload;
	send_response(stream, &response);
}

void rpc_reply(uint32_t stream, const ProtobufCMessage *message)
{
	size_t len = protobuf_c_message_get_packed_size(message);
	_cleanup_free_ uint8_t *payload = xcalloc(1, len + 1);

	rpc_reply_packed(stream, payload, protobuf_c_message_pack(message, payload));
}

void rpc_reply_empty(uint32_t stream)
{
	Grpc__Empty empty = GRPC__EMPTY__INIT;

	rpc_reply(stream, &empty.base);
}

void rpc_reply_error(uint32_t stream, const struct error *err)
{
	Ttrpc__Response response = TTRPC__RESPONSE__INIT;
	Ttrpc__Status status = TTRPC__STATUS__INIT;

	status.code = (int32_t)err->code;
	status.message = (char *)(uintptr_t)err->text;
	response.status = &status;
	send_response(stream, &response);
}

void rpc_fail(uint32_t stream, enum code code, const char *fmt, ...)
{
	struct error err = { .code = code };
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(err.text, sizeof(err.text), fmt, ap);
	va_end(ap);
	rpc_reply_error(stream, &err);
}

static const struct rpc_method *find_method(const char *service, const char *name)
{
	for (size_t i = 0; i < rpc_method_count; i++) {
		const struct rpc_method *m = &rpc_methods[i];

		if (strcmp(m->name, name) == 0 && strcmp(m->service, service) == 0)
			return m;
	}
	return NULL;
}

static void dispatch(uint32_t stream, struct arena *arena, const uint8_t *data, size_t len)
{
	const struct rpc_method *method;
	const ProtobufCMessage *input;
	const Ttrpc__Request *request;

	request = ttrpc__request__unpack(&arena->allocator, len, data);
	if (!request) {
		rpc_fail(stream, CODE_INVALID_ARGUMENT, "the request cannot be decoded");
		return;
	}
	method = find_method(request->service, request->method);
	if (!method) {
		rpc_fail(stream, CODE_UNIMPLEMENTED, "%.64s/%.64s is not implemented",
		        request->service, request->method);
		return;
	}
	input = protobuf_c_message_unpack(
	        method->input, &arena->allocator, request->payload.len, request->payload.data);
	if (!input) {
		rpc_fail(stream, CODE_INVALID_ARGUMENT, "the %s message cannot be decoded",
		        method->name);
		return;
	}
	method->handle(stream, input);
}

void rpc_frame(uint32_t stream, uint8_t type, uint8_t flags, const uint8_t *data, size_t len)
{
	struct arena arena;

	if (type != FRAME_REQUEST || flags != 0 || stream % 2 == 0) {
		rpc_fail(stream, CODE_INVALID_ARGUMENT, "stream %u: not a unary request", stream);
		return;
	}
	arena_init(&arena);
	dispatch(stream, &arena, data, len);
	arena_done(&arena);
}
