#include "tests/proc/mountd_world.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

const unsigned two_layers[] = { 2, 1, 0 };

void make_snapshots(unsigned n)
{
	for (unsigned i = 1; i <= n; i++)
		make_snapshot(i);
}

struct rig world_up(unsigned snapshots)
{
	world_make();
	make_snapshots(snapshots);
	return rig_up();
}

bool in_use(unsigned top)
{
	char options[256];
	int r;

	snprintf(options, sizeof(options),
		"index=on,lowerdir=/mnt/snap/1/fs,upperdir=/mnt/snap/%u/fs,workdir=/mnt/snap/%u/"
		"work",
		top, top);
	make_dir("/mnt/probe");
	r = mount("probe", "/mnt/probe", "overlay", 0, options);
	if (r < 0) {
		CHECK_INT(errno, EBUSY);
		return true;
	}
	CHECK_INT(umount2("/mnt/probe", 0), 0);
	return false;
}

bool race_is_long(void)
{
	return getenv("BULKHEAD_LONG") != NULL;
}

pid_t swapper(const char *a, const char *b)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */);
}

void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* ---- the share ---- */

int ask_share(struct rig *r, struct error *err)
{
	Ipc__MountdStartShare req = IPC__MOUNTD_START_SHARE__INIT;

	return role_ask(&r->role, &ipc_frontend_mountd, MOUNTD_START_SHARE, &req.base, err);
}

struct started slot_up(struct rig *r, const char *binary)
{
	char path[64];
	const char *const args[] = { "kind=virtiofsd", "uid=0", path, "share=/mnt/share", NULL };
	int ctl[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int file = open(binary, O_PATH | O_CLOEXEC);
	int mountd = (int)syscall(SYS_pidfd_open, r->role.pid, 0);
	struct started slot;

	if (file < 0)
		test_skip("no virtiofsd");
	snprintf(path, sizeof(path), "binary=%s", rig_virtiofsd);
	test_pair(ctl);

	struct test_fd fds[] = {
		{ 0, null },
		{ 1, null },
		{ 2, STDERR_FILENO },
		{ FD_CTL, ctl[1] },
		{ SLOT_FD_JOB, r->slot },
		{ SLOT_FD_BINARY, file },
		{ SLOT_FD_NS, mountd },
		{ -1, -1 },
	};
	slot = (struct started){
		.pid = test_spawn("bulkhead-slot", args, fds),
		.ctl = ctl[0],
		.log = -1,
		.channel = -1,
	};
	close(ctl[1]);
	close(null);
	close(file);
	close(mountd);
	fd_close(&r->slot);
	CHECK_INT(ctl_send(slot.ctl, CTL_GO, ROLE_VIRTIOFSD, 0, NULL), 0);
	role_lock(&slot);
	return slot;
}

int take_share(struct rig *r)
{
	struct ipc_packet p = { .fds = FDLIST_INIT };
	int fd;

	CHECK(next_packet(r->vmmd, &ipc_mountd_vmmd, &p));
	CHECK_INT(p.hdr.type, MOUNTD_VMMD_SHARE);
	fd = fdlist_steal(&p.fds, 0);
	ipc_packet_done(&p);
	return fd;
}
