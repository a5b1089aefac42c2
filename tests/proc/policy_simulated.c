/*
 * Every line of a policy must mean what it says once libseccomp has made a
 * program of all of them. That is simulated: for every rule, with the arguments
 * it wants and with each of them wrong; for every system call number, with
 * arguments of every size; for every architecture there is. And the page
 * seccomp-profiles/README.md must say how many calls that are.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "common/filter.h"
#include "tests/lib/test.h"
#include "tests/proc/policy_bpf.h"
#include "tests/proc/policy_rules.h"

#define P(name) #name,
static const char *const names[] = {
#include "seccomp-profiles/policies.list"
};
#undef P

#define N_NAMES	 (sizeof(names) / sizeof(names[0]))
#define KILL	 SECCOMP_RET_KILL_PROCESS
#define N_NUMBERS 1024

static struct rules rules;
static struct bpf_program program;

static void load(const char *name)
{
	rules_read(&rules, name);
	bpf_of_policy(name, &program);
}

static void check_call(const struct seccomp_data *d)
{
	uint32_t got = bpf_run(&program, d), want = rules_say(&rules, d);

	if (got != want)
		test_fail(__FILE__, __LINE__,
			"%s.policy: call %d(0x%llx, 0x%llx, 0x%llx, 0x%llx) of 0x%x: 0x%x, not 0x%x",
			rules.policy, d->nr, d->args[0], d->args[1], d->args[2], d->args[3],
			d->arch, got, want);
}

/* Each argument just beside, and every single bit of it turned over. */
static void check_around(const struct rule *rule)
{
	struct seccomp_data d = rule_call(rule, 0);

	check_call(&d);
	for (unsigned i = 0; i < 6; i++) {
		uint64_t right = d.args[i];

		for (unsigned bit = 0; bit < 64; bit++) {
			d.args[i] = right ^ (1ULL << bit);
			check_call(&d);
		}
		d.args[i] = right + 1;
		check_call(&d);
		d.args[i] = right;
	}
}

TEST(every_rule_with_the_arguments_beside_its_own)
{
	for (size_t i = 0; i < N_NAMES; i++) {
		load(names[i]);
		for (size_t k = 0; k < rules.n; k++)
			check_around(&rules.rule[k]);
	}
}

static const uint64_t sizes[] = { 0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
	0x7fffffffffffffff, 0x8000000000000000, UINT64_MAX };

#define N_SIZES (sizeof(sizes) / sizeof(sizes[0]))

/* All arguments of one size, then one of another size among them. */
static void check_sizes(struct seccomp_data *d)
{
	for (size_t all = 0; all < N_SIZES; all++) {
		for (unsigned i = 0; i < 6; i++)
			d->args[i] = sizes[all];
		check_call(d);
		for (unsigned i = 0; i < 6; i++) {
			d->args[i] = sizes[(all + 1) % N_SIZES];
			check_call(d);
			d->args[i] = sizes[all];
		}
	}
}

TEST(every_number_with_arguments_of_every_size)
{
	for (size_t i = 0; i < N_NAMES; i++) {
		struct seccomp_data d = { .arch = AUDIT_ARCH_X86_64 };

		load(names[i]);
		for (d.nr = 0; d.nr < N_NUMBERS; d.nr++)
			check_sizes(&d);
	}
}

/* x32 is x86-64's architecture with a bit in the number: rules_say() knows no such number. */
TEST(foreign_architectures_are_killed)
{
	static const uint32_t arch[] = { AUDIT_ARCH_I386, AUDIT_ARCH_AARCH64, AUDIT_ARCH_ARM, 0,
		UINT32_MAX };

	for (size_t i = 0; i < N_NAMES; i++) {
		struct seccomp_data d;

		load(names[i]);
		for (int nr = 0; nr < N_NUMBERS; nr++) {
			d = (struct seccomp_data){ .arch = AUDIT_ARCH_X86_64,
				.nr = nr | (int)__X32_SYSCALL_BIT };
			CHECK_INT(bpf_run(&program, &d), KILL);
			check_sizes(&d);
			d.nr = nr;
			for (size_t k = 0; k < sizeof(arch) / sizeof(arch[0]); k++) {
				d.arch = arch[k];
				check_sizes(&d);
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

/*
 * abort(), __stack_chk_fail() and assert() of glibc 2.36 to 2.41: what they ask
 * must be allowed where the end needs it, and elsewhere must at least not kill. (That they end
 * as SIGABRT in the real processes is shown end to end.)
 */
TEST(abort_and_fault_end_as_what_they_are)
{
	for (size_t i = 0; i < N_NAMES; i++) {
		load(names[i]);
		if (strcmp(names[i], "sanitizer") == 0 || strcmp(names[i], "fds") == 0)
			continue;
		CHECK_INT(answer_to(SYS_exit_group, 1, 0, 0), SECCOMP_RET_ALLOW);
		CHECK_INT(answer_to(SYS_getpid, 0, 0, 0), SECCOMP_RET_ALLOW);
		CHECK_INT(answer_to(SYS_gettid, 0, 0, 0), SECCOMP_RET_ALLOW);
		CHECK_INT(answer_to(SYS_tgkill, 2, 2, 6), SECCOMP_RET_ALLOW);
		CHECK_INT(answer_to(SYS_writev, 2, 0, 1), SECCOMP_RET_ALLOW);
		CHECK(answer_to(SYS_rt_sigprocmask, 0, 0, 0) != KILL);
		CHECK(answer_to(SYS_rt_sigaction, 6, 0, 0) != KILL);
		CHECK(answer_to(SYS_mmap, 0, 4096, 3) != KILL);
	}
}

#ifndef __SANITIZE_ADDRESS__
TEST(kvm_is_for_kvm_alone)
{
	/* As QEMU makes it from an int: the upper half is all sign. */
	const uint64_t cpuid = (uint64_t)(int)KVM_GET_SUPPORTED_CPUID;
	const uint64_t cwd = (uint64_t)AT_FDCWD;

	load("qemu_tcg");
	CHECK_INT(answer_to(SYS_ioctl, 9, KVM_RUN, 0), KILL);
	CHECK_INT(answer_to(SYS_ioctl, 9, cpuid, 0), KILL);
	CHECK_INT(answer_to(SYS_openat, cwd, 0, O_RDWR), SECCOMP_RET_ERRNO | ENOENT);
	load("qemu_kvm");
	CHECK_INT(answer_to(SYS_ioctl, 9, KVM_RUN, 0), SECCOMP_RET_ALLOW);
	CHECK(cpuid >> 32);
	CHECK_INT(answer_to(SYS_ioctl, 9, cpuid, 0), SECCOMP_RET_ALLOW);
	CHECK_INT(answer_to(SYS_openat, cwd, 0, O_RDWR), SECCOMP_RET_ALLOW);
	CHECK_INT(answer_to(SYS_openat, cwd, 0, O_RDWR | O_CREAT), KILL);
	CHECK_INT(answer_to(SYS_ioctl, 9, KVM_CREATE_DEVICE, 0), KILL);
	CHECK_INT(answer_to(SYS_ioctl, 9, TUNSETIFF, 0), KILL);
	CHECK_INT(answer_to(SYS_tgkill, 1, 1, SIGKILL), KILL);
}
#endif

static int ignore(void *ctx, const struct policy_rule *rule, struct error *err)
{
	(void)ctx;
	(void)rule;
	(void)err;
	return 0;
}

TEST(unknown_names)
{
	struct error err = ERROR_INIT;

	CHECK(!policy_text("nothing"));
	CHECK(!policy_text(""));
	CHECK_INT(policy_walk("nothing", ignore, NULL, &err), -ENOENT);
	CHECK_CONTAINS(err.msg, "no policy 'nothing'");
	CHECK(filter_load("nothing", &err) < 0);
	CHECK(policy_export("nothing", 2, &err) < 0);
	CHECK(filter_load("nothing", NULL) < 0);
}

/* ---- the page */

struct counts {
	unsigned allowed, restricted, answered;
};

/* Is this the first rule that allows, or answers, this call? Does a rule let it through whole? */
static bool is_first(size_t at, bool *ret_whole)
{
	const struct rule *rule = &rules.rule[at];
	bool first = true;

	*ret_whole = false;
	for (size_t i = rules.n_first; i < rules.n; i++) {
		const struct rule *r = &rules.rule[i];

		if (r->nr != rule->nr || !r->text.error != !rule->text.error)
			continue;
		first = first && i >= at;
		*ret_whole = *ret_whole || r->text.n_args == 0;
	}
	return first;
}

static struct counts count(void)
{
	struct counts c = { 0 };

	for (size_t i = rules.n_first; i < rules.n; i++) {
		bool whole;

		if (!is_first(i, &whole))
			continue;
		if (rules.rule[i].text.error) {
			c.answered++;
		} else {
			c.allowed++;
			c.restricted += !whole;
		}
	}
	return c;
}

/* The row "| name | allowed | restricted | answered | goal |" of the page; false: there is none. */
static bool row_of(const char *name, struct counts *ret, unsigned *ret_goal)
{
	FILE *f = fopen(README, "re");
	char line[1024], found[64], goal[64];
	bool inside = false, ok = false;

	CHECK(f);
	while (!ok && fgets(line, sizeof(line), f)) {
		if (line[0] == '#')
			inside = strcmp(line, "## Allowed system calls\n") == 0;
		ok = inside && sscanf(line, "| %63s | %u | %u | %u | %63s", found, &ret->allowed,
			&ret->restricted, &ret->answered, goal) == 5 && strcmp(found, name) == 0;
	}
	fclose(f);
	*ret_goal = ok ? (unsigned)strtoul(goal, NULL, 10) : 0;
	return ok;
}

/* Parts of others have no row. */
static bool is_part(const char *name)
{
	static const char *const parts[] = { "libc", "common", "fds", "qemu", "sanitizer" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		if (strcmp(parts[i], name) == 0)
			return true;
	return false;
}

TEST(the_page_says_how_many_calls_are_allowed)
{
	bool wrong = false;

	for (size_t i = 0; i < N_NAMES; i++) {
		struct counts got, page = { 0 };
		unsigned goal;

		if (is_part(names[i]))
			continue;
		load(names[i]);
		got = count();
		if (!row_of(names[i], &page, &goal) || memcmp(&got, &page, sizeof(got)) != 0) {
			fprintf(stderr, "%s: %u allowed, %u of them restricted, %u answered\n",
				names[i], got.allowed, got.restricted, got.answered);
			wrong = true;
		}
		if (goal && got.allowed > goal) {
			fprintf(stderr, "%s: more than its goal of %u\n", names[i], goal);
			wrong = true;
		}
	}
	CHECK(!wrong);
}
