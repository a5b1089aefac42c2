#include "tests/lib/void.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/lib/test.h"

static int make_void(void)
{
	if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0 ||
		mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		mount("void", "/tmp", "tmpfs", 0, "size=4k,nr_inodes=2,mode=0555") < 0 ||
		chdir("/tmp") < 0 || syscall(SYS_pivot_root, ".", ".") < 0 ||
		umount2(".", MNT_DETACH) < 0)
		return -errno;
	return mount(NULL, "/", NULL,
		MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

int test_void(pid_t *ret_pid)
{
	int ready[2], pidfd;
	char c;
	pid_t pid;

	CHECK(pipe2(ready, O_CLOEXEC) == 0);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (make_void() < 0 || write(ready[1], "x", 1) != 1)
			_exit(1);
		close_range(0, ~0U, 0); /* nothing of the test's stays open because of it */
		for (;;)
			pause();
	}
	close(ready[1]);
	CHECK_INT(read(ready[0], &c, 1), 1);
	close(ready[0]);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	CHECK(pidfd >= 0);
	if (ret_pid)
		*ret_pid = pid;
	return pidfd;
}

int test_void_shared(pid_t *ret_pid)
{
	static pid_t pid;
	int pidfd;

	if (pid == 0)
		close(test_void(&pid));
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	CHECK(pidfd >= 0);
	if (ret_pid)
		*ret_pid = pid;
	return pidfd;
}
