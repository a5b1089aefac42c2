/*
 * vmmd's objects, QEMU's slot with its filter, and the real QEMU: a tap of four
 * queues, disks by fd set, threads. And fds whose numbers overlap.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/fds.h"
#include "tests/proc/vmmd_rig.h"
#include "vmmd/block_device.h"
#include "vmmd/netdev.h"
#include "vmmd/vmmd.h"

#define QEMU      "/usr/bin/qemu-system-x86_64"
#define QUEUES    4
#define KCMP_FILE 0

struct world {
	struct rig rig;
	struct qemu_cmdline c;
	int qmp, ports[2];
	int taps[QUEUES], disks[2]; /* our own copies, to compare with */
	char answer[65536];
};

/* ---- QMP ---- */

static void read_line(struct world *w)
{
	size_t n = 0;

	for (;;) {
		struct pollfd pfd = { .fd = w->qmp, .events = POLLIN };

		CHECK(n < sizeof(w->answer) - 1);
		CHECK_INT(poll(&pfd, 1, DEADLINE_MS), 1);
		if (read(w->qmp, w->answer + n, 1) != 1)
			test_fail(__FILE__, __LINE__, "QEMU has closed QMP");
		if (w->answer[n++] == '\n')
			break;
	}
	w->answer[n] = '\0';
}

/* Sends one command; w->answer is what came, which is no error. */
static void ask(struct world *w, const char *command)
{
	CHECK_INT(write(w->qmp, command, strlen(command)), strlen(command));
	do
		read_line(w);
	while (strstr(w->answer, "\"event\""));
	if (strstr(w->answer, "\"error\""))
		test_fail(__FILE__, __LINE__, "%s: %s", command, w->answer);
}

static void monitor(struct world *w, const char *line)
{
	char command[512];

	snprintf(command, sizeof(command),
		"{\"execute\":\"human-monitor-command\",\"arguments\":{\"command-line\":\"%s\"}}", line);
	ask(w, command);
}

/* ---- a world ---- */

static void stream(int *ours, int *theirs)
{
	int fds[2];

	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	*ours = fds[0];
	*theirs = fds[1];
}

static int new_queue(void)
{
	struct ifreq ifr = { .ifr_name = "bulk0",
		.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE };
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0)
		test_skip("no tap can be made");
	return fd;
}

static int new_disk(void)
{
	char path[] = "/tmp/bulkhead-disk-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	CHECK(fd >= 0);
	CHECK_INT(ftruncate(fd, 1 << 20), 0);
	CHECK_INT(unlink(path), 0);
	return fd;
}

static int copy_of(int fd)
{
	return fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

static void check(int r, const struct error *err)
{
	if (r < 0)
		test_fail(__FILE__, __LINE__, "%s", err->msg);
}

static void add_devices(struct world *w, struct error *err)
{
	int queues[QUEUES];
	const struct network_device_config net = { .id = "eth0", .mac = { 2, 0, 0, 0, 0, 1 },
		.queues = QUEUES, .queue_fds = queues };
	struct block_device_config blk = { .id = "data", .set = 1, .discard = true,
		.iothread = "io0", .serial = "one" };
	struct block_device_config scsi = { .id = "image", .set = 2, .frontend = BLOCK_SCSI };

	for (int i = 0; i < QUEUES; i++) {
		w->taps[i] = new_queue();
		queues[i] = copy_of(w->taps[i]);
	}
	for (int i = 0; i < 2; i++)
		w->disks[i] = new_disk();
	blk.fd = copy_of(w->disks[0]);
	scsi.fd = copy_of(w->disks[1]);
	check(qemu_cmdline_add_network_device_consume(&w->c, &net, err), err);
	check(qemu_cmdline_add_root_ports(&w->c, 2, err), err);
	check(qemu_cmdline_add_iothread(&w->c, "io0", err), err);
	check(qemu_cmdline_add_scsi(&w->c, NULL, err), err);
	check(qemu_cmdline_add_block_device_consume(&w->c, &blk, err), err);
	check(qemu_cmdline_add_block_device_consume(&w->c, &scsi, err), err);
	check(qemu_cmdline_add_balloon(&w->c, true, err), err);
}

static void build(struct world *w, struct error *err)
{
	const struct qemu_config config = { .name = "sandbox", .accel = ACCEL_TCG, .vcpus = 1,
		.memory_mib = 128, .kernel = "/kernel", .initrd = "/initrd",
		.append = "console=hvc0", .max_vcpus = 4, .memory_slots = 2,
		.memory_max_mib = 512 };
	int qemu = -1;

	check(qemu_cmdline_init(&w->c, &config, err), err);
	stream(&w->qmp, &qemu);
	check(qemu_cmdline_add_monitor_consume(&w->c, qemu, err), err);
	stream(&w->ports[0], &qemu);
	check(qemu_cmdline_add_port_consume(&w->c, "agent", "agent.channel.0", qemu, err), err);
	stream(&w->ports[1], &qemu);
	check(qemu_cmdline_add_console_consume(&w->c, qemu, err), err);
}

/* The slot's channel gets the number that slot_run() knows it by, which must be free. */
static void begin(struct world *w)
{
	int low[VMMD_FD_END], n = 0;

	if (geteuid() != 0)
		test_skip("needs root");
	if (access(QEMU, X_OK) < 0)
		test_skip("needs " QEMU);
	CHECK_INT(unshare(CLONE_NEWNET), 0);
	do
		low[n] = open("/dev/null", O_RDONLY | O_CLOEXEC);
	while (low[n++] <= VMMD_FD_SLOT);
	memset(w, 0, sizeof(*w));
	rig_init(&w->rig);
	rig_start_slot(&w->rig,
		&(struct rig_slot){ QEMU, rig_image("kernel"), rig_image("initrd"), "tcg" });
	rig_lock(w->rig.slot_ctl);
	while (n > 0)
		close(low[--n]);
	CHECK_INT(dup3(w->rig.slot_job, VMMD_FD_SLOT, O_CLOEXEC), VMMD_FD_SLOT);
	close(w->rig.slot_job);
	w->rig.slot_job = -1;
}

static int count_fd(void *ctx, struct qemu_fd *fd, struct error *err)
{
	(void)fd, (void)err;
	++*(int *)ctx;
	return 0;
}

/* EXEC: from here on the line has no fd, and QMP answers. */
static void start(struct world *w)
{
	struct error err = ERROR_INIT;
	int said[2], before, of_line = 0;

	stream(&said[0], &said[1]);
	check(slot_run(&w->c, said[1], &err), &err);
	close(said[1]);
	before = test_count_fds();
	CHECK_INT(qemu_cmdline_each_fd(&w->c, count_fd, &of_line, &err), 0);
	qemu_cmdline_done(&w->c);
	CHECK_INT(test_count_fds(), before - of_line);
	close(said[0]);
	read_line(w);
	ask(w, "{\"execute\":\"qmp_capabilities\"}");
}

static void end(struct world *w)
{
	int status;

	ask(w, "{\"execute\":\"quit\"}");
	CHECK_INT(waitpid(w->rig.slot, &status, 0), w->rig.slot);
	w->rig.slot_ended = true;
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(w->qmp);
	close(w->ports[0]);
	close(w->ports[1]);
	rig_done(&w->rig);
}

/* ---- what QEMU has ---- */

static bool is_same(int pid, int theirs, int ours)
{
	return syscall(SYS_kcmp, getpid(), pid, KCMP_FILE, ours, theirs) == 0;
}

/* How many of QEMU's fds are this open file. */
static int copies_in(int pid, int ours)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += is_same(pid, fd, ours);
	return n;
}

TEST (a_tap_of_four_queues_and_two_disks) {
	int before = test_count_fds();
	struct error err = ERROR_INIT;
	static struct world w;
	char byte[1];

	begin(&w);
	build(&w, &err);
	add_devices(&w, &err);
	start(&w);
	monitor(&w, "info network");
	for (int i = 0; i < QUEUES; i++) {
		char queue[32];

		snprintf(queue, sizeof(queue), "index=%d,type=tap", i);
		CHECK_CONTAINS(w.answer, queue);
		CHECK_INT(copies_in(w.rig.slot, w.taps[i]), 1);
	}
	CHECK(!strstr(w.answer, "index=4"));
	/* The set's and the node's; the number that -add-fd names is closed. */
	CHECK_INT(copies_in(w.rig.slot, w.disks[0]), 2);
	CHECK_INT(copies_in(w.rig.slot, w.disks[1]), 2);

	/* The guest's firmware looks at the devices; the monitor does I/O as a driver would. */
	ask(&w, "{\"execute\":\"cont\"}");
	monitor(&w, "qemu-io -d disk-image \\\"write -P 7 0 64k\\\"");
	monitor(&w, "qemu-io -d disk-image \\\"read -P 7 0 64k\\\"");
	monitor(&w, "qemu-io -d disk-image flush");
	monitor(&w, "qemu-io -d disk-image \\\"write -f -P 8 64k 64k\\\"");
	monitor(&w, "qemu-io -d /machine/peripheral/disk-data/virtio-backend \\\"discard 0 64k\\\"");
	monitor(&w, "qemu-io -d /machine/peripheral/disk-data/virtio-backend \\\"write -z 64k 64k\\\"");
	monitor(&w, "qemu-io -d /machine/peripheral/disk-data/virtio-backend \\\"writev 0 4k 4k\\\"");
	CHECK_INT(pread(w.disks[1], byte, 1, 65535), 1);
	CHECK_INT(byte[0], 7);
	CHECK_INT(pread(w.disks[1], byte, 1, 65536), 1);
	CHECK_INT(byte[0], 8);
	monitor(&w, "set_link eth0 off");
	monitor(&w, "set_link eth0 on");
	sleep(3);
	monitor(&w, "info status");
	CHECK_CONTAINS(w.answer, "running");

	for (int i = 0; i < QUEUES; i++)
		close(w.taps[i]);
	CHECK(if_nametoindex("bulk0") > 0);
	close(w.disks[0]);
	close(w.disks[1]);
	end(&w);
	CHECK_INT(if_nametoindex("bulk0"), 0);
	CHECK_INT(test_count_fds(), before);
}

static int next_number;
static unsigned order[QUEUES];
static ino_t sockets[QUEUES];
static unsigned free_numbers[QUEUES];

/* The slot receives what it is sent under its lowest free numbers. */
static void find_free_numbers(int slot)
{
	char path[64];

	for (unsigned i = 0, number = 3; i < QUEUES; number++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%u", slot, number);
		if (faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
			free_numbers[i++] = number;
	}
}

static int permute(void *ctx, struct qemu_fd *fd, struct error *err)
{
	struct stat st;

	(void)ctx, (void)err;
	CHECK_INT(fstat(fd->fd, &st), 0);
	sockets[next_number] = st.st_ino;
	fd->number = free_numbers[order[next_number++]];
	return 0;
}

/* The numbers the slot receives the fds under are the numbers they are to have, in every order. */
static void one_permutation(void)
{
	struct error err = ERROR_INIT;
	static struct world w;
	struct stat theirs;
	char path[64];
	int fds[4], extra;

	begin(&w);
	build(&w, &err);
	stream(&extra, &fds[3]);
	check(qemu_cmdline_add_port_consume(&w.c, "more", "more", fds[3], &err), &err);
	next_number = 0;
	find_free_numbers(w.rig.slot);
	CHECK_INT(qemu_cmdline_each_fd(&w.c, permute, NULL, &err), 0);
	CHECK_INT(next_number, 4);
	start(&w);
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "/proc/%d/fd/%u", w.rig.slot,
			free_numbers[order[i]]);
		CHECK_INT(stat(path, &theirs), 0);
		CHECK_INT(theirs.st_ino, sockets[i]);
	}
	ask(&w, "{\"execute\":\"query-chardev\"}");
	CHECK_CONTAINS(w.answer, "more");
	close(extra);
	end(&w);
}

static void permutations(unsigned from)
{
	if (from == QUEUES) {
		one_permutation();
		return;
	}
	for (unsigned i = from; i < QUEUES; i++) {
		unsigned keep = order[from];

		order[from] = order[i];
		order[i] = keep;
		permutations(from + 1);
		order[i] = order[from];
		order[from] = keep;
	}
}

/* Six of the twenty-four orders in each test. */
static void overlap(unsigned first)
{
	for (unsigned i = 0; i < QUEUES; i++)
		order[i] = (first + i) % QUEUES;
	permutations(1);
}

TEST (numbers_that_overlap_first_to_first) {
	overlap(0);
}

TEST (numbers_that_overlap_first_to_second) {
	overlap(1);
}

TEST (numbers_that_overlap_first_to_third) {
	overlap(2);
}

TEST (numbers_that_overlap_first_to_fourth) {
	overlap(3);
}
