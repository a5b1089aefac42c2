/*
 * printer KEY=VALUE...: the words of one VM's command line, each with its NUL,
 * as vmmd's builder makes them; or one sentence on stderr and status 1.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmmd/block_device.h"
#include "vmmd/netdev.h"
#include "vmmd/qemu_cmdline.h"

static const char *value(char **argv, const char *key, const char *otherwise)
{
	size_t n = strlen(key);

	for (; *argv; argv++)
		if (strncmp(*argv, key, n) == 0 && (*argv)[n] == '=')
			return *argv + n + 1;
	return otherwise;
}

static unsigned number(char **argv, const char *key, const char *otherwise)
{
	return (unsigned)strtoul(value(argv, key, otherwise), NULL, 10);
}

static int some_fd(void)
{
	return open("/dev/null", O_RDWR | O_CLOEXEC);
}

static int add_net(struct qemu_cmdline *c, char **argv, struct error *err)
{
	int fd = some_fd();
	const struct network_device_config net = { .id = value(argv, "netdev", "eth0"),
		.mac = { (uint8_t)number(argv, "mac0", "2") }, .queues = 1, .queue_fds = &fd,
		.host_mtu = number(argv, "mtu", "0") };

	return qemu_cmdline_add_network_device_consume(c, &net, err);
}

static int add_disk(struct qemu_cmdline *c, char **argv, struct error *err)
{
	const struct block_device_config disk = { .id = value(argv, "disk", "root"), .fd = some_fd(),
		.set = number(argv, "set", "1"), .serial = value(argv, "serial", NULL) };

	return qemu_cmdline_add_block_device_consume(c, &disk, err);
}

static int build(struct qemu_cmdline *c, char **argv, struct error *err)
{
	const struct qemu_config config = { .name = value(argv, "name", "sandbox"),
		.machine = number(argv, "machine", "0"), .accel = number(argv, "accel", "0"),
		.vcpus = number(argv, "vcpus", "1"), .max_vcpus = number(argv, "max-vcpus", "0"),
		.memory_mib = number(argv, "memory", "64"),
		.memory_slots = number(argv, "slots", "0"),
		.memory_max_mib = number(argv, "max-memory", "0"),
		.memory = value(argv, "mem-path", NULL) ? MEMORY_FILE : MEMORY_MEMFD,
		.memory_path = value(argv, "mem-path", NULL),
		.confidential = number(argv, "confidential", "0"),
		.kernel = value(argv, "kernel", "/kernel"), .initrd = value(argv, "initrd", "/initrd"),
		.append = value(argv, "append", "quiet") };
	int r = qemu_cmdline_init(c, &config, err);

	if (r == 0 && value(argv, "bios", NULL))
		r = qemu_cmdline_add_bios(c, value(argv, "bios", NULL), err);
	r = r < 0 ? r : qemu_cmdline_add_share_consume(c, value(argv, "tag", "share"), some_fd(), err);
	r = r < 0 ? r : add_net(c, argv, err);
	r = r < 0 ? r : add_disk(c, argv, err);
	r = r < 0 ? r : qemu_cmdline_add_monitor_consume(c, some_fd(), err);
	return r < 0 ? r : qemu_cmdline_add_port_consume(c, "agent", value(argv, "port", "agent.0"),
				   some_fd(), err);
}

int main(int argc, char **argv)
{
	CLEANUP(qemu_argv_done) struct qemu_argv words = QEMU_ARGV_INIT;
	CLEANUP(qemu_cmdline_done) struct qemu_cmdline c = { .objects = NULL };
	struct error err = ERROR_INIT;

	(void)argc;
	if (build(&c, argv, &err) < 0 || qemu_cmdline_print(&c, QEMU_FORM_ARGV, &words, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		return 1;
	}
	for (size_t i = 0; i < words.n; i++)
		fwrite(words.arg[i], 1, strlen(words.arg[i]) + 1, stdout);
	return 0;
}
