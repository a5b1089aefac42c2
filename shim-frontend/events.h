/*
 * Events for containerd: a client of its Events service. One event is on its
 * way at a time, because containerd handles the requests of one connection in
 * any order. An event that is not acknowledged is sent again on the next
 * connection, which mountd opens (containerd wants a root peer there).
 *
 * At most EVENTS_MAX wait; beyond, the oldest that is not an exit is dropped.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "shim-frontend/call.h"
#include "shim-frontend/loop.h"
#include "shim-frontend/wire.h"

#define EVENTS_MAX          1024
#define EVENTS_BYTES_MAX    (8U << 20)
#define EVENTS_ACK_MS       10000
#define EVENTS_RETRY_MIN_MS 250
#define EVENTS_RETRY_MAX_MS 10000
#define EVENTS_OPEN_MS      5000
#define EVENTS_REFUSALS_MAX 3

struct queued_event;

struct events {
	struct loop *loop;
	struct peer *mountd;
	const char *namespace;
	bool enabled; /* containerd has a socket for us */
	int fd;       /* -1: not connected */
	struct watch watch;
	struct inbuf in;
	struct outbuf out;
	uint32_t stream;
	bool in_flight; /* the first of the queue waits for its answer */
	bool opening;   /* mountd has been asked */
	struct queued_event *first, **last;
	unsigned n;
	size_t bytes;
	uint64_t dropped;
	unsigned refusals; /* of the first of the queue */
	int retry_ms;
	struct timer retry, ack;
	struct task pump;
	void (*drained)(void *ctx); /* when the queue becomes empty; NULL: nobody cares */
	void *ctx;
};

/* fd: connected to containerd, owned from here on; not a socket: events are not sent at all. */
void events_init(struct events *e, struct loop *loop, int fd_consume, struct peer *mountd,
	const char *namespace);
void events_done(struct events *e);

/* topic as in "/tasks/exit", type as in "containerd.events.TaskExit". */
void events_publish(struct events *e, const char *topic, const char *type,
	const ProtobufCMessage *event);

/* containerd is there again, as it has just said something: what waits for the next try goes now. */
void events_hurry(struct events *e);

static inline bool events_idle(const struct events *e)
{
	return e->n == 0;
}
