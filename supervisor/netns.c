#include "supervisor/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/nsfs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "supervisor/child.h"
#include "supervisor/config.h"

#define CLEAN_MS 1000

int netns_open(const char *path, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat pod, own;

	if (fd < 0)
		return error_errno(err, errno, "network namespace %s", path);
	if (ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET)
		return error_set(err, EINVAL, "%s is not a network namespace", path);
	if (fstat(fd, &pod) < 0 || stat("/proc/self/ns/net", &own) < 0)
		return error_errno(err, errno, "network namespace %s", path);
	if (pod.st_ino == own.st_ino)
		return error_set(err, EINVAL,
			"hostNetwork is not available in a VM: %s is the host's network namespace",
			path);
	return fd_steal(&fd);
}

/* In the child: root still, with the launcher's stderr and nothing else. */
static _Noreturn void become_netd(int netns, const char *libexec, struct words *w)
{
	char path[CONFIG_PATH_MAX + 32];
	char *env[] = { NULL };
	int fds[] = { open("/dev/null", O_RDWR | O_CLOEXEC), -1, STDERR_FILENO };

	fds[1] = fds[0];
	snprintf(path, sizeof(path), "%s/bulkhead-netd", libexec);
	if (fds[0] >= 0 && setns(netns, CLONE_NEWNET) == 0 && chdir("/") == 0 &&
		child_place_fds(fds, ARRAY_SIZE(fds)) == 0)
		execve(path, w->word, env);
	_exit(127);
}

/* Its exit status, or -1: it was killed, at the latest by us. */
static int wait_for(pid_t pid)
{
	_cleanup_close_ int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd pfd = { .fd = pidfd, .events = POLLIN };
	int status;

	if (pidfd < 0 || poll(&pfd, 1, CLEAN_MS) != 1)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int netns_clean(const char *path, const char *libexec, uid_t uid, struct error *err)
{
	CLEANUP(words_done) struct words w = WORDS_INIT;
	struct error nothing_to_do = ERROR_INIT;
	_cleanup_close_ int netns = netns_open(path, &nothing_to_do);
	pid_t pid;
	int status;

	if (netns < 0)
		return 0;
	words_say(&w, "bulkhead-netd");
	words_say(&w, "uid=%u", uid);
	words_say(&w, "clean=1");
	pid = fork();
	if (pid < 0)
		return error_errno(err, errno, "fork");
	if (pid == 0)
		become_netd(netns, libexec, &w);
	status = wait_for(pid);
	if (status != 0)
		return error_set(err, EIO, "clean the links of %s: %s/bulkhead-netd ended with %d",
			path, libexec, status);
	return 0;
}
