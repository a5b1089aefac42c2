/*
 * Calls to the other processes of the sandbox, over the channels of ipc/.
 *
 * A peer is the frontend's end of one channel. Requests wait in our memory
 * until the peer may be asked (most do one thing at a time), so none is ever
 * stuck in a socket. A call's callback fires exactly once: with the reply, or
 * with an error when the peer reports one, the deadline passes or
 * peer_fail_calls() says so. An answer that comes after its deadline is
 * dropped; until then its place at the peer stays taken.
 *
 * A peer that closes its end or breaks the protocol is lost, and the sandbox
 * with it (lost() does not return).
 */
#pragma once

#include "ipc/channel.h"
#include "shim-frontend/loop.h"

struct call;
struct peer;

/* reply is NULL when err is set, and the other way round; both are valid during the call. */
typedef void (*call_fn)(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *err);

struct peer_config {
	const char *name;
	const struct ipc_channel *channel;
	unsigned in_flight_max;
	void (*event)(void *ctx, uint16_t type, const ProtobufCMessage *event);
	void (*lost)(void *ctx, const struct peer *peer, const struct error *err);
	void *ctx;
};

#define PEER_QUEUE_MAX       1024
#define PEER_READ_TIMEOUT_MS 5000

struct peer {
	struct peer_config config;
	struct loop *loop;
	int fd; /* -1: closed as planned */
	struct watch watch;
	struct call *in_flight; /* sent, unanswered */
	unsigned n_in_flight;
	struct call *queue, **queue_last; /* not sent yet */
	unsigned n_queue;
	uint32_t seq;
	bool may_leave;      /* its end is no loss any more */
	struct timer unread; /* set while its socket is full */
};

/* Borrows the fd until peer_done(). -1: a peer that can only be asked in vain. */
int peer_init(struct peer *p, struct loop *loop, int fd, const struct peer_config *config,
	struct error *err);
void peer_done(struct peer *p);

/*
 * Asks. 0: fn will be called, never from here; or -errno with err: it will
 * not. timeout_ms includes the time in the queue.
 */
int call_start(struct peer *p, uint16_t type, const ProtobufCMessage *request, int timeout_ms,
	call_fn fn, void *ctx, struct error *err);

/* Ends all calls with err, now. Their answers, when they come, are dropped. */
void peer_fail_calls(struct peer *p, const struct error *err);
