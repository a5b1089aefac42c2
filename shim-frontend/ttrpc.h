/*
 * The ttRPC server that containerd calls: unary requests, any number at once
 * on a connection, answered in any order.
 *
 * A request becomes a struct rpc, which its handler answers exactly once, now
 * or later, whether or not the client is still there. What is answered in one
 * round of the loop leaves in one write per connection.
 *
 * Only uid 0 is served (SO_PEERCRED); anybody else's connection is closed
 * before a byte of it is read.
 */
#pragma once

#include <protobuf-c/protobuf-c.h>

#include "shim-frontend/loop.h"
#include "shim-frontend/wire.h"

#define TTRPC_CONNECTIONS_MAX 32
#define TTRPC_RPCS_MAX        4096         /* unanswered, of one connection */
#define TTRPC_OUT_HIGH        (1U << 20)   /* no further request is read above, */
#define TTRPC_OUT_LOW         (256U << 10) /* and again below */

struct conn;
struct server;
struct rpc;

/* Called once for a parked rpc that must be answered now: why is -ECANCELED or -ETIMEDOUT. */
typedef void (*rpc_give_up_fn)(void *ctx, struct rpc *rpc, int why);

struct rpc {
	struct server *server;
	struct conn *conn;        /* NULL: the client has gone, the answer will go nowhere */
	struct rpc *next, **prev; /* of the connection */
	const struct rpc_method *method;
	uint32_t stream;
	int64_t deadline_ms;       /* as clock_ms(); 0: none */
	ProtobufCMessage *request; /* lives as long as the rpc */
	rpc_give_up_fn give_up;
	void *ctx;
	struct timer timer;
	struct rpc *wait_next, **wait_prev; /* for who parks it: a list of waiters */
};

/* Answers and frees. */
void rpc_reply(struct rpc *rpc, const ProtobufCMessage *reply);
void rpc_reply_empty(struct rpc *rpc);
void rpc_fail(struct rpc *rpc, const struct error *err);

/*
 * To be answered later: give_up is called when the client goes away or its
 * deadline passes before that. The request is freed here.
 */
void rpc_park(struct rpc *rpc, rpc_give_up_fn give_up, void *ctx);

/* What is left for the work of this request, at most ms. */
int rpc_left_ms(const struct rpc *rpc, int ms);

struct rpc_method {
	const char *name;
	const ProtobufCMessageDescriptor *request;
	/* NULL: not served yet, answered Unimplemented */
	void (*handle)(void *ctx, struct rpc *rpc);
	size_t request_max; /* bytes; more is refused */
};

struct rpc_service {
	const char *name;
	const struct rpc_method *methods;
	size_t n_methods;
};

struct server {
	struct loop *loop;
	int fd; /* listening; borrowed */
	struct watch watch;
	const struct rpc_service *service;
	void *ctx;
	int frame_timeout_ms; /* how long a frame may take to come whole */
	struct conn *conns;
	unsigned n_conns;
	struct task flush;
	struct timer pause; /* of accepting, after an error */
	uint64_t refused;   /* connections */
};

/* Begins to accept. 0 or -errno. */
int server_start(struct server *s, struct loop *loop, int fd, const struct rpc_service *service,
	void *ctx, int frame_timeout_ms, struct error *err);

/* Sends what can be sent at once. Before an exit. */
void server_flush(struct server *s);

/*
 * Answers every request that is being worked on, but not the parked ones.
 * Before an exit: whoever works on them must not touch them any more.
 */
void server_fail_all(struct server *s, const struct error *err);

/* Closes everything; the rpcs still held answer into nothing. */
void server_done(struct server *s);
