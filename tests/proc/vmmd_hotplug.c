/*
 * What comes to a running VM and goes again: bulkhead-vmmd, the real QEMU under
 * our filter, the real guest, and a proxy on QMP that makes any command fail.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "ipc/mountd.pb-c.h"
#include "tests/proc/vmmd_proxy.h"

#define QEMU "/usr/bin/qemu-system-x86_64"
#define MIB  (1 << 20)

TEST_PATIENCE(getenv("BULKHEAD_LONG") ? 1800 : 240)

struct world {
	struct rig rig;
	struct proxy proxy;
	int agent, console;
	char initrd[64];
	char said[65536]; /* by the guest's console */
	size_t len;
};

/* ---- the guest's initrd, and the probe behind it ---- */

static void copy_to(FILE *out, const char *path)
{
	char buf[65536];
	FILE *in = fopen(path, "re");
	size_t n;

	CHECK(in);
	while ((n = fread(buf, 1, sizeof(buf), in)) > 0)
		CHECK_INT(fwrite(buf, 1, n, out), n);
	fclose(in);
}

static void pad(FILE *out)
{
	while (ftell(out) % 4)
		putc(0, out);
}

static void cpio_entry(FILE *out, const char *name, unsigned mode, size_t size)
{
	fprintf(out, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x%s", 1U, mode, 0U,
		0U, 1U, 0U, size, 0U, 0U, 0U, 0U, strlen(name) + 1, 0U, name);
	putc(0, out);
	pad(out);
}

static void make_initrd(struct world *w)
{
	char probe[512];
	struct stat st;
	FILE *out;
	int fd;

	snprintf(probe, sizeof(probe), "%s/tests/proc/guest-probe", getenv("BULKHEAD_BUILD"));
	CHECK_INT(stat(probe, &st), 0);
	strcpy(w->initrd, "/run/bulkhead-test-initrd.XXXXXX");
	fd = mkostemp(w->initrd, O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_INT(fchmod(fd, 0644), 0);
	out = fdopen(fd, "w");
	copy_to(out, rig_image("initrd"));
	pad(out);
	cpio_entry(out, "probe", 0100755, (size_t)st.st_size);
	copy_to(out, probe);
	pad(out);
	cpio_entry(out, "TRAILER!!!", 0, 0);
	CHECK_INT(fclose(out), 0);
}

/* ---- the guest, seen from inside ---- */

static void hear_console(struct world *w, int timeout_ms)
{
	struct pollfd pfd = { .fd = w->console, .events = POLLIN };
	ssize_t n;

	if (poll(&pfd, 1, timeout_ms) <= 0)
		return;
	n = read(w->console, w->said + w->len, sizeof(w->said) - 1 - w->len);
	CHECK(n > 0);
	w->len += (size_t)n;
	w->said[w->len] = '\0';
}

/* What the probe says next; in a buffer that the next call overwrites. */
static const char *guest_word(struct world *w)
{
	static char answer[4096];
	int64_t deadline = clock_ms() + 110000;
	char *from, *to = NULL;

	while (!(from = strstr(w->said, "[[")) || !(to = strstr(from, "]]"))) {
		if (clock_ms() > deadline)
			test_fail(__FILE__, __LINE__, "the guest does not answer: %s", w->said);
		hear_console(w, 1000);
	}
	snprintf(answer, sizeof(answer), "%.*s", (int)(to - from - 2), from + 2);
	w->len = 0;
	w->said[0] = '\0';
	return answer;
}

static const char *guest(struct world *w, const char *verb, const char *path, const char *text)
{
	char line[512];

	snprintf(line, sizeof(line), "%s /p%s%s%s\n", verb, path, *text ? " " : "", text);
	CHECK_INT(write(w->console, line, strlen(line)), strlen(line));
	return guest_word(w);
}

static unsigned count_words(const char *text, const char *prefix)
{
	unsigned n = 0;

	for (const char *at = text; (at = strstr(at, prefix)); at += strlen(prefix))
		n += at == text || at[-1] == ' ';
	return n;
}

/* Until the guest's answer has so many words that begin with the prefix. */
static void guest_has(struct world *w, const char *dir, const char *prefix, unsigned n)
{
	int64_t deadline = clock_ms() + 30000;
	const char *answer;

	do {
		answer = guest(w, "ls", dir, "");
		if (count_words(answer, prefix) == n)
			return;
		usleep(20000);
	} while (clock_ms() < deadline);
	test_fail(__FILE__, __LINE__, "the guest's %s: %s", dir, answer);
}

static void guest_says(struct world *w, const char *path, const char *text)
{
	int64_t deadline = clock_ms() + 30000;
	const char *answer;

	do {
		answer = guest(w, "cat", path, "");
		if (strstr(answer, text))
			return;
		usleep(20000);
	} while (clock_ms() < deadline);
	test_fail(__FILE__, __LINE__, "the guest's %s: '%s', not '%s'", path, answer, text);
}

/* Its file may be still to come. */
static void guest_set(struct world *w, const char *path, const char *text)
{
	int64_t deadline = clock_ms() + 30000;
	const char *answer;

	do {
		answer = guest(w, "set", path, text);
		if (!*answer)
			return;
		usleep(20000);
	} while (clock_ms() < deadline);
	test_fail(__FILE__, __LINE__, "the guest's %s: %s", path, answer);
}

/* ---- start and end ---- */

static void world_start(struct world *w)
{
	Ipc__VmmdLaunch launch = IPC__VMMD_LAUNCH__INIT;
	Ipc__VmmdCont cont = IPC__VMMD_CONT__INIT;
	char line[512] = "";
	int job[2];
	FILE *f;

	if (geteuid() != 0)
		test_skip("needs root");
	if (access(QEMU, X_OK) < 0)
		test_skip("needs " QEMU);
	w->len = 0;
	f = fopen(rig_image("cmdline"), "re");
	CHECK(f && fgets(line, 400, f));
	fclose(f);
	line[strcspn(line, "\n")] = '\0';
	strcat(line, " rdinit=/probe");
	make_initrd(w);
	rig_init(&w->rig);
	rig_start_slot(&w->rig, &(struct rig_slot){ QEMU, rig_image("kernel"), w->initrd, "tcg" });
	test_pair(job);
	proxy_start(&w->proxy, job[0], w->rig.slot_job);
	w->rig.slot_job = -1;
	rig_start_vmmd(&w->rig, job[1], line);
	rig_lock(w->rig.slot_ctl);
	rig_lock(w->rig.vmmd_ctl);

	launch.vcpus = 1;
	launch.memory_mib = 256;
	launch.ports = 3;
	launch.max_vcpus = 3;
	launch.max_memory_mib = 1024;
	rig_ask_ok(&w->rig, VMMD_LAUNCH, &launch.base);
	CHECK_INT(unlink(w->initrd), 0);
	w->agent = rig_take_fd(w->rig.agentd, &ipc_vmmd_agentd, VMMD_AGENTD_STREAM);
	w->console = rig_take_fd(w->rig.agentd, &ipc_vmmd_agentd, VMMD_AGENTD_CONSOLE);
	rig_ask_ok(&w->rig, VMMD_CONT, &cont.base);
	CHECK_STR(guest_word(w), "ready");
	/* By the agent's hello its late modules are still to come. Each driver's queues are eventfds of QEMU. */
	guest_says(w, "/proc/modules", "virtio_net");
	guest_says(w, "/proc/modules", "virtio_blk");
	guest_says(w, "/sys/class/misc/hw_random/rng_current", "virtio_rng");
}

static void world_done(struct world *w)
{
	Ipc__VmmdStop stop = IPC__VMMD_STOP__INIT;

	rig_ask_ok(&w->rig, VMMD_STOP, &stop.base);
	CHECK(!w->rig.kill_asked);
	proxy_done(&w->proxy);
	close(w->agent);
	close(w->console);
	rig_done(&w->rig);
}

/* ---- what QEMU and vmmd have ---- */

static void add_text(char *to, size_t size, const char *text)
{
	size_t used = strlen(to);

	CHECK(used + strlen(text) + 2 < size);
	snprintf(to + used, size - used, "%s\n", text);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What each fd is, sorted, without its number. */
static void fds_of(int pid, char *ret, size_t size)
{
	char dir[64], path[384], target[256], *all[512];
	struct dirent *e;
	size_t n = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", pid);
	d = opendir(dir);
	CHECK(d);
	while ((e = readdir(d))) {
		ssize_t len;

		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		len = readlink(path, target, sizeof(target) - 1);
		if (len < 0)
			continue;
		target[len] = '\0';
		CHECK(n < 512);
		all[n++] = strdup(target);
	}
	closedir(d);
	qsort(all, n, sizeof(all[0]), by_text);
	for (size_t i = 0; i < n; i++) {
		add_text(ret, size, all[i]);
		free(all[i]);
	}
}

/* QOM's order is that of a hash table. */
static void sort_parts(char *answer)
{
	char *parts[256], *save = NULL, *copy = strdup(answer);
	size_t n = 0;

	for (char *p = strtok_r(copy, "{}[]", &save); p; p = strtok_r(NULL, "{}[]", &save))
		if (strlen(p) > 2 && n < 256)
			parts[n++] = p;
	qsort(parts, n, sizeof(parts[0]), by_text);
	answer[0] = '\0';
	for (size_t i = 0; i < n; i++)
		strcat(strcat(answer, parts[i]), ";");
	free(copy);
}

static void ask_into(struct world *w, char *ret, size_t size, const char *command,
	const char *arguments)
{
	char *answer = proxy_ask(&w->proxy, command, arguments);

	CHECK_CONTAINS(answer, "\"return\"");
	if (strcmp(command, "qom-list") == 0)
		sort_parts(answer);
	add_text(ret, size, command);
	add_text(ret, size, answer);
	free(answer);
}

#define STATE_SIZE 65536

static void state_of(struct world *w, char *ret)
{
	ret[0] = '\0';
	ask_into(w, ret, STATE_SIZE, "query-fdsets", "");
	ask_into(w, ret, STATE_SIZE, "query-named-block-nodes", "");
	ask_into(w, ret, STATE_SIZE, "query-memory-devices", "");
	ask_into(w, ret, STATE_SIZE, "query-hotpluggable-cpus", "");
	ask_into(w, ret, STATE_SIZE, "qom-list", "{\"path\":\"/objects\"}");
	ask_into(w, ret, STATE_SIZE, "qom-list", "{\"path\":\"/machine/peripheral\"}");
	ask_into(w, ret, STATE_SIZE, "human-monitor-command",
		"{\"command-line\":\"info network\"}");
	fds_of(w->rig.slot, ret, STATE_SIZE);
	fds_of(w->rig.vmmd, ret, STATE_SIZE);
}

/* QEMU's own threads close some fds a moment later. */
static void expect_state(struct world *w, const char *before, const char *when)
{
	static char now[STATE_SIZE];
	int64_t deadline = clock_ms() + 5000;

	do {
		state_of(w, now);
		if (strcmp(now, before) == 0)
			return;
		usleep(50000);
	} while (clock_ms() < deadline);
	fprintf(stderr, "---- before\n%s---- %s\n%s", before, when, now);
	test_fail(__FILE__, __LINE__, "something is left %s", when);
}

/* ---- things ---- */

static int new_disk(int mib)
{
	char path[] = "/tmp/bulkhead-test-disk.XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_INT(ftruncate(fd, (off_t)mib * MIB), 0);
	CHECK_INT(unlink(path), 0);
	return fd;
}

static void send_disk(struct world *w, uint32_t index, int mib)
{
	Ipc__Block msg = IPC__BLOCK__INIT;
	struct error err = ERROR_INIT;
	int fd = new_disk(mib);

	msg.index = index;
	CHECK_INT(channel_send(w->rig.mountd, &ipc_mountd_vmmd, IPC_EVENT, MOUNTD_VMMD_BLOCK, 0,
			  &msg.base, &fd, 1, 1000, &err),
		0);
	close(fd);
}

static void ask_disk(struct world *w, uint32_t index, int mib)
{
	Ipc__VmmdAddBlock msg = IPC__VMMD_ADD_BLOCK__INIT;

	send_disk(w, index, mib);
	msg.index = index;
	rig_ask(&w->rig, VMMD_ADD_BLOCK, &msg.base);
}

static void ask_memory(struct world *w, uint32_t index)
{
	Ipc__VmmdAddMemory msg = IPC__VMMD_ADD_MEMORY__INIT;

	msg.index = index;
	msg.mib = 256;
	rig_ask(&w->rig, VMMD_ADD_MEMORY, &msg.base);
}

static void ask_cpu(struct world *w, uint32_t index)
{
	Ipc__VmmdAddCpu msg = IPC__VMMD_ADD_CPU__INIT;

	msg.index = index;
	rig_ask(&w->rig, VMMD_ADD_CPU, &msg.base);
}

static void ask_remove(struct world *w, Ipc__VmmdRemove__Kind kind, uint32_t index)
{
	Ipc__VmmdRemove msg = IPC__VMMD_REMOVE__INIT;

	msg.kind = kind;
	msg.index = index;
	rig_ask(&w->rig, VMMD_REMOVE, &msg.base);
}

/* true: done; false: an error, its sentence in ret. */
static bool answered(struct world *w, struct error *ret)
{
	struct ipc_packet packet;

	CHECK_INT(rig_next(&w->rig, &packet), 1);
	if (packet.hdr.kind == IPC_EVENT) {
		Ipc__VmEvent *e = (Ipc__VmEvent *)ipc_decode(&packet, ret);

		test_fail(__FILE__, __LINE__, "instead of an answer: event %d, status %d, %s",
			e->kind, e->status, e->text);
	}
	return ipc_decode_error(&packet, ret) < 0;
}

static void expect_done(struct world *w)
{
	struct error err = ERROR_INIT;

	if (!answered(w, &err))
		test_fail(__FILE__, __LINE__, "%s", err.msg);
}

static void expect_refused(struct world *w, const char *text)
{
	struct error err = ERROR_INIT;

	CHECK(!answered(w, &err));
	fprintf(stderr, "as expected: %s\n", err.msg);
	CHECK_CONTAINS(err.msg, text);
}

/* ---- one kind of thing, as the loops below need it ---- */

struct kind {
	const char *name;
	Ipc__VmmdRemove__Kind remove;
	void (*ask_add)(struct world *w);
	void (*seen)(struct world *w);
	void (*gone)(struct world *w);
};

static void add_disk(struct world *w)
{
	ask_disk(w, 1, 8);
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

static const struct kind disk_kind = { "disk", IPC__VMMD_REMOVE__KIND__BLOCK, add_disk, disk_seen,
	disk_gone };
static const struct kind memory_kind = { "memory", IPC__VMMD_REMOVE__KIND__MEMORY, add_memory,
	memory_seen, memory_gone };
static const struct kind cpu_kind = { "CPU", IPC__VMMD_REMOVE__KIND__CPU, add_cpu, cpu_seen, NULL };

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
		ask_disk(w, i, (int)i + 1);
		expect_done(w);
	}
	guest_has(w, "/sys/block", "vd", 3);
	guest_says(w, "/sys/block/vda/size", "2048 ");
	guest_says(w, "/sys/block/vdb/size", "4096 ");
	guest_says(w, "/sys/block/vdb/serial", "disk-1");
	ask_disk(w, 3, 1);
	expect_refused(w, "add block: disk 3: no port is free for a device: the VM has 3");
	ask_disk(w, 2, 1);
	expect_refused(w, "disk 2 is there already");
	for (uint32_t i = 0; i < 3; i++) {
		ask_remove(w, IPC__VMMD_REMOVE__KIND__BLOCK, i);
		expect_done(w);
	}
	ask_remove(w, IPC__VMMD_REMOVE__KIND__BLOCK, 0);
	expect_refused(w, "there is no disk 0");
	expect_state(w, before, "after three disks");
}

TEST (disks) {
	static struct world w;

	world_start(&w);
	every_step_fails(&w, &disk_kind);
	come_and_go(&w, &disk_kind);
	as_many_disks_as_ports(&w);
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

/* Under TCG a CPU stays. */
TEST (cpus) {
	static struct world w;
	static char with[STATE_SIZE];

	world_start(&w);
	each_command_fails(&w, &cpu_kind, true);
	cpu_seen(&w);
	ask_cpu(&w, 2);
	expect_done(&w);
	guest_has(&w, "/sys/devices/system/cpu", "cpu2", 1);
	ask_cpu(&w, 3);
	expect_refused(&w, "add CPU: CPU 3: the VM has all the CPUs it may have");
	state_of(&w, with);
	ask_remove(&w, IPC__VMMD_REMOVE__KIND__CPU, 1);
	expect_refused(&w, "remove: CPU 1: QEMU does not survive");
	expect_state(&w, with, "after a refusal");
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
