/*
 * A QEMU of a script, behind vmmd's own code: it keeps what it was given (fds by
 * name, sets, nodes, objects, netdevs, devices), makes any command fail, or lies.
 */
#pragma once

#include <pthread.h>

#include "ipc/tables.h"
#include "tests/lib/test.h"
#include "vmmd/vmmd.h"

enum lie {
	HONEST,
	REFUSE,		/* an error that a guest or a host may cause */
	CONTROL,	/* the same, in words that are none */
	OTHER_ID,	/* the answer to another command */
	TWICE,		/* two answers */
	BEFORE,		/* an answer before the question */
	BOTH,		/* an error and a value in one */
	HUGE_ID,	/* an id beyond 64 bits */
	NO_JSON,
	DEEP,
	WIDE,		/* more values than any answer has */
	FLOOD,		/* events without end */
	HALF,		/* half a line, and the end */
	DIES,
	WRONG_VALUE,	/* a value of another shape, and numbers as no fd and no CPU has */
	STOPS,		/* events that say that the guest stands still, unasked */
	LIES,
};

struct script {
	struct vm vm;
	struct helper helper;
	struct vmmd_options options;
	pthread_t thread;
	int qemu; /* its end */
	int frontend, ctl, saved;
	unsigned commands, lie_at;
	enum lie lie;
	bool keeps_devices; /* the guest never lets go */
	char has[64][80];   /* "kind:id" */
	size_t n;
	char last_fds[128];
	unsigned fds_received;
};

void script_start(struct script *s);
void script_end(struct script *s);

/* From now on it tells the lie instead of its n-th answer. */
void script_arm(struct script *s, enum lie lie, unsigned at);

/* On QMP, as it is. */
void script_say(struct script *s, const char *text);

/* What it has is gone, as if the guest had let go of it. false: it has none. */
bool script_forget(struct script *s, const char *kind, const char *id);

/* Stops it from answering, and lets it go on. */
void script_hold(struct script *s);
void script_release(struct script *s);
/* While it is held: what it has been asked meanwhile, it does not hear. The test has answered. */
void script_unhear(struct script *s);

/* A file of no name, open as the flags say. */
int some_fd(int flags);

/* One of each kind of thing, with index 7. */
enum { OP_NIC, OP_VHOST, OP_DISK, OP_MEMORY, OP_CPU, OPERATIONS };

struct operation {
	const char *name;
	int (*add)(struct script *s, struct error *err);
	int (*remove)(struct script *s, struct error *err);
	unsigned commands; /* that add it */
};

extern const struct operation operations[OPERATIONS];
