/*
 * QMP, QEMU's control protocol: one JSON object a line. QEMU is the least
 * trusted peer vmmd has, so a line is at most QMP_LINE_MAX bytes and
 * QMP_DEPTH_MAX deep, one command is in flight at a time, and anything that
 * does not fit (an answer nobody asked for, another id, no JSON) is -EPROTO:
 * the VM is lost.
 *
 * Nothing here waits: the caller polls qmp->fd.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct json_object;

#define QMP_LINE_MAX  (1024 * 1024)
#define QMP_DEPTH_MAX 32

/* Called for each event as it is read. data is borrowed and may be NULL. */
typedef void (*qmp_event_fn)(void *ctx, const char *event, struct json_object *data);

struct qmp {
	int fd; /* ours; -1: QEMU has closed it, or it is lost */
	bool greeted;
	uint64_t next_id;
	uint64_t waiting;     /* id of the command in flight; 0: none */
	struct error failure; /* of the last command, code 0: it succeeded */
	qmp_event_fn event;
	void *ctx;
	char *line; /* what came of a line so far */
	size_t len, size;
};

#define QMP_INIT { .fd = -1, .next_id = 1 }

void qmp_done(struct qmp *qmp);

/*
 * Reads what is there and handles the whole lines of it. 1: read something,
 * -EAGAIN: nothing there, 0: QEMU has closed its end, -EPROTO or another
 * -errno with err: lost.
 */
int qmp_read(struct qmp *qmp, struct error *err);

/*
 * Sends a command without arguments. It is answered when qmp->waiting is 0
 * again, qmp->failure says how. 0, or -errno with err.
 */
int qmp_send(struct qmp *qmp, const char *command, struct error *err);
