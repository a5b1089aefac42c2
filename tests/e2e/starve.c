/*
 * Takes the CPU of its kernel, for good: whatever else runs there stands still, PID 1 too, which no
 * signal can stop. For a machine with one CPU; needs CAP_SYS_NICE and a /proc/sys to write to.
 */
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

int main(void)
{
	const struct sched_param first = { .sched_priority = 99 };
	int fd = open("/proc/sys/kernel/sched_rt_runtime_us", O_WRONLY | O_CLOEXEC);

	/* Else others have 5 % of the time. */
	if (fd < 0 || write(fd, "-1", 2) != 2) {
		perror("/proc/sys/kernel/sched_rt_runtime_us");
		return 1;
	}
	if (sched_setscheduler(0, SCHED_FIFO, &first) < 0) {
		perror("sched_setscheduler");
		return 1;
	}
	for (;;)
		__asm__ volatile("");
}
