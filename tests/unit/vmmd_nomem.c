/*
 * Memory that runs out in the builder and in hot-plug, at each of their allocations once: the
 * linker puts what is below in the place of malloc() and the like (vmmd.cmake).
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdarg.h>

#include "tests/unit/vmmd_scripted.h"
#include "vmmd/block_device.h"
#include "vmmd/netdev.h"

TEST_PATIENCE(120)

/* Of this thread: the scripted QEMU has one of its own. */
static _Thread_local unsigned calls, fail_at;

static bool fails(void)
{
	return fail_at && ++calls == fail_at;
}

static void arm(unsigned n)
{
	calls = 0;
	fail_at = n;
}

/* Whether there was an n-th. */
static bool disarm(void)
{
	bool fired = calls >= fail_at;

	fail_at = 0;
	return fired;
}

#define INSTEAD(type, name, params, args)   \
	type __real_##name params;          \
	type __wrap_##name params;          \
	type __wrap_##name params           \
	{                                   \
		if (fails())                \
			return NULL;        \
		return __real_##name args;  \
	}

INSTEAD(void *, malloc, (size_t n), (n))
INSTEAD(void *, calloc, (size_t n, size_t size), (n, size))
INSTEAD(void *, realloc, (void *p, size_t n), (p, n))
INSTEAD(char *, strdup, (const char *s), (s))
INSTEAD(FILE *, open_memstream, (char **p, size_t *n), (p, n))
INSTEAD(struct json_object *, json_object_new_object, (void), ())
INSTEAD(struct json_object *, json_object_new_string, (const char *s), (s))
INSTEAD(struct json_object *, json_object_new_uint64, (uint64_t n), (n))
INSTEAD(struct json_object *, json_object_new_boolean, (json_bool b), (b))
INSTEAD(struct json_tokener *, json_tokener_new_ex, (int depth), (depth))
INSTEAD(const char *, json_object_to_json_string_ext, (struct json_object *o, int flags),
	(o, flags))
INSTEAD(const char *, json_object_to_json_string_length,
	(struct json_object *o, int flags, size_t *n), (o, flags, n))

int __real_json_object_object_add(struct json_object *o, const char *key, struct json_object *v);
int __wrap_json_object_object_add(struct json_object *o, const char *key, struct json_object *v);
int __wrap_json_object_object_add(struct json_object *o, const char *key, struct json_object *v)
{
	return fails() ? -1 : __real_json_object_object_add(o, key, v);
}

int __wrap_asprintf(char **ret, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int __wrap_asprintf(char **ret, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (fails())
		return -1;
	va_start(ap, fmt);
	n = vasprintf(ret, fmt, ap);
	va_end(ap);
	return n;
}

/* ---- the builder: a line with everything in it */

static int add_nic(struct qemu_cmdline *c, struct error *err)
{
	const int taps[] = { some_fd(O_RDWR), some_fd(O_RDWR) };
	const int vhosts[] = { some_fd(O_RDWR), some_fd(O_RDWR) };
	const struct network_device_config config = { .id = "eth0", .mac = { 2 }, .queues = 2,
		.queue_fds = taps, .vhost_fds = vhosts, .host_mtu = 1400 };

	return qemu_cmdline_add_network_device_consume(c, &config, err);
}

static int add_disk(struct qemu_cmdline *c, unsigned set, enum block_frontend frontend,
	struct error *err)
{
	const struct block_device_config config = { .id = set == 1 ? "one" : "two", .set = set,
		.fd = some_fd(O_RDWR), .frontend = frontend, .serial = "x" };

	return qemu_cmdline_add_block_device_consume(c, &config, err);
}

static int add_virtio_blk(struct qemu_cmdline *c, struct error *err)
{
	return add_disk(c, 1, BLOCK_VIRTIO, err);
}

static int add_scsi_hd(struct qemu_cmdline *c, struct error *err)
{
	return add_disk(c, 2, BLOCK_SCSI, err);
}

static int add_monitor(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_monitor_consume(c, some_fd(O_RDWR), err);
}

static int add_port(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_port_consume(c, "agent", "agent.0", some_fd(O_RDWR), err);
}

static int add_console(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_console_consume(c, some_fd(O_RDWR), err);
}

static int add_share(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_share_consume(c, "tag", some_fd(O_RDWR), err);
}

static int add_vsock(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_vsock_consume(c, some_fd(O_RDWR), 3, err);
}

static int add_iothread(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_iothread(c, "io0", err);
}

static int add_scsi(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_scsi(c, "io0", err);
}

static int add_ports(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_root_ports(c, 2, err);
}

static int add_bridge(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_pci_bridge(c, 1, 9, err);
}

static int add_balloon(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_balloon(c, true, err);
}

static int add_dimm(struct qemu_cmdline *c, struct error *err)
{
	const struct memory_backend_config config = { .id = "more", .size = 128 << 20 };

	return qemu_cmdline_add_pc_dimm(c, &config, err);
}

static int add_virtio_mem(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_virtio_mem(c, 256 << 20, 64 << 20, err);
}

static int add_nvdimm(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_image(c, IMAGE_NVDIMM, "/image", 128 << 20, err);
}

static int add_pmem(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_image(c, IMAGE_VIRTIO_PMEM, "/image", 128 << 20, err);
}

static int add_bios(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_bios(c, "/firmware", err);
}

static int add_global(struct qemu_cmdline *c, struct error *err)
{
	return qemu_cmdline_add_global(c, "virtio-mmio", "force-legacy", ON_OFF_AUTO_OFF, err);
}

static int (*const adders[])(struct qemu_cmdline *c, struct error *err) = { add_monitor, add_port,
	add_console, add_share, add_nic, add_iothread, add_scsi, add_virtio_blk, add_scsi_hd,
	add_vsock, add_ports, add_bridge, add_balloon, qemu_cmdline_add_iommu, add_dimm,
	add_virtio_mem, add_nvdimm, add_pmem, add_bios, add_global };

static int build(struct qemu_cmdline *c, struct error *err)
{
	const struct qemu_config config = { .name = "x", .vcpus = 1, .max_vcpus = 2,
		.memory_mib = 64, .memory_slots = 2, .memory_max_mib = 1024, .kernel = "/kernel",
		.initrd = "/initrd", .append = "quiet" };
	int r = qemu_cmdline_init(c, &config, err);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(adders); i++)
		r = adders[i](c, err);
	return r;
}

static int print(const struct qemu_cmdline *c, enum qemu_form form, struct error *err)
{
	CLEANUP(qemu_argv_done) struct qemu_argv argv = QEMU_ARGV_INIT;

	return qemu_cmdline_print(c, form, &argv, err);
}

TEST (every_allocation_of_the_builder_fails_once) {
	int fds = test_count_fds();
	unsigned k = 0;
	bool fired;

	do {
		struct error err = ERROR_INIT;
		struct qemu_cmdline c;
		int r;

		arm(++k);
		r = build(&c, &err);
		if (r == 0)
			r = print(&c, QEMU_FORM_ARGV, &err);
		if (r == 0)
			r = print(&c, QEMU_FORM_CLASSIC, &err);
		fired = disarm();
		if (r != (fired ? -ENOMEM : 0))
			test_fail(__FILE__, __LINE__, "allocation %u: %d, '%s'", k, r, err.msg);
		CHECK(!fired || *err.msg);
		qemu_cmdline_done(&c);
		CHECK_INT(test_count_fds(), fds);
	} while (fired);
	CHECK(k > 300);
}

/* ---- hot-plug: undone, or QEMU is lost: what it said could not be read */

static void check_undone(struct script *s, const struct operation *o, unsigned k, size_t things,
	unsigned plugged, int fds, const struct error *err)
{
	if (!*err->msg)
		test_fail(o->name, (int)k, "no sentence");
	CHECK_INT(test_count_fds(), fds - (vm_is_gone(&s->vm) ? 1 : 0));
	CHECK_INT(s->vm.hotplug.n, plugged);
	if (!vm_is_gone(&s->vm) && s->n != things)
		test_fail(o->name, (int)k, "%zu things, not %zu: %s", s->n, things, err->msg);
	if (plugged == 0)
		CHECK_INT(s->vm.hotplug.ports_taken, 0);
}

/* false: there is no k-th allocation */
static bool one_fails(const struct operation *o, bool add, unsigned k)
{
	struct error err = ERROR_INIT;
	size_t things = 0;
	struct script s;
	bool fired;
	int r, fds;

	script_start(&s);
	if (!add)
		CHECK_INT(o->add(&s, &err), 0);
	things = s.n;
	fds = test_count_fds();
	arm(k);
	r = (add ? o->add : o->remove)(&s, &err);
	fired = disarm();
	if (fired == (r == 0))
		test_fail(o->name, (int)k, "%d, '%s'", r, err.msg);
	if (fired)
		check_undone(&s, o, k, things, add ? 0 : 1, fds, &err);
	script_end(&s);
	return fired;
}

TEST (every_allocation_of_hotplug_fails_once) {
	for (size_t i = 0; i < OPERATIONS; i++)
		for (int add = 0; add < 2; add++) {
			unsigned k = 1;

			while (one_fails(&operations[i], add, k))
				k++;
			CHECK(k > 10);
		}
}

TEST (every_allocation_of_virtio_mem_fails_once) {
	bool fired = true;

	for (unsigned k = 1; fired; k++) {
		struct error err = ERROR_INIT;
		struct script s;
		int r;

		script_start(&s);
		script_say(&s, "{\"event\": \"MEMORY_DEVICE_SIZE_CHANGE\", \"data\": {\"id\": \""
			VIRTIO_MEM_ID "\", \"size\": 268435456}}\r\n");
		arm(k);
		r = hotplug_set_virtio_mem(&s.vm, UINT64_C(256) << 20, &err);
		fired = disarm();
		if (fired == (r == 0))
			test_fail(__FILE__, __LINE__, "allocation %u: %d, '%s'", k, r, err.msg);
		script_end(&s);
	}
}
