#include "tests/proc/vmmd_world.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"

#define QEMU "/usr/bin/qemu-system-x86_64"

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

const char *guest(struct world *w, const char *verb, const char *path, const char *text)
{
	char line[512];

	snprintf(line, sizeof(line), "%s /p%s%s%s\n", verb, path, *text ? " " : "", text);
	CHECK_INT(write(w->console, line, strlen(line)), strlen(line));
	return guest_word(w);
}

unsigned count_words(const char *text, const char *prefix)
{
	unsigned n = 0;

	for (const char *at = text; *at; at += strcspn(at, " ")) {
		at += strspn(at, " ");
		n += *at && strncmp(at, prefix, strlen(prefix)) == 0;
	}
	return n;
}

void guest_has(struct world *w, const char *dir, const char *prefix, unsigned n)
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

void guest_says(struct world *w, const char *path, const char *text)
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

void guest_set(struct world *w, const char *path, const char *text)
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

void world_start(struct world *w)
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
	rig_start_slot(&w->rig, &(struct rig_slot){ QEMU, rig_image("kernel"), w->initrd, rig_accel() });
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

void world_done(struct world *w)
{
	Ipc__VmmdStop stop = IPC__VMMD_STOP__INIT;

	rig_ask_ok(&w->rig, VMMD_STOP, &stop.base);
	/* Where KVM is emulated itself, QEMU's way out takes longer than vmmd's patience. */
	CHECK(!w->rig.kill_asked || strcmp(rig_accel(), "kvm") == 0);
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

/* Not query-named-block-nodes: QEMU 10 looks into the files for that, which its filter does not allow. */
#define GRAPH "x-debug-query-block-graph"

/* The order is that of a hash table. */
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
	if (strcmp(command, "qom-list") == 0 || strcmp(command, GRAPH) == 0)
		sort_parts(answer);
	add_text(ret, size, command);
	add_text(ret, size, answer);
	free(answer);
}

void state_of(struct world *w, char *ret)
{
	ret[0] = '\0';
	ask_into(w, ret, STATE_SIZE, "query-fdsets", "");
	ask_into(w, ret, STATE_SIZE, GRAPH, "");
	ask_into(w, ret, STATE_SIZE, "query-memory-devices", "");
	ask_into(w, ret, STATE_SIZE, "query-hotpluggable-cpus", "");
	ask_into(w, ret, STATE_SIZE, "qom-list", "{\"path\":\"/objects\"}");
	ask_into(w, ret, STATE_SIZE, "qom-list", "{\"path\":\"/machine/peripheral\"}");
	ask_into(w, ret, STATE_SIZE, "human-monitor-command",
		"{\"command-line\":\"info network\"}");
	fds_of(w->rig.slot, ret, STATE_SIZE);
	fds_of(w->rig.vmmd, ret, STATE_SIZE);
}

void expect_state(struct world *w, const char *before, const char *when)
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
