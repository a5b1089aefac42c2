/* The real bulkhead-mountd: directories and files of the host in a container. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "tests/proc/mountd_world.h"

static const char *const rw[] = { "rw", NULL };

/* mountd with a container whose config.json has these mounts, asked to add it. */
static int add_with(struct rig *r, unsigned index, const char *mounts, struct error *err)
{
	char text[4096];

	snprintf(text, sizeof(text), "{\"root\":{\"path\":\"rootfs\"},\"mounts\":[%s]}", mounts);
	make_file("/mnt/bundles/first/config.json", text);
	return add(r, index, "", "bind", "/mnt/snap/1/fs", rw, err);
}

#define BIND(to, from, options) \
	"{\"destination\":\"" to "\",\"type\":\"bind\",\"source\":\"" from "\",\"options\":[" options "]}"

static struct rig volumes_up(void)
{
	struct rig r = world_up(1);

	make_dir("/mnt/data/inner");
	make_file("/mnt/data/file", "data");
	CHECK_INT(mount("inner", "/mnt/data/inner", "tmpfs", 0, NULL), 0);
	make_file("/mnt/data/inner/deep", "deep");
	CHECK_INT(symlink("data", "/mnt/link"), 0);
	return r;
}

TEST(volumes_lie_beside_the_rootfs)
{
	struct rig r = volumes_up();
	int fd;

	CHECK_OK(add_with(&r, 0,
		"{\"destination\":\"/proc\",\"type\":\"proc\"}," BIND("/dev/shm", "/no/such", "\"rbind\"") ","
		BIND("/a", "/mnt/data", "\"rbind\"") "," BIND("/b", "/mnt/link", "\"bind\"") ","
		BIND("/c", "/mnt/data/file", "\"rbind\"") ","
		"{\"destination\":\"/d\",\"source\":\"/mnt/data\",\"options\":[\"rbind\",\"ro\",\"rw\",\"rro\"]}",
		err));
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/v0/file")), "data");
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/v0/inner/deep")), "deep");
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/v1/file")), "data");
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/v1/inner/deep"), F_OK), -1);
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/v2")), "data");
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/v3/inner/deep")), "deep");
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/v4"), F_OK), -1);
	/* whatever the guest does: for this kernel it is read-only, all the way down */
	CHECK_INT(open(in_m(&r, "/mnt/share/c0/v3/inner/deep"), O_WRONLY | O_CLOEXEC), -1);
	CHECK_INT(errno, EROFS);
	fd = open(in_m(&r, "/mnt/share/c0/v2"), O_WRONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	close(fd);
	CHECK_OK(del(&r, 0, err));
	CHECK_INT(access(in_m(&r, "/mnt/share/c0"), F_OK), -1);
	CHECK_INT(umount("/mnt/data/inner"), 0);
	rig_close(&r);
}

TEST(a_volume_that_cannot_be_leaves_nothing)
{
	static const struct {
		const char *mount;
		int code;
		const char *says;
	} cases[] = {
		{ BIND("/x", "/no/such", "\"bind\""), ENOENT, "volume /x: its source '/no/such'" },
		{ BIND("/x", "relative", "\"bind\""), EINVAL, "volume /x: its source is not an absolute path" },
		{ "{\"destination\":\"/x\",\"type\":\"bind\"}", EINVAL, "volume /x: its source is not" },
		{ BIND("/x", "/dev/null", "\"bind\""), EOPNOTSUPP, "neither a directory, nor a regular file, nor a block device" },
		{ BIND("/x", "/proc/self/fd/0", "\"bind\""), ELOOP, "volume /x: its source" },
		{ BIND("/x", "/proc/sys", "\"bind\""), EPERM, "'/proc/sys' is a file system of the host's kernel (proc)" },
		{ BIND("/x", "/proc/sys/kernel/core_pattern", "\"bind\""), EPERM, "of the host's kernel (proc)" },
		{ BIND("/x", "/", "\"rbind\""), EPERM, "is a file system of the host's kernel (" },
		{ BIND("/x", "/mnt/with blank", "\"rbind\""), EPERM, "'/mnt/with blank/in it' is a file system of" },
	};
	struct rig r = volumes_up();

	make_dir("/mnt/with blank/in it");
	CHECK_INT(mount("proc", "/mnt/with blank/in it", "proc", 0, NULL), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		char mounts[1024];

		snprintf(mounts, sizeof(mounts), "%s,%s", BIND("/good", "/mnt/data", "\"bind\""), cases[i].mount);
		CHECK_REFUSED(add_with(&r, i, mounts, err), cases[i].code, cases[i].says);
		CHECK_INT(access(in_m(&r, "/mnt/share/c%u", i), F_OK), -1);
	}
	/* without what is mounted in it, it is harmless */
	CHECK_OK(add_with(&r, 100, BIND("/x", "/mnt/with blank", "\"bind\""), err));
	CHECK_INT(umount("/mnt/with blank/in it"), 0);
	CHECK_INT(umount("/mnt/data/inner"), 0);
	rig_close(&r);
}

#define EMPTY_DIRS "/mnt/pods/kubernetes.io~empty-dir/"

/* The guest has its own of an emptyDir that the kubelet has mounted, and of nothing else. */
TEST(a_volume_in_memory_stays_out_of_the_share)
{
	struct rig r = volumes_up();
	struct stat st;

	make_dir(EMPTY_DIRS "memory");
	make_dir(EMPTY_DIRS "disk");
	make_dir("/mnt/pods/kubernetes.io~secret/memory");
	CHECK_INT(mount("m", EMPTY_DIRS "memory", "tmpfs", 0, "size=8m,mode=2770,uid=7,gid=4000"), 0);
	CHECK_INT(mount("s", "/mnt/pods/kubernetes.io~secret/memory", "tmpfs", 0, NULL), 0);
	CHECK_INT(stat(EMPTY_DIRS "memory", &st), 0);
	make_file(EMPTY_DIRS "memory/file", "the host's");
	make_dir(EMPTY_DIRS "memory/sub");
	CHECK_OK(add_with(&r, 0,
		BIND("/disk", EMPTY_DIRS "disk", "\"rbind\"") "," BIND("/memory", EMPTY_DIRS "memory", "\"rbind\"") ","
		BIND("/secret", "/mnt/pods/kubernetes.io~secret/memory", "\"rbind\""), err));
	CHECK_INT(r.n_memory, 1);
	CHECK_INT(r.memory.volume, 1);
	CHECK_INT(r.memory.id, st.st_dev);
	CHECK_INT(r.memory.size, 8 << 20);
	CHECK_INT(r.memory.mode, 02770);
	CHECK_INT(r.memory.uid, 7);
	CHECK_INT(r.memory.gid, 4000);
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/v1"), F_OK), 0);
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/v1/file"), F_OK), -1);
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/v2"), F_OK), 0);
	CHECK_OK(del(&r, 0, err));
	CHECK_INT(access(in_m(&r, "/mnt/share/c0"), F_OK), -1);
	/* a directory in one is not one */
	CHECK_OK(add_with(&r, 1, BIND("/sub", EMPTY_DIRS "memory/sub", "\"rbind\""), err));
	CHECK_INT(r.n_memory, 0);
	CHECK_REFUSED(add_with(&r, 2, BIND("/x", EMPTY_DIRS "none", "\"rbind\""), err), ENOENT, "volume /x: its source");
	CHECK_INT(access(in_m(&r, "/mnt/share/c2"), F_OK), -1);
	CHECK_INT(umount(EMPTY_DIRS "memory"), 0);
	CHECK_INT(umount("/mnt/pods/kubernetes.io~secret/memory"), 0);
	CHECK_INT(umount("/mnt/data/inner"), 0);
	rig_close(&r);
}

TEST(a_volume_of_huge_pages_stays_out_of_the_share)
{
	struct rig r = volumes_up();
	struct stat st;

	make_dir("/mnt/huge");
	make_dir("/mnt/unlimited");
	if (mount("h", "/mnt/huge", "hugetlbfs", 0, "pagesize=2M,size=64M,uid=7,gid=4000") < 0)
		test_skip("no hugetlbfs here");
	CHECK_INT(chmod("/mnt/huge", 02770), 0);
	CHECK_INT(mount("h", "/mnt/unlimited", "hugetlbfs", 0, "pagesize=2M"), 0);
	make_dir("/mnt/huge/sub");
	CHECK_INT(stat("/mnt/huge", &st), 0);
	CHECK_OK(add_with(&r, 0, BIND("/data", "/mnt/data", "\"rbind\"") "," BIND("/huge", "/mnt/huge", "\"rbind\",\"rslave\""), err));
	CHECK_INT(r.n_memory, 1);
	CHECK_INT(r.memory.volume, 1);
	CHECK_INT(r.memory.id, st.st_dev);
	CHECK_INT(r.memory.page_size, 2 << 20);
	CHECK_INT(r.memory.size, 64 << 20);
	CHECK_INT(r.memory.mode, 02770);
	CHECK_INT(r.memory.uid, 7);
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/v1"), F_OK), 0);
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/v1/sub"), F_OK), -1);
	CHECK_OK(del(&r, 0, err));
	CHECK_OK(add_with(&r, 1, BIND("/huge", "/mnt/unlimited", "\"rbind\""), err));
	CHECK_INT(r.memory.page_size, 2 << 20);
	CHECK_INT(r.memory.size, 0);
	CHECK_OK(del(&r, 1, err));
	CHECK_REFUSED(add_with(&r, 2, BIND("/sub", "/mnt/huge/sub", "\"rbind\""), err), EOPNOTSUPP,
		"volume /sub: its source '/mnt/huge/sub' lies in a hugetlbfs, of which a VM can have the whole alone");
	CHECK_INT(umount("/mnt/huge"), 0);
	CHECK_INT(umount("/mnt/unlimited"), 0);
	CHECK_INT(umount("/mnt/data/inner"), 0);
	rig_close(&r);
}

/* ---- mount propagation ---- */

#define ARRIVES_MS 2000

/* A path as virtiofsd sees it, before it is started: its slot is in its place. */
static const char *in_v(const struct started *slot, const char *path)
{
	static char text[256];

	snprintf(text, sizeof(text), "/proc/%d/root/share/%s", slot->pid, path);
	return text;
}

/* In the end the text is in the file, "" for none. */
static void comes_to_be(const char *path, const char *text)
{
	int64_t end = clock_ms() + ARRIVES_MS;

	while (strcmp(text_of_file("%s", path), text) != 0 && clock_ms() < end)
		usleep(2000);
	CHECK_STR(text_of_file("%s", path), text);
}

static void mount_tmpfs_on(const char *path, unsigned long flags)
{
	char file[256];

	CHECK_INT(mount("late", path, "tmpfs", flags, NULL), 0);
	snprintf(file, sizeof(file), "%s/x", path);
	make_file(file, "late");
}

/* Lines of a process's mountinfo with a word in them. */
static unsigned mounts_of(int pid, const char *word)
{
	char path[64], line[4096];
	unsigned n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/mountinfo", pid);
	f = fopen(path, "re");
	CHECK(f);
	while (fgets(line, sizeof(line), f))
		n += strstr(line, word) != NULL;
	fclose(f);
	return n;
}

TEST(mounts_of_the_host_arrive_and_go)
{
	struct rig r = volumes_up();
	struct started slot = slot_up(&r, rig_virtiofsd);
	unsigned at_first = mounts_of(getpid(), " "), in_mountd = mounts_of(r.role.pid, " ");
	struct statvfs st;
	int busy;

	make_dir("/mnt/data/late/deeper");
	CHECK_OK(add_with(&r, 0,
		BIND("/follows", "/mnt/data", "\"rbind\",\"rslave\"") ","
		BIND("/both-ways", "/mnt/data", "\"rbind\",\"rro\",\"rshared\"") ","
		BIND("/private", "/mnt/data", "\"rbind\",\"rslave\",\"rprivate\"") ","
		BIND("/unsaid", "/mnt/data", "\"rbind\"") ","
		BIND("/flat", "/mnt/data", "\"bind\",\"slave\"") ","
		BIND("/file", "/mnt/data/file", "\"bind\",\"slave\""), err));
	CHECK_STR(text_of_file("%s", in_v(&slot, "c0/v0/inner/deep")), "deep");
	CHECK_STR(text_of_file("%s", in_v(&slot, "c0/v4/inner/deep")), "");

	mount_tmpfs_on("/mnt/data/late", MS_NOSUID);
	comes_to_be(in_v(&slot, "c0/v0/late/x"), "late");
	comes_to_be(in_v(&slot, "c0/v1/late/x"), "late");
	comes_to_be(in_v(&slot, "c0/v4/late/x"), "late");
	CHECK_STR(text_of_file("%s", in_v(&slot, "c0/v2/late/x")), "");
	CHECK_STR(text_of_file("%s", in_v(&slot, "c0/v3/late/x")), "");
	/* With the host's flags, and no devices; read-only only where all of the volume is. */
	CHECK_INT(statvfs(in_v(&slot, "c0/v0/late"), &st), 0);
	CHECK_INT(st.f_flag & (ST_NOSUID | ST_NODEV | ST_RDONLY), ST_NOSUID | ST_NODEV);
	CHECK_INT(statvfs(in_v(&slot, "c0/v1/late"), &st), 0);
	CHECK_INT(st.f_flag & (ST_NODEV | ST_RDONLY), ST_NODEV | ST_RDONLY);

	/* One in another, and one that hides both. */
	make_dir("/mnt/data/late/deeper");
	mount_tmpfs_on("/mnt/data/late/deeper", 0);
	comes_to_be(in_v(&slot, "c0/v0/late/deeper/x"), "late");
	CHECK_INT(mount("top", "/mnt/data/late", "tmpfs", 0, NULL), 0);
	make_file("/mnt/data/late/x", "top");
	comes_to_be(in_v(&slot, "c0/v0/late/x"), "top");
	CHECK_INT(umount("/mnt/data/late"), 0);
	comes_to_be(in_v(&slot, "c0/v0/late/x"), "late");
	comes_to_be(in_v(&slot, "c0/v0/late/deeper/x"), "late");

	/* Whoever has a file of it open in the share holds the container's copy, not the host's mount. */
	busy = open(in_v(&slot, "c0/v0/late/deeper/x"), O_PATH | O_CLOEXEC);
	CHECK(busy >= 0);
	CHECK_INT(umount("/mnt/data/late/deeper"), 0);
	CHECK_INT(umount("/mnt/data/late"), 0);
	CHECK_INT(umount("/mnt/data/inner"), 0); /* it was there before the container */
	comes_to_be(in_v(&slot, "c0/v0/late/x"), "");
	comes_to_be(in_v(&slot, "c0/v0/inner/deep"), "");
	CHECK_STR(text_of_file("%s", in_v(&slot, "c0/v2/inner/deep")), "deep");
	close(busy);

	/* The end, with a mount that the host keeps and uses. */
	mount_tmpfs_on("/mnt/data/late", 0);
	comes_to_be(in_v(&slot, "c0/v0/late/x"), "late");
	busy = open("/mnt/data/late/x", O_RDONLY | O_CLOEXEC);
	CHECK_OK(del(&r, 0, err));
	CHECK_STR(text_of_file("/mnt/data/late/x"), "late");
	close(busy);
	CHECK_INT(umount("/mnt/data/late"), 0);
	CHECK_INT(mount("inner", "/mnt/data/inner", "tmpfs", 0, NULL), 0);
	CHECK_INT(mounts_of(r.role.pid, " "), in_mountd);
	CHECK_INT(mounts_of(slot.pid, "/share/"), 0);
	CHECK_INT(mounts_of(getpid(), " "), at_first);
	CHECK_INT(umount("/mnt/data/inner"), 0);
	role_close(&slot);
	rig_close(&r);
}

/* Nothing of the kernel's own, and nothing where the container has put something else meanwhile. */
TEST(not_every_mount_arrives)
{
	struct rig r = volumes_up();

	make_dir("/mnt/data/a");
	make_dir("/mnt/data/b");
	make_dir("/mnt/data/dir/c");
	make_dir("/mnt/elsewhere/c");
	CHECK_OK(add_with(&r, 0, BIND("/follows", "/mnt/data", "\"rbind\",\"rslave\""), err));
	CHECK_INT(mount("proc", "/mnt/data/a", "proc", 0, NULL), 0);
	mount_tmpfs_on("/mnt/data/b", 0);
	comes_to_be(in_m(&r, "/mnt/share/c0/v0/b/x"), "late");
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/v0/a/version"), F_OK), -1);
	CHECK_INT(mounts_of(r.role.pid, "/mnt/share/c0/v0/a"), 0);
	/* The container's own mounts reach neither the stage nor the host. */
	CHECK_INT(mounts_of(getpid(), "c0"), 0);

	CHECK_INT(umount("/mnt/data/a"), 0);
	CHECK_INT(umount("/mnt/data/b"), 0);
	comes_to_be(in_m(&r, "/mnt/share/c0/v0/b/x"), "");
	/* Seen only when it is over: by then a link of the guest's leads away from the place. */
	CHECK_INT(kill(r.role.pid, SIGSTOP), 0);
	CHECK_INT(mount("moved", "/mnt/data/dir/c", "tmpfs", 0, NULL), 0);
	CHECK_INT(rename("/mnt/data/dir", "/mnt/data/dir2"), 0);
	CHECK_INT(symlink("../elsewhere", "/mnt/data/dir"), 0);
	CHECK_INT(kill(r.role.pid, SIGCONT), 0);
	mount_tmpfs_on("/mnt/data/b", 0);
	comes_to_be(in_m(&r, "/mnt/share/c0/v0/b/x"), "late");
	CHECK_INT(mounts_of(r.role.pid, "/mnt/elsewhere"), 0);
	CHECK_OK(del(&r, 0, err));
	CHECK_INT(access(in_m(&r, "/mnt/share/c0"), F_OK), -1);
	CHECK_INT(umount("/mnt/data/b"), 0);
	CHECK_INT(umount("/mnt/data/dir2/c"), 0);
	CHECK_INT(umount("/mnt/data/inner"), 0);
	rig_close(&r);
}
