/*
 * A process of a container and its standard streams.
 *
 * Requests that must wait for data, room or the end of the process are parked: each stream holds at
 * most one, each process a few waiters. What is parked is answered when the process or its streams
 * move, or with ABORTED when the process is freed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "loop.h"
#include "util.h"

#define WAITERS_MAX 8

struct job;
struct job_report;

struct stream {
	struct watch watch; /* its descriptor is -1 after the end of the stream */
	uint32_t parked;    /* stream id of the ReadStdout or ReadStderr that waits, or 0 */
	size_t parked_len;
};

struct input {
	struct watch watch;
	uint32_t parked; /* the WriteStdin that waits, or 0 */
	uint8_t *data;   /* what it still has to write */
	size_t len, total;
	bool close_after;
};

struct process {
	struct process *next;
	char *exec_id;   /* "" for the init of the container */
	struct job *job; /* the job that starts it */
	pid_t pid;       /* 0 until it exists */
	bool exited, waited, terminal;
	bool held; /* its end is not told yet: why its container ran out of memory goes first */
	int status; /* once exited: the code, or 128 plus the signal */
	struct input in;
	struct stream out, err;
	uint32_t waiters[WAITERS_MAX];
};

/*
 * A process that does not run yet. Without a terminal three pipes are made, whose far ends (for the
 * process, in the order 0, 1, 2) go to stdio and are the caller's; with one, stdio is set to -1.
 * Returns NULL with *err filled.
 */
struct process *process_new(const char *exec_id, bool terminal, int stdio[3], struct error *err);
void process_free(struct process *p);
void stdio_close(int stdio[3]);

/* The process of a job exists: note its pid and terminal. */
int process_born(struct process *p, struct job_report *report, struct error *err);

/* Take the pty's master. The streams of a process with a terminal begin with this. */
int process_set_terminal(struct process *p, int master_consume, struct error *err);

/* It was reaped with this wait status: answer who waits, unless that is held back. */
void process_exited(struct process *p, int wait_status);
void process_tell(struct process *p);

/* True if nobody will ask about it again: it was waited for and its streams have ended. */
bool process_spent(const struct process *p);

/* The requests; each is answered now or later. */
void process_wait(struct process *p, uint32_t stream);
void process_read(struct process *p, struct stream *s, uint32_t stream, uint32_t len);
void process_write(struct process *p, uint32_t stream, const uint8_t *data, size_t len);
void process_close_stdin(struct process *p);
int process_resize(struct process *p, uint32_t row, uint32_t column, struct error *err);

/* The queue to the host is short again: go on with a parked read. */
void process_resume(struct process *p);
