/*
 * fsprobe DIRECTORY FILES [direct]: what a file system can do, one line each. The same
 * lines are wanted from a directory of the host and from the same kind of directory
 * as a volume of a container. Nothing that differs from run to run is printed. direct:
 * O_DIRECT as well, which not each file system of a host has, and virtio-fs has always.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SPARSE_SIZE ((off_t)4 << 30)
#define BLOCK	    4096

/* The name of what failed, else "ok". */
static const char *result(long r)
{
	return r < 0 ? strerrorname_np(errno) : "ok";
}

static int make(const char *name, const char *text, mode_t mode)
{
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL, mode);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text)) {
		printf("make %s: %s\n", name, result(-1));
		exit(1);
	}
	return fd;
}

static void print_stat(const char *name)
{
	struct stat st;

	if (lstat(name, &st) < 0) {
		printf("%s: %s\n", name, result(-1));
		return;
	}
	printf("%s: mode %o uid %u gid %u links %lu size %lld\n", name, (unsigned)st.st_mode, st.st_uid,
		st.st_gid, (unsigned long)st.st_nlink, S_ISDIR(st.st_mode) ? 0 : (long long)st.st_size);
}

static void owners_and_modes(void)
{
	close(make("owned", "x", 0640));
	printf("chown: %s\n", result(chown("owned", 1000, 33)));
	printf("chmod: %s\n", result(chmod("owned", 06755)));
	print_stat("owned");
	/* Whoever writes takes the setuid bit away. */
	printf("truncate: %s\n", result(truncate("owned", 100)));
	print_stat("owned");
	printf("chmod: %s\n", result(chmod("owned", 0755)));
	printf("mkdir: %s\n", result(mkdir("dir", 02770)));
	printf("chown dir: %s\n", result(chown("dir", 0, 1234)));
	printf("chmod dir: %s\n", result(chmod("dir", 02770)));
	close(make("dir/inherits", "", 0600));
	print_stat("dir");
	print_stat("dir/inherits");
	printf("mkfifo: %s\n", result(mkfifo("fifo", 0600)));
	print_stat("fifo");
}

static void links_and_renames(void)
{
	char text[64] = "";

	close(make("a", "a", 0600));
	close(make("b", "bb", 0600));
	printf("link: %s\n", result(link("a", "hard")));
	printf("symlink: %s\n", result(symlink("a", "soft")));
	printf("readlink: %s %s\n", result(readlink("soft", text, sizeof(text) - 1)), text);
	print_stat("a");
	printf("rename over: %s\n", result(rename("b", "hard")));
	print_stat("a");
	print_stat("hard");
	printf("rename noreplace: %s\n",
		result(renameat2(AT_FDCWD, "a", AT_FDCWD, "hard", RENAME_NOREPLACE)));
	printf("rename exchange: %s\n",
		result(renameat2(AT_FDCWD, "a", AT_FDCWD, "hard", RENAME_EXCHANGE)));
	print_stat("a");
	printf("rmdir of one that is full: %s\n", result(rmdir("dir")));
}

static void attributes(void)
{
	char value[16] = "";

	printf("setxattr: %s\n", result(setxattr("a", "user.colour", "blue", 4, 0)));
	printf("getxattr: %s %s\n", result(getxattr("a", "user.colour", value, sizeof(value) - 1)), value);
	printf("setxattr again: %s\n", result(setxattr("a", "user.colour", "red", 3, XATTR_CREATE)));
	printf("removexattr: %s\n", result(removexattr("a", "user.colour")));
	printf("getxattr of none: %s\n", result(getxattr("a", "user.colour", value, sizeof(value))));
}

static void contents(void)
{
	int fd = make("contents", "0123456789", 0600);
	char *map = mmap(NULL, 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), text[16] = "";

	printf("mmap shared: %s\n", result(map == MAP_FAILED ? -1 : 0));
	if (map != MAP_FAILED) {
		memcpy(map + 3, "MAP", 3);
		printf("msync: %s\n", result(msync(map, 10, MS_SYNC)));
	}
	printf("fsync: %s\n", result(fsync(fd)));
	printf("fdatasync: %s\n", result(fdatasync(fd)));
	printf("pread: %s %s\n", result(pread(fd, text, 10, 0)), text);
	printf("append: %s\n", result(pwrite(fd, "tail", 4, 10)));
	printf("fallocate: %s\n", result(fallocate(fd, 0, 0, 100000)));
	print_stat("contents");
	printf("ftruncate: %s\n", result(ftruncate(fd, 5)));
	print_stat("contents");
	printf("unlink while open: %s\n", result(unlink("contents")));
	printf("read after: %s\n", result(pread(fd, text, 5, 0)));
	close(fd);
}

static void direct(void)
{
	int fd = open("direct", O_RDWR | O_CREAT | O_DIRECT, 0600);
	char *block = aligned_alloc(BLOCK, BLOCK);

	printf("open O_DIRECT: %s\n", result(fd));
	if (fd < 0 || !block)
		return;
	memset(block, 'd', BLOCK);
	printf("write: %s\n", result(pwrite(fd, block, BLOCK, BLOCK)));
	memset(block, 0, BLOCK);
	printf("read: %s\n", result(pread(fd, block, BLOCK, BLOCK)));
	printf("what was read: %.8s\n", block);
	close(fd);
	print_stat("direct");
}

/* What another process of this machine sees of a lock. */
static void locks(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 10, .l_len = 10 };
	int fd = make("locked", "0123456789", 0600), status = 0;

	printf("flock: %s\n", result(flock(fd, LOCK_EX)));
	printf("fcntl lock: %s\n", result(fcntl(fd, F_SETLK, &lock)));
	fflush(stdout);
	if (fork() == 0) {
		int other = open("locked", O_RDWR);

		printf("flock of another: %s\n", result(flock(other, LOCK_EX | LOCK_NB)));
		printf("fcntl lock of another: %s\n", result(fcntl(other, F_SETLK, &lock)));
		lock.l_start = 100;
		printf("fcntl lock elsewhere: %s\n", result(fcntl(other, F_SETLK, &lock)));
		fflush(stdout);
		_exit(0);
	}
	wait(&status);
	close(fd);
}

static void small_files(int n)
{
	unsigned long sum = 0;
	char name[64];

	mkdir("many", 0755);
	for (int i = 0; i < n; i++) {
		snprintf(name, sizeof(name), "many/%d", i);
		close(make(name, name, 0600));
	}
	for (int i = 0; i < n; i++) {
		char text[64] = "";
		int fd;

		snprintf(name, sizeof(name), "many/%d", i);
		fd = open(name, O_RDONLY);
		sum += fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 && strcmp(text, name) == 0;
		close(fd);
		if (i % 2)
			sum += unlink(name) == 0;
	}
	printf("small files: %lu\n", sum);
}

static void sparse(void)
{
	int fd = make("sparse", "", 0600);
	struct stat st;

	printf("truncate to 4 GiB: %s\n", result(ftruncate(fd, SPARSE_SIZE)));
	printf("write at its end: %s\n", result(pwrite(fd, "end", 3, SPARSE_SIZE - 3)));
	print_stat("sparse");
	printf("is sparse: %s\n", fstat(fd, &st) == 0 && st.st_blocks < 2048 ? "yes" : "no");
	close(fd);
}

int main(int argc, char **argv)
{
	umask(022);
	if (argc < 3 || chdir(argv[1]) < 0) {
		fprintf(stderr, "usage: fsprobe DIRECTORY FILES [direct]\n");
		return 2;
	}
	owners_and_modes();
	links_and_renames();
	attributes();
	contents();
	if (argc > 3)
		direct();
	locks();
	small_files(atoi(argv[2]));
	sparse();
	return 0;
}
