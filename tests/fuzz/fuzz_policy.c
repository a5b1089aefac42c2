/*
 * A system call policy's text (common/policy.c): the build's own input, whose
 * rules must be what its lines say. The texts are those of
 * tests/unit/common_grammar.
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/policy.h"
#include "tests/fuzz/lib/input.h"
#include "tests/fuzz/lib/sim.h"

#define TEXT_MAX 4096

extern char policy_written[TEXT_MAX];
extern char policy_included[TEXT_MAX];

const char *__lsan_default_suppressions(void);

/* A rule that a wider one of the same call makes needless: libseccomp 2.5.4 forgets to free its nodes. */
const char *__lsan_default_suppressions(void)
{
	return "leak:libseccomp.so";
}

static int check_rule(void *ctx, const struct policy_rule *rule, struct error *err)
{
	unsigned *n = ctx;

	(void)err;
	(*n)++;
	SIM_CHECK(memchr(rule->name, '\0', sizeof(rule->name)) && rule->name[0]);
	SIM_CHECK(rule->n_args <= POLICY_ARGS_MAX && rule->error >= 0);
	for (unsigned i = 0; i < rule->n_args; i++) {
		SIM_CHECK(rule->args[i].arg < POLICY_ARGS_MAX);
		/* A value with bits outside the mask is never equal: the rule would allow nothing. */
		SIM_CHECK((rule->args[i].value & ~rule->args[i].mask) == 0);
	}
	return 0;
}

/* Compiled too: names that do not exist, and contradictions, are errors there. */
static void compile(void)
{
	struct error err = ERROR_INIT;
	int fd = memfd_create("policy", MFD_CLOEXEC);
	int r = policy_export("written", fd, &err);

	SIM_CHECK((r < 0) == !!err.code);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct error err = ERROR_INIT;
	unsigned n = 0;
	int r;

	if (size >= TEXT_MAX)
		return 0;
	memcpy(policy_written, data, size);
	policy_written[size] = '\0';
	strcpy(policy_included, "close\n");
	r = policy_walk("written", check_rule, &n, &err);
	SIM_CHECK((r < 0) == !!err.code);
	if (r == 0)
		compile();
	return 0;
}
