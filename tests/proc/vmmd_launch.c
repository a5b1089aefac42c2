/* bulkhead-vmmd, bulkhead-slot and the real QEMU under TCG, from LAUNCH to the end. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/mountd.pb-c.h"
#include "tests/proc/vmmd_rig.h"

TEST_PATIENCE(120)

#define QEMU      "/usr/bin/qemu-system-x86_64"
#define VIRTIOFSD "/usr/lib/qemu/virtiofsd"

static void need_root(void)
{
	if (geteuid() != 0)
		test_skip("needs root");
	if (access(QEMU, X_OK) < 0)
		test_skip("needs " QEMU);
}

static const char *image_cmdline(void)
{
	static char line[256];
	FILE *f = fopen(rig_image("cmdline"), "re");

	CHECK(f && fgets(line, sizeof(line), f));
	fclose(f);
	line[strcspn(line, "\n")] = '\0';
	return line;
}

static void start_image(struct rig *rig, const char *append)
{
	need_root();
	rig_start(rig, &(struct rig_slot){ QEMU, rig_image("kernel"), rig_image("initrd"), "tcg" },
		append);
}

/* ---- /proc ---- */

static void slurp(char *ret, size_t size, const char *path)
{
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(ret, 1, size - 1, f) : 0;

	ret[n] = '\0';
	if (!f)
		test_fail(__FILE__, __LINE__, "cannot read %s", path);
	fclose(f);
}

static void check_status(const char *dir)
{
	char path[128], text[8192], uids[64];
	static const char *const lines[] = { "\nGroups:\t \n", "\nCapInh:\t0000000000000000\n",
		"\nCapPrm:\t0000000000000000\n", "\nCapEff:\t0000000000000000\n",
		"\nCapBnd:\t0000000000000000\n", "\nCapAmb:\t0000000000000000\n",
		"\nNoNewPrivs:\t1\n", "\nSeccomp:\t2\n", "\nSeccomp_filters:\t2\n" };

	snprintf(path, sizeof(path), "%s/status", dir);
	slurp(text, sizeof(text), path);
	for (size_t i = 0; i < ARRAY_SIZE(lines); i++)
		CHECK_CONTAINS(text, lines[i]);
	snprintf(uids, sizeof(uids), "\nUid:\t%d\t%d\t%d\t%d\n", RIG_UID_QEMU, RIG_UID_QEMU,
		RIG_UID_QEMU, RIG_UID_QEMU);
	CHECK_CONTAINS(text, uids);
	uids[1] = 'G';
	CHECK_CONTAINS(text, uids);
}

static void check_all_threads(int pid)
{
	char dir[64], task[384];
	struct dirent *e;
	int n = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/task", pid);
	d = opendir(dir);
	CHECK(d);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(task, sizeof(task), "%s/%s", dir, e->d_name);
		check_status(task);
		n++;
	}
	closedir(d);
	CHECK(n >= 2);
}

static void ns_of(int pid, const char *ns, char ret[64])
{
	char path[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, ns);
	n = readlink(path, ret, 63);
	CHECK(n > 0);
	ret[n] = '\0';
}

static void check_namespaces(const struct rig *rig, int pid)
{
	static const char *const shared[] = { "ipc", "uts", "net" };
	char ours[64], theirs[64];

	for (size_t i = 0; i < ARRAY_SIZE(shared); i++) {
		ns_of(pid, shared[i], ours);
		ns_of(rig->void_pid, shared[i], theirs);
		CHECK_STR(ours, theirs);
		ns_of(getpid(), shared[i], theirs);
		CHECK(strcmp(ours, theirs) != 0);
	}
	ns_of(pid, "mnt", ours);
	ns_of(rig->void_pid, "mnt", theirs);
	CHECK(strcmp(ours, theirs) != 0);
	ns_of(getpid(), "mnt", theirs);
	CHECK(strcmp(ours, theirs) != 0);
}

/* Whatever QEMU sees is read-only, and nothing else is there. */
static void check_mounts(int pid)
{
	static const char *const allowed[] = { "/", "/usr", "/etc/ld.so.cache", "/kernel",
		"/initrd", "/lib", "/lib64", "/bin" };
	char path[64], line[1024];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", pid);
	f = fopen(path, "re");
	CHECK(f);
	while (fgets(line, sizeof(line), f)) {
		char target[256], options[256], tag[64];
		bool known = false;

		CHECK_INT(sscanf(line, "%*s %*s %*s %*s %255s %255s %63s", target, options, tag),
			3);
		for (size_t i = 0; i < ARRAY_SIZE(allowed); i++)
			known = known || strcmp(target, allowed[i]) == 0 ||
				strncmp(target, "/usr/", 5) == 0;
		if (!known)
			test_fail(__FILE__, __LINE__, "QEMU sees a mount: %s", line);
		CHECK(strncmp(options, "ro,nosuid,nodev", 15) == 0);
		CHECK_STR(tag, "-"); /* neither shared nor slave */
	}
	fclose(f);
	snprintf(path, sizeof(path), "/proc/%d/root/proc", pid);
	CHECK(access(path, F_OK) < 0);
}

static int count_fds(int pid, bool sockets)
{
	char dir[64], path[384], target[64];
	struct dirent *e;
	int n = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "/proc/%d/fd", pid);
	d = opendir(dir);
	CHECK(d);
	while ((e = readdir(d))) {
		ssize_t len;

		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
		len = readlink(path, target, sizeof(target) - 1);
		target[len > 0 ? len : 0] = '\0';
		if (!sockets || strncmp(target, "socket:", 7) == 0)
			n++;
	}
	closedir(d);
	return n;
}

static void check_fd(int pid, int fd, const char *want)
{
	char path[64], target[64];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, fd);
	n = readlink(path, target, sizeof(target) - 1);
	CHECK(n > 0);
	target[n] = '\0';
	CHECK_CONTAINS(target, want);
}

/* ---- the guest ---- */

static void expect_hello(int agent)
{
	static const char hello[] = "bulkhead-agent/1";
	struct pollfd pfd = { .fd = agent, .events = POLLIN };
	unsigned char buf[10 + sizeof(hello)];
	size_t len = 0;

	while (len < sizeof(buf) - 1) {
		ssize_t n;

		CHECK_INT(poll(&pfd, 1, 25000), 1);
		n = read(agent, buf + len, sizeof(buf) - 1 - len);
		CHECK(n > 0);
		len += (size_t)n;
	}
	CHECK_INT(buf[8], 0x48);
	CHECK(memcmp(buf + 10, hello, sizeof(hello) - 1) == 0);
}

static void send_cont(struct rig *rig)
{
	Ipc__VmmdCont msg = IPC__VMMD_CONT__INIT;

	rig_ask_ok(rig, VMMD_CONT, &msg.base);
}

static void send_stop(struct rig *rig)
{
	Ipc__VmmdStop msg = IPC__VMMD_STOP__INIT;

	rig_ask_ok(rig, VMMD_STOP, &msg.base);
}

TEST (boots_and_stops) {
	struct rig rig;
	char text[512];
	int agent, console;

	start_image(&rig, image_cmdline());
	rig_launch(&rig, false);

	/* 0-2, ctl, frontend, mountd, agentd; QMP, stderr: nothing is left of what QEMU got. */
	CHECK_INT(count_fds(rig.vmmd, false), 10);
	/* stderr, QMP, agent, console: no channel of ours. */
	CHECK_INT(count_fds(rig.slot, true), 4);
	check_fd(rig.slot, 0, "/dev/null");
	check_fd(rig.slot, 1, "/dev/null");
	check_fd(rig.slot, 2, "socket:");
	check_all_threads(rig.slot);
	check_namespaces(&rig, rig.slot);
	check_mounts(rig.slot);

	agent = rig_take_fd(rig.agentd, &ipc_vmmd_agentd, VMMD_AGENTD_STREAM);
	console = rig_take_fd(rig.agentd, &ipc_vmmd_agentd, VMMD_AGENTD_CONSOLE);
	send_cont(&rig);
	expect_hello(agent);
	check_all_threads(rig.slot);
	/* systemd's signals at shutdown must not end the VM */
	CHECK_INT(kill(rig.slot, SIGTERM), 0);
	CHECK_INT(kill(rig.slot, SIGHUP), 0);

	send_stop(&rig);
	CHECK(!rig.kill_asked);
	rig_expect_event(&rig, IPC__VM_EVENT__KIND__EXITED, 0, text);
	close(agent);
	close(console);
	rig_done(&rig);
}

/* virtiofsd on an empty directory, as mountd would start it; its connected socket. */
static int start_virtiofsd(int *ret_pid, char dir[64])
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char source[128], fd_word[32];
	int listener, connected;

	strcpy(dir, "/run/bulkhead-test.XXXXXX");
	CHECK(mkdtemp(dir));
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%.64s/socket", dir);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	connected = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK_INT(bind(listener, (struct sockaddr *)&addr, sizeof(addr)), 0);
	CHECK_INT(listen(listener, 1), 0);
	CHECK_INT(connect(connected, (struct sockaddr *)&addr, sizeof(addr)), 0);
	CHECK_INT(unlink(addr.sun_path), 0);

	snprintf(source, sizeof(source), "source=%s", dir);
	snprintf(fd_word, sizeof(fd_word), "--fd=%d", listener);
	*ret_pid = fork();
	if (*ret_pid == 0) {
		execl(VIRTIOFSD, VIRTIOFSD, fd_word, "-f", "-o", source, "-o", "sandbox=chroot",
			(char *)NULL);
		_exit(127);
	}
	close(listener);
	return connected;
}

TEST (boots_with_a_share) {
	Ipc__Share msg = IPC__SHARE__INIT;
	struct error err = ERROR_INIT;
	struct rig rig;
	char dir[64];
	int fd, pid, agent;

	if (access(VIRTIOFSD, X_OK) < 0)
		test_skip("needs " VIRTIOFSD);
	start_image(&rig, image_cmdline());
	fd = start_virtiofsd(&pid, dir);
	CHECK_INT(channel_send(rig.mountd, &ipc_mountd_vmmd, IPC_EVENT, MOUNTD_VMMD_SHARE, 0,
			  &msg.base, &fd, 1, 1000, &err),
		0);
	close(fd);
	rig_launch(&rig, true);
	CHECK_INT(count_fds(rig.vmmd, false), 10);
	agent = rig_take_fd(rig.agentd, &ipc_vmmd_agentd, VMMD_AGENTD_STREAM);
	close(rig_take_fd(rig.agentd, &ipc_vmmd_agentd, VMMD_AGENTD_CONSOLE));
	send_cont(&rig);
	expect_hello(agent);
	send_stop(&rig);
	close(agent);
	rig_done(&rig);
	CHECK(test_wait(pid, 5000) == 0); /* with QEMU its client is gone */
	CHECK_INT(rmdir(dir), 0);
}

TEST (guest_panic_is_told) {
	struct rig rig;
	char text[512];

	start_image(&rig,
		"console=hvc0 quiet panic=1 reboot=t rdinit=/nonexistent init=/nonexistent");
	rig_launch(&rig, false);
	send_cont(&rig);
	rig_expect_event(&rig, IPC__VM_EVENT__KIND__GUEST_SHUTDOWN, 0, text);
	rig_expect_event(&rig, IPC__VM_EVENT__KIND__EXITED, 0, text);
	CHECK(!rig.kill_asked);
	send_stop(&rig);
	rig_done(&rig);
}

TEST (killed_qemu_is_told) {
	struct rig rig;
	char text[512];

	start_image(&rig, image_cmdline());
	rig_launch(&rig, false);
	CHECK_INT(kill(rig.slot, SIGKILL), 0);
	rig_expect_event(&rig, IPC__VM_EVENT__KIND__EXITED, 137, text);
	CHECK(!rig.kill_asked);
	send_stop(&rig);
	rig_done(&rig);
}

/* ---- QEMU does not come up ---- */

static void launch_error(struct rig *rig, struct error *ret)
{
	Ipc__VmmdLaunch msg = IPC__VMMD_LAUNCH__INIT;

	msg.vcpus = 1;
	msg.memory_mib = 256;
	rig_ask_error(rig, VMMD_LAUNCH, &msg.base, ret);
}

TEST (qemu_that_refuses_its_arguments) {
	struct rig rig;
	struct error err = ERROR_INIT;

	need_root();
	rig_start(&rig, &(struct rig_slot){ QEMU, "/etc/hostname", "/etc/hostname", "tcg" }, "x");
	launch_error(&rig, &err);
	CHECK_CONTAINS(err.msg, "launch: QEMU ended with status 1 before QMP answered: ");
	CHECK_CONTAINS(err.msg, "kernel");
	CHECK_INT(count_fds(rig.vmmd, false), 8);
	send_stop(&rig);
	rig_done(&rig);
}

TEST (program_that_is_no_program) {
	struct rig rig;
	struct error err = ERROR_INIT;

	need_root();
	rig_start(&rig,
		&(struct rig_slot){ "/usr/share/seabios/bios-256k.bin", "/etc/hostname",
			"/etc/hostname", "tcg" },
		"x");
	launch_error(&rig, &err);
	CHECK_CONTAINS(err.msg, "launch: QEMU's slot: execute /usr/share/seabios/bios-256k.bin: ");
	rig_done(&rig);
}

TEST (program_that_is_not_qemu) {
	struct rig rig;
	struct error err = ERROR_INIT;

	need_root();
	rig_start(&rig,
		&(struct rig_slot){ "/usr/bin/false", "/etc/hostname", "/etc/hostname", "tcg" },
		"x");
	launch_error(&rig, &err);
	CHECK_CONTAINS(err.msg, "launch: QEMU ended with status 1 before QMP answered");
	rig_done(&rig);
}

/* QEMU's filter kills it at its first getuid(). */
TEST (program_that_wants_more_than_qemu) {
	struct rig rig;
	struct error err = ERROR_INIT;

	need_root();
	rig_start(&rig,
		&(struct rig_slot){ "/usr/bin/mount", "/etc/hostname", "/etc/hostname", "tcg" },
		"x");
	launch_error(&rig, &err);
	CHECK_CONTAINS(err.msg, "launch: QEMU ended with status 159");
	rig_done(&rig);
}

TEST (share_without_its_connection) {
	Ipc__VmmdLaunch msg = IPC__VMMD_LAUNCH__INIT;
	struct rig rig;
	struct error err = ERROR_INIT;

	start_image(&rig, "x");
	msg.vcpus = 1;
	msg.memory_mib = 256;
	msg.share = true;
	rig_ask_error(&rig, VMMD_LAUNCH, &msg.base, &err);
	CHECK_STR(err.msg, "launch: mountd has sent no connection to virtiofsd");
	rig_done(&rig);
}

TEST (kvm_gets_its_node) {
	struct rig rig;
	char path[64];
	struct stat st;

	need_root();
	rig_init(&rig);
	rig_start_slot(&rig, &(struct rig_slot){ QEMU, "/etc/hostname", "/etc/hostname", "kvm" });
	snprintf(path, sizeof(path), "/proc/%d/root/dev/kvm", rig.slot);
	CHECK_INT(stat(path, &st), 0);
	CHECK(S_ISCHR(st.st_mode));
	CHECK_INT(st.st_uid, RIG_UID_QEMU);
	CHECK_INT(st.st_mode & 07777, 0600);
	rig_done(&rig);
}

static unsigned opened, visited;

static int try_to_write(const char *path, const struct stat *st, int type, struct FTW *at)
{
	int fd = type == FTW_F
		? open(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC)
		: -1;

	(void)st;
	(void)at;
	visited++;
	if (fd < 0)
		return 0;
	close(fd);
	if (strcmp(path, "/dev/kvm") != 0)
		fprintf(stderr, "%s can be written\n", path);
	opened++;
	return 0;
}

/* As QEMU's uid in QEMU's root. */
static _Noreturn void look_around(int mnt, bool has_kvm)
{
	static const char *const places[] = { "/new", "/dev/new", "/usr/new", "/etc/new" };

	CHECK_INT(setns(mnt, CLONE_NEWNS), 0);
	CHECK_INT(setgroups(0, NULL), 0);
	CHECK_INT(setresgid(RIG_UID_QEMU, RIG_UID_QEMU, RIG_UID_QEMU), 0);
	CHECK_INT(setresuid(RIG_UID_QEMU, RIG_UID_QEMU, RIG_UID_QEMU), 0);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		CHECK(open(places[i], O_RDWR | O_CREAT | O_CLOEXEC, 0600) < 0);
	CHECK_INT(nftw("/", try_to_write, 32, FTW_PHYS), 0);
	CHECK(visited > 100);
	CHECK_INT(opened, has_kvm);
	_exit(0);
}

/* qemu_kvm.policy lets QEMU open for writing whatever has a name. */
TEST (nothing_but_kvm_can_be_written) {
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), mnt;
	struct rig rig;
	char path[64];
	int status;
	pid_t pid;

	need_root();
	rig_init(&rig);
	rig_start_slot(&rig, &(struct rig_slot){ QEMU, "/etc/hostname", "/etc/hostname", "kvm" });
	snprintf(path, sizeof(path), "/proc/%d/ns/mnt", rig.slot);
	mnt = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(mnt >= 0);
	pid = fork();
	if (pid == 0)
		look_around(mnt, kvm >= 0);
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
	close(mnt);
	if (kvm >= 0)
		close(kvm);
	rig_done(&rig);
}
