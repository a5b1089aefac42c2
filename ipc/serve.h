/*
 * The shape of a blocking helper (netd, mountd, vmmd, persistd): poll, receive
 * one packet, check the table row, call the handler, send exactly one answer.
 * A request outside the table or the state ends the helper.
 */
#pragma once

#include <poll.h>

#include "ipc/channel.h"

struct helper;

/*
 * Does the work of one request. Fds to answer with go to reply_fds (consumed);
 * *reply is set to a message (the default is ipc.Empty) that must live until
 * the handler is called again. 0, or -errno with err: answered as IPC_ERROR,
 * the helper goes on.
 */
typedef int (*helper_handler)(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err);

struct helper_request {
	uint16_t type;
	helper_handler handle;
	uint32_t states; /* a mask: in which the request is permitted */
	uint32_t then;	 /* the state after success; 0: unchanged */
};

/* Another fd the loop watches. */
struct helper_source {
	int fd; /* -1: not watched */
	short events;
	/* 0, or -errno with err: ends the helper */
	int (*ready)(struct helper *h, struct helper_source *source, short revents,
		struct error *err);
};

#define HELPER_SOURCES_MAX 4

struct helper {
	const struct ipc_channel *channel;
	int fd; /* of the channel to the frontend */
	const struct helper_request *requests;
	size_t n_requests;
	uint32_t state;
	void *ctx;  /* the helper's own struct */
	bool done;  /* set by a handler: end after this answer, with success */
	struct helper_source sources[HELPER_SOURCES_MAX];
};

/*
 * Until the frontend goes away or done is set: 0. Otherwise -errno with err.
 * Nobody watches for the supervisor's end: the kernel ends all of us with it.
 */
int helper_serve(struct helper *h, struct error *err);
