/*
 * What mountd has sent and no request has asked for yet: config.json by
 * container index, FIFOs by process number. They arrive on another channel than
 * the request that needs them, so either may come first.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/fd.h"

/* More than this many unclaimed messages: the peer is lost. */
#define INBOX_MAX 1024

struct parcel;

struct inbox {
	struct parcel *first;
	unsigned n;
};

#define INBOX_INIT { .first = NULL }

void inbox_done(struct inbox *box);

/*
 * Reads one message from the channel. 1: kept; 0: the peer has closed; -EAGAIN;
 * another -errno with err: the peer is lost.
 */
int inbox_recv(struct inbox *box, int fd, struct error *err);

/*
 * Moves the fds of (type, number) to *ret, which is the caller's, as is the message if it is
 * wanted (ret_msg): ipc_free(). false: not there.
 */
bool inbox_take(struct inbox *box, uint16_t type, uint32_t number, struct fdlist *ret,
	ProtobufCMessage **ret_msg);

/* Closes them, if they are there. */
void inbox_drop(struct inbox *box, uint16_t type, uint32_t number);
