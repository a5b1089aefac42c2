#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/io.h"
#include "supervisor/supervisor.h"

static int empty_root(const char *dir)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	/* Two inodes: the root and nothing more could be made even while it is writable. */
	if (mount("void", dir, "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		    "size=4k,nr_inodes=2,mode=0555") < 0)
		return -1;
	if (chdir(dir) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
		return -1;
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
		return -1;
	return mount(NULL, "/", NULL,
		MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

static _Noreturn void live(const char *dir, int report, int hold)
{
	int code = 0;
	char byte;

	prctl(PR_SET_NAME, "void");
	if (unshare(CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET) < 0 ||
		sethostname("bulkhead", 8) < 0 || empty_root(dir) < 0)
		code = errno;
	if (write(report, &code, sizeof(code)) != sizeof(code) || code)
		_exit(1);
	while (read(hold, &byte, 1) < 0 && errno == EINTR)
		;
	_exit(0);
}

int void_create(const char *dir, int *ret_pidfd, int *ret_hold, struct error *err)
{
	_cleanup_close_ int report = -1, hold = -1, report_end = -1, hold_end = -1;
	int fds[2], code, pidfd;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, errno, "pipe");
	report = fds[0];
	report_end = fds[1];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, errno, "pipe");
	hold_end = fds[0];
	hold = fds[1];

	pid = fork();
	if (pid < 0)
		return error_errno(err, errno, "fork");
	if (pid == 0) {
		close(hold);
		live(dir, report_end, hold_end);
	}
	fd_close(&report_end);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return error_errno(err, errno, "pidfd_open");
	if (read_full(report, &code, sizeof(code)) != sizeof(code))
		code = ECHILD;
	if (code) {
		close(pidfd);
		return error_errno(err, code, "make the empty namespaces");
	}
	*ret_pidfd = pidfd;
	*ret_hold = fd_steal(&hold);
	return 0;
}
