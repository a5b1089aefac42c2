/* The supervisor as its sandbox's directory remembers it, safe against a reused pid. */
#pragma once

#include "supervisor/sandbox.h"

/* Writes pid and start time. */
int process_record(const struct sandbox *s, pid_t pid, struct error *err);

/*
 * A pidfd of the recorded supervisor, the caller's, when it is still the same
 * process: its start time is the recorded one and it is PID 1 of a namespace.
 * -ESRCH: it is gone.
 */
int process_open(const struct sandbox *s, struct error *err);
