/*
 * A policy as it is written: its rules, and what they say of one call. The
 * tests compare that with the BPF program the build has made of it.
 */
#pragma once

#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

#include "common/policy.h"

#define RULES_MAX 512

struct rule {
	int nr; /* on x86-64 */
	struct policy_rule text;
};

struct rules {
	const char *policy;
	size_t n_first; /* that win over later ones: the sanitizers', in the dev build */
	size_t n;
	struct rule rule[RULES_MAX];
};

/* The rules of policy <name>. A policy that cannot be read fails the test. */
void rules_read(struct rules *ret, const char *name);

/*
 * SECCOMP_RET_*. Where several lines fit they must agree, or one of them would be without
 * effect: else the test fails.
 */
uint32_t rules_say(const struct rules *r, const struct seccomp_data *d);

/* A call that fits the rule; arguments that it does not name are `other`. */
struct seccomp_data rule_call(const struct rule *rule, uint64_t other);
