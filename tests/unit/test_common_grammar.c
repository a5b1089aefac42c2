/* policy.c itself, linked with policies whose text is written here. */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/policy.h"
#include "tests/lib/test.h"

extern char policy_written[4096];
extern char policy_included[4096];

static char seen[8192];

static int note(void *ctx, const struct policy_rule *rule, struct error *err)
{
	size_t len = strlen(seen);

	(void)ctx;
	(void)err;
	len += (size_t)snprintf(seen + len, sizeof(seen) - len, "%s", rule->name);
	for (unsigned i = 0; i < rule->n_args; i++)
		len += (size_t)snprintf(seen + len, sizeof(seen) - len, " %u&%llx=%llx",
			rule->args[i].arg, (unsigned long long)rule->args[i].mask,
			(unsigned long long)rule->args[i].value);
	snprintf(seen + len, sizeof(seen) - len, " e%d;", rule->error);
	return 0;
}

static int walk(const char *text, struct error *err)
{
	CHECK(strlen(text) < sizeof(policy_written));
	strcpy(policy_written, text);
	seen[0] = '\0';
	return policy_walk("written", note, NULL, err);
}

#define ALL "ffffffffffffffff"

TEST(good_lines)
{
	static const struct {
		const char *text, *rules;
	} good[] = {
		{ "", "" },
		{ "\n\n# words\n   \t\n", "" },
		{ "read", "read e0;" },
		{ "  read\t# why\nwrite\n", "read e0;write e0;" },
		{ "open -> EACCES", "open e13;" },
		{ "open -> 7 # why", "open e7;" },
		{ "socket arg0 == AF_NETLINK, arg2 == 0",
			"socket 0&" ALL "=10 2&" ALL "=0 e0;" },
		{ "mmap arg2 & PROT_EXEC == 0", "mmap 2&4=0 e0;" },
		{ "x arg5 & 0xff == 0x12", "x 5&ff=12 e0;" },
		{ "x arg0 == PROT_READ|PROT_WRITE|8", "x 0&" ALL "=b e0;" },
		{ "x arg0 in 1 2 3", "x 0&" ALL "=1 e0;x 0&" ALL "=2 e0;x 0&" ALL "=3 e0;" },
		{ "x arg1 == 9, arg0 in 1 2 -> EPERM",
			"x 1&" ALL "=9 0&" ALL "=1 e1;x 1&" ALL "=9 0&" ALL "=2 e1;" },
		{ "x arg0 == 18446744073709551615", "x 0&" ALL "=" ALL " e0;" },
		{ "a\ninclude included\nb", "a e0;inner e0;b e0;" },
	};

	strcpy(policy_included, "inner");
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct error err = ERROR_INIT;

		if (walk(good[i].text, &err) < 0)
			test_fail(__FILE__, __LINE__, "%s: %s", good[i].text, err.msg);
		CHECK_STR(seen, good[i].rules);
	}
}

TEST(bad_lines)
{
	static const struct {
		const char *text, *why;
	} bad[] = {
		{ "read\nx arg6 == 0", "written.policy:2: expected arg0 to arg5" },
		{ "x arg == 0", "expected arg0 to arg5" },
		{ "x arg01 == 0", "expected arg0 to arg5" },
		{ "x yes", "expected arg0 to arg5" },
		{ "x arg0", "expected ==" },
		{ "x arg0 = 1", "expected ==" },
		{ "x arg0 != 1", "expected ==" },
		{ "x arg0 < 1", "expected ==" },
		{ "x arg0 ==", "unknown value" },
		{ "x arg0 == NOTHING", "unknown value 'NOTHING'" },
		{ "x arg0 == 1 2", "unexpected word" },
		{ "x arg0 == 1|", "unknown value" },
		{ "x arg0 == |1", "unknown value" },
		{ "x arg0 == 1||2", "unknown value" },
		{ "x arg0 == 0xzz", "unknown value" },
		{ "x arg0 == 12a", "unknown value" },
		{ "x arg0 == -1", "unknown value" },
		{ "x arg0 == 18446744073709551616", "unknown value" },
		{ "x arg0 in", "no values" },
		{ "x arg0 in 1 NOTHING", "unknown value" },
		{ "x arg0 in 1 2, arg1 == 0", "a condition too many" },
		{ "x arg0 & == 1", "unknown mask" },
		{ "x arg0 & 1 2", "expected ==" },
		{ "x arg0 & 1 == 2", "not within the mask" },
		{ "x arg0 == 0, arg1 == 0, arg2 == 0, arg3 == 0, arg4 == 0, arg5 == 0, arg0 == 0",
			"a condition too many" },
		{ "open ->", "unknown errno" },
		{ "open -> NOTHING", "unknown errno" },
		{ "open -> 0", "unknown errno" },
		{ "open -> 4096", "unknown errno" },
		{ "open -> EACCES EPERM", "unexpected word" },
		{ "open -> EACCES, arg0 == 1", "unknown errno" },
		{ "include", "there is no policy ''" },
		{ "include nothing", "there is no policy 'nothing'" },
		{ "include included now", "unexpected word" },
		{ "include included -> EPERM", "unexpected word" },
		{ "include deep", "included too deep" },
		{ "include written", "included too deep" },
		{ "a_name_that_is_longer_than_any_system_call_is", "name too long" },
	};

	strcpy(policy_included, "inner");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct error err = ERROR_INIT;

		if (walk(bad[i].text, &err) >= 0)
			test_fail(__FILE__, __LINE__, "taken: %s", bad[i].text);
		CHECK_CONTAINS(err.msg, bad[i].why);
	}
}

TEST(a_line_too_long)
{
	char text[2000];
	struct error err = ERROR_INIT;

	memset(text, ' ', sizeof(text));
	memcpy(text, "read", 4);
	text[1500] = '\0';
	CHECK_INT(walk(text, &err), -EINVAL);
	CHECK_CONTAINS(err.msg, "line too long");
}

TEST(more_values_than_fit)
{
	char text[600] = "x arg0 in";
	struct error err = ERROR_INIT;

	for (int i = 0; i < 64; i++)
		strcat(text, " 1");
	CHECK_INT(walk(text, &err), 0);
	strcat(text, " 1");
	CHECK_INT(walk(text, &err), -EINVAL);
}

TEST(an_unknown_system_call_is_no_filter)
{
	struct error err = ERROR_INIT;
	int fd = memfd_create("bpf", MFD_CLOEXEC);

	strcpy(policy_written, "read\nraed\n");
	CHECK_INT(policy_export("written", fd, &err), -EINVAL);
	CHECK_CONTAINS(err.msg, "unknown system call 'raed'");
	close(fd);
}
