/*
 * QEMU's command line, byte for byte: golden/vmmd/<case>.txt holds one word a
 * line as QEMU gets it; <case>.classic.txt the same for people, one switch a
 * line. With BULKHEAD_GOLDEN_UPDATE set the files are written instead.
 */
#include <fcntl.h>
#include <unistd.h>

#include "tests/lib/test.h"
#include "vmmd/qemu_cmdline.h"

static void compare(const char *name, const char *got)
{
	char path[512], want[16384];
	FILE *f;
	size_t n;

	snprintf(path, sizeof(path), "%s/%s.txt", GOLDEN_DIR, name);
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
	}
}

static void check(const char *name, const struct qemu_config *config, bool share)
{
	char text[16384], classic[256];
	struct error err = ERROR_INIT;
	struct qemu_cmdline c;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int r = qemu_cmdline_init(&c, config, &err);

	if (r == 0 && share)
		r = qemu_cmdline_add_share_consume(&c, "kataShared", dup(null), &err);
	if (r == 0)
		r = qemu_cmdline_add_monitor_consume(&c, dup(null), &err);
	if (r == 0)
		r = qemu_cmdline_add_port_consume(&c, "agent", "agent.channel.0", dup(null), &err);
	if (r == 0)
		r = qemu_cmdline_add_console_consume(&c, dup(null), &err);
	if (r < 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	render(&c, QEMU_FORM_ARGV, text, sizeof(text));
	compare(name, text);
	render(&c, QEMU_FORM_CLASSIC, text, sizeof(text));
	snprintf(classic, sizeof(classic), "%s.classic", name);
	compare(classic, text);
	qemu_cmdline_done(&c);
	close(null);
}

static const struct qemu_config base = {
	.name = "sandbox",
	.machine = MACHINE_Q35,
	.accel = ACCEL_TCG,
	.vcpus = 1,
	.memory_mib = 256,
	.kernel = "/kernel",
	.initrd = "/initrd",
	.append = "console=hvc0 quiet reboot=t panic=1",
};

TEST (q35_tcg) {
	check("q35-tcg", &base, false);
}

TEST (q35_tcg_share) {
	check("q35-tcg-share", &base, true);
}

TEST (q35_kvm_large) {
	struct qemu_config config = base;

	config.name = "k8s.io,pod-7";
	config.accel = ACCEL_KVM;
	config.vcpus = 16;
	config.memory_mib = 8192;
	config.append = "console=hvc0 a=\"b,c\" -device=x";
	check("q35-kvm-large", &config, true);
}
