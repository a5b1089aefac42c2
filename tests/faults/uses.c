/*
 * Which rules of which policy have let a call through. The policy of a process is known by the
 * bytes of the filter it loads; filters that are not ours (QEMU's own, virtiofsd's) are not looked
 * at. A rule is named by its place among policy_walk()'s, which `unused` turns into file and line.
 */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/filter.h"
#include "common/mem.h"
#include "common/policy.h"
#include "tests/faults/tracer.h"

#define RULES_MAX  512
#define ERRORS_MAX 512

struct rule {
	uint64_t nr;
	struct policy_rule rule;
	unsigned long used;
};

static struct policy {
	const char *name;
	size_t n;
	struct rule *rules;
	struct {
		uint64_t nr;
		int error;
		unsigned long n;
	} errors[ERRORS_MAX];
	size_t n_errors;
	bool used;
} policies[] = {
#define P(policy) { .name = #policy },
#include "seccomp-profiles/policies.list"
#undef P
};

static int add_rule(void *ctx, const struct policy_rule *rule, struct error *err)
{
	struct policy *p = ctx;

	if (p->n == RULES_MAX)
		return error_set(err, ENOSPC, "more than %d rules", RULES_MAX);
	p->rules[p->n++] = (struct rule){
		.nr = (uint64_t)seccomp_syscall_resolve_name(rule->name),
		.rule = *rule,
	};
	return 0;
}

void uses_init(void)
{
	struct error err = ERROR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(policies); i++) {
		policies[i].rules = calloc(RULES_MAX, sizeof(struct rule));
		if (!policies[i].rules ||
			policy_walk(policies[i].name, add_rule, &policies[i], &err) < 0) {
			fprintf(stderr, "tracer: policy %s: %s\n", policies[i].name, err.msg);
			_exit(1);
		}
	}
}

static bool read_memory(pid_t tid, uint64_t from, void *to, size_t size)
{
	struct iovec local = { to, size };
	struct iovec remote = { (void *)(uintptr_t)from, size };

	return process_vm_readv(tid, &local, 1, &remote, 1, 0) == (ssize_t)size;
}

int uses_loads(pid_t tid, const struct call *c)
{
	static struct sock_filter program[BPF_MAXINSNS];
	struct sock_fprog fprog;
	uint64_t at;

	if (c->nr == SYS_prctl && c->args[0] == PR_SET_SECCOMP)
		at = c->args[2];
	else if (c->nr == SYS_seccomp && c->args[0] == SECCOMP_SET_MODE_FILTER)
		at = c->args[2];
	else
		return -1;
	if (!read_memory(tid, at, &fprog, sizeof(fprog)) || fprog.len > BPF_MAXINSNS ||
		!read_memory(tid, (uintptr_t)fprog.filter, program,
			fprog.len * sizeof(*program)))
		return -1;
	/* From the end: a policy that adds nothing to `common` has its bytes, and comes later. */
	for (size_t i = ARRAY_SIZE(policies); i-- > 0;) {
		size_t n;
		const struct sock_filter *ours = filter_program(policies[i].name, &n);

		if (ours && n == fprog.len && memcmp(ours, program, n * sizeof(*ours)) == 0)
			return (int)i;
	}
	return -1;
}

const char *uses_policy_name(int policy)
{
	return policy < 0 ? "none" : policies[policy].name;
}

static bool matches(const struct policy_rule *rule, const uint64_t args[6])
{
	for (unsigned i = 0; i < rule->n_args; i++)
		if ((args[rule->args[i].arg] & rule->args[i].mask) != rule->args[i].value)
			return false;
	return true;
}

static void note_error(struct policy *p, uint64_t nr, int error)
{
	size_t i = 0;

	while (i < p->n_errors && (p->errors[i].nr != nr || p->errors[i].error != error))
		i++;
	if (i == ERRORS_MAX)
		return;
	if (i == p->n_errors)
		p->n_errors++;
	p->errors[i].nr = nr;
	p->errors[i].error = error;
	p->errors[i].n++;
}

void uses_note(int policy, const struct call *c)
{
	struct policy *p = &policies[policy];

	p->used = true;
	for (size_t i = 0; i < p->n; i++)
		if (p->rules[i].nr == c->nr && matches(&p->rules[i].rule, c->args))
			p->rules[i].used++;
	if (c->result < 0 && c->result > -4096)
		note_error(p, c->nr, (int)-c->result);
}

static void write_policy(FILE *f, const struct policy *p)
{
	fprintf(f, "policy %s %zu\n", p->name, p->n);
	for (size_t i = 0; i < p->n; i++)
		if (p->rules[i].used)
			fprintf(f, "rule %s %zu %lu\n", p->name, i, p->rules[i].used);
	for (size_t i = 0; i < p->n_errors; i++)
		fprintf(f, "error %s %s %s %lu\n", p->name, call_name(p->errors[i].nr),
			strerrorname_np(p->errors[i].error) ? strerrorname_np(p->errors[i].error)
							    : "?",
			p->errors[i].n);
}

void uses_write(const char *directory)
{
	char path[600];
	FILE *f;
	int fd;
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(policies); i++)
		any |= policies[i].used;
	if (!any)
		return;
	snprintf(path, sizeof(path), "%s/uses-XXXXXX", directory);
	fd = mkstemp(path);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(policies); i++)
		if (policies[i].used)
			write_policy(f, &policies[i]);
	fclose(f);
}
