#include "tests/proc/policy_rules.h"

#include <linux/audit.h>
#include <seccomp.h>

#include "tests/lib/test.h"

static int collect(void *ctx, const struct policy_rule *text, struct error *err)
{
	struct rules *r = ctx;
	struct rule *rule = &r->rule[r->n++];

	(void)err;
	CHECK(r->n <= RULES_MAX);
	*rule = (struct rule){ seccomp_syscall_resolve_name(text->name), *text };
	if (rule->nr < 0)
		test_fail(__FILE__, __LINE__, "%s is no system call here", text->name);
	return 0;
}

void rules_read(struct rules *ret, const char *name)
{
	struct error err = ERROR_INIT;

	ret->policy = name;
	ret->n = 0;
#ifdef __SANITIZE_ADDRESS__
	CHECK(policy_walk("sanitizer", collect, ret, NULL) == 0);
#endif
	ret->n_first = ret->n;
	if (policy_walk(name, collect, ret, &err) < 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
}

static bool fits(const struct rule *rule, const struct seccomp_data *d)
{
	if (rule->nr != d->nr)
		return false;
	for (unsigned i = 0; i < rule->text.n_args; i++) {
		const struct policy_arg *a = &rule->text.args[i];

		if ((d->args[a->arg] & a->mask) != a->value)
			return false;
	}
	return true;
}

uint32_t rules_say(const struct rules *r, const struct seccomp_data *d)
{
	uint32_t answer = SECCOMP_RET_KILL_PROCESS;

	if (d->arch != AUDIT_ARCH_X86_64)
		return answer;
	for (size_t i = 0; i < r->n; i++) {
		const struct rule *rule = &r->rule[i];
		uint32_t says = rule->text.error ? SECCOMP_RET_ERRNO | (uint32_t)rule->text.error
						 : SECCOMP_RET_ALLOW;

		if (!fits(rule, d))
			continue;
		if (i < r->n_first)
			return says;
		if (answer != SECCOMP_RET_KILL_PROCESS && answer != says)
			test_fail(__FILE__, __LINE__, "%s.policy: lines for %s contradict each other",
				r->policy, rule->text.name);
		answer = says;
	}
	return answer;
}

struct seccomp_data rule_call(const struct rule *rule, uint64_t other)
{
	struct seccomp_data d = { .nr = rule->nr, .arch = AUDIT_ARCH_X86_64 };
	bool named[6] = { false };

	for (unsigned i = 0; i < rule->text.n_args; i++) {
		const struct policy_arg *a = &rule->text.args[i];

		CHECK((a->value & ~a->mask) == 0);
		named[a->arg] = true;
		d.args[a->arg] |= a->value;
	}
	for (unsigned i = 0; i < 6; i++)
		if (!named[i])
			d.args[i] = other;
	return d;
}
