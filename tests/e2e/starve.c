/*
 * Takes the CPU of its kernel, for good: whatever else runs there stands still, PID 1 too, which no
 * signal can stop. For a machine with one CPU; needs CAP_SYS_NICE, a /proc/sys to write to, and
 * CAP_SYS_ADMIN for what Linux 6.12 has in debugfs.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

static void set(const char *path, const char *value, size_t size)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, value, size) != (ssize_t)size) {
		perror(path);
		_exit(1);
	}
	close(fd);
}

int main(void)
{
	const struct sched_param first = { .sched_priority = 99 };

	/* Else others have 5 % of the time; since 6.12 by a server of theirs. */
	set("/proc/sys/kernel/sched_rt_runtime_us", "-1", 2);
	if (mount("debugfs", "/tmp", "debugfs", 0, NULL) < 0) {
		perror("debugfs");
		return 1;
	}
	if (access("/tmp/sched/fair_server", F_OK) == 0)
		set("/tmp/sched/fair_server/cpu0/runtime", "0", 1);
	if (sched_setscheduler(0, SCHED_FIFO, &first) < 0) {
		perror("sched_setscheduler");
		return 1;
	}
	for (;;)
		__asm__ volatile("");
}
