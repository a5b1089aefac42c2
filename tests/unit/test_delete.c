/* `delete` as it is when everybody is dead: what it believes of the files that are left. */
#include "supervisor/launcher.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/io.h"
#include "ipc/ctl.h"
#include "supervisor/shim.pb-c.h"
#include "tests/lib/test.h"

#define UID_BASE 3000000000U

static struct config config = { .uid_base = UID_BASE, .max_sandboxes = 2 };
static char run_dir[] = "/tmp/bulkhead-delete-XXXXXX";
static struct sandbox sandbox;

static void write_at(int dir, const char *name, const char *text, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	CHECK(fd >= 0);
	CHECK_INT(write_full(fd, text, len), 0);
	CHECK_INT(fchown(fd, UID_BASE + ROLE_PERSISTD, UID_BASE + ROLE_PERSISTD), 0);
	close(fd);
}

/* The sandbox of container c1, whose processes are gone. Returns its state directory. */
static int dead_sandbox(void)
{
	const struct args a = { .namespace = "n", .id = "c1", .address = "/a" };
	struct error err = ERROR_INIT;
	int state;

	if (geteuid() != 0)
		test_skip("sandbox directories are root's");
	CHECK(mkdtemp(run_dir));
	snprintf(config.run_dir, sizeof(config.run_dir), "%s", run_dir);
	CHECK_INT(sandbox_init(&sandbox, &config, &a, "c1", &err), 0);
	CHECK_INT(sandbox_create(&sandbox, &config, &a, "c1", "/b", &err), 0);
	state = openat(sandbox.dir_fd, "state", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(state >= 0);
	sandbox_done(&sandbox);
	return state;
}

static void remove_run_dir(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/uids", run_dir);
	CHECK_INT(rmdir(path), 0);
	CHECK_INT(rmdir(run_dir), 0);
	strcpy(run_dir, "/tmp/bulkhead-delete-XXXXXX");
}

struct answer {
	uint32_t status;
	int64_t at_ns;
};

/* What it prints. */
static struct answer run_delete(const char *id, const char *bundle)
{
	const struct args a = { .namespace = "n", .id = id, .address = "/a", .bundle = bundle };
	struct error err = ERROR_INIT;
	Shim__DeleteResponse *msg;
	struct answer answer;
	uint8_t buf[256];
	int out[2], saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	ssize_t n;

	CHECK(pipe2(out, O_CLOEXEC) == 0 && dup2(out[1], STDOUT_FILENO) == STDOUT_FILENO);
	CHECK_INT(launcher_delete(&config, &a, &err), 0);
	CHECK(dup2(saved, STDOUT_FILENO) == STDOUT_FILENO);
	close(saved);
	close(out[1]);
	n = read(out[0], buf, sizeof(buf));
	close(out[0]);
	CHECK(n > 0);
	msg = shim__delete_response__unpack(NULL, (size_t)n, buf);
	CHECK(msg && msg->exited_at);
	answer = (struct answer){ .status = msg->exit_status,
		.at_ns = msg->exited_at->seconds * 1000000000 + msg->exited_at->nanos };
	shim__delete_response__free_unpacked(msg, NULL);
	return answer;
}

static const char record[] = "c1 5 1700000000000000001\n";

TEST(the_recorded_exit_is_told)
{
	int state = dead_sandbox();
	struct answer answer;
	struct stat st;

	write_at(state, "exits", record, strlen(record));
	close(state);
	answer = run_delete("c1", "/nowhere");
	CHECK_INT(answer.status, 5);
	CHECK_INT(answer.at_ns, 1700000000000000001);
	CHECK(stat(sandbox.dir, &st) < 0);
	remove_run_dir();
}

/* With persistd's file, or what lies in its place, made by fn: nothing of it is told. */
static void is_not_believed(void (*make)(int state))
{
	int state = dead_sandbox();
	struct answer answer;
	struct stat st;

	make(state);
	close(state);
	answer = run_delete("c1", "/nowhere");
	CHECK_INT(answer.status, 137);
	CHECK(answer.at_ns > 1700000000000000001);
	CHECK(stat(sandbox.dir, &st) < 0);
	remove_run_dir();
}

static void make_link(int state)
{
	write_at(state, "other", record, strlen(record));
	CHECK_INT(symlinkat("other", state, "exits"), 0);
}

static void make_second_name(int state)
{
	write_at(state, "other", record, strlen(record));
	CHECK_INT(linkat(state, "other", state, "exits", 0), 0);
}

static void make_fifo(int state)
{
	CHECK_INT(mkfifoat(state, "exits", 0666), 0);
	CHECK_INT(fchownat(state, "exits", UID_BASE + ROLE_PERSISTD, 0, 0), 0);
}

static void make_roots(int state)
{
	write_at(state, "exits", record, strlen(record));
	CHECK_INT(fchownat(state, "exits", 0, 0, 0), 0);
}

static void make_huge(int state)
{
	int fd;

	write_at(state, "exits", record, strlen(record));
	fd = openat(state, "exits", O_WRONLY | O_CLOEXEC);
	CHECK_INT(ftruncate(fd, 1L << 40), 0);
	close(fd);
}

TEST(what_lies_in_the_place_of_persistds_file)
{
	is_not_believed(make_link);
	is_not_believed(make_second_name);
	is_not_believed(make_fifo);
	is_not_believed(make_roots);
	is_not_believed(make_huge);
}

static void make_text(int state, const char *text)
{
	write_at(state, "exits", text, strlen(text));
}

static void make_status_256(int state)
{
	make_text(state, "c1 256 1700000000000000001\n");
}

static void make_no_end(int state)
{
	make_text(state, "c1 5 1700000000000000001");
}

static void make_twice(int state)
{
	make_text(state, "c1 5 1700000000000000001\nc1 6 1700000000000000001\n");
}

static void make_more(int state)
{
	make_text(state, "c1 5 1700000000000000001 0\n");
}

static void make_another_bad_line(int state)
{
	make_text(state, "c1 5 1700000000000000001\n../c2 0 1\n");
}

TEST(a_file_that_persistd_does_not_write)
{
	is_not_believed(make_status_256);
	is_not_believed(make_no_end);
	is_not_believed(make_twice);
	is_not_believed(make_more);
	is_not_believed(make_another_bad_line);
}

/* containerd runs it for every container of a pod, while the pod lives. */
TEST(of_a_pods_container_only_the_exit_is_told)
{
	static const char spec[] =
		"{\"annotations\":{\"io.kubernetes.cri.container-type\":\"container\","
		"\"io.kubernetes.cri.sandbox-id\":\"c1\"}}";
	char bundle[] = "/tmp/bulkhead-bundle-XXXXXX";
	int state = dead_sandbox(), dir;
	struct stat st;

	write_at(state, "exits", "app 7 1\n", 8);
	close(state);
	CHECK(mkdtemp(bundle));
	dir = open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	write_at(dir, "config.json", spec, strlen(spec));
	CHECK_INT(run_delete("app", bundle).status, 7);
	CHECK_INT(stat(sandbox.dir, &st), 0);
	CHECK_INT(run_delete("other", bundle).status, 137);
	CHECK_INT(stat(sandbox.dir, &st), 0);
	CHECK_INT(run_delete("c1", "/nowhere").status, 137);
	CHECK(stat(sandbox.dir, &st) < 0);
	CHECK(unlinkat(dir, "config.json", 0) == 0 && rmdir(bundle) == 0);
	close(dir);
	remove_run_dir();
}
