#include "supervisor/cgroup.h"

#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/test.h"

/* The part after the mount point of the first hierarchy. */
static const char *located(const char *cgroups_path, struct error *err)
{
	static struct cgroups root, c;

	if (cgroup_locate(&root, "/x", "id", err) < 0 || root.n == 0)
		test_skip("no cgroup hierarchy is mounted");
	if (cgroup_locate(&c, cgroups_path, "c1", err) < 0)
		return NULL;
	return c.dir[0] + strlen(root.dir[0]) - strlen("/x");
}

TEST(paths)
{
	struct error err = ERROR_INIT;

	CHECK_STR(located("/default/c1", &err), "/default/c1");
	CHECK_STR(located("kubepods/pod1", &err), "/kubepods/pod1");
	CHECK_STR(located("", &err), "/bulkhead/c1");
}

TEST(systemd_names)
{
	struct error err = ERROR_INIT;

	CHECK_STR(located("system.slice:docker:abc", &err), "/system.slice/docker-abc.scope");
	CHECK_STR(located("kubepods-burstable-pod1.slice:cri-containerd:abc", &err),
		"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/"
		"cri-containerd-abc.scope");
	CHECK_STR(located("-.slice:p:n", &err), "/p-n.scope");
	CHECK_STR(located("user.slice::n", &err), "/user.slice/n.scope");
}

TEST(paths_that_are_refused)
{
	static const char *const bad[] = { "/", "/a/../b", "/..", "//x", "/a//b", "../x", "/a\nb",
		"slice:x", "noslice:x:y", "a.slice:b:c:d", ".slice/..:b:c" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct error err = ERROR_INIT;

		if (located(bad[i], &err))
			test_fail(__FILE__, __LINE__, "'%s' was taken", bad[i]);
		CHECK_CONTAINS(err.msg, "cgroupsPath");
	}
}

TEST(list_survives_format_and_parse)
{
	static struct cgroups a = { .n = 2, .dir = { "/sys/fs/cgroup/x", "/sys/y" } }, b;
	struct error err = ERROR_INIT;
	char *text = cgroup_format(&a);

	CHECK_INT(cgroup_parse(&b, text, &err), 0);
	CHECK_INT(b.n, 2);
	CHECK_STR(b.dir[1], "/sys/y");
	CHECK(cgroup_parse(&b, "no slash\n", &err) < 0);
	CHECK(cgroup_parse(&b, "/no newline", &err) < 0);
	free(text);
}

TEST(life_of_a_sandbox_cgroup)
{
	static struct cgroups c;
	struct error err = ERROR_INIT;
	struct stat st;
	char path[64];
	int status;
	pid_t pid;

	if (geteuid() != 0)
		test_skip("only root makes cgroups");
	snprintf(path, sizeof(path), "/bulkhead-test-%d", getpid());
	CHECK_INT(cgroup_locate(&c, path, "c1", &err), 0);
	if (c.n == 0)
		test_skip("no cgroup hierarchy is mounted");
	CHECK_INT(cgroup_create(&c, &err), 0);
	CHECK(cgroup_is_empty(&c));

	pid = fork();
	if (pid == 0) {
		if (cgroup_join(&c, &err) < 0 || cgroup_join_vm(&c, &err) < 0)
			_exit(1);
		kill(getpid(), SIGSTOP);
		_exit(2);
	}
	CHECK_INT(waitpid(pid, &status, WUNTRACED), pid);
	CHECK(WIFSTOPPED(status));
	CHECK(!cgroup_is_empty(&c));
	if (c.v2)
		CHECK_INT(cgroup_kill(&c, "vm", &err), 0);
	else
		kill(pid, SIGKILL);
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(WTERMSIG(status), SIGKILL);
	CHECK(cgroup_is_empty(&c));
	cgroup_remove(&c);
	for (unsigned i = 0; i < c.n; i++)
		CHECK(stat(c.dir[i], &st) < 0);
}

/* The kernel's own, of v2 and of v1; then what is not. */
TEST(the_count_of_oom_kills)
{
	static const struct {
		const char *text;
		bool good;
		uint64_t count;
	} cases[] = {
		{ "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 7\n", true, 2 },
		{ "oom_kill_disable 0\nunder_oom 1\noom_kill 1\n", true, 1 },
		{ "oom_kill 18446744073709551615\n", true, UINT64_MAX },
		{ "oom_kill_disable 1\nunder_oom 0\n", false, 0 }, /* Linux before 4.13 */
		{ "low 0\noom 3\noom_group_kill 7\n", false, 0 },
		{ "", false, 0 },
		{ "oom_kill", false, 0 },
		{ "oom_kill \n", false, 0 },
		{ "oom_kill 1", false, 0 }, /* cut short */
		{ "oom_kill -1\n", false, 0 },
		{ "oom_kill +1\n", false, 0 },
		{ "oom_kill  1\n", false, 0 },
		{ "oom_kill 1x\n", false, 0 },
		{ "oom_kill 0x1\n", false, 0 },
		{ "oom_kill 18446744073709551616\n", false, 0 },
		{ "oom_kill\t1\n", false, 0 },
		{ " oom_kill 1\n", false, 0 },
		{ "no oom_kill 1\n", false, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t count = 99;

		if (cgroup_parse_oom_kills(cases[i].text, &count) != cases[i].good)
			test_fail(__FILE__, __LINE__, "case %zu: %s", i, cases[i].text);
		CHECK(count == (cases[i].good ? cases[i].count : 99));
	}
}

TEST(a_sandbox_cgroup_counts_oom_kills)
{
	static struct cgroups c;
	struct error err = ERROR_INIT;
	uint64_t count = 99;
	char path[64];
	int fd;

	if (geteuid() != 0)
		test_skip("only root makes cgroups");
	snprintf(path, sizeof(path), "/bulkhead-test-%d", getpid());
	CHECK_INT(cgroup_locate(&c, path, "c1", &err), 0);
	CHECK_INT(cgroup_create(&c, &err), 0);
	fd = cgroup_open_oom_kills(&c);
	if (fd < 0) {
		cgroup_remove(&c);
		test_skip("no hierarchy has the memory controller");
	}
	/* Twice: each time the kernel's word of that moment. */
	for (int i = 0; i < 2; i++, count = 99) {
		CHECK(cgroup_oom_kills(fd, &count));
		CHECK(count == 0);
	}
	cgroup_remove(&c);
	CHECK(!cgroup_oom_kills(fd, &count)); /* it is gone */
	close(fd);
	CHECK_INT(cgroup_open_oom_kills(&(struct cgroups){ .n = 0 }), -1);
}
