/*
 * Command lines over all axes: one row, one VM. The rows hold every pair of
 * values of two axes that can occur; matrix.md, written from them, says which
 * do. tests/qemu starts each with a real QEMU and reads the objects back.
 */
#include <fcntl.h>
#include <unistd.h>

#include "tests/golden/golden.h"
#include "tests/lib/test.h"
#include "vmmd/block_device.h"
#include "vmmd/netdev.h"

enum kind { KIND_MEMFD, KIND_RAM, KIND_FILE, KIND_HUGE, KINDS };
enum disk { DISK_NONE, DISK_BLK_FILE, DISK_BLK_DEVICE, DISK_SCSI_FILE, DISK_SCSI_DEVICE, DISK_PMEM,
	DISK_NVDIMM, DISKS };

#define EXTRAS(X)                                                                                  \
	X(BALLOON, "balloon") X(BIOS, "bios") X(BRIDGE, "bridge") X(DIMM, "dimm")                  \
	X(DIRECT, "direct") X(DISCARD, "discard") X(HOTPLUG, "hotplug") X(IOMMU, "iommu")          \
	X(IOTHREAD, "iothread") X(MTU, "mtu") X(NO_PMU, "nopmu") X(OLD, "old")                     \
	X(PLATFORM, "platform") X(PORTS, "ports") X(PREALLOC, "prealloc")                          \
	X(READ_ONLY, "readonly") X(SERIAL, "serial") X(VIRTIO_MEM, "virtiomem") X(VSOCK, "vsock")

#define NUMBER(name, text) NUMBER_##name,
#define MASK(name, text)   name = 1 << NUMBER_##name,
#define WORD(name, text)   text,
enum { EXTRAS(NUMBER) };
enum { EXTRAS(MASK) };
static const char *const extra_words[] = { EXTRAS(WORD) NULL };
static const char *const kind_words[] = { "memfd", "ram", "file", "huge", NULL };
static const char *const disk_words[] = { "none", "blk-file", "blk-device", "scsi-file",
	"scsi-device", "pmem", "nvdimm", NULL };
static const char *const machine_words[] = { "q35", "microvm", "virt", "s390", NULL };
static const char *const queue_words[] = { "0", "1", "2", "4", "8", "16", NULL };
static const char *const no_yes[] = { "no", "yes", NULL };

static const struct row {
	enum machine_type machine;
	enum accel_type accel;
	unsigned queues;
	bool vhost;
	enum kind memory;
	enum disk disk;
	bool share;
	unsigned extras;
} rows[] = {
	{ MACHINE_Q35, ACCEL_TCG, 16, false, KIND_RAM, DISK_BLK_DEVICE, false,
		0 },
	{ MACHINE_MICROVM, ACCEL_TCG, 2, true, KIND_FILE, DISK_NONE, true,
		MTU },
	{ MACHINE_Q35, ACCEL_TCG, 4, true, KIND_MEMFD, DISK_NVDIMM, true,
		BRIDGE | DIMM | HOTPLUG },
	{ MACHINE_MICROVM, ACCEL_TCG, 1, false, KIND_MEMFD, DISK_BLK_FILE, false,
		BALLOON | NO_PMU | READ_ONLY },
	{ MACHINE_Q35, ACCEL_TCG, 0, false, KIND_FILE, DISK_SCSI_DEVICE, true,
		0 },
	{ MACHINE_MICROVM, ACCEL_TCG, 8, true, KIND_RAM, DISK_SCSI_FILE, false,
		PREALLOC },
	{ MACHINE_Q35, ACCEL_TCG, 2, false, KIND_FILE, DISK_PMEM, false,
		HOTPLUG | OLD | VIRTIO_MEM },
	{ MACHINE_Q35, ACCEL_TCG, 1, false, KIND_FILE, DISK_SCSI_FILE, true,
		IOTHREAD | PLATFORM | PORTS },
	{ MACHINE_MICROVM, ACCEL_KVM, 4, false, KIND_RAM, DISK_SCSI_DEVICE, false,
		0 },
	{ MACHINE_Q35, ACCEL_TCG, 8, false, KIND_MEMFD, DISK_NONE, true,
		VSOCK },
	{ MACHINE_MICROVM, ACCEL_TCG, 16, true, KIND_MEMFD, DISK_BLK_DEVICE, true,
		DISCARD | SERIAL },
	{ MACHINE_Q35, ACCEL_TCG, 16, true, KIND_FILE, DISK_BLK_FILE, true,
		BIOS | HOTPLUG | IOMMU },
	{ MACHINE_Q35, ACCEL_TCG, 0, false, KIND_RAM, DISK_NVDIMM, false,
		HOTPLUG },
	{ MACHINE_MICROVM, ACCEL_TCG, 1, true, KIND_RAM, DISK_NONE, false,
		NO_PMU },
	{ MACHINE_Q35, ACCEL_TCG, 2, true, KIND_MEMFD, DISK_SCSI_DEVICE, false,
		DIRECT | IOMMU },
	{ MACHINE_Q35, ACCEL_TCG, 4, true, KIND_MEMFD, DISK_PMEM, true,
		BRIDGE | HOTPLUG | OLD | VSOCK },
	{ MACHINE_MICROVM, ACCEL_TCG, 0, false, KIND_MEMFD, DISK_SCSI_FILE, false,
		0 },
	{ MACHINE_MICROVM, ACCEL_KVM, 4, false, KIND_FILE, DISK_BLK_DEVICE, true,
		BALLOON },
	{ MACHINE_Q35, ACCEL_TCG, 2, false, KIND_RAM, DISK_BLK_FILE, false,
		BIOS | HOTPLUG | VIRTIO_MEM },
	{ MACHINE_Q35, ACCEL_TCG, 8, false, KIND_FILE, DISK_NVDIMM, false,
		HOTPLUG | MTU | PORTS | PREALLOC },
	{ MACHINE_Q35, ACCEL_TCG, 1, true, KIND_RAM, DISK_PMEM, false,
		HOTPLUG },
	{ MACHINE_Q35, ACCEL_TCG, 2, false, KIND_FILE, DISK_NVDIMM, true,
		HOTPLUG },
	{ MACHINE_MICROVM, ACCEL_TCG, 1, false, KIND_FILE, DISK_SCSI_DEVICE, true,
		DISCARD | SERIAL },
	{ MACHINE_Q35, ACCEL_TCG, 1, false, KIND_MEMFD, DISK_BLK_DEVICE, true,
		DIRECT | PLATFORM | READ_ONLY },
	{ MACHINE_MICROVM, ACCEL_TCG, 2, false, KIND_FILE, DISK_BLK_DEVICE, false,
		0 },
	{ MACHINE_Q35, ACCEL_TCG, 4, false, KIND_FILE, DISK_NONE, true,
		DIMM | HOTPLUG },
	{ MACHINE_Q35, ACCEL_KVM, 2, true, KIND_MEMFD, DISK_SCSI_FILE, false,
		IOTHREAD | MTU },
	{ MACHINE_Q35, ACCEL_TCG, 16, false, KIND_MEMFD, DISK_PMEM, true,
		BIOS | HOTPLUG | NO_PMU | VSOCK },
	{ MACHINE_MICROVM, ACCEL_TCG, 0, false, KIND_RAM, DISK_NONE, false,
		0 },
	{ MACHINE_Q35, ACCEL_TCG, 8, false, KIND_RAM, DISK_PMEM, false,
		HOTPLUG | PREALLOC },
	{ MACHINE_MICROVM, ACCEL_TCG, 4, false, KIND_MEMFD, DISK_BLK_FILE, true,
		BALLOON | READ_ONLY },
	{ MACHINE_MICROVM, ACCEL_TCG, 0, false, KIND_MEMFD, DISK_BLK_DEVICE, false,
		DISCARD | PREALLOC | SERIAL },
	{ MACHINE_Q35, ACCEL_TCG, 0, false, KIND_MEMFD, DISK_BLK_FILE, false,
		0 },
	{ MACHINE_Q35, ACCEL_TCG, 8, true, KIND_FILE, DISK_BLK_DEVICE, false,
		IOTHREAD },
	{ MACHINE_MICROVM, ACCEL_TCG, 16, false, KIND_MEMFD, DISK_SCSI_FILE, false,
		BALLOON | MTU },
	{ MACHINE_MICROVM, ACCEL_KVM, 4, true, KIND_MEMFD, DISK_SCSI_FILE, true,
		DISCARD | NO_PMU | SERIAL },
	{ MACHINE_MICROVM, ACCEL_TCG, 8, false, KIND_RAM, DISK_SCSI_DEVICE, false,
		0 },
	{ MACHINE_MICROVM, ACCEL_TCG, 8, false, KIND_MEMFD, DISK_BLK_FILE, false,
		READ_ONLY },
	{ MACHINE_MICROVM, ACCEL_TCG, 16, false, KIND_FILE, DISK_NONE, false,
		BALLOON | NO_PMU },
	{ MACHINE_Q35, ACCEL_TCG, 16, true, KIND_FILE, DISK_SCSI_DEVICE, false,
		DIRECT | HOTPLUG | OLD | VIRTIO_MEM },
	{ MACHINE_Q35, ACCEL_TCG, 16, true, KIND_MEMFD, DISK_NVDIMM, false,
		HOTPLUG },
	{ MACHINE_Q35, ACCEL_TCG, 1, false, KIND_MEMFD, DISK_NVDIMM, true,
		HOTPLUG | IOMMU },
	{ MACHINE_Q35, ACCEL_TCG, 0, false, KIND_MEMFD, DISK_PMEM, false,
		BRIDGE | HOTPLUG },
	{ MACHINE_Q35, ACCEL_TCG, 4, false, KIND_FILE, DISK_SCSI_FILE, true,
		DIMM | HOTPLUG | PLATFORM | PORTS },
	{ MACHINE_Q35, ACCEL_KVM, 4, false, KIND_MEMFD, DISK_SCSI_FILE, false,
		0 },
	{ MACHINE_MICROVM, ACCEL_TCG, 8, true, KIND_RAM, DISK_BLK_FILE, false,
		READ_ONLY },
	{ MACHINE_Q35, ACCEL_TCG, 16, true, KIND_FILE, DISK_SCSI_FILE, true,
		BIOS | PLATFORM },
	{ MACHINE_Q35, ACCEL_TCG, 1, false, KIND_FILE, DISK_SCSI_DEVICE, false,
		HOTPLUG | OLD | PORTS | VIRTIO_MEM },
	{ MACHINE_MICROVM, ACCEL_TCG, 0, false, KIND_FILE, DISK_BLK_DEVICE, false,
		0 },
	{ MACHINE_Q35, ACCEL_TCG, 8, false, KIND_RAM, DISK_BLK_FILE, false,
		HOTPLUG },
	{ MACHINE_Q35, ACCEL_TCG, 0, false, KIND_FILE, DISK_NONE, false,
		BRIDGE | VSOCK },
	{ MACHINE_Q35, ACCEL_TCG, 16, true, KIND_MEMFD, DISK_PMEM, false,
		DIMM | HOTPLUG | IOMMU | PREALLOC },
	{ MACHINE_Q35, ACCEL_TCG, 1, true, KIND_MEMFD, DISK_NVDIMM, false,
		HOTPLUG },
	{ MACHINE_Q35, ACCEL_KVM, 4, false, KIND_FILE, DISK_NVDIMM, true,
		HOTPLUG | VIRTIO_MEM },
	{ MACHINE_Q35, ACCEL_TCG, 1, false, KIND_RAM, DISK_BLK_DEVICE, false,
		DIRECT | IOTHREAD },
	{ MACHINE_Q35, ACCEL_TCG, 16, false, KIND_FILE, DISK_BLK_FILE, true,
		HOTPLUG | OLD | SERIAL },
	{ MACHINE_MICROVM, ACCEL_TCG, 1, true, KIND_MEMFD, DISK_SCSI_DEVICE, true,
		0 },
	{ MACHINE_MICROVM, ACCEL_TCG, 1, false, KIND_RAM, DISK_SCSI_FILE, false,
		DISCARD },
	{ MACHINE_VIRT, ACCEL_KVM, 2, false, KIND_MEMFD, DISK_BLK_FILE, true,
		PORTS },
	{ MACHINE_VIRT, ACCEL_KVM, 4, true, KIND_FILE, DISK_SCSI_FILE, false,
		0 },
	{ MACHINE_VIRT, ACCEL_KVM, 1, false, KIND_RAM, DISK_NVDIMM, false,
		BIOS | HOTPLUG },
	{ MACHINE_S390, ACCEL_KVM, 1, false, KIND_MEMFD, DISK_BLK_FILE, true,
		0 },
	{ MACHINE_S390, ACCEL_KVM, 4, true, KIND_FILE, DISK_SCSI_DEVICE, false,
		MTU },
	{ MACHINE_S390, ACCEL_KVM, 16, false, KIND_RAM, DISK_BLK_DEVICE, false,
		PLATFORM },
	{ MACHINE_S390, ACCEL_KVM, 0, false, KIND_MEMFD, DISK_NONE, true,
		BALLOON },
	{ MACHINE_S390, ACCEL_KVM, 8, true, KIND_MEMFD, DISK_NONE, false,
		VSOCK },
	{ MACHINE_Q35, ACCEL_TCG, 1, false, KIND_HUGE, DISK_BLK_FILE, true,
		HOTPLUG },
	{ MACHINE_MICROVM, ACCEL_TCG, 2, false, KIND_HUGE, DISK_NONE, false,
		PREALLOC },
};

/* ---- names ---- */

static void row_name(const struct row *r, char *ret, size_t size)
{
	size_t n = (size_t)snprintf(ret, size, "%s-%s-q%u%s-%s", machine_words[r->machine],
		accels[r->accel], r->queues, r->vhost ? "-vhost" : "", kind_words[r->memory]);

	if (r->disk != DISK_NONE)
		n += (size_t)snprintf(ret + n, size - n, "-%s", disk_words[r->disk]);
	if (r->share)
		n += (size_t)snprintf(ret + n, size - n, "-share");
	for (unsigned i = 0; extra_words[i]; i++)
		if (r->extras & (1U << i))
			n += (size_t)snprintf(ret + n, size - n, "-%s", extra_words[i]);
	CHECK(n < size);
}

/* ---- one VM ---- */

static int some_fd(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

static int begin(struct qemu_cmdline *c, const struct row *r, const char *name, struct error *err)
{
	bool hotplug = r->extras & HOTPLUG;
	const struct qemu_config config = {
		.name = name,
		.machine = r->machine,
		.accel = r->accel,
		.vcpus = r->queues > 4 ? 4 : 1,
		.max_vcpus = hotplug ? 8 : 0,
		.memory_mib = 64,
		.memory_slots = hotplug ? 4 : 0,
		.memory_max_mib = hotplug ? 1024 : 0,
		.kernel = "/kernel",
		.initrd = "/initrd",
		.append = "console=hvc0 quiet reboot=t panic=1",
		.memory = r->memory == KIND_RAM ? MEMORY_RAM
			: r->memory == KIND_FILE ? MEMORY_FILE : MEMORY_MEMFD,
		.memory_hugepages = r->memory == KIND_HUGE,
		.memory_prealloc = r->extras & PREALLOC,
		.memory_path = r->memory == KIND_FILE ? "/dev/shm" : NULL,
		.no_pmu = r->extras & NO_PMU,
	};

	return qemu_cmdline_init(c, &config, err);
}

static int add_net(struct qemu_cmdline *c, const struct row *r, struct error *err)
{
	int fds[16], vhost[16];
	const struct network_device_config config = {
		.id = "eth0",
		.mac = { 0x02, 0x42, 0xac, 0x11, 0x00, 0x02 },
		.queues = r->queues,
		.queue_fds = fds,
		.vhost_fds = r->vhost ? vhost : NULL,
		.host_mtu = r->extras & MTU ? 1450 : 0,
		.disable_modern = r->extras & OLD,
		.iommu_platform = r->extras & PLATFORM,
	};

	for (unsigned i = 0; i < r->queues; i++) {
		fds[i] = some_fd();
		vhost[i] = r->vhost ? some_fd() : -1;
	}
	return r->queues ? qemu_cmdline_add_network_device_consume(c, &config, err) : 0;
}

static int add_block(struct qemu_cmdline *c, const struct row *r, struct error *err)
{
	bool scsi = r->disk == DISK_SCSI_FILE || r->disk == DISK_SCSI_DEVICE;
	const char *iothread = r->extras & IOTHREAD ? "io0" : NULL;
	const struct block_device_config config = {
		.id = "root",
		.fd = some_fd(),
		.set = 1,
		.kind = r->disk == DISK_BLK_DEVICE || r->disk == DISK_SCSI_DEVICE
			? BLOCK_HOST_DEVICE : BLOCK_FILE,
		.frontend = scsi ? BLOCK_SCSI : BLOCK_VIRTIO,
		.read_only = r->extras & READ_ONLY,
		.discard = r->extras & DISCARD,
		.cache_direct = r->extras & DIRECT,
		.serial = r->extras & SERIAL ? "a,b=\"c\\ d\xc3\xa9" : NULL,
		.iothread = scsi ? NULL : iothread,
	};
	int n = 0;

	if (iothread)
		n = qemu_cmdline_add_iothread(c, iothread, err);
	if (n == 0 && scsi)
		n = qemu_cmdline_add_scsi(c, iothread, err);
	if (n < 0) {
		close(config.fd);
		return n;
	}
	return qemu_cmdline_add_block_device_consume(c, &config, err);
}

static int add_disk(struct qemu_cmdline *c, const struct row *r, struct error *err)
{
	if (r->disk == DISK_NONE)
		return 0;
	if (r->disk != DISK_PMEM && r->disk != DISK_NVDIMM)
		return add_block(c, r, err);
	return qemu_cmdline_add_image(c, r->disk == DISK_PMEM ? IMAGE_VIRTIO_PMEM : IMAGE_NVDIMM,
		"/image", UINT64_C(128) << 20, err);
}

static int add_dimm(struct qemu_cmdline *c, struct error *err)
{
	const struct memory_backend_config config = { .id = "more", .size = UINT64_C(128) << 20,
		.share = true };

	return qemu_cmdline_add_pc_dimm(c, &config, err);
}

static int add_extras(struct qemu_cmdline *c, const struct row *r, struct error *err)
{
	unsigned x = r->extras;
	int n = x & IOMMU ? qemu_cmdline_add_iommu(c, err) : 0;

	n = n == 0 && x & BIOS ? qemu_cmdline_add_bios(c, "/firmware", err) : n;
	n = n == 0 && x & BALLOON ? qemu_cmdline_add_balloon(c, true, err) : n;
	n = n == 0 && x & PORTS ? qemu_cmdline_add_root_ports(c, 4, err) : n;
	n = n == 0 && x & BRIDGE ? qemu_cmdline_add_pci_bridge(c, 1, 9, err) : n;
	n = n == 0 && x & DIMM ? add_dimm(c, err) : n;
	n = n == 0 && x & VIRTIO_MEM
		? qemu_cmdline_add_virtio_mem(c, UINT64_C(256) << 20, UINT64_C(64) << 20, err) : n;
	n = n == 0 && x & VSOCK
		? qemu_cmdline_add_vsock_consume(c, some_fd(), 3, err) : n;
	return n;
}

static int build(struct qemu_cmdline *c, const struct row *r, const char *name, struct error *err)
{
	int n = begin(c, r, name, err);

	n = n == 0 ? add_extras(c, r, err) : n;
	n = n == 0 && r->share
		? qemu_cmdline_add_share_consume(c, "kataShared", some_fd(), err) : n;
	n = n == 0 ? add_net(c, r, err) : n;
	n = n == 0 ? add_disk(c, r, err) : n;
	n = n == 0 ? qemu_cmdline_add_monitor_consume(c, some_fd(), err) : n;
	n = n == 0 ? qemu_cmdline_add_port_consume(c, "agent", "agent.channel.0", some_fd(), err) : n;
	return n == 0 ? qemu_cmdline_add_console_consume(c, some_fd(), err) : n;
}

TEST (every_row) {
	int before = test_count_fds();

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct error err = ERROR_INIT;
		struct qemu_cmdline c;
		char name[128];

		row_name(&rows[i], name, sizeof(name));
		if (build(&c, &rows[i], "sandbox", &err) < 0)
			test_fail(__FILE__, __LINE__, "%s: %s", name, err.msg);
		golden_check(name, &c);
		qemu_cmdline_done(&c);
		CHECK_INT(test_count_fds(), before);
	}
}

/* ---- matrix.md ---- */

#define AXES 7

static unsigned queue_index(unsigned queues)
{
	unsigned i = 0;

	while (queues >> i)
		i++;
	return i;
}

/* The value of axis `axis` in the row, as an index into its words. */
static unsigned axis_value(const struct row *r, unsigned axis)
{
	const unsigned values[AXES] = { r->machine, r->accel, queue_index(r->queues), r->vhost,
		r->memory, r->disk, r->share };

	return values[axis];
}

static const struct {
	const char *name;
	const char *const *words;
} axes[AXES] = {
	{ "machine", machine_words },
	{ "accel", accels },
	{ "queues", queue_words },
	{ "vhost", no_yes },
	{ "memory", kind_words },
	{ "disk", disk_words },
	{ "share", no_yes },
};

static unsigned count_pair(unsigned a, unsigned va, unsigned b, unsigned vb)
{
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		n += axis_value(&rows[i], a) == va && axis_value(&rows[i], b) == vb;
	return n;
}

static void put_pairs(FILE *f, unsigned a, unsigned b)
{
	fprintf(f, "\n| %s \\ %s |", axes[a].name, axes[b].name);
	for (unsigned vb = 0; axes[b].words[vb]; vb++)
		fprintf(f, " %s |", axes[b].words[vb]);
	fputs("\n|---|", f);
	for (unsigned vb = 0; axes[b].words[vb]; vb++)
		fputs("---|", f);
	for (unsigned va = 0; axes[a].words[va]; va++) {
		fprintf(f, "\n| %s |", axes[a].words[va]);
		for (unsigned vb = 0; axes[b].words[vb]; vb++)
			fprintf(f, " %u |", count_pair(a, va, b, vb));
	}
	fputs("\n", f);
}

static void put_extras(FILE *f)
{
	fputs("\n## Beside the axes\n\n", f);
	for (unsigned x = 0; extra_words[x]; x++) {
		unsigned n = 0;

		for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
			n += (rows[i].extras >> x) & 1;
		fprintf(f, "%s%s %u", x ? ", " : "", extra_words[x], n);
		CHECK(n > 0);
	}
	fputs("\n", f);
}

TEST (matrix) {
	static char text[GOLDEN_SIZE];
	FILE *f = fmemopen(text, sizeof(text), "w");

	fprintf(f,
		"# Command lines and their axes\n\n"
		"%zu command lines of the table in `vmmd_matrix.c`; this page is written from it\n"
		"(`BULKHEAD_GOLDEN_UPDATE=1`) and compared with it. The transport is the machine's:\n"
		"q35 and virt have PCI, microvm virtio-mmio, s390 CCW. Each number says in how many\n"
		"command lines a pair of values occurs.\n\n"
		"A 0 cannot be, or is of a machine that is only printed (virt, s390): vhost without\n"
		"queues; a share with memory of kind ram, which virtiofsd cannot map; pmem and nvdimm\n"
		"on microvm or s390, which have no place for them; huge pages stand in two lines only,\n"
		"because few machines have any.\n\n## Pairs\n",
		ARRAY_SIZE(rows));
	for (unsigned a = 0; a < AXES; a++)
		for (unsigned b = a + 1; b < AXES; b++)
			put_pairs(f, a, b);
	put_extras(f);
	fclose(f);
	golden_compare("matrix.md", text);
}

static bool can_be(unsigned a, unsigned va, unsigned b, unsigned vb)
{
	struct row r = { .queues = 1, .machine = MACHINE_Q35 };

	for (unsigned k = 0; k < 2; k++) {
		unsigned axis = k ? b : a, v = k ? vb : va;

		switch (axis) {
		case 0:
			r.machine = (enum machine_type)v;
			break;
		case 2:
			r.queues = v ? 1U << (v - 1) : 0;
			break;
		case 3:
			r.vhost = v;
			break;
		case 4:
			r.memory = (enum kind)v;
			break;
		case 5:
			r.disk = (enum disk)v;
			break;
		case 6:
			r.share = v;
			break;
		default:
			break;
		}
	}
	return r.machine <= MACHINE_MICROVM && r.memory != KIND_HUGE && !(r.vhost && !r.queues) &&
		!(r.share && r.memory == KIND_RAM) &&
		!(r.disk >= DISK_PMEM && r.machine == MACHINE_MICROVM);
}

/* Of the machines that run here: every pair that can be, is. */
TEST (every_pair_that_can_be) {
	for (unsigned a = 0; a < AXES; a++)
		for (unsigned b = a + 1; b < AXES; b++)
			for (unsigned va = 0; axes[a].words[va]; va++)
				for (unsigned vb = 0; axes[b].words[vb]; vb++)
					if (a != 1 && b != 1 && can_be(a, va, b, vb) &&
						count_pair(a, va, b, vb) == 0)
						test_fail(__FILE__, __LINE__,
							"%s=%s with %s=%s is nowhere", axes[a].name,
							axes[a].words[va], axes[b].name,
							axes[b].words[vb]);
}
