/*
 * Channels: one AF_UNIX SOCK_SEQPACKET socket pair for each two processes that
 * may talk; one packet is one message with its fds. A 16-byte header, then a
 * protobuf payload (ipc/<channel>.proto), at most 16 KiB together.
 *
 * The tables (ipc/tables.h) say for every message which fds it carries, by
 * number and kind. Whatever does not fit its row ends the relation: there is
 * no error answer to a peer that breaks the protocol, only channel_recv()'s
 * -EPROTO, upon which the caller exits.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdint.h>

#include "common/fd.h"

#define IPC_PACKET_MAX 16384
#define IPC_MAGIC      0x4b42 /* "BK" */
#define IPC_VERSION    1

enum ipc_kind {
	IPC_REQUEST = 1, /* answered by exactly one REPLY or ERROR with the same type and seq */
	IPC_REPLY,
	IPC_ERROR, /* payload: ipc.Error, no fds */
	IPC_EVENT, /* not answered: unasked news, and fds pushed ahead of an answer; seq is 0 */
};

struct ipc_header {
	uint16_t magic;
	uint8_t version;
	uint8_t kind;
	uint16_t type;
	uint8_t nfds;
	uint8_t reserved; /* 0 */
	uint32_t seq;	  /* chosen by the asker, never 0 in a request */
	uint32_t len;	  /* of the payload: exactly the rest of the packet */
};

_Static_assert(sizeof(struct ipc_header) == 16, "ipc_header has no padding");

#define IPC_PAYLOAD_MAX (IPC_PACKET_MAX - sizeof(struct ipc_header))

/* One row of a channel's table. */
struct ipc_message {
	uint16_t type;
	const char *name;
	/* What may carry this type. A request has a reply; an event has neither. */
	const ProtobufCMessageDescriptor *request, *reply, *event;
	/* The fds that travel with it (with the reply, for a request), all or none of `optional`. */
	uint8_t nfds;
	enum fd_kind fds[FDLIST_MAX];
	uint8_t min_fds; /* of nfds; the same unless the last ones may be missing */
};

struct ipc_channel {
	const char *name; /* "frontend-mountd": the asker first; events with fds come from it */
	const struct ipc_message *messages;
	size_t n_messages;
};

const struct ipc_message *ipc_channel_message(const struct ipc_channel *def, uint16_t type);

/* A received message. Owns its fds; the payload is decoded by ipc_decode(). */
struct ipc_packet {
	struct ipc_header hdr;
	const struct ipc_message *row;
	struct fdlist fds;
	uint8_t payload[IPC_PAYLOAD_MAX];
};

/* Closes the fds that nobody has taken. */
void ipc_packet_done(struct ipc_packet *p);

/*
 * Reads one packet, takes all its fds, then checks header, table row, number
 * and kind of fds. flags: 0 or MSG_DONTWAIT.
 * 1: *p is filled, ipc_packet_done() it; 0: the peer has closed; -EAGAIN;
 * -EPROTO with err: the peer is lost.
 */
int channel_recv(int fd, const struct ipc_channel *def, int flags, struct ipc_packet *p,
	struct error *err);

/*
 * Sends one packet. The fds are borrowed. Blocks at most timeout_ms for room
 * (a peer that does not read is lost: -ETIMEDOUT). -EPIPE: the peer is gone;
 * -EMSGSIZE: the payload is too large.
 */
int channel_send(int fd, const struct ipc_channel *def, enum ipc_kind kind, uint16_t type,
	uint32_t seq, const ProtobufCMessage *payload, const int *fds, size_t nfds, int timeout_ms,
	struct error *err);

/* Sends IPC_ERROR with number and sentence. */
int channel_send_error(int fd, uint16_t type, uint32_t seq, const struct error *error,
	int timeout_ms, struct error *err);

/*
 * Decodes the payload by the row's descriptor for the packet's kind. Memory is
 * capped at 16 times the packet's limit; an unknown field is an error, and so
 * is any encoding other than the one our own side would write. Returns
 * the message, released with ipc_free(), or NULL with err (the peer is lost).
 */
ProtobufCMessage *ipc_decode(const struct ipc_packet *p, struct error *err);
void ipc_free(ProtobufCMessage *msg);

/* Fills *ret from an IPC_ERROR packet. 0, or -EPROTO when it is none. */
int ipc_decode_error(const struct ipc_packet *p, struct error *ret);

/* 5 s: how long a peer may leave its end of a channel unread. */
#define IPC_SEND_TIMEOUT_MS 5000
