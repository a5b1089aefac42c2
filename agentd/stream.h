/*
 * The relay between a FIFO and the guest, one piece in flight in each
 * direction: the next ReadStdout is asked when the FIFO has taken everything,
 * the next byte of stdin is read when WriteStdin is answered. A slow reader
 * slows the process in the guest down; nothing is buffered beyond one piece,
 * and nothing runs while nothing moves.
 *
 * Output may go to a file instead. A file is never waited for: it takes a piece
 * at once, for as long as the disk makes agentd wait, which is why there is no
 * more than one piece for each turn of the loop, and why mountd opens no file
 * of a server's that may never answer.
 */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

#include "agentd/agent_client.h"

/* Who a stream belongs to. Borrowed: lives as long as the stream. */
struct stream_owner {
	struct event_base *base;
	struct agent_client *agent;
	const char *container, *exec; /* "": the init */
};

/* stdout or stderr */
struct output {
	const struct stream_owner *owner;
	const struct agent_method *method;
	const char *name;
	int fd; /* a FIFO, O_RDWR, or a file, O_APPEND; -1: what comes is thrown away */
	bool is_file;
	struct event writable;
	struct agent_call *call;
	uint8_t *data; /* what the FIFO has not taken yet */
	size_t len, sent;
	uint64_t moved; /* bytes ever, in and out: shows progress */
	bool done;	/* ended, everything is in the FIFO, the FIFO is closed */
	void (*ended)(void *ctx);
	void *ctx;
};

#define OUTPUT_INIT { .fd = -1 }

/* Takes the fd; -1 for none. ended() is called once, when output_give_up() or the end has come. */
void output_init(struct output *o, const struct stream_owner *owner,
	const struct agent_method *method, const char *name, int fd_consume,
	void (*ended)(void *ctx), void *ctx);
void output_start(struct output *o);

/* Does it wait for the FIFO's reader? */
bool output_is_blocked(const struct output *o);

/* Ends it now, whatever is left, and says so in the log. */
void output_give_up(struct output *o);

/* Releases it; ended() is not called. */
void output_done(struct output *o);

struct input {
	const struct stream_owner *owner;
	int fd;	   /* a FIFO, for reading; -1: there is no stdin, or no more */
	int spare; /* for writing, so that a writer who goes is not the end; -1: it may be */
	bool closed; /* input_close() was called */
	struct event readable;
	struct agent_call *call;
	uint8_t *data; /* what the guest has not taken yet */
	size_t len, sent;
};

#define INPUT_INIT { .fd = -1, .spare = -1 }

/* Takes the fds; -1 for none. */
void input_init(struct input *in, const struct stream_owner *owner, int fd_consume,
	int spare_consume);

/* Without a FIFO this is the end of stdin at once. */
void input_start(struct input *in);

/* From now on the end of the last writer is the end of stdin. May be called twice. */
void input_close(struct input *in);

/* Releases it. */
void input_done(struct input *in);
