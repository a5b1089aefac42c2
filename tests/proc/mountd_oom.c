/* The real bulkhead-mountd: the file `oom` in a bundle, and what it must not become. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/proc/mountd_world.h"

static const char *const rw[] = { "rw", NULL };

#define FIRST  "/mnt/bundles/first"
#define SECOND "/mnt/bundles/second"

static int mark(struct rig *r, uint32_t index, struct error *err)
{
	Ipc__MountdMarkOom req = IPC__MOUNTD_MARK_OOM__INIT;

	req.index = index;
	return role_ask(&r->role, &ipc_frontend_mountd, MOUNTD_MARK_OOM, &req.base, err);
}

/* Two containers. Nothing is marked by being there. */
static struct rig pod_up(void)
{
	struct rig r = world_up(2);

	make_bundle("second", SANDBOX, "\"path\":\"rootfs\"");
	CHECK_OK(add(&r, 0, "", "bind", "/mnt/snap/1/fs", rw, err));
	CHECK_OK(add(&r, 1, "second", "bind", "/mnt/snap/2/fs", rw, err));
	CHECK_INT(access(FIRST "/oom", F_OK), -1);
	CHECK_INT(access(SECOND "/oom", F_OK), -1);
	return r;
}

static void check_mark(const char *path)
{
	struct stat st;

	CHECK_INT(lstat(path, &st), 0);
	CHECK(S_ISREG(st.st_mode) && st.st_size == 0 && st.st_uid == 0 && st.st_gid == 0);
	CHECK_INT(st.st_mode & 07777, 0600);
}

static int n_fds(const struct rig *r)
{
	char path[64];
	DIR *dir;
	int n = 0;

	snprintf(path, sizeof(path), "/proc/%d/fd", r->role.pid);
	dir = opendir(path);
	CHECK(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

TEST(each_container_has_its_own_mark)
{
	struct rig r = pod_up();
	int fds = n_fds(&r);

	CHECK_OK(mark(&r, 1, err));
	check_mark(SECOND "/oom");
	CHECK_INT(access(FIRST "/oom", F_OK), -1);
	CHECK_OK(mark(&r, 0, err));
	check_mark(FIRST "/oom");
	CHECK_OK(mark(&r, 0, err)); /* once more is no error */
	CHECK_INT(n_fds(&r), fds);
	rig_close(&r);
}

TEST(no_such_container)
{
	struct rig r = pod_up();

	CHECK_REFUSED(mark(&r, 2, err), ENOENT, "there is no container 2");
	CHECK_REFUSED(mark(&r, UINT32_MAX, err), ENOENT, "there is no container");
	CHECK_OK(del(&r, 1, err));
	CHECK_REFUSED(mark(&r, 1, err), ENOENT, "there is no container 1");
	CHECK_INT(access(SECOND "/oom", F_OK), -1);
	/* One that could not be added has none either. */
	CHECK(add(&r, 3, "second", "bind", "/mnt/snap/9/fs", rw, &(struct error)ERROR_INIT) != 0);
	CHECK_REFUSED(mark(&r, 3, err), ENOENT, "there is no container 3");
	CHECK_OK(mark(&r, 0, err));
	rig_close(&r);
}

/* Whatever has the name is left as it is. */
TEST(a_name_that_is_taken)
{
	struct rig r = pod_up();
	struct stat st;

	CHECK_INT(symlink("/mnt/secret/oom", FIRST "/oom"), 0);
	CHECK_OK(mark(&r, 0, err));
	CHECK_INT(access("/mnt/secret/oom", F_OK), -1);
	CHECK(lstat(FIRST "/oom", &st) == 0 && S_ISLNK(st.st_mode));
	CHECK_INT(unlink(FIRST "/oom"), 0);
	CHECK_INT(symlink("/mnt/secret/marker", FIRST "/oom"), 0);
	CHECK_OK(mark(&r, 0, err));
	CHECK_STR(text_of_file("/mnt/secret/marker"), "secret");
	make_file(SECOND "/oom", "somebody's");
	CHECK_OK(mark(&r, 1, err));
	CHECK_STR(text_of_file(SECOND "/oom"), "somebody's");
	rig_close(&r);
}

TEST(a_bundle_that_is_another_now)
{
	struct rig r = pod_up();

	CHECK_INT(rename(SECOND, "/mnt/bundles/moved"), 0);
	CHECK_REFUSED(mark(&r, 1, err), ENOENT, "open bundle 'second'");
	make_dir(SECOND);
	CHECK_REFUSED(mark(&r, 1, err), ESTALE, "bundle 'second' was replaced");
	CHECK_INT(rmdir(SECOND), 0);
	CHECK_INT(symlink("/mnt/bundles/moved", SECOND), 0);
	CHECK_REFUSED(mark(&r, 1, err), ELOOP, "open bundle 'second'");
	CHECK_INT(access("/mnt/bundles/moved/oom", F_OK), -1);
	CHECK_INT(unlink(SECOND), 0);
	CHECK_INT(rename("/mnt/bundles/moved", SECOND), 0);

	CHECK_INT(chown(SECOND, 1000, 0), 0);
	CHECK_REFUSED(mark(&r, 1, err), EPERM, "can be written by others than root");
	CHECK_INT(chown(SECOND, 0, 1000), 0);
	CHECK_INT(chmod(SECOND, 0770), 0);
	CHECK_REFUSED(mark(&r, 1, err), EPERM, "can be written by others than root");
	CHECK_INT(chmod(SECOND, 0710), 0); /* containerd's, where the container has users of its own */
	CHECK_OK(mark(&r, 1, err));
	rig_close(&r);
}

TEST(a_bundle_that_cannot_be_written)
{
	struct rig r;

	world_make();
	make_snapshot(1);
	CHECK_INT(mount(FIRST, FIRST, NULL, MS_BIND, NULL), 0);
	CHECK_INT(mount(NULL, FIRST, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY, NULL), 0);
	r = rig_up();
	CHECK_OK(add(&r, 0, "", "bind", "/mnt/snap/1/fs", rw, err));
	CHECK_REFUSED(mark(&r, 0, err), EROFS, "make 'oom' in bundle 'first'");
	CHECK_OK(del(&r, 0, err)); /* and it goes on */
	rig_close(&r);
}
