#include "tests/golden/golden.h"

#include "tests/lib/test.h"

void golden_compare(const char *file, const char *got)
{
	char path[512], want[GOLDEN_SIZE];
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s", GOLDEN_DIR, file);
	if (getenv("BULKHEAD_GOLDEN_UPDATE")) {
		f = fopen(path, "we");
		CHECK(f && fputs(got, f) >= 0);
		fclose(f);
		return;
	}
	f = fopen(path, "re");
	if (!f)
		test_fail(__FILE__, __LINE__, "cannot open %s", path);
	n = fread(want, 1, sizeof(want) - 1, f);
	fclose(f);
	want[n] = '\0';
	CHECK_STR(got, want);
}

static void render(const struct qemu_cmdline *c, enum qemu_form form, char *ret, size_t size)
{
	CLEANUP(qemu_argv_done) struct qemu_argv argv = QEMU_ARGV_INIT;
	size_t used = 0;

	CHECK_INT(qemu_cmdline_print(c, form, &argv, NULL), 0);
	for (size_t i = 0; i < argv.n; i++) {
		bool joined = form == QEMU_FORM_CLASSIC && i + 1 < argv.n &&
			argv.arg[i][0] == '-' && argv.arg[i + 1][0] != '-';

		used += (size_t)snprintf(ret + used, size - used, "%s%c", argv.arg[i],
			joined ? ' ' : '\n');
		CHECK(used < size);
	}
}

void golden_check(const char *name, const struct qemu_cmdline *c)
{
	char text[GOLDEN_SIZE], file[256];

	render(c, QEMU_FORM_ARGV, text, sizeof(text));
	snprintf(file, sizeof(file), "vmmd/%s.txt", name);
	golden_compare(file, text);
	render(c, QEMU_FORM_CLASSIC, text, sizeof(text));
	snprintf(file, sizeof(file), "vmmd/%s.classic.txt", name);
	golden_compare(file, text);
}
