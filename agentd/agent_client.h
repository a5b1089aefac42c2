/*
 * ttRPC client of the guest's agent, over a connected stream socket.
 *
 * Our guest says hello first (ipc/ttrpc.h): until then nothing is sent, because
 * a guest that still opens its port drops what arrives. Then requests with odd
 * stream ids, answered in any order.
 *
 * The agent is hostile. What it sends is bounded (frames of 4 MiB, a capped
 * protobuf allocation) and anything the protocol does not know - another frame
 * type, an answer to no question, a message that cannot be decoded - loses it:
 * the stream is closed, every pending call fails, ops->lost is called once, and
 * every later call fails at once.
 */
#pragma once

#include <event2/event.h>
#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>

#include "common/error.h"

#define AGENT_HELLO "bulkhead-agent/1"

struct agent_call;
struct agent_client;

/* One method: its name, what it answers, and how long it may take. */
struct agent_method {
	const char *service, *name;
	const ProtobufCMessageDescriptor *reply;
	int timeout_ms; /* 0: for ever */
};

extern const struct agent_method agent_create_sandbox;
extern const struct agent_method agent_update_interface;
extern const struct agent_method agent_add_arp_neighbors;
extern const struct agent_method agent_update_routes;
extern const struct agent_method agent_create_container;
extern const struct agent_method agent_start_container;
extern const struct agent_method agent_remove_container;
extern const struct agent_method agent_signal_process;
extern const struct agent_method agent_wait_process;
extern const struct agent_method agent_read_stdout;
extern const struct agent_method agent_read_stderr;
extern const struct agent_method agent_write_stdin;
extern const struct agent_method agent_close_stdin;
extern const struct agent_method agent_exec_process;
extern const struct agent_method agent_tty_win_resize;
extern const struct agent_method agent_pause_container;
extern const struct agent_method agent_resume_container;
extern const struct agent_method agent_update_container;
extern const struct agent_method agent_online_cpu_mem;
extern const struct agent_method agent_stats_container;
extern const struct agent_method agent_get_oom_event;
extern const struct agent_method agent_list_processes;

struct agent_ops {
	/* It has said hello, as it must. */
	void (*hello)(void *ctx);
	/* Once, when nothing more will come. Not called by agent_client_free(). */
	void (*lost)(void *ctx, const struct error *reason);
};

/*
 * Called exactly once for each call, never from within agent_call(): with the
 * reply, which is released afterwards (members may be stolen), or with an
 * error: the agent's own status as an errno (README.md has the table),
 * ETIMEDOUT, or ENOTCONN when the agent is lost.
 */
typedef void agent_reply_fn(void *ctx, ProtobufCMessage *reply, const struct error *err);

/* Takes the fd, also on failure. NULL: out of memory. */
struct agent_client *agent_client_new(struct event_base *base, int fd_consume,
	const struct agent_ops *ops, void *ctx);
void agent_client_free(struct agent_client *c);

/* Why the agent is lost, or NULL while it is not. */
const struct error *agent_client_lost(const struct agent_client *c);

/* How long it has had nothing to do for us since its hello: the host's share of a start. */
int64_t agent_client_idle_us(const struct agent_client *c);

/* The questions it has not answered, those whose time is up included. */
unsigned agent_client_unanswered(const struct agent_client *c);

/* Declares it lost: the caller has seen it break the protocol. */
void agent_client_lose(struct agent_client *c, const struct error *reason);

/*
 * Asks. 0, and the callback comes; or -errno with err, and it does not:
 * -ENOTCONN (lost, or no hello yet), -EMSGSIZE, -EBUSY (it leaves too much unread or unanswered).
 */
int agent_call(struct agent_client *c, const struct agent_method *method,
	const ProtobufCMessage *request, agent_reply_fn *fn, void *ctx, struct agent_call **ret,
	struct error *err);

/* Nobody waits for the answer any more: the callback will not come. *call is NULL afterwards. */
void agent_call_cancel(struct agent_call **call);
