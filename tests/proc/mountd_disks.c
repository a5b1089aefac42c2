/*
 * The real bulkhead-mountd: images and block devices that become disks of the VM. In a /dev of the
 * test's own, so that what a name in there leads to can be changed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tests/proc/mountd_world.h"

TEST_PATIENCE(race_is_long() ? 1800 : TEST_TIMEOUT_S)

static const char *const rw[] = { "rw", NULL }, *const ro[] = { "ro", "loop", NULL };

#define IMAGE "/mnt/snap/image"

static void make_image(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);

	CHECK(fd >= 0);
	CHECK_INT(ftruncate(fd, 1 << 20), 0);
	close(fd);
}

/* A loop device of an image, which goes with the fd, and the name that the kernel has for it. */
static int make_loop(const char *image, char name[32])
{
	int backing = open(image, O_RDWR | O_CLOEXEC), fd = -1;
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config config = { .fd = (uint32_t)backing,
		.info = { .lo_flags = LO_FLAGS_AUTOCLEAR } };

	if (control < 0)
		test_skip("there are no loop devices");
	for (int i = 0; fd < 0 && i < 20; i++) {
		char path[64];

		snprintf(name, 32, "loop%d", ioctl(control, LOOP_CTL_GET_FREE));
		snprintf(path, sizeof(path), "/dev/%s", name);
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) < 0)
			fd_close(&fd);
	}
	CHECK(fd >= 0);
	close(control);
	close(backing);
	return fd;
}

static dev_t number_of(int fd)
{
	struct stat st;

	CHECK_INT(fstat(fd, &st), 0);
	return st.st_rdev;
}

/* One loop device, and nothing else in /dev. */
struct dev {
	int loop;
	dev_t number;
	char name[32], path[64];
};

static struct dev dev_make(void)
{
	struct dev d;

	make_image("/mnt/backing");
	d.loop = make_loop("/mnt/backing", d.name);
	d.number = number_of(d.loop);
	snprintf(d.path, sizeof(d.path), "/dev/%s", d.name);
	CHECK_INT(mount("dev", "/dev", "tmpfs", 0, NULL), 0);
	CHECK_INT(mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3)), 0);
	CHECK_INT(mknod(d.path, S_IFBLK | 0660, d.number), 0);
	CHECK_INT(chmod(d.path, 0660), 0);
	CHECK_INT(chown(d.path, 0, 6), 0);
	return d;
}

static struct rig dev_up(void)
{
	static const char *const options[] = { "rootfs_prefix=/dev", NULL };
	struct rig r = rig_start(options);

	role_lock(&r.role);
	return r;
}

static unsigned count_fds(const struct rig *r)
{
	char path[64];
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", r->role.pid);
	dir = opendir(path);
	CHECK(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int add_block(struct rig *r, uint32_t disk, struct error *err)
{
	Ipc__MountdAddBlock req = IPC__MOUNTD_ADD_BLOCK__INIT;

	req.index = disk;
	return role_ask(&r->role, &ipc_frontend_mountd, MOUNTD_ADD_BLOCK, &req.base, err);
}

/* The disk's fd, as vmmd gets it. */
static int fd_of(struct rig *r, uint32_t disk)
{
	struct ipc_packet p = { .fds = FDLIST_INIT };
	struct error err = ERROR_INIT;
	Ipc__Block *msg;
	int fd;

	if (add_block(r, disk, &err) != 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	CHECK(next_packet(r->vmmd, &ipc_mountd_vmmd, &p));
	CHECK_INT(p.hdr.type, MOUNTD_VMMD_BLOCK);
	msg = (Ipc__Block *)ipc_decode(&p, &err);
	CHECK(msg);
	CHECK_INT(msg->index, disk);
	ipc_free(&msg->base);
	fd = fdlist_steal(&p.fds, 0);
	ipc_packet_done(&p);
	return fd;
}

static void check_image(int fd, const char *path, int mode)
{
	struct stat st, want;

	CHECK_INT(fstat(fd, &st), 0);
	CHECK_INT(stat(path, &want), 0);
	CHECK(S_ISREG(st.st_mode) && st.st_ino == want.st_ino && st.st_dev == want.st_dev);
	CHECK_INT(fcntl(fd, F_GETFL) & (O_ACCMODE | O_PATH), mode);
	close(fd);
}

static void check_device(int fd, dev_t number, int mode)
{
	struct stat st;

	CHECK_INT(fstat(fd, &st), 0);
	CHECK(S_ISBLK(st.st_mode) && st.st_rdev == number);
	CHECK_INT(fcntl(fd, F_GETFL) & (O_ACCMODE | O_PATH), mode);
	close(fd);
}

/* Whether somebody has it who will not share it. */
static bool is_taken(const struct dev *d)
{
	int fd = open(d->path, O_RDONLY | O_EXCL | O_CLOEXEC);

	CHECK(fd >= 0 || errno == EBUSY);
	if (fd >= 0)
		close(fd);
	return fd < 0;
}

TEST(an_image_is_opened_and_not_mounted)
{
	struct rig r = world_up(1);
	unsigned before = count_fds(&r);

	make_image(IMAGE);
	CHECK_OK(add(&r, 0, "", "ext4", IMAGE, ro, err));
	CHECK_INT(r.n_disks, 1);
	CHECK(r.read_only[0] && r.pod);
	CHECK_INT(r.n_uses, 1);
	CHECK_INT(r.uses[0].use, IPC__CONFIG__DISK__USE__ROOTFS);
	CHECK_INT(r.uses[0].disk, r.disks[0]);
	CHECK(r.uses[0].read_only);
	CHECK_STR(r.fstype, "ext4");
	/* the guest mounts it there */
	CHECK_INT(rmdir(in_m(&r, "/mnt/share/c0/rootfs")), 0);
	CHECK_INT(mkdir(in_m(&r, "/mnt/share/c0/rootfs"), 0755), 0);
	check_image(fd_of(&r, r.disks[0]), IMAGE, O_RDONLY);
	CHECK_REFUSED(add_block(&r, r.disks[0], err), ENOENT, "is not to be plugged");
	CHECK_OK(del_with_disks(&r, 0, err));
	CHECK_INT(access(in_m(&r, "/mnt/share/c0"), F_OK), -1);
	CHECK_INT(count_fds(&r), before);
	/* and again, to be written */
	CHECK_OK(add(&r, 1, "", "ext4", IMAGE, rw, err));
	CHECK(!r.read_only[0] && !r.uses[0].read_only);
	check_image(fd_of(&r, r.disks[0]), IMAGE, O_RDWR);
	CHECK_OK(del_with_disks(&r, 1, err));
	CHECK_INT(count_fds(&r), before);
	rig_close(&r);
}

/* What the frontend did not hear of, and what it heard of and did not want. */
TEST(a_disk_that_is_not_plugged_leaves_no_fd)
{
	struct rig r = world_up(1);
	unsigned before = count_fds(&r);

	make_image(IMAGE);
	CHECK_OK(add(&r, 0, "", "xfs", IMAGE, rw, err));
	CHECK_INT(count_fds(&r), before + 1);
	CHECK_OK(del(&r, 0, err));
	CHECK_INT(count_fds(&r), before);
	CHECK_OK(add(&r, 1, "", "xfs", IMAGE, rw, err));
	CHECK_OK(del_with_disks(&r, 1, err));
	CHECK_INT(count_fds(&r), before);
	rig_close(&r);
}

TEST(containers_share_a_disk)
{
	struct rig r = world_up(1);
	uint32_t disk;

	make_image(IMAGE);
	CHECK_OK(add(&r, 0, "", "erofs", IMAGE, ro, err));
	disk = r.disks[0];
	close(fd_of(&r, disk));
	CHECK_OK(add(&r, 1, "", "erofs", IMAGE, ro, err));
	CHECK_INT(r.n_disks, 1);
	CHECK_INT(r.disks[0], disk);
	CHECK_REFUSED(add(&r, 2, "", "ext4", IMAGE, rw, err), EBUSY,
		"rootfs mount of type ext4: source '" IMAGE "' is in the VM read-only already");
	CHECK_INT(access(in_m(&r, "/mnt/share/c2"), F_OK), -1);
	/* It stays until the VM does not have it any more. */
	CHECK_OK(del(&r, 1, err));
	CHECK_REFUSED(add(&r, 3, "", "ext4", IMAGE, rw, err), EBUSY, "read-only already");
	CHECK_OK(del_with_disks(&r, 0, err));
	CHECK_OK(add(&r, 4, "", "ext4", IMAGE, rw, err));
	CHECK(r.disks[0] != disk);
	rig_close(&r);
}

/* E8: from a directory no device is ever derived, whoever asks how. */
TEST(sources_that_are_no_disks)
{
	static const struct {
		const char *source;
		int code;
		const char *says;
	} cases[] = {
		{ "/mnt/snap/1/fs", EINVAL, "is a directory, not an image in a regular file" },
		{ "/mnt/snap/1", EINVAL, "is a directory, not an image" },
		{ "/mnt/snap", EPERM, "is beneath none of the directories of rootfs_prefixes" },
		{ "/", EINVAL, "is not an absolute path" },
		{ "/mnt/secret/image", EPERM, "is beneath none of the directories of rootfs_prefixes" },
		{ "/mnt/snap/link", EINVAL, "is a symbolic link, not an image" },
		{ "/mnt/snap/by/image", ELOOP, "leads through a symbolic link" },
		{ "/mnt/snap/fifo", EINVAL, "is a FIFO, not an image" },
		{ "/mnt/snap/node", EINVAL, "is a block device, not an image in a regular file (block devices are taken" },
		{ "/mnt/snap/small", EINVAL, "is an image of 4 bytes" },
		{ "/mnt/snap/none", ENOENT, "does not exist" },
		{ "/dev/null", EINVAL, "is a character device, not a block device" },
		{ "/dev/dir", EINVAL, "is a directory, not a block device" },
		{ "/dev/file", EINVAL, "is a regular file, not a block device" },
		{ "/dev/away", EXDEV, "open source '/dev/away'" },
		{ "/dev/self", ELOOP, "leads through a symbolic link" },
		{ "/dev/../mnt/snap/node", EINVAL, "is not an absolute path without" },
	};
	struct dev d;
	struct rig r;
	unsigned before;

	world_make();
	make_snapshots(1);
	d = dev_make();
	r = dev_up();
	before = count_fds(&r);
	make_image("/mnt/secret/image");
	make_image(IMAGE);
	make_dir("/dev/dir");
	make_image("/dev/file");
	make_file("/mnt/snap/small", "tiny");
	CHECK_INT(symlink("image", "/mnt/snap/link"), 0);
	CHECK_INT(symlink("/mnt/snap", "/mnt/snap/by"), 0);
	CHECK_INT(symlink(d.path, "/dev/away"), 0);
	CHECK_INT(mkfifo("/mnt/snap/fifo", 0600), 0);
	CHECK_INT(mknod("/mnt/snap/node", S_IFBLK | 0600, d.number), 0);
	make_dir("/dev/proc");
	CHECK_INT(mount("proc", "/dev/proc", "proc", 0, NULL), 0);
	CHECK_INT(symlink("proc/self/fd/0", "/dev/self"), 0);
	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		CHECK_REFUSED(add(&r, i, "", "ext4", cases[i].source, rw, err), cases[i].code, cases[i].says);
		CHECK_INT(access(in_m(&r, "/mnt/share/c%u", i), F_OK), -1);
	}
	/* No mount, or one of a directory: directories. */
	CHECK_OK(add(&r, 100, "", NULL, NULL, NULL, err));
	CHECK_INT(r.n_disks, 0);
	CHECK_OK(add(&r, 101, "", "bind", "/mnt/snap/1/fs", rw, err));
	CHECK_INT(r.n_disks, 0);
	CHECK_INT(count_fds(&r), before);
	CHECK(!is_taken(&d));
	close(d.loop);
	rig_close(&r);
}

TEST(a_block_device_as_a_root)
{
	struct rig r;
	struct dev d;
	int fd;

	world_make();
	make_snapshots(1);
	d = dev_make();
	make_dir("/dev/mapper");
	CHECK_INT(symlinkat(d.path + strlen("/dev/"), AT_FDCWD, "/dev/a"), 0);
	CHECK_INT(symlink("../a", "/dev/mapper/thin"), 0);
	r = dev_up();
	/* Somebody has it: a mount of the host's would be the same to the kernel. */
	fd = open(d.path, O_RDONLY | O_EXCL | O_CLOEXEC);
	CHECK(fd >= 0);
	CHECK_REFUSED(add(&r, 0, "", "ext4", "/dev/mapper/thin", ro, err), EBUSY,
		"source '/dev/mapper/thin' is in use: the host has mounted it");
	close(fd);
	CHECK_OK(add(&r, 1, "", "ext4", "/dev/mapper/thin", ro, err));
	fd = fd_of(&r, r.disks[0]);
	CHECK(is_taken(&d));
	check_device(fd, d.number, O_RDONLY);
	CHECK(!is_taken(&d)); /* it went with vmmd's fd, there is no other */
	CHECK_OK(del_with_disks(&r, 1, err));
	CHECK_OK(add(&r, 2, "", "xfs", d.path, rw, err));
	check_device(fd_of(&r, r.disks[0]), d.number, O_RDWR);
	close(d.loop);
	rig_close(&r);
}

/* ---- linux.devices, and what is bound ---- */

static int add_spec(struct rig *r, unsigned index, const char *fmt, dev_t number, struct error *err)
{
	char numbers[64], text[4096], *at = text;

	snprintf(numbers, sizeof(numbers), "\"major\":%u,\"minor\":%u", major(number), minor(number));
	for (const char *s = fmt; *s; s++)
		if (*s == '@')
			at = stpcpy(at, numbers);
		else
			*at++ = *s;
	*at = '\0';
	make_file("/mnt/bundles/first/config.json", text);
	return add(r, index, "", "bind", "/mnt/snap/1/fs", rw, err);
}

#define SPEC(mounts, devices, rules)                                                           \
	"{\"root\":{\"path\":\"rootfs\"},\"mounts\":[" mounts "],\"linux\":{\"devices\":["     \
	devices "],\"resources\":{\"devices\":[" rules "]}}}"
#define NULL_DEVICE "{\"path\":\"/dev/null\",\"type\":\"c\",\"major\":1,\"minor\":3}"
#define THE_DISK    "{\"path\":\"/dev/x\",\"type\":\"b\",@}"
#define DENY_ALL    "{\"allow\":false,\"access\":\"rwm\"}"
#define ALLOW(a)    DENY_ALL ",{\"allow\":true,\"type\":\"b\",@,\"access\":\"" a "\"}"

TEST(a_device_of_linux_devices)
{
	struct rig r;
	struct dev d;
	uint32_t disk;
	int fd;

	world_make();
	make_snapshots(1);
	d = dev_make();
	r = dev_up();
	CHECK_OK(add_spec(&r, 0, SPEC("", NULL_DEVICE "," THE_DISK, ALLOW("rwm")), d.number, err));
	CHECK_INT(r.n_disks, 1);
	CHECK_INT(r.n_uses, 1);
	CHECK(!r.pod && !r.host_devices && !r.read_only[0]);
	CHECK_INT(r.uses[0].use, IPC__CONFIG__DISK__USE__DEVICE);
	CHECK_INT(r.uses[0].number, 1);
	disk = r.disks[0];
	fd = fd_of(&r, disk);
	CHECK(is_taken(&d));
	/* Another container has the same disk, twice. Whoever opens it for himself does not get it. */
	CHECK_OK(add_spec(&r, 1, SPEC("", THE_DISK ",{\"path\":\"/dev/y\",\"type\":\"b\",@}", ALLOW("rm")), d.number, err));
	CHECK_INT(r.n_disks, 1);
	CHECK_INT(r.disks[0], disk);
	CHECK(!r.read_only[0]); /* the disk; the container has it so */
	CHECK_INT(r.n_uses, 2);
	CHECK(r.uses[0].read_only && r.uses[1].read_only);
	check_device(fd, d.number, O_RDWR);
	CHECK_OK(del(&r, 1, err));
	CHECK_OK(del_with_disks(&r, 0, err));

	/* Read-only it needs nobody's leave. */
	fd = open(d.path, O_RDONLY | O_EXCL | O_CLOEXEC);
	CHECK_REFUSED(add_spec(&r, 2, SPEC("", THE_DISK, ALLOW("rwm")), d.number, err), EBUSY,
		"linux.devices[0]: /dev/x: block device ");
	CHECK_OK(add_spec(&r, 3, SPEC("", THE_DISK, ALLOW("rm")), d.number, err));
	CHECK(r.read_only[0]);
	check_device(fd_of(&r, r.disks[0]), d.number, O_RDONLY);
	CHECK_REFUSED(add_spec(&r, 4, SPEC("", THE_DISK, ALLOW("rwm")), d.number, err), EBUSY,
		"is in the VM read-only already, and cannot be writable beside that");
	close(fd);
	close(d.loop);
	rig_close(&r);
}

/* What a privileged container has of the host is not the VM's: nothing is opened. */
TEST(all_devices_of_the_host)
{
	struct rig r;
	struct dev d;

	world_make();
	make_snapshots(1);
	d = dev_make();
	r = dev_up();
	CHECK_OK(add_spec(&r, 0,
		SPEC("", "{\"path\":\"/dev/kmsg\",\"type\":\"c\",\"major\":1,\"minor\":11}," THE_DISK,
			"{\"allow\":true,\"access\":\"rwm\"}"),
		d.number, err));
	CHECK(r.host_devices && r.n_disks == 0 && r.n_uses == 0);
	CHECK(!is_taken(&d));
	close(d.loop);
	rig_close(&r);
}

TEST(a_block_device_that_is_bound)
{
	char mount[256], spec[1024];
	struct rig r;
	struct dev d;

	world_make();
	make_snapshots(1);
	d = dev_make();
	r = dev_up();
	snprintf(mount, sizeof(mount), "{\"destination\":\"/dev/xx\",\"type\":\"bind\",\"source\":\"%s\",\"options\":[\"ro\"]}", d.path);
	snprintf(spec, sizeof(spec), SPEC("{\"destination\":\"/d\",\"type\":\"bind\",\"source\":\"/mnt/snap/1/fs\"},%s", "", ""), mount);
	CHECK_OK(add_spec(&r, 0, spec, d.number, err));
	CHECK_INT(r.n_uses, 1);
	CHECK_INT(r.uses[0].use, IPC__CONFIG__DISK__USE__VOLUME);
	CHECK_INT(r.uses[0].number, 1);
	CHECK(r.uses[0].read_only && r.read_only[0]);
	CHECK_INT(makedev(r.uses[0].major, r.uses[0].minor), d.number);
	CHECK_INT(r.uses[0].mode, 0660);
	CHECK_INT(r.uses[0].gid, 6);
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/v1"), F_OK), 0);
	check_device(fd_of(&r, r.disks[0]), d.number, O_RDONLY);
	CHECK_OK(del_with_disks(&r, 0, err));
	CHECK_INT(access(in_m(&r, "/mnt/share/c0"), F_OK), -1);
	close(d.loop);
	rig_close(&r);
}

/* E7: the number decides, whatever lies under the name; and of several all or none. */
TEST(nodes_that_are_not_what_they_should_be)
{
	struct rig r;
	struct dev d;
	unsigned before;

	world_make();
	make_snapshots(1);
	d = dev_make();
	r = dev_up();
	before = count_fds(&r);
	CHECK_REFUSED(add_spec(&r, 0, SPEC("", THE_DISK, ""), makedev(259, 77777), err), ENXIO,
		"linux.devices[0]: /dev/x: the host has no block device 259:77777");
	CHECK_REFUSED(add_spec(&r, 1, SPEC("", "{\"path\":\"/dev/x\",\"type\":\"b\"}", ""), 0, err), EINVAL,
		"-1:-1 is no number of a device");
	/* the first is opened, the second is not there */
	CHECK_REFUSED(add_spec(&r, 2, SPEC("", THE_DISK ",{\"path\":\"/dev/y\",\"type\":\"b\",\"major\":259,\"minor\":77777}", ""),
			      d.number, err), ENXIO, "linux.devices[1]: /dev/y: the host has no");
	CHECK_INT(access(in_m(&r, "/mnt/share/c2"), F_OK), -1);
	CHECK_INT(count_fds(&r), before);
	CHECK(!is_taken(&d));
	/* its name is another device's, a link's, nobody's */
	CHECK_INT(unlink(d.path), 0);
	CHECK_INT(mknod(d.path, S_IFBLK | 0600, d.number + 1), 0);
	CHECK_REFUSED(add_spec(&r, 3, SPEC("", THE_DISK, ""), d.number, err), ESTALE, "is another device");
	CHECK_INT(unlink(d.path), 0);
	CHECK_INT(mknod(d.path, S_IFCHR | 0600, d.number), 0);
	CHECK_REFUSED(add_spec(&r, 4, SPEC("", THE_DISK, ""), d.number, err), ESTALE, "is another device");
	CHECK_INT(unlink(d.path), 0);
	CHECK_INT(mknod("/dev/elsewhere", S_IFBLK | 0600, d.number), 0);
	CHECK_INT(symlink("elsewhere", d.path), 0);
	CHECK_REFUSED(add_spec(&r, 5, SPEC("", THE_DISK, ""), d.number, err), ESTALE, "is another device");
	CHECK_INT(unlink(d.path), 0);
	CHECK_REFUSED(add_spec(&r, 6, SPEC("", THE_DISK, ""), d.number, err), ENOENT, "its node /dev/loop");
	CHECK_INT(count_fds(&r), before);
	close(d.loop);
	rig_close(&r);
}

#define RACES 20000

/* E7: what a name leads to changes all the time; what comes out is the device, or nothing. */
TEST(a_node_that_is_swapped_while_it_is_opened)
{
	unsigned i, opened = 0, refused = 0;
	struct rig r;
	struct dev d;
	pid_t pid;

	world_make();
	make_snapshots(1);
	d = dev_make();
	CHECK_INT(mknod("/dev/disk", S_IFBLK | 0600, d.number), 0);
	make_image("/dev/other");
	r = dev_up();
	pid = swapper("/dev/disk", "/dev/other");
	for RACE(i, RACES) {
		struct error why = ERROR_INIT;

		if (add(&r, i, "", "ext4", "/dev/disk", rw, &why) == 0) {
			check_device(fd_of(&r, r.disks[0]), d.number, O_RDWR);
			CHECK_OK(del_with_disks(&r, i, err));
			opened++;
		} else {
			CHECK_CONTAINS(why.msg, "/dev/disk");
			refused++;
		}
		if (opened > 200 && refused > 200)
			break;
	}
	stop(pid);
	CHECK(opened > 0 && refused > 0);
	close(d.loop);
	rig_close(&r);
}

TEST(more_disks_than_a_vm_can_have)
{
	struct rig r = world_up(1);
	char path[64];

	for (unsigned i = 0; i < DISKS_MAX; i++) {
		snprintf(path, sizeof(path), "/mnt/snap/image%u", i);
		make_image(path);
		CHECK_OK(add(&r, i, "", "ext4", path, ro, err));
	}
	make_image(IMAGE);
	CHECK_REFUSED(add(&r, 100, "", "ext4", IMAGE, ro, err), ENOSPC, "the VM has 16 disks");
	CHECK_INT(access(in_m(&r, "/mnt/share/c100"), F_OK), -1);
	CHECK_OK(del(&r, 3, err));
	CHECK_OK(add(&r, 101, "", "ext4", IMAGE, ro, err));
	rig_close(&r);
}
