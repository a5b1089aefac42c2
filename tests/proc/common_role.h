/*
 * A real helper, started as the supervisor starts it: its fds at their
 * numbers, a void to join, a log socket, and the test at the far ends.
 */
#pragma once

#include <sys/types.h>

#include "ipc/channel.h"
#include "ipc/ctl.h"
#include "tests/lib/test.h"

#define TEST_UID 2000000100U /* of no user, and of no sandbox of this machine */

struct started {
	int pid;
	int ctl;
	int log;
	int channel; /* of the frontend */
};

/* Skips the test where it is not root with the capabilities of root. */
void need_root(void);

/* A pidfd of a process that lives in a void (tests/lib/void.h). */
int void_start(void);

/* What role_start() says besides the uid; NULL: nothing more. */
extern const char *role_options[2];

/*
 * Starts binary with FD_CTL, the channel at 4 and, where number_of_extra is
 * not -1, fd extra there; the void goes to number_of_void. uid=TEST_UID.
 */
struct started role_start(const char *binary, int number_of_void, int number_of_extra, int extra);

/* Waits for READY and says LOCK. */
void role_lock(struct started *r);

/* role_start() and role_lock(). */
struct started role_up(const char *binary, int number_of_void, int number_of_extra, int extra);

/* The wait status, within ms; the test's ends are closed before, or stay. */
int role_ends(struct started *r, int ms);
void role_close(struct started *r);

/* The newest line of its log that contains text, waiting up to 2 s; fails the test without one. */
void role_log_contains(struct started *r, const char *text);

/* One request and its answer: 0, or the code of IPC_ERROR with its sentence in err. */
int role_ask(struct started *r, const struct ipc_channel *def, uint16_t type,
	const ProtobufCMessage *request, struct error *err);
/* The same with the answer's message, if there is one: ipc_free(). */
int role_ask_for(struct started *r, const struct ipc_channel *def, uint16_t type,
	const ProtobufCMessage *request, ProtobufCMessage **ret, struct error *err);

/* The value of "<key>:\t" in /proc/<pid>/status. */
void proc_status(int pid, const char *key, char *ret, size_t size);

/* What /proc must say of a role with these capabilities (as a mask) and this uid. */
void check_shut_in(int pid, uid_t uid, unsigned long long caps);

/* Whether two processes share the namespace "net", "mnt", "ipc" or "uts". */
bool same_namespace(int pid, int other, const char *kind);
