/* The format of `exits`, and the walls around persistd's directory. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "ipc/exits.h"
#include "persistd/jail.h"
#include "persistd/store.h"
#include "tests/lib/test.h"

static struct exits e, back;
static char text[EXITS_FILE_MAX + 100];

static int parse(const char *t, struct error *err)
{
	return exits_parse(t, strlen(t), &back, err);
}

TEST(there_and_back)
{
	struct error err = ERROR_INIT;
	int len;

	e.n = 0;
	CHECK_INT(exits_format(&e, text, sizeof(text)), 0);
	CHECK_STR(text, "");
	CHECK_INT(parse("", &err), 0);
	CHECK_INT(back.n, 0);
	for (int i = 0; i < EXITS_MAX; i++) {
		char id[ID_MAX + 1];

		snprintf(id, sizeof(id), "%076d", i);
		CHECK_INT(exits_set(&e, id, (uint32_t)i % 256, INT64_MAX - i, &err), 0);
	}
	CHECK_INT(exits_set(&e, "more", 0, 0, &err), -ENOSPC);
	len = exits_format(&e, text, sizeof(text));
	CHECK(len > 0 && len < (int)EXITS_FILE_MAX);
	CHECK_INT(exits_parse(text, (size_t)len, &back, &err), 0);
	CHECK_INT(back.n, EXITS_MAX);
	for (size_t i = 0; i < EXITS_MAX; i++) {
		CHECK_STR(back.record[i].id, e.record[i].id);
		CHECK_INT(back.record[i].status, e.record[i].status);
		CHECK_INT(back.record[i].exited_at_ns, e.record[i].exited_at_ns);
	}
	for (size_t size = 0; size <= (size_t)len; size += 997)
		CHECK_INT(exits_format(&e, text, size), -ENOSPC);
	CHECK_INT(exits_format(&e, text, (size_t)len), -ENOSPC);
	CHECK_INT(exits_format(&e, text, (size_t)len + 1), len);
}

TEST(set_find_remove)
{
	struct error err = ERROR_INIT;

	e.n = 0;
	CHECK_INT(exits_set(&e, "a", 1, 1, &err), 0);
	CHECK_INT(exits_set(&e, "b", 2, 2, &err), 0);
	CHECK_INT(exits_set(&e, "c", 3, 3, &err), 0);
	CHECK_INT(exits_set(&e, "b", 4, 4, &err), 0);
	CHECK_INT(e.n, 3);
	CHECK_INT(exits_find(&e, "b")->status, 4);
	CHECK_INT(exits_remove(&e, "a"), 1);
	CHECK_INT(exits_remove(&e, "a"), 0);
	CHECK(!exits_find(&e, "a"));
	CHECK_INT(exits_remove(&e, "c"), 1);
	CHECK_STR(e.record[0].id, "b");
	CHECK_INT(exits_remove(&e, "b"), 1);
	CHECK_INT(e.n, 0);
}

TEST(what_is_refused)
{
	static const char *const bad[] = { "\n", " ", "a", "a 1 1", "a 1\n", "a 1 \n", "a  1 1\n",
		" a 1 1\n", "a 1 1 \n", "a 1 1 1\n", "a\t1\t1\n", "a 1 1\r\n", "a 256 1\n",
		"a 1000 1\n", "a -1 1\n", "a +1 1\n", "a 01 1\n", "a 1 01\n", "a 0x1 1\n",
		"a 1 -1\n", "a 1 9223372036854775808\n", "a 1 18446744073709551616\n",
		"a 1 99999999999999999999999999\n", "../a 1 1\n", "-a 1 1\n", ".a 1 1\n",
		"a/b 1 1\n", "\xc3\xa4 1 1\n", "a\x01 1 1\n", "a 1 1\n\n", "a 1 1\na 1 1\n",
		"a 1 1\nb 1 1\na 2 2\n",
		"12345678901234567890123456789012345678901234567890123456789012345678901234567 1 1\n" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = ERROR_INIT;

		back.n = 77;
		if (parse(bad[i], &err) != -EINVAL)
			test_fail(__FILE__, __LINE__, "taken: %s", bad[i]);
		CHECK_CONTAINS(err.msg, "exits:");
		CHECK_INT(back.n, 77);
	}
}

TEST(bytes_that_are_no_text)
{
	struct error err = ERROR_INIT;

	CHECK_INT(exits_parse("a\0 1 1\n", 7, &back, &err), -EINVAL);
	CHECK_INT(exits_parse("a 1\0 1\n", 7, &back, &err), -EINVAL);
	CHECK_INT(exits_parse("a 1 1\n\0", 7, &back, &err), -EINVAL);
	CHECK_INT(exits_parse("a 1 1\0", 6, &back, &err), -EINVAL);
	/* every single byte of a good line spoiled in every way: refused, or still a good line */
	for (size_t at = 0; at < 12; at++)
		for (int c = 0; c < 256; c++) {
			memcpy(text, "ab 12 1234\n", 12);
			text[at] = (char)c;
			if (exits_parse(text, 11, &back, &err) == 0 && at < 11) {
				CHECK_INT(exits_format(&back, text + 100, 100), 11);
				CHECK(memcmp(text, text + 100, 11) == 0);
			}
		}
}

TEST(too_much)
{
	struct error err = ERROR_INIT;
	size_t len = 0;

	memset(text, 'a', sizeof(text));
	CHECK_INT(exits_parse(text, EXITS_FILE_MAX + 1, &back, &err), -EFBIG);
	CHECK_INT(exits_parse(text, EXITS_FILE_MAX, &back, &err), -EINVAL);
	for (int i = 0; i <= EXITS_MAX; i++)
		len += (size_t)sprintf(text + len, "c%d 0 0\n", i);
	CHECK_INT(exits_parse(text, len, &back, &err), -EFBIG);
	CHECK_CONTAINS(err.msg, "more than 1024 lines");
}

static void own_tmp(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		test_skip("needs root");
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mount("t", "/mnt", "tmpfs", 0, "") == 0);
	CHECK(mkdir("/mnt/dir", 0700) == 0);
}

TEST(the_directory_has_no_way_up)
{
	struct error err = ERROR_INIT;
	struct stat inside, up;
	struct statvfs fs;
	int fd, dir;

	own_tmp();
	dir = open("/mnt/dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_INT(jail_directory(dir, &err), 0);
	CHECK(fstat(dir, &inside) == 0);
	CHECK(fstatat(dir, "..", &up, 0) == 0 && up.st_ino == inside.st_ino);
	CHECK(fstatat(dir, "../../..", &up, 0) == 0 && up.st_ino == inside.st_ino);
	CHECK(openat(dir, "../../etc", O_RDONLY | O_CLOEXEC) < 0);
	CHECK(fstatvfs(dir, &fs) == 0);
	CHECK((fs.f_flag & (ST_NOSUID | ST_NODEV | ST_NOEXEC)) ==
		(ST_NOSUID | ST_NODEV | ST_NOEXEC));
	/* it is the same directory */
	fd = openat(dir, "exits", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	CHECK(fd >= 0);
	CHECK(access("/mnt/dir/exits", F_OK) == 0);
	CHECK(fsync(dir) == 0);
	close(fd);
	close(dir);
	CHECK(umount2("/mnt", 0) == 0); /* nothing holds it any more */
}

static struct store store;

TEST(a_failed_change_changes_nothing)
{
	struct error err = ERROR_INIT;

	own_tmp();
	store.dirfd = open("/mnt/dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK_INT(store_record(&store, "a", 1, 1, &err), 0);
	CHECK(mkdir("/mnt/dir/exits.new", 0700) == 0); /* neither made nor removed */
	CHECK(store_record(&store, "b", 2, 2, &err) < 0);
	CHECK(store_forget(&store, "a", &err) < 0);
	CHECK_INT(store.exits.n, 1);
	CHECK(rmdir("/mnt/dir/exits.new") == 0);
	/* the rename fails: exits is a directory that is not empty */
	CHECK(unlink("/mnt/dir/exits") == 0 && mkdir("/mnt/dir/exits", 0700) == 0 &&
		mkdir("/mnt/dir/exits/x", 0700) == 0);
	CHECK(store_record(&store, "b", 2, 2, &err) < 0);
	CHECK_CONTAINS(err.msg, "rename exits.new to exits");
	CHECK(access("/mnt/dir/exits.new", F_OK) < 0);
	CHECK_INT(store.exits.n, 1);
	CHECK(rmdir("/mnt/dir/exits/x") == 0 && rmdir("/mnt/dir/exits") == 0);
	CHECK_INT(store_forget(&store, "nobody", &err), 0);
	CHECK(access("/mnt/dir/exits", F_OK) < 0); /* nothing to change, nothing written */
	CHECK_INT(store_record(&store, "b", 2, 2, &err), 0);
	CHECK_INT(store.exits.n, 2);
	close(store.dirfd);
}
