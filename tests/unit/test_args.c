#include "supervisor/args.h"

#include "tests/lib/test.h"

static int parse(struct args *a, struct error *err, const char *const *words)
{
	char *argv[24] = { (char *)"shim" };
	int n = 1;

	while (*words)
		argv[n++] = (char *)*words++;
	return args_parse(n, argv, a, err);
}

#define PARSE(a, err, ...) parse(a, err, (const char *const[]){ __VA_ARGS__, NULL })

TEST(start_as_containerd_calls_it)
{
	struct error err = ERROR_INIT;
	struct args a;

	CHECK_INT(PARSE(&a, &err, "-namespace", "default", "-address", "/run/c.sock",
			  "-publish-binary", "/usr/bin/containerd", "-id", "c1", "-debug", "start"),
		0);
	CHECK_INT(a.action, ACTION_START);
	CHECK_STR(a.namespace, "default");
	CHECK_STR(a.address, "/run/c.sock");
	CHECK_STR(a.id, "c1");
	CHECK(a.debug);
}

TEST(equals_and_two_dashes)
{
	struct error err = ERROR_INIT;
	struct args a;

	CHECK_INT(PARSE(&a, &err, "--namespace=n", "-id=c1", "-bundle=/b", "delete"), 0);
	CHECK_INT(a.action, ACTION_DELETE);
	CHECK_STR(a.bundle, "/b");
}

TEST(version_and_info_need_nothing)
{
	struct error err = ERROR_INIT;
	struct args a;

	CHECK_INT(PARSE(&a, &err, "-v"), 0);
	CHECK_INT(a.action, ACTION_VERSION);
	CHECK_INT(PARSE(&a, &err, "-info"), 0);
	CHECK_INT(a.action, ACTION_INFO);
}

TEST(what_is_refused)
{
	static const struct {
		const char *words[8];
		const char *says;
	} cases[] = {
		{ { "-namespace", "n", "-id", "c", "restart" }, "unknown action 'restart'" },
		{ { "-namespace", "n", "-id" }, "-id needs a value" },
		{ { "-frobnicate", "start" }, "unknown flag -frobnicate" },
		{ { "-namespace", "n", "-id", "../x", "start" }, "-id '../x'" },
		{ { "-namespace", "n/m", "-id", "c", "start" }, "-namespace 'n/m'" },
		{ { "-id", "c", "start" }, "-namespace ''" },
		{ { "-namespace", "n", "-id", "c" }, "start or delete" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = ERROR_INIT;
		struct args a;

		CHECK(parse(&a, &err, cases[i].words) < 0);
		CHECK_CONTAINS(err.msg, cases[i].says);
	}
}

TEST(ids)
{
	char longest[ID_MAX + 2];

	memset(longest, 'a', sizeof(longest));
	longest[ID_MAX] = '\0';
	CHECK(id_is_valid(longest));
	longest[ID_MAX] = 'a';
	longest[ID_MAX + 1] = '\0';
	CHECK(!id_is_valid(longest));
	CHECK(id_is_valid("0a._-Z"));
	CHECK(!id_is_valid(""));
	CHECK(!id_is_valid("."));
	CHECK(!id_is_valid("-a"));
	CHECK(!id_is_valid("a/b"));
	CHECK(!id_is_valid("a b"));
	CHECK(!id_is_valid("\xc3\xa9"));
	CHECK(!id_is_valid("a\n"));
}
