#include "share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#define CONNECTIONS         "/sys/fs/fuse/connections"
#define RELEASE_DEADLINE_MS 5000

void share_init(void)
{
	if (mount("fusectl", CONNECTIONS, "fusectl", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0 &&
	        errno != ENOENT)
		die("mount %s: %s", CONNECTIONS, strerror(errno));
}

/* Only a directory that is opened as one is walked into. */
void share_hold(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
}

/* How many requests the host has not answered yet, of all virtiofs. */
static unsigned long unanswered(void)
{
	DIR *dir = opendir(CONNECTIONS);
	unsigned long n = 0;
	struct dirent *entry;

	while (dir && (entry = readdir(dir))) {
		_cleanup_free_ char *path = xasprintf(CONNECTIONS "/%s/waiting", entry->d_name);
		char text[32];

		if (entry->d_name[0] != '.' && file_read(path, text, sizeof(text)) > 0)
			n += strtoul(text, NULL, 10);
	}
	if (dir)
		closedir(dir);
	return n;
}

int share_release(const char *path, struct error *err)
{
	uint64_t deadline = now_ms() + RELEASE_DEADLINE_MS;

	/* The kernel has a count and no event for it. It is 0 at once but for a host that is busy. */
	while (unanswered() > 0) {
		if (now_ms() >= deadline)
			return error_set(err, CODE_DEADLINE_EXCEEDED,
			        "the host has not taken back the files of %.128s for %d s", path,
			        RELEASE_DEADLINE_MS / 1000);
		sleep_ms(2);
	}
	/* EINVAL: it was no file system of its own, or a container with the same root was first. */
	if (umount2(path, UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		return error_errno(err, "umount %.128s", path);
	return 0;
}
