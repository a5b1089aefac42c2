/*
 * The peers of a role, played by the input: what they send on its channels,
 * well formed or not, with real fds.
 *
 * One packet of the input is
 *
 *	u8	shape (enum packet_shape)
 *	u8	which row of the table; not of an answer
 *	[...]	what the bits of the shape ask for
 *	u16, payload
 *
 * so that a few bytes make a packet that gets past the header, and any header
 * at all can still be made.
 */
#pragma once

#include "ipc/channel.h"
#include "ipc/ctl.h"
#include "tests/fuzz/lib/input.h"

enum packet_shape {
	SHAPE_REQUEST = 0,
	SHAPE_EVENT = 1,
	SHAPE_REPLY = 2, /* to what the role has asked first and nobody has answered */
	SHAPE_ERROR = 3,
	SHAPE_KIND = 3,
	SHAPE_FDS = 1 << 2,    /* not those of the row: u8 count, that many u8 */
	SHAPE_HEADER = 1 << 3, /* u8 which byte of it, u8 what is put there */
	SHAPE_NEWEST = 1 << 4, /* answers what was asked last */
	SHAPE_SEQ = 1 << 5,    /* u8: another number than the right one */
	SHAPE_REPEAT = 1 << 6, /* u8: how often more; of a request each with the next number */
	SHAPE_RAW = 1 << 7,    /* no row: the payload is the packet, header and all */
};

#define ASKED_MAX 32

/* The far end of one of the role's channels. */
struct peer_end {
	int fd; /* ours; -1: closed */
	const struct ipc_channel *channel;
	uint32_t seq; /* of its last request */
	struct {
		uint16_t type;
		uint32_t seq;
	} asked[ASKED_MAX]; /* by the role, unanswered; the first ones */
	unsigned n_asked;
	/* What to send for the i-th fd of a row; NULL or -1: any of that kind. Borrowed. */
	int (*fd_for)(void *ctx, uint16_t type, size_t i);
	/* The fds of a packet that came, to take. NULL: closed. */
	void (*fds_came)(void *ctx, const struct ipc_header *hdr, const uint8_t *payload,
		struct fdlist *fds);
	void *ctx;
};

/* Connects it: the other end becomes the role's number `at`. */
void peer_open(struct peer_end *p, const struct ipc_channel *channel, int at);
void peer_close(struct peer_end *p);

/* Sends one packet of the input. */
void peer_send(struct peer_end *p, struct bytes *in);

/* Sends one well-formed packet. */
void peer_ask(struct peer_end *p, uint16_t type, const ProtobufCMessage *msg);
void peer_tell(struct peer_end *p, uint16_t type, const ProtobufCMessage *msg);

/* Reads what the role has sent; answers all it has asked, with success. */
void peer_read(struct peer_end *p);
void peer_answer_all(struct peer_end *p);

/*
 * A packet of the input on a control channel: u8 type (bit 7: raw bytes follow), u8 role (bit 7: a
 * text without an end), u16 status, text.
 */
void ctl_say(int fd, struct bytes *in);
