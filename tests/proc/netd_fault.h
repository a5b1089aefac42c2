/*
 * One system call of netd that fails, or at which netd is killed; then the next one: in a window
 * of its calls, in the order in which it makes them.
 */
#pragma once

#include <sys/user.h>

#include "tests/proc/netd_rig.h"

/* Made to happen at call number `at` of those that count. */
struct netd_fault {
	int at;    /* -1: it has happened, and netd went on */
	bool kill; /* every call counts, and netd dies of it; else those that can fail do, by ENOMEM */
	bool met;
};

struct netd_window {
	/* The calls after this one count... */
	bool (*begins)(const struct user_regs_struct *regs);
	/* ... and before this one. */
	bool (*ends)(const struct started *r, const struct user_regs_struct *regs);
	bool (*can_fail)(unsigned long long nr);
};

/* Of a netd that netd_seize() has stopped: until the window ends; it runs on untraced. False: it has ended. */
bool netd_follow(struct started *r, struct netd_fault *f, const struct netd_window *w);

struct netd_tally {
	int refused, attached, ended;
};

/* One attach with this fault, counted once; afterwards everything is to be as in `before`. */
typedef void (*netd_faulty_fn)(struct netd_fault *f, const char *before, struct netd_tally *t);

/* For each call of the window once, until there are no more. */
struct netd_tally netd_at_every_call(bool kill, netd_faulty_fn one);
