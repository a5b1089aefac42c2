/* The guest's agent, played by the test: its side of ttRPC, honest or not. */
#pragma once

#include <protobuf-c/protobuf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "agent.pb-c.h"
#include "bulkhead.pb-c.h"
#include "ipc/ttrpc.h"

struct guest_request {
	uint32_t stream;
	char method[32];
	ProtobufCMessage *message; /* by the method; freed by guest_request_done() */
};

void guest_request_done(struct guest_request *r);

/* A frame as it is said to be: declared is the length in its header. */
void guest_frame(int fd, uint32_t declared, uint32_t stream, uint8_t type, uint8_t flags,
	const void *data, size_t len);
void guest_hello(int fd);

/* The GetOOMEvent that came last; 0: none. guest_next() passes over it. */
extern uint32_t guest_oom_stream;

/* false: agentd has closed the stream. Fails the test after 15 s. */
bool guest_next(int fd, struct guest_request *ret);

/* Takes the GetOOMEvent that follows CreateSandbox, so that nothing is on its way. */
void guest_take_oom(int fd);

/* The next request is this. */
void guest_expect(int fd, const char *method, struct guest_request *ret);

/* reply NULL: an Empty */
void guest_reply(int fd, uint32_t stream, const ProtobufCMessage *reply);
void guest_fail(int fd, uint32_t stream, int code, const char *message);

/* The next request is this; it succeeds with an Empty. */
void guest_grant(int fd, const char *method);

/* An honest agent with one process at a time, in a child process. */
struct guest_plan {
	size_t out, err;   /* how much it writes: guest_byte() of each position */
	bool cat;	   /* else: what comes to stdin goes to stdout */
	bool exit_first;   /* WaitProcess is answered before the output has gone */
	bool hold_stdout;  /* stdout never ends */
	size_t piece;	   /* of one answer at most; 0: what was asked for */
	int status;
};

uint8_t guest_byte(int which, size_t i);
pid_t guest_fork(int fd, const struct guest_plan *plan);
