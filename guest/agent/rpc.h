/*
 * The ttRPC server: decode a request in bounded memory, find its row in the table, call the
 * handler. A handler answers exactly once, now or later, by the stream id of the request.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stddef.h>
#include <stdint.h>

#include "util.h"

/* The message is gone when the handler returns. */
typedef void rpc_handler(uint32_t stream, const ProtobufCMessage *request);

struct rpc_method {
	const char *service, *name;
	const ProtobufCMessageDescriptor *input;
	rpc_handler *handle;
};

/* The table of everything the agent answers (service.c). */
extern const struct rpc_method rpc_methods[];
extern const size_t rpc_method_count;

/* Handle one frame from the host. */
void rpc_frame(uint32_t stream, uint8_t type, uint8_t flags, const uint8_t *data, size_t len);

void rpc_reply(uint32_t stream, const ProtobufCMessage *message);
/* With a message that is packed already. */
void rpc_reply_packed(uint32_t stream, uint8_t *payload, size_t len);
void rpc_reply_empty(uint32_t stream);
void rpc_reply_error(uint32_t stream, const struct error *err);
void rpc_fail(uint32_t stream, enum code code, const char *fmt, ...) _printf_(3, 4);
