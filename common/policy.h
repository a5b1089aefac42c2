/*
 * System call policies: the text in seccomp-profiles/<name>.policy becomes, when
 * the project is built, the seccomp filter that common/filter.h loads. Whatever no line allows kills the
 * process (SECCOMP_RET_KILL_PROCESS), and so does any foreign architecture.
 *
 * A line is a system call, conditions on its arguments, and optionally an
 * errno that is answered instead of letting the call through:
 *
 *	read                                       # channel_recv
 *	socket arg0 == AF_NETLINK, arg2 == NETLINK_ROUTE
 *	ioctl arg1 in FIONREAD TUNGETIFF           # one rule for each value
 *	mmap arg2 & PROT_EXEC == 0
 *	openat -> EACCES                           # libc looks for locale files
 *	include common
 *
 * Values are numbers, names of policy.c's constant table, or several of those
 * joined by "|". Comparisons are equality and masked equality of the whole 64
 * bits, nothing else: the less-than forms of libseccomp were wrong once
 * (CVE-2019-9893).
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define POLICY_ARGS_MAX 6

struct policy_arg {
	unsigned arg;
	uint64_t mask; /* all ones: plain equality */
	uint64_t value;
};

struct policy_rule {
	char name[32];
	int error; /* 0: allow; else the errno that is answered */
	unsigned n_args;
	struct policy_arg args[POLICY_ARGS_MAX];
};

/* Called once per rule, "in" lists expanded, includes followed. Non-zero ends the walk. */
typedef int (*policy_rule_fn)(void *ctx, const struct policy_rule *rule, struct error *err);

/* Walks policy <name>. 0 or -errno; a line that cannot be read is an error naming file and line. */
int policy_walk(const char *name, policy_rule_fn fn, void *ctx, struct error *err);

/* The text built in for <name>, or NULL. */
const char *policy_text(const char *name);

/* Writes the BPF program of policy <name> to fd; in the dev build with what its sanitizers need. */
int policy_export(const char *name, int fd, struct error *err);
