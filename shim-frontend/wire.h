/*
 * ttRPC's bytes: frames out of and into a stream socket, for the server that
 * containerd calls and for the client that forwards events. No fd is read or
 * written in a way that could block, whatever its flags are.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "common/error.h"
#include "ipc/ttrpc.h"

/* What is still to be sent. All zero: empty. */
struct outbuf {
	uint8_t *data;
	size_t off, len, cap;
};

void outbuf_done(struct outbuf *b);

static inline size_t outbuf_size(const struct outbuf *b)
{
	return b->len - b->off;
}

/* Appends one frame. msg may be NULL: no data. */
void outbuf_frame(struct outbuf *b, enum ttrpc_type type, uint32_t stream,
	const ProtobufCMessage *msg);

/* 0: all is sent; -EAGAIN: the rest waits for room; another -errno: the connection is dead. */
int outbuf_flush(struct outbuf *b, int fd);

/*
 * What has come and is not used yet. All zero: empty. It grows as bytes come,
 * never by what a header announces, and all of them together stay below
 * INBUF_TOTAL_MAX beyond the first INBUF_MIN bytes of each.
 */
struct inbuf {
	uint8_t *data;
	size_t off, len, cap;
	uint64_t skip; /* bytes of a refused frame that are still to come */
};

#define INBUF_MIN       4096
#define INBUF_TOTAL_MAX (32U << 20)

void inbuf_done(struct inbuf *b);

/* Reads once. The number of bytes; 0: the peer has closed; -EAGAIN or another -errno. */
int inbuf_fill(struct inbuf *b, int fd);

/*
 * Takes the next frame. 1: *h and *data, valid until the next call; 0: more
 * bytes are needed; -EMSGSIZE: larger than max, -ENOBUFS: no memory for it:
 * then only *h is set and its data will be skipped.
 */
int inbuf_frame(struct inbuf *b, size_t max, struct ttrpc_header *h, const uint8_t **data);

/* A frame has begun and is not complete. */
bool inbuf_partial(const struct inbuf *b);

/*
 * Every string field of an encoded message (which must have been unpacked
 * without error before) is UTF-8 without NUL. protobuf-c checks neither, and
 * a NUL would cut a string short unseen.
 */
bool wire_strings_ok(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t len);

/* Makes a text fit to travel as a protobuf string: anything but printable ASCII becomes '?'. */
void wire_clean(char *text);
