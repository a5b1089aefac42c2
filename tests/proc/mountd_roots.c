/* The real bulkhead-mountd: how it stands, and root file systems as they should be. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/proc/mountd_world.h"

#define CAPS                                                                             \
	(BIT(CAP_SYS_ADMIN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_CHOWN) | BIT(CAP_FOWNER) | \
		BIT(CAP_FSETID) | BIT(CAP_MKNOD) | BIT(CAP_SETFCAP))

/* ------------------------------------------------------------------ how it stands */

TEST(shut_in)
{
	struct rig r = world_up(0);
	char text[64], name[64];

	check_shut_in(r.role.pid, 0, CAPS);
	proc_status(r.role.pid, "Seccomp", text, sizeof(text));
	CHECK_STR(text, "2");
	CHECK(!same_namespace(r.role.pid, getpid(), "mnt"));
	CHECK(!same_namespace(r.role.pid, getpid(), "net"));
	CHECK(!same_namespace(r.role.pid, getpid(), "ipc"));
	CHECK(!same_namespace(r.role.pid, getpid(), "uts"));
	proc_status(r.role.pid, "Name", name, sizeof(name));
	CHECK_STR(name, "mountd");
	rig_close(&r);
}

static void read_mountinfo(char *ret, size_t size)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	size_t n = fread(ret, 1, size - 1, f);

	ret[n] = '\0';
	fclose(f);
}

TEST(the_host_sees_no_mount)
{
	static char before[65536], after[65536];
	struct rig r;

	world_make();
	make_snapshots(3);
	read_mountinfo(before, sizeof(before));
	r = rig_up();
	read_mountinfo(after, sizeof(after));
	CHECK_STR(after, before);
	CHECK_OK(add_overlay(&r, 0, 3, two_layers, err));
	read_mountinfo(after, sizeof(after));
	CHECK_STR(after, before);
	CHECK_OK(del(&r, 0, err));
	read_mountinfo(after, sizeof(after));
	CHECK_STR(after, before);
	rig_close(&r);
}

TEST(its_own_end_is_planned)
{
	struct rig r = world_up(0);

	fd_close(&r.role.channel);
	CHECK_INT(role_ends(&r.role, 5000), 0);
	rig_close(&r);
}

TEST(the_supervisors_end_is_its_end)
{
	struct rig r = world_up(0);

	fd_close(&r.role.ctl);
	CHECK_INT(role_ends(&r.role, 5000), 0);
	rig_close(&r);
}

TEST(bad_options)
{
	static const char *const more[] = { "stdio_prefix=relative", NULL };
	struct ctl_msg msg;
	struct rig r;

	world_make();
	r = rig_start(more);
	CHECK_INT(ctl_recv(r.role.ctl, 0, &msg), 1);
	CHECK_INT(msg.type, CTL_FAILED);
	CHECK_CONTAINS(msg.text, "stdio_prefixes 'relative'");
	CHECK_INT(WEXITSTATUS(role_ends(&r.role, 5000)), 70);
	rig_close(&r);
}

/* ----------------------------------------------------------------------- overlays */

TEST(overlay)
{
	struct rig r = world_up(3);
	struct stat st;

	CHECK_OK(add_overlay(&r, 0, 3, two_layers, err));
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/rootfs/l1")), "layer 1");
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/rootfs/l2")), "layer 2");
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/rootfs/l3")), "layer 3");

	/* What the guest will do to it: needs mountd's seven capabilities, not the guest's. */
	make_file(in_m(&r, "/mnt/share/c0/rootfs/new"), "new");
	CHECK_STR(text_of_file("/mnt/snap/3/fs/new"), "new");
	CHECK_INT(chown(in_m(&r, "/mnt/share/c0/rootfs/l1"), 1000, 1000), 0); /* copy-up */
	CHECK_INT(stat("/mnt/snap/3/fs/l1", &st), 0);
	CHECK_INT(st.st_uid, 1000);
	CHECK_INT(chmod(in_m(&r, "/mnt/share/c0/rootfs/l2"), 04755), 0);
	CHECK_INT(unlink(in_m(&r, "/mnt/share/c0/rootfs/l2")), 0); /* a whiteout: MKNOD */
	CHECK_INT(access("/mnt/snap/2/fs/l2", F_OK), 0);

	CHECK_OK(del(&r, 0, err));
	CHECK_INT(access(in_m(&r, "/mnt/share/c0"), F_OK), -1);
	CHECK_OK(del(&r, 0, err)); /* idempotent */
	CHECK_STR(text_of_file("/mnt/snap/3/fs/new"), "new");
	rig_close(&r);
}

TEST(a_removed_overlay_is_gone)
{
	struct rig r = world_up(3);

	CHECK_OK(add_overlay(&r, 0, 3, two_layers, err));
	CHECK(in_use(3));
	CHECK_OK(del(&r, 0, err));
	CHECK(!in_use(3));
	CHECK_OK(add_overlay(&r, 1, 3, two_layers, err)); /* the same snapshot again */
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c1/rootfs/l1")), "layer 1");
	CHECK(in_use(3));
	CHECK_OK(del(&r, 1, err));
	CHECK(!in_use(3));
	rig_close(&r);
}

TEST(overlay_flags)
{
	static const char *const options[] = { "volatile", "xino=off", "redirect_dir=nofollow",
		"metacopy=off", "lowerdir=/mnt/snap/1/fs", "upperdir=/mnt/snap/2/fs",
		"workdir=/mnt/snap/2/work", NULL };
	struct rig r = world_up(2);

	CHECK_OK(add(&r, 0, "", "overlay", "overlay", options, err));
	CHECK_CONTAINS(text_of_file("/proc/%d/mountinfo", r.role.pid), "volatile");
	rig_close(&r);
}

/* The upperdir of a snapshot that the guest still has open stays in use until it lets go. */
TEST(a_removed_overlay_that_is_still_held)
{
	struct rig r = world_up(3);
	int fd;

	CHECK_OK(add_overlay(&r, 0, 3, two_layers, err));
	fd = open(in_m(&r, "/mnt/share/c0/rootfs/l1"), O_RDONLY | O_CLOEXEC);
	CHECK_OK(del(&r, 0, err));
	CHECK(in_use(3));
	CHECK_OK(add_overlay(&r, 1, 3, two_layers, err)); /* index=off: mounts all the same */
	CHECK_OK(del(&r, 1, err));
	close(fd);
	CHECK(!in_use(3));
	rig_close(&r);
}

TEST(everything_goes_with_mountd)
{
	struct rig r = world_up(3);

	CHECK_OK(add_overlay(&r, 0, 3, two_layers, err));
	CHECK(in_use(3));
	kill(r.role.pid, SIGKILL);
	role_ends(&r.role, 5000);
	for (int i = 0; i < 100 && in_use(3); i++)
		usleep(20000);
	CHECK(!in_use(3));
	rig_close(&r);
}

static int add_layers(struct rig *r, unsigned index, unsigned n, struct error *err)
{
	unsigned below[128] = { 0 };

	for (unsigned i = 0; i < n; i++)
		below[i] = n - i;
	return add_overlay(r, index, 120, below, err);
}

TEST(layers)
{
	struct rig r = world_up(120);

	CHECK_OK(add_layers(&r, 0, 40, err));
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/rootfs/l1")), "layer 1");
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/rootfs/l40")), "layer 40");
	CHECK_OK(del(&r, 0, err));
	CHECK_OK(add_layers(&r, 1, 100, err));
	for (unsigned i = 1; i <= 100; i++) {
		char want[16];

		snprintf(want, sizeof(want), "layer %u", i);
		CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c1/rootfs/l%u", i)), want);
	}
	CHECK_OK(del(&r, 1, err));
	CHECK_REFUSED(add_layers(&r, 2, 101, err), E2BIG, "more than 100 layers");
	/* None of the layers stays bound anywhere. */
	CHECK(!strstr(text_of_file("/proc/%d/mountinfo", r.role.pid), "/mnt/snap"));
	CHECK(!strstr(text_of_file("/proc/%d/mountinfo", r.role.pid), "/snap/"));
	rig_close(&r);
}

TEST(a_view_of_layers_is_read_only)
{
	static const char *const options[] = { "lowerdir=/mnt/snap/2/fs:/mnt/snap/1/fs", NULL };
	struct rig r = world_up(2);

	CHECK_OK(add(&r, 0, "", "overlay", "overlay", options, err));
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/rootfs/l1")), "layer 1");
	CHECK_INT(open(in_m(&r, "/mnt/share/c0/rootfs/x"), O_CREAT | O_WRONLY, 0600), -1);
	CHECK_INT(errno, EROFS);
	rig_close(&r);
}

TEST(set_id_bits_hold_and_devices_do_not)
{
	struct rig r = world_up(3);
	struct stat st;

	CHECK_OK(add_overlay(&r, 0, 3, two_layers, err));
	make_file(in_m(&r, "/mnt/share/c0/rootfs/su"), "");
	CHECK_INT(chmod(in_m(&r, "/mnt/share/c0/rootfs/su"), 04755), 0);
	CHECK_INT(stat("/mnt/snap/3/fs/su", &st), 0);
	CHECK_INT(st.st_mode & 07777, 04755);
	CHECK_INT(mknod("/mnt/snap/3/fs/null", S_IFCHR | 0666, makedev(1, 3)), 0);
	CHECK_INT(open(in_m(&r, "/mnt/share/c0/rootfs/null"), O_RDONLY), -1);
	CHECK_INT(errno, EACCES); /* nodev */
	rig_close(&r);
}

/* ------------------------------------------------------------------- binds, bundle */

TEST(bind)
{
	static const char *const rw[] = { "rbind", "rw", NULL },
				 *const ro[] = { "rbind", "ro", NULL };
	struct rig r = world_up(2);

	CHECK_OK(add(&r, 0, "", "bind", "/mnt/snap/1/fs", rw, err));
	make_file(in_m(&r, "/mnt/share/c0/rootfs/new"), "new");
	CHECK_STR(text_of_file("/mnt/snap/1/fs/new"), "new");
	CHECK_OK(add(&r, 1, "", "bind", "/mnt/snap/2/fs", ro, err));
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c1/rootfs/l2")), "layer 2");
	CHECK_INT(open(in_m(&r, "/mnt/share/c1/rootfs/x"), O_CREAT | O_WRONLY, 0600), -1);
	CHECK_INT(errno, EROFS);
	/* What is mounted later in the source does not show up in the container. */
	make_dir("/mnt/snap/1/fs/later");
	CHECK_INT(mount("later", "/mnt/snap/1/fs/later", "tmpfs", 0, NULL), 0);
	make_file("/mnt/snap/1/fs/later/x", "x");
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/rootfs/later/x"), F_OK), -1);
	CHECK_OK(del(&r, 0, err));
	CHECK_OK(del(&r, 1, err));
	rig_close(&r);
}

TEST(a_bind_that_cannot_be_written_is_refused)
{
	static const char *const rw[] = { "rw", NULL };
	struct rig r;

	world_make();
	make_dir("/mnt/snap/1");
	CHECK_INT(mount("ro", "/mnt/snap/1", "tmpfs", MS_RDONLY, NULL), 0);
	r = rig_up();
	CHECK_REFUSED(add(&r, 0, "", "bind", "/mnt/snap/1", rw, err), EROFS, "came up read-only");
	CHECK_INT(access(in_m(&r, "/mnt/share/c0"), F_OK), -1);
	rig_close(&r);
}

TEST(bundle_rootfs_mounted_on_the_host)
{
	struct rig r = world_up(1);

	/* After mountd was started: it arrives by propagation. */
	CHECK_INT(mount("/mnt/snap/1/fs", "/mnt/bundles/first/rootfs", NULL, MS_BIND, NULL), 0);
	CHECK_OK(add(&r, 0, "", NULL, NULL, NULL, err));
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/rootfs/l1")), "layer 1");
	CHECK_OK(del(&r, 0, err));
	CHECK_STR(text_of_file("/mnt/bundles/first/rootfs/l1"), "layer 1");
	rig_close(&r);
}

TEST(bundle_with_an_absolute_root)
{
	struct rig r = world_up(1);

	make_bundle("first", SANDBOX, "\"path\":\"/mnt/snap/1/fs\""); /* as Docker writes it */
	CHECK_OK(add(&r, 0, "", NULL, NULL, NULL, err));
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/rootfs/l1")), "layer 1");
	make_bundle("first", SANDBOX, "\"path\":\"/mnt/secret\"");
	CHECK_REFUSED(add(&r, 1, "", NULL, NULL, NULL, err), EPERM,
		"root.path of config.json '/mnt/secret' is beneath none of the directories of "
		"rootfs_prefixes");
	make_bundle("first", SANDBOX, "\"path\":\"../../secret\"");
	CHECK_REFUSED(add(&r, 1, "", NULL, NULL, NULL, err), EXDEV, "'../../secret'");
	make_bundle("first", SANDBOX, "\"path\":\"missing\"");
	CHECK_REFUSED(add(&r, 1, "", NULL, NULL, NULL, err), ENOENT, "containerd sent no mount");
	rig_close(&r);
}

TEST(the_spec_makes_it_read_only)
{
	struct rig r = world_up(3);
	struct stat st;

	make_file("/mnt/bundles/first/config.json",
		"{\"root\":{\"path\":\"rootfs\",\"readonly\":true},\"process\":{\"cwd\":\"/srv/"
		"app\"},"
		"\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\"},"
		"{\"destination\":\"/dev\",\"type\":\"tmpfs\"},"
		"{\"destination\":\"/dev/pts\",\"type\":\"devpts\"},"
		"{\"destination\":\"/etc/hosts\",\"type\":\"bind\",\"source\":\"/mnt/secret/"
		"marker\"},"
		"{\"destination\":\"/out/made\",\"type\":\"bind\",\"source\":\"/mnt\"},"
		"{\"destination\":\"/../../up\",\"type\":\"tmpfs\"}]}");
	/* A link in the image leads where it does in the container, not on the host. */
	CHECK_INT(symlink("/mnt/secret", "/mnt/snap/1/fs/out"), 0);
	make_dir("/mnt/snap/1/fs/mnt/secret");

	CHECK_OK(add_overlay(&r, 0, 3, two_layers, err));
	CHECK_INT(open(in_m(&r, "/mnt/share/c0/rootfs/x"), O_CREAT | O_WRONLY, 0600), -1);
	CHECK_INT(errno, EROFS);
	CHECK_INT(open(in_m(&r, "/mnt/share/c0/rootfs/l3"), O_WRONLY), -1);
	CHECK_INT(errno, EROFS);
	CHECK_INT(stat(in_m(&r, "/mnt/share/c0/rootfs/proc"), &st), 0);
	CHECK_INT(st.st_mode, S_IFDIR | 0755);
	CHECK_INT(stat(in_m(&r, "/mnt/share/c0/rootfs/etc/hosts"), &st), 0);
	CHECK_INT(st.st_mode, S_IFREG | 0644);
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/rootfs/srv/app"), F_OK), 0);
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/rootfs/dev/pts"), F_OK), -1);
	CHECK_INT(access("/mnt/secret/made", F_OK), -1);
	CHECK_INT(access(in_m(&r, "/mnt/share/c0/rootfs/mnt/secret/made"), F_OK), 0);
	CHECK_INT(access("/up", F_OK), -1);
	rig_close(&r);
}
