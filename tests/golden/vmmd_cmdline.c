/*
 * QEMU's command line, byte for byte: golden/vmmd/<case>.txt holds one word a
 * line as QEMU gets it; <case>.classic.txt the same for people, one switch a
 * line. With BULKHEAD_GOLDEN_UPDATE set the files are written instead.
 */
#include <fcntl.h>
#include <unistd.h>

#include "tests/golden/golden.h"
#include "tests/lib/test.h"
#include "vmmd/qemu_cmdline.h"

static void check(const char *name, const struct qemu_config *config, bool share)
{
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
	golden_check(name, &c);
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
