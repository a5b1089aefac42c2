/*
 * Every rule of every policy in the real kernel: a child loads the filter as
 * the build has made it and makes one call. With the arguments the rule wants the
 * call must come back, with the rule's errno where it names one; with each of them
 * wrong, the child must die by SIGSYS. So must it at every call that no line names.
 *
 * Arguments that no rule names are all ones: no fd, no address and no flags at
 * all, so that a call that is allowed does nothing.
 */
#include <errno.h>
#include <signal.h>
#include <stdnoreturn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/filter.h"
#include "tests/lib/test.h"
#include "tests/proc/policy_rules.h"

#define KILL	  SECCOMP_RET_KILL_PROCESS
#define NOTHING	  UINT64_MAX
#define LAST_CALL 470 /* a little beyond the newest */

/* Where a fork is dear, and some calls are allowed whatever the arguments. */
#ifdef __SANITIZE_ADDRESS__
#define SANITIZED true
#else
#define SANITIZED false
#endif

/* What a call did, as the child writes it down and as its end says. */
struct outcome {
	bool filtered; /* the filter is loaded: what follows is its doing */
	bool returned;
	long value;
	int status;
};

static struct outcome *shared;
static struct rules rules;

/* ---- the child: after the filter is loaded, nothing but the call */

static inline long call(const struct seccomp_data *d)
{
	register uint64_t r10 __asm__("r10") = d->args[3];
	register uint64_t r8 __asm__("r8") = d->args[4];
	register uint64_t r9 __asm__("r9") = d->args[5];
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"((long)d->nr), "D"(d->args[0]), "S"(d->args[1]), "d"(d->args[2]),
			 "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

/* rt_sigreturn(2) takes the frame from the stack: here it finds none, which is SIGSEGV. */
static noreturn void sigreturn_from_nowhere(void)
{
	__asm__ volatile("mov %0, %%rsp; syscall" : : "i"(4096), "a"((long)SYS_rt_sigreturn));
	__builtin_unreachable();
}

static noreturn void child(const char *policy, const struct seccomp_data *d)
{
	const struct seccomp_data end = { .nr = SYS_exit_group };
	struct error err = ERROR_INIT;

	signal(SIGSEGV, SIG_DFL); /* AddressSanitizer has a handler */
	if (filter_load(policy, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		_exit(1);
	}
	shared->filtered = true;
	if (d->nr == SYS_rt_sigreturn)
		sigreturn_from_nowhere();
	shared->value = call(d);
	shared->returned = true;
	call(&end);
	for (;;)
		__builtin_trap(); /* a policy without exit_group */
}

static struct outcome outcome_of(const struct seccomp_data *d)
{
	struct outcome got;
	pid_t pid;

	*shared = (struct outcome){ 0 };
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		child(rules.policy, d);
	CHECK(waitpid(pid, &shared->status, 0) == pid);
	got = *shared;
	if (!got.filtered)
		test_fail(__FILE__, __LINE__, "%s: the filter was not loaded", rules.policy);
	return got;
}

/* ---- what must happen */

static noreturn void wrong(const struct seccomp_data *d, const struct outcome *got, const char *want)
{
	test_fail(__FILE__, __LINE__,
		"%s: call %d(0x%llx, 0x%llx, 0x%llx, 0x%llx, 0x%llx): %s expected, %s %ld, status 0x%x",
		rules.policy, d->nr, d->args[0], d->args[1], d->args[2], d->args[3], d->args[4],
		want, got->returned ? "it answered" : "it did not return", got->value, got->status);
}

/*
 * uretprobe and uprobe: newer kernels ask no filter about them (6.13, 6.18). They are for trampolines
 * that the kernel itself has put there; from anywhere else they are SIGILL and ENXIO.
 */
static bool is_probe_refused(int nr, const struct outcome *got)
{
	if (nr == 335)
		return WIFSIGNALED(got->status) && WTERMSIG(got->status) == SIGILL;
	return nr == 336 && got->returned && got->value == -ENXIO;
}

static void check_killed(const struct seccomp_data *d)
{
	struct outcome got = outcome_of(d);
	bool killed = WIFSIGNALED(got.status) && WTERMSIG(got.status) == SIGSYS && !got.returned;

	if (!killed && !is_probe_refused(d->nr, &got))
		wrong(d, &got, "SIGSYS");
}

/* Calls that end the process end it, as what they are. */
static bool ends(const struct seccomp_data *d, const struct outcome *got)
{
	switch (d->nr) {
	case SYS_exit:
	case SYS_exit_group:
		return WIFEXITED(got->status) && WEXITSTATUS(got->status) == 0xff;
	case SYS_rt_sigreturn:
		return WIFSIGNALED(got->status) && WTERMSIG(got->status) == SIGSEGV;
	default:
		return got->returned;
	}
}

static void check_let_through(const struct rule *rule)
{
	const struct seccomp_data d = rule_call(rule, NOTHING);
	struct outcome got = outcome_of(&d);
	uint32_t says = rules_say(&rules, &d);

	CHECK(says != KILL);
	if (says != SECCOMP_RET_ALLOW) {
		if (!got.returned || got.value != -(long)(says & SECCOMP_RET_DATA))
			wrong(&d, &got, "its errno");
	} else if (!ends(&d, &got)) {
		wrong(&d, &got, "an answer");
	}
}

/*
 * A value of argument a that this rule does not want, nor any other rule with
 * the rest as it is. False where there is none: other lines allow all of them.
 */
static bool refused_value(struct seccomp_data *d, const struct policy_arg *a)
{
	uint64_t right = d->args[a->arg];

	/* Every single bit that counts turned over, then every two of them. */
	for (unsigned i = 0; i < 64; i++)
		for (unsigned k = 0; k <= i; k++) {
			uint64_t flip = (1ULL << i) | (1ULL << k);

			if ((flip & a->mask) != flip)
				continue;
			d->args[a->arg] = right ^ flip;
			if (rules_say(&rules, d) == KILL)
				return true;
		}
	return false;
}

struct tried {
	unsigned right, wrong, unnamed;
};

static void try_rule(const struct rule *rule, struct tried *n)
{
	check_let_through(rule);
	n->right++;
	for (unsigned i = 0; i < rule->text.n_args; i++) {
		struct seccomp_data d = rule_call(rule, NOTHING);

		if (refused_value(&d, &rule->text.args[i])) {
			check_killed(&d);
			n->wrong++;
			continue;
		}
		if (!SANITIZED)
			test_fail(__FILE__, __LINE__, "%s.policy: nothing is wrong for argument %u of %s",
				rules.policy, rule->text.args[i].arg, rule->text.name);
	}
}

static bool is_named(int nr)
{
	for (size_t i = 0; i < rules.n; i++)
		if (rules.rule[i].nr == nr)
			return true;
	return false;
}

static void try_policy(const char *name)
{
	const struct rlimit none = { 0, 0 };
	struct tried n = { 0 };
	unsigned conditions = 0;

	CHECK(setrlimit(RLIMIT_CORE, &none) == 0);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(shared != MAP_FAILED);
	rules_read(&rules, name);
	for (size_t i = 0; i < rules.n; i++) {
		try_rule(&rules.rule[i], &n);
		conditions += rules.rule[i].text.n_args;
	}
	for (int nr = 0; nr <= LAST_CALL && !SANITIZED; nr++) {
		struct seccomp_data d = { .nr = nr };

		if (is_named(nr))
			continue;
		memset(d.args, 0xff, sizeof(d.args));
		check_killed(&d);
		n.unnamed++;
	}
	printf("%-10s %3u rules right, %3u arguments wrong, %3u calls that no line names\n", name,
		n.right, n.wrong, n.unnamed);
	CHECK_INT(n.right, rules.n);
	CHECK(SANITIZED || n.wrong == conditions);
	munmap(shared, sizeof(*shared));
}

#define P(name)                          \
	TEST(every_rule_of_##name)       \
	{                                \
		try_policy(#name);       \
	}
#include "seccomp-profiles/policies.list"
#undef P
