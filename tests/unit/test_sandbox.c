#include "supervisor/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "supervisor/process.h"
#include "tests/lib/test.h"

static struct config config;
static char run_dir[] = "/tmp/bulkhead-run-XXXXXX";

static void make_run_dir(void)
{
	if (geteuid() != 0)
		test_skip("sandbox directories are root's");
	CHECK(mkdtemp(run_dir) != NULL);
	snprintf(config.run_dir, sizeof(config.run_dir), "%s", run_dir);
	config.uid_base = 3000000000;
	config.max_sandboxes = 2;
}

static void remove_run_dir(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/uids", run_dir);
	CHECK_INT(rmdir(path), 0);
	CHECK_INT(rmdir(run_dir), 0);
}

static int create(struct sandbox *s, const char *id, struct error *err)
{
	const struct args a = { .namespace = "n", .id = id, .address = "/a", .bundle = "" };

	CHECK_INT(sandbox_init(s, &config, &a, id, err), 0);
	return sandbox_create(s, &config, &a, id, "/b", err);
}

TEST(create_and_remove_leave_nothing)
{
	struct error err = ERROR_INIT;
	struct sandbox s;
	struct stat st;
	char path[600];

	make_run_dir();
	CHECK_INT(create(&s, "c1", &err), 0);
	CHECK_INT(s.lease, 0);
	CHECK_INT(stat(s.dir, &st), 0);
	CHECK_INT(st.st_mode & 07777, 0700);
	snprintf(path, sizeof(path), "%s/state", s.dir);
	CHECK_INT(stat(path, &st), 0);
	CHECK_INT(st.st_uid, 3000000003u);
	sandbox_remove(&s);
	CHECK(stat(s.dir, &st) < 0);
	sandbox_done(&s);
	remove_run_dir();
}

TEST(leases_are_exclusive_and_end)
{
	struct error err = ERROR_INIT;
	struct sandbox a, b, c;

	make_run_dir();
	CHECK_INT(create(&a, "a", &err), 0);
	CHECK_INT(create(&b, "b", &err), 0);
	CHECK_INT(b.lease, 1);
	CHECK_INT(create(&c, "c", &err), -EUSERS);
	CHECK_CONTAINS(err.msg, "uid blocks");
	CHECK_INT(create(&c, "a", &err), -EEXIST);
	CHECK_CONTAINS(err.msg, "sandbox a exists already");
	sandbox_remove(&a);
	CHECK_INT(create(&c, "c", &err), 0);
	CHECK_INT(c.lease, 0);
	sandbox_remove(&b);
	sandbox_remove(&c);
	remove_run_dir();
}

TEST(another_address_is_another_sandbox)
{
	const struct args one = { .namespace = "n", .address = "/a" };
	const struct args two = { .namespace = "n", .address = "/b" };
	const struct args three = { .namespace = "na", .address = "/" };
	struct error err = ERROR_INIT;
	struct sandbox a, b, c;

	CHECK_INT(sandbox_init(&a, &config, &one, "c", &err), 0);
	CHECK_INT(sandbox_init(&b, &config, &two, "c", &err), 0);
	CHECK_INT(sandbox_init(&c, &config, &three, "c", &err), 0);
	CHECK(strcmp(a.socket, b.socket) != 0);
	CHECK(strcmp(a.socket, c.socket) != 0);
	CHECK(strlen(a.socket) < 108);
}

TEST(reopened_by_delete)
{
	struct error err = ERROR_INIT;
	struct sandbox s, again;
	char *text;

	make_run_dir();
	CHECK_INT(create(&s, "c1", &err), 0);
	again = s;
	sandbox_done(&s);
	again.dir_fd = -1;
	again.lease = -1;
	CHECK_INT(sandbox_open(&again, &err), 0);
	CHECK_INT(again.lease, 0);
	text = sandbox_read(&again, "name", &err);
	CHECK_STR(text, "/a\nn\nc1\n/b\n");
	free(text);
	sandbox_remove(&again);
	CHECK_INT(sandbox_open(&again, &err), -ENOENT);
	remove_run_dir();
}

/* What names the rest stays until nothing is left to be named. */
TEST(what_cannot_be_removed_is_found_again)
{
	struct error err = ERROR_INIT;
	struct sandbox s, again;
	struct stat st;
	char path[600], lease[600];

	make_run_dir();
	CHECK_INT(create(&s, "one", &err), 0);
	again = s;
	snprintf(lease, sizeof(lease), "%s/%ld", s.uids, s.lease);
	snprintf(path, sizeof(path), "%s/state/directory", s.dir);
	CHECK_INT(mkdir(path, 0700), 0);
	sandbox_remove(&s);
	CHECK_INT(stat(lease, &st), 0);

	CHECK_INT(rmdir(path), 0);
	again.dir_fd = -1;
	CHECK_INT(sandbox_open(&again, &err), 0);
	CHECK_INT(again.lease, 0);
	sandbox_remove(&again);
	CHECK(stat(lease, &st) < 0);
	CHECK(stat(s.dir, &st) < 0);
	remove_run_dir();
}

/* A lease that cannot be given back is found again, and given back then. */
TEST(a_lease_that_cannot_be_given_back)
{
	struct error err = ERROR_INIT;
	struct sandbox s;
	struct stat st;
	char lease[600], obstacle[600];

	make_run_dir();
	CHECK_INT(create(&s, "one", &err), 0);
	snprintf(lease, sizeof(lease), "%s/%ld", s.uids, s.lease);
	snprintf(obstacle, sizeof(obstacle), "%s/released", s.dir);
	/* Of another kind than a directory: the lease cannot become it. */
	CHECK_INT(mknod(obstacle, S_IFREG | 0600, 0), 0);
	sandbox_remove(&s);
	CHECK_INT(stat(lease, &st), 0);
	CHECK_INT(stat(s.dir, &st), 0);

	CHECK_INT(unlink(obstacle), 0);
	launcher_gc(&config);
	CHECK(stat(lease, &st) < 0);
	CHECK(stat(s.dir, &st) < 0);
	remove_run_dir();
}

/* `delete` ended between giving back the lease and its last step: the number is another's by now. */
TEST(a_lease_that_was_given_back_is_not_taken_from_the_next)
{
	struct error err = ERROR_INIT;
	struct sandbox one, two;
	struct stat st;
	char path[600], lease[600];

	make_run_dir();
	CHECK_INT(create(&one, "one", &err), 0);
	snprintf(lease, sizeof(lease), "%s/%ld", one.uids, one.lease);
	snprintf(path, sizeof(path), "%s/released", one.dir);
	CHECK_INT(rename(lease, path), 0);
	sandbox_done(&one);
	CHECK_INT(create(&two, "two", &err), 0);
	CHECK_INT(two.lease, 0);

	CHECK_INT(sandbox_open(&one, &err), 0);
	CHECK_INT(one.lease, -1);
	sandbox_remove(&one);
	CHECK(stat(one.dir, &st) < 0);
	CHECK_INT(stat(lease, &st), 0);
	sandbox_remove(&two);
	CHECK(stat(lease, &st) < 0);
	remove_run_dir();
}

/* What is in the way of one step stops those that follow: `name` is there until nothing else is. */
TEST(a_directory_that_cannot_be_emptied_keeps_its_name)
{
	struct error err = ERROR_INIT;
	struct sandbox s;
	struct stat st;
	char path[600], name[600];

	make_run_dir();
	CHECK_INT(create(&s, "one", &err), 0);
	snprintf(path, sizeof(path), "%s/other", s.dir);
	snprintf(name, sizeof(name), "%s/name", s.dir);
	CHECK_INT(mkdir(path, 0700), 0);
	sandbox_remove(&s);
	CHECK_INT(stat(name, &st), 0);
	CHECK_INT(rmdir(path), 0);
	launcher_gc(&config);
	CHECK(stat(s.dir, &st) < 0);
	remove_run_dir();
}

TEST(gc_removes_an_empty_directory_that_is_old)
{
	const struct timespec old[2] = { { .tv_sec = time(NULL) - 100 }, { .tv_sec = time(NULL) - 100 } };
	char fresh[600], left[600], uids[600];

	make_run_dir();
	snprintf(fresh, sizeof(fresh), "%s/0123456789abcdef", run_dir);
	snprintf(left, sizeof(left), "%s/fedcba9876543210", run_dir);
	snprintf(uids, sizeof(uids), "%s/uids", run_dir);
	CHECK(mkdir(fresh, 0700) == 0 && mkdir(left, 0700) == 0 && mkdir(uids, 0700) == 0);
	CHECK_INT(utimensat(AT_FDCWD, left, old, 0), 0);
	launcher_gc(&config);
	CHECK_INT(access(fresh, F_OK), 0);
	CHECK_INT(access(left, F_OK), -1);
	CHECK_INT(rmdir(fresh), 0);
	remove_run_dir();
}

TEST(a_run_dir_of_somebody_else)
{
	struct error err = ERROR_INIT;
	struct sandbox s;

	make_run_dir();
	CHECK_INT(chown(run_dir, 1, 1), 0);
	CHECK(create(&s, "c1", &err) < 0);
	CHECK_CONTAINS(err.msg, "only root can write");
	CHECK_INT(rmdir(run_dir), 0);
}

TEST(gc_takes_only_what_nobody_will_delete)
{
	const struct args a = { .namespace = "n", .id = "", .address = "/a", .bundle = "" };
	struct error err = ERROR_INIT;
	struct sandbox gone, kept, busy;
	struct stat st;

	make_run_dir();
	config.max_sandboxes = 3;
	CHECK_INT(create(&gone, "gone", &err), 0);
	sandbox_done(&gone);
	/* Its bundle is still there: containerd will call delete. */
	CHECK_INT(sandbox_init(&kept, &config, &a, "kept", &err), 0);
	CHECK_INT(sandbox_create(&kept, &config, &a, "kept", "/", &err), 0);
	sandbox_done(&kept);
	/* Locked: its start is not done yet. */
	CHECK_INT(create(&busy, "busy", &err), 0);

	launcher_gc(&config);
	CHECK(stat(gone.dir, &st) < 0);
	CHECK_INT(stat(kept.dir, &st), 0);
	CHECK_INT(stat(busy.dir, &st), 0);
	CHECK_INT(sandbox_open(&kept, &err), 0);
	CHECK_INT(kept.lease, 1);
	sandbox_remove(&kept);
	sandbox_remove(&busy);
	remove_run_dir();
}

/* A process that does nothing, PID 1 of a namespace or not. */
static pid_t start_process(int namespaces)
{
	pid_t pid = (pid_t)syscall(SYS_clone, namespaces | SIGCHLD, NULL, NULL, NULL, NULL);

	CHECK(pid >= 0);
	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

static void end_process(pid_t pid)
{
	CHECK_INT(kill(pid, SIGKILL), 0); /* it lived */
	CHECK_INT(waitpid(pid, NULL, 0), pid);
}

TEST(gc_lets_a_living_sandbox_be)
{
	struct error err = ERROR_INIT;
	struct sandbox s;
	struct stat st;
	pid_t pid;

	make_run_dir();
	CHECK_INT(create(&s, "lives", &err), 0); /* of a bundle that is gone */
	sandbox_done(&s); /* else the process would hold the lock too, and gc would not even look */
	pid = start_process(CLONE_NEWPID);
	CHECK_INT(sandbox_open(&s, &err), 0);
	CHECK_INT(process_record(&s, pid, &err), 0);
	sandbox_done(&s);
	launcher_gc(&config);
	CHECK_INT(stat(s.dir, &st), 0);
	end_process(pid);
	launcher_gc(&config);
	CHECK(stat(s.dir, &st) < 0);
	remove_run_dir();
}

/* The pid in the file is somebody else's by now: nobody is killed for it. */
static void check_not_taken(pid_t pid, const char *recorded)
{
	struct error err = ERROR_INIT;
	struct sandbox s;

	CHECK_INT(create(&s, "dead", &err), 0);
	CHECK_INT(sandbox_write(&s, "supervisor", recorded, &err), 0);
	CHECK_INT(process_open(&s, &err), -ESRCH);
	launcher_teardown(&s, &config);
	end_process(pid);
}

TEST(a_pid_that_is_used_again_is_not_the_supervisor)
{
	struct error err = ERROR_INIT;
	unsigned long long started;
	char text[64], *recorded;
	struct sandbox s;
	pid_t pid;
	int fd;

	make_run_dir();
	/* Another start time. */
	CHECK_INT(create(&s, "lives", &err), 0);
	pid = start_process(CLONE_NEWPID);
	CHECK_INT(process_record(&s, pid, &err), 0);
	fd = process_open(&s, &err);
	CHECK(fd >= 0);
	close(fd);
	recorded = sandbox_read(&s, "supervisor", &err);
	CHECK(recorded && sscanf(recorded, "%*d %llu", &started) == 1);
	free(recorded);
	snprintf(text, sizeof(text), "%d %llu\n", pid, started - 1);
	check_not_taken(pid, text);
	/* The right one, of no PID 1. */
	pid = start_process(0);
	CHECK_INT(process_record(&s, pid, &err), 0);
	recorded = sandbox_read(&s, "supervisor", &err);
	check_not_taken(pid, recorded);
	free(recorded);
	sandbox_remove(&s);
	remove_run_dir();
}
