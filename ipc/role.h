/* How every role begins, from main() to the first message. */
#pragma once

#include "common/isolate.h"
#include "ipc/ctl.h"

#define ROLE_EXIT_FAILED 70 /* EX_SOFTWARE: a broken protocol, a failed start */

/*
 * Reports READY and blocks until the supervisor says LOCK: from then on no
 * process of the sandbox has privilege it does not need, and work may begin.
 * 0; -ECANCELED with err: another role could not start (only the frontend is
 * told); -EPIPE: the supervisor is gone.
 */
int role_wait_lock(enum role role, struct error *err);

/* Reports to the supervisor that this role cannot start, logs it, and exits. */
_Noreturn void role_fail(enum role role, const struct error *err);

/* Ignores what a role must not die of: SIGPIPE, and what systemd sends at shutdown. */
void role_ignore_signals(void);
