/*
 * Unpacking protobufs from somebody else. protobuf-c itself has no limit: a
 * legal 4 MiB message can cost 92 times its size. The message is allocated
 * with malloc(), so protobuf_c_message_free_unpacked(msg, NULL) releases it.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

/* NULL when the bytes are no such message, or when it would take more than max bytes of memory. */
ProtobufCMessage *capped_unpack(const ProtobufCMessageDescriptor *d, size_t len,
	const uint8_t *data, size_t max);

/* In the message or in any message inside it. */
bool message_has_unknown_fields(const ProtobufCMessage *msg);
