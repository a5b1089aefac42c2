/* The real persistd in a directory of the test's own. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/io.h"
#include "ipc/fds.h"
#include "ipc/pair.h"
#include "ipc/persistd.pb-c.h"
#include "ipc/tables.h"
#include "ipc/exits.h"
#include "tests/proc/common_role.h"

/* A tmpfs of its own on /mnt, of this mount namespace alone. */
#define DIR_PATH "/mnt"

static void own_directory(const char *options)
{
	need_root();
	CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	CHECK(mount("exits", DIR_PATH, "tmpfs", 0, options) == 0);
	CHECK(chown(DIR_PATH, TEST_UID, TEST_UID) == 0);
	CHECK(chmod(DIR_PATH, 0700) == 0);
}

static struct started persistd_up(void)
{
	int dir = open(DIR_PATH, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct started r;

	CHECK(dir >= 0);
	r = role_up("bulkhead-persistd", PERSISTD_FD_VOID, PERSISTD_FD_DIR, dir);
	close(dir);
	return r;
}

static int record(struct started *r, const char *id, uint32_t status, int64_t at,
	struct error *err)
{
	Ipc__PersistdRecord m = IPC__PERSISTD_RECORD__INIT;

	m.id = (char *)id;
	m.status = status;
	m.exited_at_ns = at;
	return role_ask(r, &ipc_frontend_persistd, PERSISTD_RECORD, &m.base, err);
}

static int forget(struct started *r, const char *id, struct error *err)
{
	Ipc__PersistdForget m = IPC__PERSISTD_FORGET__INIT;

	m.id = (char *)id;
	return role_ask(r, &ipc_frontend_persistd, PERSISTD_FORGET, &m.base, err);
}

/* The file's text, "" when there is none; it must always parse. */
static const char *file_text(struct exits *ret)
{
	static char text[EXITS_FILE_MAX + 1];
	struct error err;
	size_t len;
	char *got;
	int fd = open(DIR_PATH "/" EXITS_FILE, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	ret->n = 0;
	if (fd < 0)
		return "";
	got = read_file_fd(fd, EXITS_FILE_MAX, &len, &err);
	if (!got || exits_parse(got, len, ret, &err) < 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	strcpy(text, got);
	free(got);
	close(fd);
	return text;
}

static int ends_with(struct started *r)
{
	int status = role_ends(r, 5000);

	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static struct exits exits;

TEST(recorded_when_the_answer_comes)
{
	struct error err;
	struct started r;
	struct stat st;

	own_directory("");
	r = persistd_up();
	CHECK_INT(record(&r, "c1", 0, 1, &err), 0);
	CHECK_STR(file_text(&exits), "c1 0 1\n");
	CHECK_INT(record(&r, "c-2.x_y", 137, INT64_MAX, &err), 0);
	CHECK_STR(file_text(&exits), "c1 0 1\nc-2.x_y 137 9223372036854775807\n");
	CHECK_INT(record(&r, "c1", 255, 2, &err), 0);
	CHECK_STR(file_text(&exits), "c1 255 2\nc-2.x_y 137 9223372036854775807\n");
	CHECK_INT(forget(&r, "c1", &err), 0);
	CHECK_INT(forget(&r, "c1", &err), 0);
	CHECK_STR(file_text(&exits), "c-2.x_y 137 9223372036854775807\n");
	CHECK(lstat(DIR_PATH "/" EXITS_FILE, &st) == 0);
	CHECK_INT(st.st_mode, S_IFREG | 0600);
	CHECK_INT(st.st_uid, TEST_UID);
	CHECK_INT(forget(&r, "c-2.x_y", &err), 0);
	CHECK_STR(file_text(&exits), "");
	fd_close(&r.channel);
	CHECK_INT(ends_with(&r), 0);
	role_close(&r);
}

TEST(what_is_no_exit_is_refused_and_persistd_goes_on)
{
	static const char *const bad[] = { "", ".", "..", "-x", "a/b", "a b", "a\n", "../exits",
		"\xc3\xa9", "a\x01",
		"12345678901234567890123456789012345678901234567890123456789012345678901234567" };
	struct error err;
	struct started r;

	own_directory("");
	r = persistd_up();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK_INT(record(&r, bad[i], 0, 1, &err), EINVAL);
		CHECK_INT(forget(&r, bad[i], &err), EINVAL);
	}
	CHECK_INT(record(&r, "c", 256, 1, &err), EINVAL);
	CHECK_INT(record(&r, "c", UINT32_MAX, 1, &err), EINVAL);
	CHECK_INT(record(&r, "c", 0, -1, &err), EINVAL);
	CHECK_STR(file_text(&exits), "");
	CHECK_INT(record(&r, "c", 0, 0, &err), 0);
	CHECK_STR(file_text(&exits), "c 0 0\n");
	role_close(&r);
}

TEST(the_1025th_is_refused)
{
	int64_t begin = clock_ms();
	struct error err;
	struct started r;
	char id[ID_MAX + 1];

	own_directory("");
	r = persistd_up();
	for (int i = 0; i < EXITS_MAX; i++) {
		snprintf(id, sizeof(id), "%076d", i);
		CHECK_INT(record(&r, id, 255, INT64_MAX, &err), 0);
	}
	printf("         %d records of the longest kind: %lld ms\n", EXITS_MAX,
		(long long)(clock_ms() - begin));
	CHECK_INT(record(&r, "one-more", 0, 1, &err), ENOSPC);
	CHECK_CONTAINS(err.msg, "one-more: 1024 exits are recorded");
	CHECK_INT(record(&r, id, 1, 1, &err), 0);
	CHECK_INT(forget(&r, id, &err), 0);
	CHECK_INT(record(&r, "one-more", 0, 1, &err), 0);
	file_text(&exits);
	CHECK_INT(exits.n, EXITS_MAX);
	CHECK(exits_find(&exits, "one-more"));
	role_close(&r);
}

TEST(a_full_directory_is_an_error_and_no_more)
{
	char block[4096] = { 0 };
	struct error err;
	struct started r;
	int fd;

	own_directory("size=16k");
	r = persistd_up();
	CHECK_INT(record(&r, "c1", 1, 1, &err), 0);
	fd = open(DIR_PATH "/filler", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	while (write(fd, block, sizeof(block)) > 0)
		;
	CHECK_INT(record(&r, "c2", 2, 2, &err), ENOSPC);
	CHECK_CONTAINS(err.msg, "write exits.new: No space left on device");
	CHECK_STR(file_text(&exits), "c1 1 1\n");
	CHECK(access(DIR_PATH "/exits.new", F_OK) < 0);
	CHECK(ftruncate(fd, 0) == 0);
	close(fd);
	CHECK_INT(record(&r, "c3", 3, 3, &err), 0);
	CHECK_STR(file_text(&exits), "c1 1 1\nc3 3 3\n");
	role_close(&r);
}

TEST(no_inode_left)
{
	struct error err;
	struct started r;

	own_directory("nr_inodes=2");
	r = persistd_up();
	CHECK_INT(record(&r, "c1", 1, 1, &err), 0);
	CHECK_INT(record(&r, "c2", 2, 2, &err), ENOSPC);
	CHECK_CONTAINS(err.msg, "create exits.new");
	CHECK_STR(file_text(&exits), "c1 1 1\n");
	role_close(&r);
}

TEST(a_read_only_file_system)
{
	struct error err;
	struct started r;

	own_directory("");
	r = persistd_up();
	CHECK_INT(record(&r, "c1", 1, 1, &err), 0);
	CHECK(mount(NULL, DIR_PATH, NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
	CHECK_INT(record(&r, "c2", 2, 2, &err), EROFS);
	CHECK_STR(file_text(&exits), "c1 1 1\n");
	CHECK(mount(NULL, DIR_PATH, NULL, MS_REMOUNT, NULL) == 0);
	CHECK_INT(record(&r, "c3", 3, 3, &err), 0);
	role_close(&r);
}

TEST(a_link_in_the_place_of_its_files_is_not_followed)
{
	struct error err;
	struct started r;
	struct stat st;

	own_directory("");
	CHECK(symlink("/mnt/victim", DIR_PATH "/exits.new") == 0);
	CHECK(symlink("/mnt/victim", DIR_PATH "/exits") == 0);
	r = persistd_up();
	CHECK_INT(record(&r, "c1", 1, 1, &err), 0);
	CHECK_STR(file_text(&exits), "c1 1 1\n");
	CHECK(lstat(DIR_PATH "/victim", &st) < 0);
	role_close(&r);
}

/* Runs persistd up to its n-th system call after the request, then kills it. */
static bool killed_at(int n)
{
	Ipc__PersistdRecord m = IPC__PERSISTD_RECORD__INIT;
	struct started r;
	struct error err;
	const char *text;
	bool answered;
	int status;
	char c;

	own_directory("");
	r = persistd_up();
	CHECK_INT(record(&r, "old", 1, 1, &err), 0);
	CHECK(ptrace(PTRACE_SEIZE, r.pid, NULL, NULL) == 0);
	CHECK(ptrace(PTRACE_INTERRUPT, r.pid, NULL, NULL) == 0);
	CHECK(waitpid(r.pid, &status, 0) == r.pid && WIFSTOPPED(status));
	m.id = (char *)"new";
	m.status = 2;
	m.exited_at_ns = 2;
	CHECK_INT(channel_send(r.channel, &ipc_frontend_persistd, IPC_REQUEST, PERSISTD_RECORD, 9,
			  &m.base, NULL, 0, 1000, &err), 0);
	for (int i = 0; i < n; i++) {
		CHECK(ptrace(PTRACE_SYSCALL, r.pid, NULL, NULL) == 0);
		CHECK(waitpid(r.pid, &status, 0) == r.pid && WIFSTOPPED(status));
	}
	kill(r.pid, SIGKILL);
	waitpid(r.pid, &status, 0);
	r.pid = -1;

	text = file_text(&exits);
	answered = recv(r.channel, &c, 1, MSG_DONTWAIT) == 1;
	if (strcmp(text, "old 1 1\nnew 2 2\n") != 0) {
		CHECK_STR(text, "old 1 1\n");
		CHECK(!answered); /* nobody has been told what is not on disk */
	}
	role_close(&r);

	/* Whoever comes next is not hindered by what is left. */
	r = persistd_up();
	CHECK_INT(record(&r, "next", 3, 3, &err), 0);
	role_close(&r);
	CHECK(umount2(DIR_PATH, MNT_DETACH) == 0);
	return answered;
}

TEST(killed_at_every_system_call)
{
	int n = 0;

	need_root();
	if (getenv("BULKHEAD_TRACE"))
		test_skip("BULKHEAD_TRACE: a process has one tracer");
	while (!killed_at(n))
		n++;
	printf("         %d points\n", n + 1);
	CHECK(n > 12);
}

/* As fast as it goes, until it dies; how many answers came is written to fd. */
static _Noreturn void record_for_ever(struct started *r, int fd)
{
	struct error err;

	/* That it is left without an answer at last is no news. */
	if (!freopen("/dev/null", "w", stderr))
		_exit(1);
	for (int i = 0;; i++) {
		char id[16];

		snprintf(id, sizeof(id), "c%d", i % 200);
		if (record(r, id, (uint32_t)i % 256, i, &err) != 0)
			_exit(1);
		if (write(fd, &i, sizeof(i)) < 0)
			_exit(1);
	}
}

static int last_answer(int fd)
{
	int last = -1, i;

	while (read(fd, &i, sizeof(i)) == sizeof(i))
		last = i;
	return last;
}

TEST(killed_at_random_moments)
{
	need_root();
	srandom(1);
	for (int round = 0; round < 60; round++) {
		const struct timespec wait = { .tv_nsec = random() % 4000000 };
		struct exit_record *newest;
		int answers[2], last;
		struct started r;
		pid_t writer;
		char id[16];

		own_directory("");
		r = persistd_up();
		CHECK(pipe2(answers, O_CLOEXEC) == 0);
		writer = fork();
		if (writer == 0)
			record_for_ever(&r, answers[1]);
		nanosleep(&wait, NULL);
		kill(r.pid, SIGKILL);
		waitpid(r.pid, NULL, 0);
		r.pid = -1;
		fd_close(&r.channel);
		kill(writer, SIGKILL); /* it may be waiting for an answer */
		waitpid(writer, NULL, 0);
		close(answers[1]);
		last = last_answer(answers[0]);
		close(answers[0]);

		file_text(&exits);
		snprintf(id, sizeof(id), "c%d", last % 200);
		newest = exits_find(&exits, id);
		if (last >= 0 && (!newest || newest->exited_at_ns < last))
			test_fail(__FILE__, __LINE__, "answered %s at %d is not there", id, last);
		role_close(&r);
		CHECK(umount2(DIR_PATH, MNT_DETACH) == 0);
	}
}

TEST(what_persistd_holds)
{
	static const char *const kinds[] = { "net", "mnt", "ipc", "uts" };
	char path[64], link[256];
	struct dirent *e;
	struct started r;
	unsigned seen = 0;
	ssize_t n;
	DIR *d;

	own_directory("");
	r = persistd_up();
	check_shut_in(r.pid, TEST_UID, 0);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		CHECK(!same_namespace(r.pid, getpid(), kinds[i]));

	snprintf(path, sizeof(path), "/proc/%d/fd", r.pid);
	d = opendir(path);
	CHECK(d);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			seen |= 1U << atoi(e->d_name);
	closedir(d);
	CHECK_INT(seen, 0x3f); /* 0 to 5 */

	/* The directory is a root of its own, not a place in the host's tree. */
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", r.pid, PERSISTD_FD_DIR);
	n = readlink(path, link, sizeof(link) - 1);
	CHECK(n > 0);
	link[n] = '\0';
	CHECK_STR(link, "/");
	role_close(&r);
}

static void refused_start(int dir, const char *why)
{
	struct started r = role_start("bulkhead-persistd", PERSISTD_FD_VOID, PERSISTD_FD_DIR, dir);
	struct ctl_msg msg;

	CHECK_INT(ends_with(&r), 70);
	CHECK_INT(ctl_recv(r.ctl, MSG_DONTWAIT, &msg), 1);
	CHECK_INT(msg.type, CTL_FAILED);
	CHECK_CONTAINS(msg.text, why);
	role_close(&r);
}

TEST(a_start_without_a_directory_fails_with_a_sentence)
{
	int fd;

	need_root();
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	refused_start(fd, "open the directory: Not a directory");
	close(fd);

	/* Open in another mount namespace than the one it is started in. */
	fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(unshare(CLONE_NEWNS) == 0);
	refused_start(fd, "bind the directory: Invalid argument");
	close(fd);
}

TEST(answers_that_nobody_reads)
{
	Ipc__PersistdRecord m = IPC__PERSISTD_RECORD__INIT;
	int sent = 0, answers = 0, status;
	struct error err;
	struct started r;
	char memory[64], c;

	own_directory("");
	r = persistd_up();
	m.id = (char *)"c";
	m.exited_at_ns = 1;
	while (sent < 10000 &&
		channel_send(r.channel, &ipc_frontend_persistd, IPC_REQUEST, PERSISTD_RECORD, 1,
			&m.base, NULL, 0, 1000, &err) == 0)
		sent++;
	CHECK_INT(err.code, ETIMEDOUT);
	proc_status(r.pid, "VmHWM", memory, sizeof(memory));
	status = role_ends(&r, 10000);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 70);
	role_log_contains(&r, "does not read its channel");
	recv(r.channel, &c, 1, MSG_DONTWAIT); /* ECONNRESET: it has left requests unread */
	while (recv(r.channel, &c, 1, MSG_DONTWAIT) > 0)
		answers++;
	printf("         %d sent, %d answers queued, VmHWM %s\n", sent, answers, memory);
	CHECK(sent < 2000 && answers < 1000);
#ifndef __SANITIZE_ADDRESS__
	CHECK(strtol(memory, NULL, 10) < 16 * 1024);
#endif
	role_close(&r);
}
