/*
 * What comes to a running VM and goes again: a NIC of one queue and of four, with
 * vhost-net where the machine has it and without, disks, memory, CPUs. Each command
 * of each operation is made to fail once. BULKHEAD_LONG: each comes and goes 100
 * times. BULKHEAD_ACCEL=kvm: by the processor (tests/vm has one that can).
 */
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/proc/vmmd_plug.h"

TEST_PATIENCE(getenv("BULKHEAD_LONG") || getenv("BULKHEAD_ACCEL") ? 1800 : 240)

/* ---- one kind of thing, as the loops below need it ---- */

struct kind {
	const char *name;
	Ipc__VmmdRemove__Kind remove;
	void (*ask_add)(struct world *w);
	void (*seen)(struct world *w);
	void (*gone)(struct world *w);
};

static void add_nic_1(struct world *w)
{
	ask_nic(w, 1, false);
}

static void add_nic_4(struct world *w)
{
	ask_nic(w, 4, false);
}

static void add_vhost_1(struct world *w)
{
	ask_nic(w, 1, true);
}

static void add_vhost_4(struct world *w)
{
	ask_nic(w, 4, true);
}

static void nic_seen(struct world *w)
{
	guest_says(w, "/sys/class/net/eth0/address", "02:00:00:00:00:07");
	guest_says(w, "/sys/class/net/eth0/mtu", "1400");
}

/* Two interrupts for each queue, and one for its configuration. */
static void nic_1_seen(struct world *w)
{
	nic_seen(w);
	guest_has(w, "/sys/class/net/eth0/device/../msi_irqs", "", 3);
}

static void nic_4_seen(struct world *w)
{
	nic_seen(w);
	guest_has(w, "/sys/class/net/eth0/device/../msi_irqs", "", 9);
}

static void nic_gone(struct world *w)
{
	char tap[IFNAMSIZ];

	guest_has(w, "/sys/class/net", "eth", 0);
	snprintf(tap, sizeof(tap), NETWORK_TAP_FMT, LINK);
	CHECK_INT(if_nametoindex(tap), 0);
}

static void add_disk(struct world *w)
{
	ask_disk(w, 1, new_disk(8));
}

static int backing = -1;

static void add_block_device(struct world *w)
{
	ask_disk(w, 1, new_loop(backing));
}

static void disk_seen(struct world *w)
{
	guest_has(w, "/sys/block", "vd", 1);
	guest_says(w, "/sys/block/vda/size", "16384 ");
}

static void disk_gone(struct world *w)
{
	guest_has(w, "/sys/block", "vd", 0);
}

static void add_memory(struct world *w)
{
	ask_memory(w, 1);
}

static unsigned memory_blocks(struct world *w)
{
	return count_words(guest(w, "ls", "/sys/devices/system/memory", ""), "memory");
}

static unsigned blocks_before;

static void memory_seen(struct world *w)
{
	guest_has(w, "/sys/devices/system/memory", "memory", blocks_before + 2);
}

static void memory_gone(struct world *w)
{
	guest_has(w, "/sys/devices/system/memory", "memory", blocks_before);
}

static void add_cpu(struct world *w)
{
	ask_cpu(w, 1);
}

static void cpu_seen(struct world *w)
{
	guest_set(w, "/sys/devices/system/cpu/cpu1/online", "1");
	guest_says(w, "/sys/devices/system/cpu/online", "0-1 ");
}

static void cpu_gone(struct world *w)
{
	guest_has(w, "/sys/devices/system/cpu", "cpu1", 0);
}

static const struct kind nic_1_kind = { "NIC of one queue", IPC__VMMD_REMOVE__KIND__NIC, add_nic_1,
	nic_1_seen, nic_gone };
static const struct kind nic_4_kind = { "NIC of four queues", IPC__VMMD_REMOVE__KIND__NIC,
	add_nic_4, nic_4_seen, nic_gone };
static const struct kind vhost_1_kind = { "NIC of one queue with vhost",
	IPC__VMMD_REMOVE__KIND__NIC, add_vhost_1, nic_1_seen, nic_gone };
static const struct kind vhost_4_kind = { "NIC of four queues with vhost",
	IPC__VMMD_REMOVE__KIND__NIC, add_vhost_4, nic_4_seen, nic_gone };
static const struct kind disk_kind = { "disk", IPC__VMMD_REMOVE__KIND__BLOCK, add_disk, disk_seen,
	disk_gone };
static const struct kind block_device_kind = { "block device", IPC__VMMD_REMOVE__KIND__BLOCK,
	add_block_device, disk_seen, disk_gone };
static const struct kind memory_kind = { "memory", IPC__VMMD_REMOVE__KIND__MEMORY, add_memory,
	memory_seen, memory_gone };
static const struct kind cpu_kind = { "CPU", IPC__VMMD_REMOVE__KIND__CPU, add_cpu, cpu_seen,
	cpu_gone };

/* Comes and goes; nothing is left, however often. */
static void come_and_go(struct world *w, const struct kind *k)
{
	static char before[STATE_SIZE];
	unsigned n = getenv("BULKHEAD_LONG") ? 100 : 3;

	state_of(w, before);
	for (unsigned i = 0; i < n; i++) {
		k->ask_add(w);
		expect_done(w);
		k->seen(w);
		ask_remove(w, k->remove, 1);
		expect_done(w);
		k->gone(w);
		if (i == 0)
			expect_state(w, before, "after the first round");
	}
	expect_state(w, before, "after all rounds");
}

/* Arms the proxy for one command more each time, until the operation has no more of them. */
static void each_command_fails(struct world *w, const struct kind *k, bool add)
{
	static char before[STATE_SIZE];
	unsigned step = 0;
	bool done;

	state_of(w, before);
	do {
		struct error err = ERROR_INIT;

		proxy_arm(&w->proxy, ++step);
		if (add)
			k->ask_add(w);
		else
			ask_remove(w, k->remove, 1);
		done = answered(w, &err);
		if (done == proxy_fired(&w->proxy))
			test_fail(__FILE__, __LINE__, "%s, command %u: %s", k->name, step, err.msg);
		if (done)
			break;
		fprintf(stderr, "%s, command %u (%s): %s\n", k->name, step, w->proxy.failed,
			err.msg);
		CHECK_CONTAINS(err.msg, "made to fail");
		if (!add)
			k->seen(w);
		expect_state(w, before, w->proxy.failed);
	} while (true);
	CHECK(step > 1);
}

/* Each command of each operation fails once: nothing has changed, and then it works. */
static void every_step_fails(struct world *w, const struct kind *k)
{
	static char without[STATE_SIZE];

	state_of(w, without);
	each_command_fails(w, k, true);
	k->seen(w);
	each_command_fails(w, k, false);
	k->gone(w);
	expect_state(w, without, "after the removal");
}

/* A fourth has no port. Each by its size and its serial number. */
static void as_many_disks_as_ports(struct world *w)
{
	static char before[STATE_SIZE];

	state_of(w, before);
	for (uint32_t i = 0; i < 3; i++) {
		ask_disk(w, i, new_disk((int)i + 1));
		expect_done(w);
		/* One after the other: the guest names them in the order in which it has them. */
		guest_has(w, "/sys/block", "vd", i + 1);
	}
	guest_says(w, "/sys/block/vda/size", "2048 ");
	guest_says(w, "/sys/block/vdb/size", "4096 ");
	guest_says(w, "/sys/block/vdb/serial", "disk-1");
	ask_disk(w, 3, new_disk(1));
	expect_refused(w, "add block: disk 3: no port is free for a device: the VM has 3");
	ask_disk(w, 2, new_disk(1));
	expect_refused(w, "disk 2 is there already");
	for (uint32_t i = 0; i < 3; i++) {
		ask_remove(w, IPC__VMMD_REMOVE__KIND__BLOCK, i);
		expect_done(w);
	}
	ask_remove(w, IPC__VMMD_REMOVE__KIND__BLOCK, 0);
	expect_refused(w, "there is no disk 0");
	expect_state(w, before, "after three disks");
}

/* The same image through /proc: open in another way. */
static int reopened(int fd, int flags)
{
	char path[64];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	CHECK(again >= 0);
	close(fd);
	return again;
}

/* B10: a mountd that has been taken over sends something else than vmmd was told. */
static void fds_that_are_no_such_disks(struct world *w)
{
	static char before[STATE_SIZE];
	int pair[2];

	state_of(w, before);
	ask_disk_as(w, 1, true, new_disk(1));
	expect_refused(w, "disk 1: a disk that is to be read-only came open for something else");
	ask_disk_as(w, 1, false, reopened(new_disk(1), O_RDONLY));
	expect_refused(w, "disk 1: a disk that is to be writable came open for something else");
	ask_disk_as(w, 1, false, reopened(new_disk(1), O_WRONLY));
	expect_refused(w, "a disk that is to be writable came open for something else");
	ask_disk_as(w, 1, false, open("/dev/null", O_RDWR | O_CLOEXEC));
	expect_refused(w, "what came is neither an image nor a block device");
	ask_disk_as(w, 1, true, open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	expect_refused(w, "what came is neither an image nor a block device");
	CHECK_INT(pipe2(pair, O_CLOEXEC), 0);
	close(pair[1]);
	ask_disk_as(w, 1, true, pair[0]);
	expect_refused(w, "what came is neither an image nor a block device");
	expect_state(w, before, "after what is no disk");
	/* And one that is read-only is so in the guest. */
	ask_disk_as(w, 1, true, reopened(new_disk(1), O_RDONLY));
	expect_done(w);
	guest_has(w, "/sys/block", "vd", 1);
	guest_says(w, "/sys/block/vda/ro", "1 ");
	ask_remove(w, IPC__VMMD_REMOVE__KIND__BLOCK, 1);
	expect_done(w);
}

TEST (disks) {
	static struct world w;

	world_start(&w);
	fds_that_are_no_such_disks(&w);
	every_step_fails(&w, &disk_kind);
	come_and_go(&w, &disk_kind);
	as_many_disks_as_ports(&w);
	world_done(&w);
}

/* Whether QEMU has a block device open past the page cache. */
static bool has_direct_device(int qemu)
{
	unsigned flags = 0;

	for (int i = 0; i < 256 && !(flags & O_DIRECT); i++) {
		char path[64];
		struct stat st;
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/fd/%d", qemu, i);
		if (stat(path, &st) < 0 || !S_ISBLK(st.st_mode))
			continue;
		snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", qemu, i);
		f = fopen(path, "re");
		CHECK(f && fscanf(f, "pos: %*u flags: %o", &flags) == 1);
		fclose(f);
	}
	return flags & O_DIRECT;
}

/* The file behind the device, as it is on the host once the guest has written and closed it. */
static void the_guest_writes(struct world *w, const char *text)
{
	int64_t deadline = clock_ms() + 10000;
	char got[64] = "";

	add_block_device(w);
	expect_done(w);
	disk_seen(w);
	CHECK(has_direct_device(w->rig.slot));
	guest_set(w, "/dev/vda", text);
	while (strcmp(got, text) != 0 && clock_ms() < deadline) {
		CHECK(pread(backing, got, strlen(text), 0) >= 0);
		usleep(10000);
	}
	CHECK_STR(got, text);
	ask_remove(w, IPC__VMMD_REMOVE__KIND__BLOCK, 1);
	expect_done(w);
}

/* host_device, past the page cache */
TEST (block_devices) {
	static struct world w;
	int fd;

	backing = new_disk(8);
	fd = new_loop(backing);
	if (fd < 0)
		test_skip("no loop device can be had");
	close(fd);
	world_start(&w);
	every_step_fails(&w, &block_device_kind);
	come_and_go(&w, &block_device_kind);
	the_guest_writes(&w, "from the guest");
	close(backing);
	world_done(&w);
}

/* Packets of the tap, from the guest. */
static unsigned packets(void)
{
	char line[512], name[IFNAMSIZ + 1];
	unsigned long long bytes = 0, n = 0;
	FILE *f = fopen("/proc/self/net/dev", "re");

	snprintf(name, sizeof(name), NETWORK_TAP_FMT ":", LINK);
	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		char *at = strstr(line, name);

		if (at)
			CHECK_INT(sscanf(at + strlen(name), "%llu %llu", &bytes, &n), 2);
	}
	fclose(f);
	return (unsigned)n;
}

static void tap_up(void)
{
	struct ifreq ifr = { .ifr_flags = IFF_UP };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), NETWORK_TAP_FMT, LINK);
	CHECK_INT(ioctl(fd, SIOCSIFFLAGS, &ifr), 0);
	close(fd);
}

/* The kernel of the guest says something on each interface that comes up: IPv6. */
static void the_guests_packets_arrive(struct world *w, bool vhost)
{
	int64_t deadline = clock_ms() + 10000;

	ask_nic(w, 4, vhost);
	expect_done(w);
	tap_up();
	nic_4_seen(w);
	guest_set(w, "/sys/class/net/eth0/flags", "0x1003");
	while (packets() == 0 && clock_ms() < deadline)
		usleep(10000);
	CHECK(packets() > 0);
	ask_remove(w, IPC__VMMD_REMOVE__KIND__NIC, LINK);
	expect_done(w);
	nic_gone(w);
}

TEST (nics) {
	static struct world w;

	if (unshare(CLONE_NEWNET) < 0)
		test_skip("no network namespace can be made");
	world_start(&w);
	every_step_fails(&w, &nic_1_kind);
	every_step_fails(&w, &nic_4_kind);
	come_and_go(&w, &nic_1_kind);
	come_and_go(&w, &nic_4_kind);
	the_guests_packets_arrive(&w, false);
	ask_nic(&w, 0, false);
	expect_refused(&w, "add NIC: netd has sent no tap for link 1");
	world_done(&w);
}

/* The frames go past QEMU. The guest sees no difference. */
TEST (nics_with_vhost) {
	int fd = new_vhost();
	static struct world w;

	if (fd < 0)
		test_skip("there is no /dev/vhost-net");
	close(fd);
	if (unshare(CLONE_NEWNET) < 0)
		test_skip("no network namespace can be made");
	world_start(&w);
	every_step_fails(&w, &vhost_1_kind);
	every_step_fails(&w, &vhost_4_kind);
	come_and_go(&w, &vhost_1_kind);
	come_and_go(&w, &vhost_4_kind);
	the_guests_packets_arrive(&w, true);
	world_done(&w);
}

/* QEMU's own refusal, with its sentence. */
static void more_memory_than_there_may_be(struct world *w)
{
	static char before[STATE_SIZE];

	for (uint32_t i = 0; i < 3; i++) {
		ask_memory(w, i);
		expect_done(w);
	}
	state_of(w, before);
	ask_memory(w, 3);
	expect_refused(w, "add memory: memory 3: QEMU refuses 'device_add': ");
	expect_state(w, before, "after a refusal");
}

TEST (memory) {
	static struct world w;

	world_start(&w);
	blocks_before = memory_blocks(&w);
	every_step_fails(&w, &memory_kind);
	come_and_go(&w, &memory_kind);
	more_memory_than_there_may_be(&w);
	world_done(&w);
}

static bool is_kvm(void)
{
	return strcmp(rig_accel(), "kvm") == 0;
}

/* QEMU keeps KVM's fd of a CPU that has gone, for the next in its place: so one has gone before. */
static void cpus_come_and_go(struct world *w)
{
	add_cpu(w);
	expect_done(w);
	ask_remove(w, IPC__VMMD_REMOVE__KIND__CPU, 1);
	expect_done(w);
	every_step_fails(w, &cpu_kind);
	come_and_go(w, &cpu_kind);
}

/* They are there from the start: nothing changes in QEMU. The guest's kernel knows how many to use. */
static void emulated_cpus(struct world *w)
{
	static char with[STATE_SIZE];

	guest_says(w, "/sys/devices/system/cpu/online", "0 ");
	guest_says(w, "/sys/devices/system/cpu/present", "0-2 ");
	state_of(w, with);
	for (uint32_t i = 1; i < 3; i++) {
		ask_cpu(w, i);
		expect_done(w);
	}
	cpu_seen(w);
	ask_cpu(w, 3);
	expect_refused(w, "add CPU: CPU 3: the VM has all the CPUs it may have");
	ask_cpu(w, 1);
	expect_refused(w, "add CPU: CPU 1");
	ask_remove(w, IPC__VMMD_REMOVE__KIND__CPU, 1);
	expect_refused(w, "remove: CPU 1: an emulated CPU is there from the start and stays");
	expect_state(w, with, "after what QEMU has no part in");
}

TEST (cpus) {
	static struct world w;

	world_start(&w);
	if (!is_kvm()) {
		emulated_cpus(&w);
		world_done(&w);
		return;
	}
	cpus_come_and_go(&w);
	each_command_fails(&w, &cpu_kind, true);
	cpu_seen(&w);
	ask_cpu(&w, 2);
	expect_done(&w);
	guest_has(&w, "/sys/devices/system/cpu", "cpu2", 1);
	ask_cpu(&w, 3);
	expect_refused(&w, "add CPU: CPU 3: the VM has all the CPUs it may have");
	world_done(&w);
}

/* Of what only such a machine can show the essence, in one VM: tests/vm has little time. */
TEST (by_the_processor_in_brief) {
	static struct world w;

	if (!is_kvm())
		test_skip("BULKHEAD_ACCEL is not kvm");
	if (unshare(CLONE_NEWNET) < 0)
		test_skip("no network namespace can be made");
	world_start(&w);
	the_guests_packets_arrive(&w, true);
	add_cpu(&w);
	expect_done(&w);
	cpu_seen(&w);
	ask_remove(&w, IPC__VMMD_REMOVE__KIND__CPU, 1);
	expect_done(&w);
	cpu_gone(&w);
	world_done(&w);
}

static void expect_status(struct world *w, const char *text)
{
	char *answer = proxy_ask(&w->proxy, "query-status", "");

	CHECK_CONTAINS(answer, text);
	free(answer);
}

TEST (pause_and_resume) {
	static struct world w;
	Ipc__VmmdPause pause_msg = IPC__VMMD_PAUSE__INIT;
	Ipc__VmmdResume resume = IPC__VMMD_RESUME__INIT;

	world_start(&w);
	rig_ask_ok(&w.rig, VMMD_PAUSE, &pause_msg.base);
	expect_status(&w, "\"running\": false");
	rig_ask_ok(&w.rig, VMMD_RESUME, &resume.base);
	expect_status(&w, "\"running\": true");
	guest_says(&w, "/proc/version", "Linux");
	world_done(&w);
}
