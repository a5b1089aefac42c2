#include "supervisor/process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"

/* Reads a file of /proc/<pid>, which are of no size. */
static int read_proc(pid_t pid, const char *name, char *out, size_t size)
{
	char path[64];
	_cleanup_close_ int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, out, size - 1);
	if (n < 0)
		return -errno;
	out[n] = '\0';
	return 0;
}

/* Field 22 of /proc/<pid>/stat (proc(5)); field 2 is in brackets and may hold anything. */
static int start_time(pid_t pid, unsigned long long *ret)
{
	char text[1024], *p;

	int r = read_proc(pid, "stat", text, sizeof(text));

	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	return p && sscanf(p, "%llu", ret) == 1 ? 0 : -ESRCH;
}

/* "NSpid: <host pid> 1": PID 1 of a namespace one below ours. */
static bool is_namespace_init(pid_t pid)
{
	char text[4096], *line;
	int outer, inner, end = 0;

	if (read_proc(pid, "status", text, sizeof(text)) < 0)
		return false;
	line = strstr(text, "\nNSpid:");
	return line && sscanf(line, " NSpid: %d %d%n", &outer, &inner, &end) == 2 && inner == 1 &&
	       line[end] == '\n';
}

int process_record(const struct sandbox *s, pid_t pid, struct error *err)
{
	unsigned long long started;
	char text[64];
	int r = start_time(pid, &started);

	if (r == -ESRCH)
		return error_set(err, ESRCH, "the supervisor ended at once");
	if (r < 0)
		return error_errno(err, -r, "look at the supervisor");
	snprintf(text, sizeof(text), "%d %llu\n", pid, started);
	return sandbox_write(s, "supervisor", text, err);
}

int process_open(const struct sandbox *s, struct error *err)
{
	_cleanup_free_ char *text = sandbox_read(s, "supervisor", err);
	_cleanup_close_ int pidfd = -1;
	unsigned long long recorded, now;
	int pid, r;

	if (!text)
		return err->code == ENOENT ? error_set(err, ESRCH, "there never was a supervisor")
					   : -err->code;
	if (sscanf(text, "%d %llu", &pid, &recorded) != 2 || pid <= 1)
		return error_set(err, EINVAL, "%s/supervisor is damaged", s->dir);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* Checked after the pidfd is there: from then on the pid cannot become another process's. */
	r = pidfd < 0 ? -errno : start_time(pid, &now);
	if (r < 0 && r != -ESRCH)
		return error_errno(err, -r, "look at the supervisor");
	if (r < 0 || now != recorded || !is_namespace_init(pid))
		return error_set(err, ESRCH, "the supervisor is gone");
	return fd_steal(&pidfd);
}
