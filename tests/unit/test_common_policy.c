/*
 * The policies that are built in: every line must mean what it says once
 * libseccomp has made a program of all of them. That is simulated for every
 * rule, with the arguments it wants and with each of them wrong, and for every
 * system call number and architecture there is.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>

#include "common/filter.h"
#include "common/policy.h"
#include "tests/lib/test.h"
#include "tests/unit/common_bpf.h"

#define P(name) #name,
static const char *const names[] = {
#include "seccomp-profiles/policies.list"
};
#undef P

#define KILL	  SECCOMP_RET_KILL_PROCESS
#define RULES_MAX 512

struct rules {
	size_t n;
	struct policy_rule rule[RULES_MAX];
};

static struct rules rules;
static struct bpf_program program;

static int collect(void *ctx, const struct policy_rule *rule, struct error *err)
{
	struct rules *r = ctx;

	(void)err;
	CHECK(r->n < RULES_MAX);
	r->rule[r->n++] = *rule;
	return 0;
}

static void load_policy(const char *name)
{
	struct error err = ERROR_INIT;

	rules.n = 0;
	if (policy_walk(name, collect, &rules, &err) < 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	bpf_of_policy(name, &program);
}

static int number_of(const struct policy_rule *rule)
{
	int nr = seccomp_syscall_resolve_name(rule->name);

	if (nr < 0)
		test_fail(__FILE__, __LINE__, "%s is no system call here", rule->name);
	return nr;
}

static bool matches(const struct policy_rule *rule, const struct seccomp_data *d)
{
	if (number_of(rule) != d->nr)
		return false;
	for (unsigned i = 0; i < rule->n_args; i++)
		if ((d->args[rule->args[i].arg] & rule->args[i].mask) != rule->args[i].value)
			return false;
	return true;
}

/*
 * What the text says of a call. More than one line may fit: then they must
 * agree, or one of them would be without effect.
 */
static uint32_t meant(const char *policy, const struct seccomp_data *d)
{
	uint32_t answer = KILL;

	for (size_t i = 0; i < rules.n; i++) {
		const struct policy_rule *rule = &rules.rule[i];
		uint32_t says = rule->error ? SECCOMP_RET_ERRNO | (uint32_t)rule->error :
					      SECCOMP_RET_ALLOW;

		if (!matches(rule, d))
			continue;
		if (answer != KILL && answer != says)
			test_fail(__FILE__, __LINE__, "%s.policy: lines for %s contradict each other",
				policy, rule->name);
		answer = says;
	}
	return answer;
}

static void check_call(const char *policy, const struct seccomp_data *d)
{
	uint32_t got = bpf_run(&program, d), want = meant(policy, d);

	if (got != want)
		test_fail(__FILE__, __LINE__,
			"%s.policy: call %d(0x%llx, 0x%llx, 0x%llx, 0x%llx): 0x%x, not 0x%x", policy,
			d->nr, d->args[0], d->args[1], d->args[2], d->args[3], got, want);
}

static struct seccomp_data call_that_fits(const struct policy_rule *rule)
{
	struct seccomp_data d = { .nr = number_of(rule), .arch = AUDIT_ARCH_X86_64 };

	for (unsigned i = 0; i < rule->n_args; i++) {
		CHECK((rule->args[i].value & ~rule->args[i].mask) == 0);
		d.args[rule->args[i].arg] |= rule->args[i].value;
	}
	return d;
}

/* Each argument just beside, and every single bit of it turned over. */
static void check_around(const char *policy, const struct policy_rule *rule)
{
	struct seccomp_data d = call_that_fits(rule);

	check_call(policy, &d);
	for (unsigned i = 0; i < 6; i++) {
		uint64_t fits = d.args[i];

		for (unsigned bit = 0; bit < 64; bit++) {
			d.args[i] = fits ^ (1ULL << bit);
			check_call(policy, &d);
		}
		d.args[i] = fits + 1;
		check_call(policy, &d);
		d.args[i] = UINT64_MAX;
		check_call(policy, &d);
		d.args[i] = UINT32_MAX;
		check_call(policy, &d);
		d.args[i] = fits;
	}
}

TEST(every_policy_means_what_its_lines_say)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct seccomp_data d = { .arch = AUDIT_ARCH_X86_64 };

		load_policy(names[i]);
		for (size_t k = 0; k < rules.n; k++)
			check_around(names[i], &rules.rule[k]);
		for (d.nr = 0; d.nr < 1024; d.nr++)
			check_call(names[i], &d);
	}
}

TEST(foreign_architectures_are_killed)
{
	static const uint32_t arch[] = { AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM, 0,
		UINT32_MAX };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct seccomp_data d;

		load_policy(names[i]);
		for (int nr = 0; nr < 1024; nr++) {
			d = (struct seccomp_data){ .arch = AUDIT_ARCH_X86_64,
				.nr = nr | (int)__X32_SYSCALL_BIT };
			CHECK_INT(bpf_run(&program, &d), KILL);
			d.nr = nr;
			for (size_t k = 0; k < sizeof(arch) / sizeof(arch[0]); k++) {
				d.arch = arch[k];
				CHECK_INT(bpf_run(&program, &d), KILL);
			}
		}
	}
}

static uint32_t answer_to(int nr, uint64_t a0, uint64_t a1, uint64_t a2)
{
	const struct seccomp_data d = { .arch = AUDIT_ARCH_X86_64, .nr = nr,
		.args = { a0, a1, a2 } };

	return bpf_run(&program, &d);
}

#ifndef __SANITIZE_ADDRESS__
static void check_refused(const char *policy, int nr, uint64_t a0, uint64_t a1, uint64_t a2)
{
	if (answer_to(nr, a0, a1, a2) == SECCOMP_RET_ALLOW)
		test_fail(__FILE__, __LINE__, "%s.policy allows call %d(0x%llx, 0x%llx, 0x%llx)",
			policy, nr, (unsigned long long)a0, (unsigned long long)a1,
			(unsigned long long)a2);
}

/* The helpers of this folder's author: nothing that leads out, whatever else changes. */
TEST(what_no_small_helper_may_do)
{
	static const char *const small[] = { "common", "netd", "persistd", "spec" };
	static const int never[] = { SYS_execve, SYS_execveat, SYS_fork, SYS_vfork, SYS_clone,
		SYS_clone3, SYS_ptrace, SYS_socket, SYS_socketpair, SYS_connect, SYS_bind,
		SYS_listen, SYS_accept, SYS_accept4, SYS_open, SYS_openat2, SYS_creat, SYS_mount,
		SYS_umount2, SYS_setns, SYS_unshare, SYS_pivot_root, SYS_chroot, SYS_bpf,
		SYS_io_uring_setup, SYS_userfaultfd, SYS_keyctl, SYS_add_key,
		SYS_process_vm_readv, SYS_process_vm_writev, SYS_pidfd_getfd, SYS_pidfd_open,
		SYS_perf_event_open, SYS_kexec_load, SYS_init_module, SYS_finit_module,
		SYS_memfd_create, SYS_kill, SYS_tkill, SYS_prctl, SYS_seccomp, SYS_setuid,
		SYS_capset, SYS_chmod, SYS_fchmod, SYS_chown, SYS_link, SYS_symlink, SYS_mknod,
		SYS_ioctl, SYS_dup2, SYS_name_to_handle_at, SYS_open_by_handle_at,
		SYS_personality, SYS_arch_prctl, SYS_setrlimit, SYS_prlimit64 };

	for (size_t i = 0; i < sizeof(small) / sizeof(small[0]); i++) {
		load_policy(small[i]);
		for (size_t k = 0; k < sizeof(never) / sizeof(never[0]); k++)
			check_refused(small[i], never[k], 0, 0, 0);
		check_refused(small[i], SYS_mmap, 0, 4096, PROT_READ | PROT_EXEC);
		check_refused(small[i], SYS_mprotect, 0, 4096, PROT_EXEC);
		check_refused(small[i], SYS_tgkill, 1, 1, 9);
		check_refused(small[i], SYS_fcntl, 3, F_DUPFD, 0);
		check_refused(small[i], SYS_fcntl, 3, F_SETOWN, 1);
		check_refused(small[i], SYS_openat, (uint64_t)AT_FDCWD, 0, O_RDONLY);
		check_refused(small[i], SYS_openat, 5, 0, O_RDONLY);
		check_refused(small[i], SYS_openat, 5, 0, O_WRONLY | O_CREAT);
		check_refused(small[i], SYS_unlinkat, (uint64_t)AT_FDCWD, 0, 0);
		check_refused(small[i], SYS_renameat, 5, 0, 4);
	}
}
#endif

TEST(abort_and_fault_end_as_what_they_are)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		load_policy(names[i]);
		if (strcmp(names[i], "sanitizer") == 0)
			continue;
		CHECK_INT(answer_to(SYS_exit_group, 1, 0, 0), SECCOMP_RET_ALLOW);
		CHECK_INT(answer_to(SYS_rt_sigprocmask, 0, 0, 0), SECCOMP_RET_ALLOW);
		CHECK_INT(answer_to(SYS_tgkill, 2, 2, 6), SECCOMP_RET_ALLOW);
		CHECK_INT(answer_to(SYS_rt_sigreturn, 0, 0, 0), SECCOMP_RET_ALLOW);
	}
}

TEST(unknown_names)
{
	struct error err = ERROR_INIT;

	CHECK(!policy_text("nothing"));
	CHECK(!policy_text(""));
	CHECK_INT(policy_walk("nothing", collect, &rules, &err), -ENOENT);
	CHECK_CONTAINS(err.msg, "no policy 'nothing'");
	CHECK(filter_load("nothing", &err) < 0);
	CHECK(policy_export("nothing", 2, &err) < 0);
	CHECK(filter_load("nothing", NULL) < 0);
}

/* For the list in seccomp-profiles/README.md. */
TEST(counts)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t allowed = 0, limited = 0, answered = 0;

		load_policy(names[i]);
		for (size_t k = 0; k < rules.n; k++) {
			const struct policy_rule *r = &rules.rule[k];
			bool first = true;

			for (size_t j = 0; j < k; j++)
				if (strcmp(rules.rule[j].name, r->name) == 0 &&
					!rules.rule[j].error == !r->error)
					first = false;
			if (!first)
				continue;
			answered += r->error != 0;
			allowed += r->error == 0;
			limited += r->error == 0 && r->n_args > 0;
		}
		printf("         %-10s %3zu allowed, %2zu of them limited, %zu answered; %zu instructions\n",
			names[i], allowed, limited, answered, program.n);
	}
}
