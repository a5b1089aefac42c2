/*
 * QMP, QEMU's control protocol: one JSON object a line. QEMU is the least
 * trusted peer vmmd has, so a line is at most QMP_LINE_MAX bytes,
 * QMP_DEPTH_MAX deep and QMP_VALUES_MAX values wide, events come at no more
 * than a bounded rate, one command is in flight at a time, and anything that
 * does not fit (an answer nobody asked for, another id, two things in one, no
 * JSON) is -EPROTO: the VM is lost.
 *
 * Nothing here waits: the caller polls qmp->fd.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct json_object;

#define QMP_LINE_MAX    (1024 * 1024)
#define QMP_DEPTH_MAX   32
#define QMP_VALUES_MAX  16384 /* 255 hot-pluggable CPUs are some 3,000; each costs up to 400 bytes */
#define QMP_COMMAND_MAX 16384 /* a line of ours: an answered QEMU has room for it in the socket */

/*
 * A real QEMU limits the rate of what a guest can cause, or says it once. So
 * many events may come at once, and so many more each second.
 */
#define QMP_EVENTS_BURST 10000
#define QMP_EVENTS_RATE  100

/* Called for each event as it is read. data is borrowed and may be NULL. */
typedef void (*qmp_event_fn)(void *ctx, const char *event, struct json_object *data);

struct qmp {
	int fd; /* ours; -1: QEMU has closed it, or it is lost */
	bool greeted;
	uint64_t next_id;
	uint64_t waiting;     /* id of the command in flight; 0: none */
	struct error failure; /* of the last command, code 0: it succeeded; ENODEV: no such device */
	struct json_object *result; /* what the last command returned, NULL after a failure */
	qmp_event_fn event;
	void *ctx;
	unsigned events_left; /* of the burst */
	int64_t events_since; /* when events_left was right */
	char *line; /* what came of a line so far */
	size_t len, size;
};

#define QMP_INIT { .fd = -1, .next_id = 1, .events_left = QMP_EVENTS_BURST }

void qmp_done(struct qmp *qmp);

/*
 * Reads what is there and handles the whole lines of it. 1: read something,
 * -EAGAIN: nothing there, 0: QEMU has closed its end, -EPROTO or another
 * -errno with err: lost.
 */
int qmp_read(struct qmp *qmp, struct error *err);

/*
 * Sends a command. Its arguments (NULL: none) and the fd that goes with it (-1:
 * none) are borrowed. It is answered when qmp->waiting is 0 again; qmp->failure
 * and qmp->result say how. 0, or -errno with err: -EPIPE when QEMU has closed its
 * end, -EPROTO when it does not read what it is sent.
 */
int qmp_send(struct qmp *qmp, const char *command, struct json_object *arguments, int fd,
	struct error *err);
