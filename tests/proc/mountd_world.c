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
