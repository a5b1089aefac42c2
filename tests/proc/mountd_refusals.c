/* The real bulkhead-mountd: what it must refuse, who swaps names under it, and who never answers. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/proc/mountd_world.h"

TEST_PATIENCE(race_is_long() ? 1800 : TEST_TIMEOUT_S)

/* Options of a bind that is in order. */
static const char *const rw[] = { "rw", NULL };

/* ----------------------------------------------------------------------- refusals */

TEST(refused_roots)
{
	static const struct {
		const char *type, *source, *option;
		int code;
		const char *says;
	} cases[] = {
		{ "bind", "/mnt/secret", "rw", EPERM, "source '/mnt/secret' is beneath none of" },
		{ "bind", "/mnt/snap/../secret", "rw", EINVAL, "without '.', '..' and '//'" },
		{ "bind", "mnt/snap/1", "rw", EINVAL, "is not an absolute path" },
		{ "bind", "/mnt/snap", "rw", EPERM, "beneath none of" },
		{ "bind", "/mnt/snapshot", "rw", EPERM, "beneath none of" },
		{ "bind", "/mnt/share/c0", "rw", EPERM, "beneath none of" },
		{ "bind", "/mnt/none/x", "rw", ENOENT,
			"did not exist when the sandbox was started" },
		{ "bind", "/mnt/snap/9", "rw", ENOENT, "source '/mnt/snap/9' does not exist" },
		{ "bind", "/mnt/snap/1/fs/l1", "rw", ENOTDIR, "is not a directory" },
		{ "bind", "/mnt/snap/link", "rw", ELOOP, "symbolic link" },
		{ "bind", "/mnt/snap/link/marker", "rw", ELOOP, "symbolic link" },
		{ "bind", "/mnt/snap/1/fs", "suid", EINVAL, "option 'suid' is not supported" },
		{ "bind", "/mnt/snap/1/fs", "dev", EINVAL, "option 'dev' is not supported" },
		/* What is the host's, by every name it has. */
		{ "bind", "/", "rw", EINVAL, "is not an absolute path" },
		{ "bind", "/etc", "rw", EPERM, "beneath none of" },
		{ "bind", "/proc/1/root", "rw", EPERM, "beneath none of" },
		{ "bind", "/proc/self/fd/5", "rw", EPERM, "beneath none of" },
		{ "bind", "..", "rw", EINVAL, "is not an absolute path" },
		{ "bind", "/mnt/share", "rw", EPERM, "beneath none of" },
		{ "bind", "/mnt/snap/proc/self/root", "rw", ELOOP, "symbolic link" },
		{ "bind", "/mnt/snap/proc/self/cwd/secret", "rw", ELOOP, "symbolic link" },
		{ "bind", "/mnt/snap/proc/1/fd/0", "rw", ELOOP, "symbolic link" },
		{ "ext4", "/dev/vda", "ro", EPERM, "source '/dev/vda' is beneath none" },
		{ "btrfs", "/dev/vda", "ro", EOPNOTSUPP, "type 'btrfs' is not supported" },
		{ "nfs", "10.0.0.1:/", "rw", EOPNOTSUPP, "type 'nfs' is not supported" },
		{ "fuse.x", "x", "rw", EOPNOTSUPP, "type 'fuse.x' is not supported" },
		{ "cgroup2", "none", "rw", EOPNOTSUPP, "type 'cgroup2' is not supported" },
		{ "proc", "proc", "rw", EOPNOTSUPP, "type 'proc' is not supported" },
		{ "tmpfs", "tmpfs", "rw", EOPNOTSUPP, "type 'tmpfs' is not supported" },
		{ "overlay", "overlay", "lowerdir=/etc", EPERM, "lowerdir '/etc' is beneath none" },
		{ "overlay", "overlay", "lowerdir=/mnt/snap/9", ENOENT, "does not exist" },
		{ "overlay", "overlay", "userxattr", EINVAL, "'userxattr' is not supported" },
		{ "overlay", "overlay", "redirect_dir=on", EINVAL, "'redirect_dir" },
		{ "overlay", "overlay", "metacopy=on", EINVAL, "'metacopy" },
		{ "overlay", "overlay", "suid", EINVAL, "'suid' is not supported" },
		{ "overlay", "overlay", "upperdir=/mnt/snap/1/fs", EINVAL, "no lowerdir" },
	};
	struct rig r = world_up(1);

	CHECK_INT(symlink("/mnt/secret", "/mnt/snap/link"), 0);
	make_dir("/mnt/snap/proc"); /* somebody may have it beneath a prefix */
	CHECK_INT(mount("proc", "/mnt/snap/proc", "proc", 0, NULL), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *options[] = { cases[i].option, NULL };
		struct error err = ERROR_INIT;
		int code = add(&r, 0, "", cases[i].type, cases[i].source, options, &err);

		if (code != cases[i].code || !strstr(err.msg, cases[i].says))
			test_fail(__FILE__, __LINE__, "%s %s %s: %d, %s", cases[i].type,
				cases[i].source, cases[i].option, code, err.msg);
		CHECK_CONTAINS(err.msg, "rootfs mount of type");
		CHECK_INT(access(in_m(&r, "/mnt/share/c0"), F_OK), -1);
	}
	/* And it still works. */
	CHECK_OK(add(&r, 0, "", "bind", "/mnt/snap/1/fs", rw, err));
	CHECK_REFUSED(add(&r, 0, "", "bind", "/mnt/snap/1/fs", rw, err), EEXIST,
		"index 0 was used before");
	rig_close(&r);
}

TEST(refused_upperdirs)
{
	static const struct {
		const char *upper, *work;
		int code;
		const char *says;
	} cases[] = {
		{ "upperdir=/mnt/secret", "workdir=/mnt/work", EPERM, "beneath none of" },
		{ "upperdir=/mnt/snap/2/fs", "workdir=/mnt/snap/1/work", EINVAL,
			"not in the same directory" },
		{ "upperdir=/mnt/snap/2/../2/fs", "workdir=/mnt/snap/2/work", EINVAL,
			"without '.'" },
		{ "upperdir=fs", "workdir=work", EINVAL, "absolute" },
		{ "upperdir=/mnt/snap/2/link", "workdir=/mnt/snap/2/work", ELOOP, "upperdir" },
		{ "upperdir=/mnt/snap/2/fs", "workdir=/mnt/snap/2/link", ELOOP, "workdir" },
		{ "upperdir=/mnt/snap/2/fs", "workdir=/mnt/snap/2/none", ENOENT, "workdir" },
		{ "upperdir=/mnt/snap/2/fs", "workdir=/mnt/snap/2/fs", EINVAL, "overlay" },
	};
	struct rig r = world_up(2);

	CHECK_INT(symlink("/mnt/secret", "/mnt/snap/2/link"), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		const char *options[] = { cases[i].upper, cases[i].work, "lowerdir=/mnt/snap/1/fs",
			NULL };
		struct error err = ERROR_INIT;
		int code = add(&r, 0, "", "overlay", "overlay", options, &err);

		if (code != cases[i].code || !strstr(err.msg, cases[i].says))
			test_fail(__FILE__, __LINE__, "%s %s: %d, %s", cases[i].upper,
				cases[i].work, code, err.msg);
		CHECK_INT(access(in_m(&r, "/mnt/share/c0"), F_OK), -1);
	}
	CHECK(!strstr(text_of_file("/proc/%d/mountinfo", r.role.pid), "/snap/"));
	rig_close(&r);
}

TEST(second_container)
{
	struct rig r = world_up(2);

	make_bundle("second", SANDBOX, "\"path\":\"rootfs\"");
	CHECK_OK(add(&r, 0, "", "bind", "/mnt/snap/1/fs", rw, err));
	CHECK_OK(add(&r, 1, "second", "bind", "/mnt/snap/2/fs", rw, err));
	CHECK_REFUSED(add(&r, 2, "third", "bind", "/mnt/snap/2/fs", rw, err), ENOENT,
		"open bundle 'third'");
	CHECK_INT(symlink("/mnt/bundles/second", "/mnt/bundles/link"), 0);
	CHECK_REFUSED(add(&r, 2, "link", "bind", "/mnt/snap/2/fs", rw, err), ELOOP, "link");
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c1/rootfs/l2")), "layer 2");
	rig_close(&r);
}

/* Writes the bundle `other`, of this sandbox and root's, as it would be if nothing were wrong. */
static void bundle_of_ours(void) { make_bundle("other", SANDBOX, "\"path\":\"rootfs\""); }

static void bundle_of_another(void) { make_bundle("other", "sandbox-2", "\"path\":\"rootfs\""); }

static void bundle_of_nobody(void)
{
	make_bundle("other", SANDBOX, "\"path\":\"rootfs\"");
	make_file("/mnt/bundles/other/config.json", "{\"root\":{\"path\":\"rootfs\"}}");
}

static void bundle_of_a_user(void)
{
	bundle_of_ours();
	CHECK_INT(chown("/mnt/bundles/other/config.json", 1000, 0), 0);
}

TEST(a_frontend_that_names_others_bundles_is_lost)
{
	static const struct {
		const char *named;
		void (*make)(void);
		const char *says;
	} cases[] = {
		{ "other", bundle_of_another, "belongs to sandbox 'sandbox-2'" },
		{ "other", bundle_of_nobody, "belongs to sandbox ''" },
		{ "other", bundle_of_a_user, "can be written by others than root" },
		{ "../bundles/first", bundle_of_ours, "is not a name" },
		{ "..", bundle_of_ours, "is not a name" },
		{ "/mnt/bundles/first", bundle_of_ours, "is not a name" },
	};

	world_make();
	make_snapshots(1);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct rig r;
		int status;

		cases[i].make();
		r = rig_up();
		CHECK_REFUSED(add(&r, 0, cases[i].named, "bind", "/mnt/snap/1/fs", rw, err),
			EPROTO, cases[i].says);
		status = role_ends(&r.role, 5000);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 70);
		rig_close(&r);
		CHECK_INT(chown("/mnt/bundles/other/config.json", 0, 0), 0);
	}
}

/* json-c makes hundreds of bytes of "{},": the worker's memory is limited, mountd does not notice.
 */
TEST(a_config_json_that_explodes)
{
#ifdef __SANITIZE_ADDRESS__
	test_skip("AddressSanitizer needs more memory than the limit");
#else
	static const char *const more[] = { "timeout_ms=6000", NULL };
	static char text[(4 << 20) - 1];
	struct rig r;
	struct error why = ERROR_INIT;

	world_make();
	make_snapshots(1);
	r = rig_start(more);
	role_lock(&r.role);
	memset(text, ' ', sizeof(text) - 1);
	text[0] = '[';
	for (size_t i = 1; i + 4 < sizeof(text); i += 3)
		memcpy(text + i, "{},", 3);
	make_file("/mnt/bundles/first/config.json", text);
	CHECK(add(&r, 0, "", "bind", "/mnt/snap/1/fs", rw, &why) != 0);
	make_bundle("first", SANDBOX, "\"path\":\"rootfs\"");
	CHECK_OK(add(&r, 0, "", "bind", "/mnt/snap/1/fs", rw, err));
	rig_close(&r);
#endif
}

TEST(agentd_gone)
{
	struct rig r = world_up(1);
	struct error err = ERROR_INIT;
	int status;

	fd_close(&r.agentd);
	CHECK_INT(add(&r, 0, "", "bind", "/mnt/snap/1/fs", rw, &err), EPIPE);
	status = role_ends(&r.role, 5000);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 70);
	rig_close(&r);
}

/* ------------------------------------------------------------------------- races */

TEST(symbolic_links_swapped_under_a_bind)
{
	struct rig r = world_up(1);
	unsigned mounted = 0, refused = 0, i;
	pid_t pid;

	CHECK_INT(symlink("/mnt/secret", "/mnt/snap/1/link"), 0);
	pid = swapper("/mnt/snap/1/fs", "/mnt/snap/1/link");
	for
		RACE(i, 2000)
		{
			struct error why = ERROR_INIT;

			if (add(&r, i, "", "bind", "/mnt/snap/1/fs", rw, &why) != 0) {
				CHECK_INT(why.code, ELOOP);
				refused++;
				continue;
			}
			CHECK_INT(access(in_m(&r, "/mnt/share/c%u/rootfs/marker", i), F_OK), -1);
			CHECK_INT(access(in_m(&r, "/mnt/share/c%u/rootfs/l1", i), F_OK), 0);
			CHECK_OK(del(&r, i, err));
			mounted++;
		}
	stop(pid);
	printf("         %u mounted, %u refused\n", mounted, refused);
	CHECK(mounted > 0 && refused > 0);
	rig_close(&r);
}

/* On the way there: /mnt/secret has all that the snapshot has, so that only the way tells them apart. */
TEST(symbolic_links_swapped_on_the_way)
{
	struct rig r = world_up(1);
	unsigned mounted = 0, refused = 0, i;
	pid_t pid;

	make_dir("/mnt/secret/fs");
	make_file("/mnt/secret/fs/marker", "secret");
	CHECK_INT(symlink("/mnt/secret", "/mnt/snap/link"), 0);
	pid = swapper("/mnt/snap/1", "/mnt/snap/link");
	for
		RACE(i, 2000)
		{
			struct error why = ERROR_INIT;

			if (add(&r, i, "", "bind", "/mnt/snap/1/fs", rw, &why) != 0) {
				CHECK_INT(why.code, ELOOP);
				refused++;
				continue;
			}
			CHECK_INT(access(in_m(&r, "/mnt/share/c%u/rootfs/marker", i), F_OK), -1);
			CHECK_INT(access(in_m(&r, "/mnt/share/c%u/rootfs/l1", i), F_OK), 0);
			CHECK_OK(del(&r, i, err));
			mounted++;
		}
	stop(pid);
	printf("         %u mounted, %u refused\n", mounted, refused);
	CHECK(mounted > 0 && refused > 0);
	rig_close(&r);
}

TEST(symbolic_links_swapped_under_an_upperdir)
{
	static const unsigned below[] = { 1, 0 };
	struct rig r = world_up(2);
	unsigned mounted = 0, refused = 0, i;
	pid_t pid;

	CHECK_INT(symlink("/mnt/secret", "/mnt/snap/2/link"), 0);
	pid = swapper("/mnt/snap/2/fs", "/mnt/snap/2/link");
	for
		RACE(i, 1500)
		{
			struct error why = ERROR_INIT;

			if (add_overlay(&r, i, 2, below, &why) != 0) {
				CHECK_INT(why.code, ELOOP);
				refused++;
				continue;
			}
			CHECK_INT(access(in_m(&r, "/mnt/share/c%u/rootfs/marker", i), F_OK), -1);
			CHECK_INT(access(in_m(&r, "/mnt/share/c%u/rootfs/l2", i), F_OK), 0);
			CHECK_OK(del(&r, i, err));
			mounted++;
		}
	stop(pid);
	printf("         %u mounted, %u refused\n", mounted, refused);
	CHECK(mounted > 0 && refused > 0);
	rig_close(&r);
}

/* ------------------------------------------------------- file systems that hang */

/* A FUSE file system whose server never answers: what an NFS server that is gone looks like. */
static int mount_hanging(const char *path)
{
	char options[128];
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		test_skip("no /dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=040000,user_id=0,group_id=0", fd);
	if (mount("hanging", path, "fuse.hanging", 0, options) < 0)
		test_skip("cannot mount FUSE");
	return fd;
}

TEST(a_file_system_that_hangs_holds_nobody)
{
	static const char *const more[] = { "timeout_ms=400", NULL };
	int fuse;
	struct rig r;

	world_make();
	make_snapshots(3);
	make_dir("/mnt/snap/hang");
	make_dir("/mnt/stdio/hang");
	fuse = mount_hanging("/mnt/snap/hang");
	CHECK_INT(mount("/mnt/snap/hang", "/mnt/stdio/hang", NULL, MS_BIND, NULL), 0);
	r = rig_start(more);
	role_lock(&r.role);
	for (unsigned i = 0; i < 6; i++)
		CHECK_REFUSED(add(&r, i, "", "bind", "/mnt/snap/hang/x", rw, err), ETIMEDOUT,
			"did not end within 400 ms");
	CHECK_REFUSED(ask_stdio(&r, 1, "", "/mnt/stdio/hang/x", "", err), ETIMEDOUT,
		"a file system it needs does not answer");
	CHECK_OK(add_overlay(&r, 9, 3, two_layers, err));
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c9/rootfs/l1")), "layer 1");
	CHECK(!strstr(text_of_file("/proc/%d/task/%d/children", r.role.pid, r.role.pid), " "));
	rig_close(&r);
	close(fuse);
}

/* Hangs after two layers are bound: nothing of it may stay. */
TEST(what_a_killed_worker_mounted_is_undone)
{
	static const char *const more[] = { "timeout_ms=400", NULL };
	static const char *const options[] = {
		"lowerdir=/mnt/snap/2/fs:/mnt/snap/1/fs:/mnt/snap/hang/fs", NULL
	};
	int fuse;
	struct rig r;

	world_make();
	make_snapshots(2);
	make_dir("/mnt/snap/hang");
	fuse = mount_hanging("/mnt/snap/hang");
	r = rig_start(more);
	role_lock(&r.role);
	CHECK_REFUSED(add(&r, 0, "", "overlay", "overlay", options, err), ETIMEDOUT,
		"mounting the rootfs did not end");
	CHECK(!strstr(text_of_file("/proc/%d/mountinfo", r.role.pid), "/snap/2"));
	CHECK(!strstr(text_of_file("/proc/%d/mountinfo", r.role.pid), "/snap/1"));
	CHECK_INT(access(in_m(&r, "/mnt/share/c0"), F_OK), -1);
	rig_close(&r);
	close(fuse);
}

/* ------------------------------------------- names that are not what they were */

/* The first container's config.json is that of the directory which was opened when mountd started,
 * and its root no other's. */
TEST(a_bundle_replaced_before_it_is_read)
{
	struct rig r = world_up(1);

	CHECK_INT(rename("/mnt/bundles/first", "/mnt/bundles/moved"), 0);
	make_bundle("first", "sandbox-2", "\"path\":\"/mnt/secret\"");
	make_file("/mnt/bundles/first/rootfs/evil", "evil");
	CHECK_INT(mount("/mnt/snap/1/fs", "/mnt/bundles/moved/rootfs", NULL, MS_BIND, NULL), 0);
	CHECK_REFUSED(add(&r, 0, "", NULL, NULL, NULL, err), ESTALE, "the bundle was replaced");
	CHECK_INT(access(in_m(&r, "/mnt/share/c0"), F_OK), -1);
	CHECK_INT(rename("/mnt/bundles/first", "/mnt/bundles/evil"), 0);
	CHECK_INT(rename("/mnt/bundles/moved", "/mnt/bundles/first"), 0);
	CHECK_OK(add(&r, 0, "", NULL, NULL, NULL, err));
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/rootfs/l1")), "layer 1");
	rig_close(&r);
}

/* In mountd's mount namespace, where nobody but mountd can be: what the worst guest could hope for. */
static void in_mountds(const struct rig *r, void (*evil)(void))
{
	int ns = (int)syscall(SYS_pidfd_open, r->role.pid, 0), status;
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK_INT(setns(ns, CLONE_NEWNS), 0);
		evil();
		_exit(0);
	}
	close(ns);
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
}

static void stack_a_mount(void)
{
	CHECK_INT(mount("/mnt/secret", "/mnt/share/c0/rootfs", NULL, MS_BIND, NULL), 0);
}

static void put_links(void)
{
	/* The mount is gone from under its name, which leads to one that is not the container's. */
	CHECK_INT(umount2("/mnt/share/c1/rootfs", MNT_DETACH), 0);
	CHECK_INT(rmdir("/mnt/share/c1/rootfs"), 0);
	CHECK_INT(symlink("/mnt/snap/mounted", "/mnt/share/c1/rootfs"), 0);
	CHECK_INT(umount2("/mnt/share/c2/rootfs", MNT_DETACH), 0);
	CHECK_INT(rmdir("/mnt/share/c2/rootfs"), 0);
	CHECK_INT(rmdir("/mnt/share/c2"), 0);
	CHECK_INT(symlink("/mnt/snap/other", "/mnt/share/c2"), 0);
}

TEST(what_is_unmounted_is_the_containers_alone)
{
	struct rig r;
	struct error ignored = ERROR_INIT;

	world_make();
	make_snapshots(3);
	make_dir("/mnt/snap/mounted");
	make_dir("/mnt/snap/other/rootfs");
	CHECK_INT(mount("a", "/mnt/snap/mounted", "tmpfs", 0, NULL), 0);
	CHECK_INT(mount("b", "/mnt/snap/other/rootfs", "tmpfs", 0, NULL), 0);
	r = rig_up();
	for (unsigned i = 0; i < 3; i++) {
		char source[32];

		snprintf(source, sizeof(source), "/mnt/snap/%u/fs", i + 1);
		CHECK_OK(add(&r, i, "", "bind", source, rw, err));
	}
	in_mountds(&r, stack_a_mount);
	in_mountds(&r, put_links);
	for (unsigned i = 0; i < 3; i++)
		(void)del(&r, i, &ignored); /* an error or not: nobody else's */
	CHECK_CONTAINS(text_of_file("/proc/%d/mountinfo", r.role.pid), "/mnt/snap/mounted");
	CHECK_CONTAINS(text_of_file("/proc/%d/mountinfo", r.role.pid), "/mnt/snap/other/rootfs");
	CHECK_CONTAINS(text_of_file("/proc/self/mountinfo"), "/mnt/snap/mounted");
	CHECK_INT(access("/mnt/snap/other/rootfs", F_OK), 0);
	CHECK_INT(access("/mnt/secret/marker", F_OK), 0);
	CHECK_INT(access("/mnt/snap/1/fs/l1", F_OK), 0);
	rig_close(&r);
}
