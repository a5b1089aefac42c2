#include "tests/fuzz/lib/dir.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/fuzz/lib/sim.h"

static char dir[64];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void remove_dir(void)
{
	nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *own_dir(void)
{
	if (dir[0])
		return dir;
	/* Not on a disk: persistd syncs. */
	strcpy(dir, access("/dev/shm", W_OK) == 0 ? "/dev/shm/fuzz-XXXXXX" : "/tmp/fuzz-XXXXXX");
	SIM_CHECK(mkdtemp(dir));
	atexit(remove_dir);
	return dir;
}

static const char *path_of(const char *name)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%s", own_dir(), name);
	return path;
}

void own_mkdir(const char *name)
{
	SIM_CHECK(mkdir(path_of(name), 0755) == 0);
}

void own_file(const char *name, const char *text)
{
	FILE *f = fopen(path_of(name), "w");

	SIM_CHECK(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

void own_fifo(const char *name)
{
	SIM_CHECK(mkfifo(path_of(name), 0600) == 0);
}

void own_link(const char *name, const char *target)
{
	SIM_CHECK(symlink(target, path_of(name)) == 0);
}

static int remove_beneath(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	return ftw->level == 0 ? 0 : remove(path);
}

void own_clear(const char *name)
{
	SIM_CHECK(nftw(path_of(name), remove_beneath, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

int own_open(const char *name, int flags)
{
	int fd = open(path_of(name), flags | O_CLOEXEC);
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, SIM_FD_OURS + 100);

	SIM_CHECK(fd >= 0 && moved >= 0);
	close(fd);
	return moved;
}
