/*
 * A neighbour that has been taken over: it holds what the real one holds, an
 * end of a channel, and says there whatever is wrong to say.
 *
 * A target is a running role seen from one such end. For every message that
 * may come from there the cases are made from the channel's table
 * (ipc/tables.c) and the message's descriptor: a valid one, which must be
 * taken, and that one spoiled in one way at a time. Of a spoiled one the role
 * must be lost: exit status 70, one line in the log that names the channel or
 * the message and says why, no answer, nothing said to anybody else.
 *
 * The names of the attack cases (A1, B3, ...) are those of README.md beside this.
 */
#pragma once

#include "ipc/channel.h"
#include "tests/lib/test.h"

#define HOSTILE_FDS_MAX 254 /* the kernel takes 253 in one message */
#define HOSTILE_SEQ	1000 /* of the requests sent here */

/* A packet before it is sent. Owns its fds. */
struct hostile_packet {
	size_t len;
	union {
		struct ipc_header hdr;
		uint8_t bytes[4 * IPC_PACKET_MAX];
	};
	size_t n_fds;
	int fds[HOSTILE_FDS_MAX];
	size_t n_first; /* not 0: two SCM_RIGHTS, the first with so many */
	bool credentials; /* SCM_CREDENTIALS beside them */
};

/* The role, once it runs. Everything in it stays the target's. */
struct hostile_end {
	int pid;
	int fd;	 /* our end */
	int number; /* of its end, in the role (ipc/fds.h) */
	int log; /* of its fd 2 */
	uint32_t seq; /* of the request it has asked us; 0: none */
	/* the far ends of its other channels: nothing may come there. 0 ends the list */
	int others[8];
};

struct hostile_target {
	const char *name;
	const struct ipc_channel *channel;
	bool asker;  /* ours is the asker's end: requests come from here; else replies */
	bool events; /* the table's events come from here */

	/* Starts the role and brings it to where the row is expected from us. */
	void (*up)(const struct ipc_message *row, struct hostile_end *ret);
	/* ended: the role has been waited for. */
	void (*down)(bool ended);

	/* The rest may be NULL or 0. */

	/* hostile_payloads() takes the rows from the first to before the last; 0: all. */
	size_t first_row, end_row;

	/* Rows of the table that the role asks nobody for: they have no time to be answered at. */
	bool (*never_asked)(const struct ipc_message *row);
	/* Changes the generic message (every field set) into one that the role takes. */
	void (*adjust)(const struct ipc_message *row, ProtobufCMessage *msg);
	/* What others must do after a valid message so that it is answered. */
	void (*assist)(const struct ipc_message *row);
	/* Makes the role look at our end, where it does not by itself. */
	void (*poke)(void);
	/* The role ends as planned, with 0, after a valid message of this row. */
	bool (*is_last)(const struct ipc_message *row);
	/* In place of the exit: what else the role must do when we are lost. The log is checked. */
	void (*lost)(const char *why);
	/* More that must hold after the exit. */
	void (*after)(const struct ipc_message *row);
};

/* Each runs its cases for all rows, and says how many there were. */
void hostile_valid(const struct hostile_target *t);
void hostile_framing(const struct hostile_target *t);
void hostile_kinds(const struct hostile_target *t);
void hostile_fds(const struct hostile_target *t);
void hostile_payloads(const struct hostile_target *t);

/*
 * A11: valid requests of a row without end, whose answers nobody reads. The
 * role must be lost within its deadline, having kept no memory for them.
 */
void hostile_deaf(const struct hostile_target *t, uint16_t type);

/* One TEST for each of them. */
#define HOSTILE_TESTS(prefix, target)                         \
	TEST(prefix##_valid) { hostile_valid(&(target)); }       \
	TEST(prefix##_framing) { hostile_framing(&(target)); }   \
	TEST(prefix##_kinds) { hostile_kinds(&(target)); }       \
	TEST(prefix##_fds) { hostile_fds(&(target)); }           \
	TEST(prefix##_payloads) { hostile_payloads(&(target)); }

/* ---- for cases made by hand, and between the files of this ---- */

/* The row may come from our end. */
bool hostile_may_send(const struct hostile_target *t, const struct ipc_message *row);

/* The valid packet of a row, with its fds; seq as in struct hostile_end. */
void hostile_good(const struct hostile_target *t, const struct ipc_message *row, uint32_t seq,
	struct hostile_packet *ret);
void hostile_packet_done(struct hostile_packet *p);

/* Puts a payload into it, and its length into the header. */
void hostile_set_payload(struct hostile_packet *p, const void *data, size_t len);

/* Sends it, or fails the test. The other: whether it could. */
bool hostile_try_send(int fd, const struct hostile_packet *p);
void hostile_send(int fd, const struct hostile_packet *p);

/* What must come of a case. */
enum hostile_outcome {
	HOSTILE_LOST,
	HOSTILE_EITHER, /* lost, or refused by one answer, or taken: never a crash, never two answers */
};

struct hostile_case {
	const char *attack, *what;
	const char *why; /* a part of the log line; several, any of which will do: "a|b" */
	enum hostile_outcome want;
	/* Spoils the packet; false: there is nothing to spoil in this one. NULL: nothing to do. */
	bool (*spoil)(struct hostile_packet *p, const struct ipc_message *row, const void *arg);
	const void *arg;
	/* What is done to the running role before it is sent. NULL: nothing */
	void (*prepare)(const struct hostile_end *end);
};

/* 1: the case has run; 0: it does not apply to this row. */
int hostile_case(const struct hostile_target *t, const struct ipc_message *row,
	const struct hostile_case *c);

/*
 * Each case once, where it does not matter which row it is: the rows for which
 * `of` (NULL: always) holds take turns. How many have run.
 */
unsigned hostile_in_turn(const struct hostile_target *t, const struct hostile_case *cases, size_t n,
	bool (*of)(const struct hostile_target *t, const struct ipc_message *row));

/* Waits for the role's end and looks at what it leaves. quiet: no answer may be there. */
void hostile_expect_lost(const struct hostile_end *end, const char *where, const char *names,
	const char *why, bool quiet);

/* A descriptor's message with every field set: numbers 1, texts "a", lists of one. free_unpacked(). */
ProtobufCMessage *hostile_fill(const ProtobufCMessageDescriptor *d);
