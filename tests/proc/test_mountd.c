/* The real bulkhead-mountd: root file systems, streams, the share, and what it must refuse. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "ipc/slot.pb-c.h"
#include "tests/proc/mountd_rig.h"

#define BIT(cap) (1ULL << (cap))
#define CAPS                                                                             \
	(BIT(CAP_SYS_ADMIN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_CHOWN) | BIT(CAP_FOWNER) | \
		BIT(CAP_FSETID) | BIT(CAP_MKNOD) | BIT(CAP_SETFCAP))

static const unsigned two_layers[] = { 2, 1, 0 };

static void make_snapshots(unsigned n)
{
	for (unsigned i = 1; i <= n; i++)
		make_snapshot(i);
}

static struct rig world_up(unsigned snapshots)
{
	world_make();
	make_snapshots(snapshots);
	return rig_up();
}

#define CHECK_OK(call)                                                 \
	do {                                                           \
		struct error _err = ERROR_INIT;                        \
		struct error *err = &_err;                             \
		if ((call) != 0)                                       \
			test_fail(__FILE__, __LINE__, "%s", _err.msg); \
	} while (0)

#define CHECK_REFUSED(call, code_, says)        \
	do {                                    \
		struct error _err = ERROR_INIT; \
		struct error *err = &_err;      \
		CHECK_INT(call, code_);         \
		CHECK_CONTAINS(_err.msg, says); \
	} while (0)

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

/* Whether an overlay anywhere still has the snapshot's upperdir: with index=on the kernel says. */
static bool in_use(unsigned top)
{
	char options[256];
	int r;

	snprintf(options, sizeof(options),
		"index=on,lowerdir=/mnt/snap/1/fs,upperdir=/mnt/snap/%u/fs,workdir=/mnt/snap/%u/"
		"work",
		top, top);
	make_dir("/mnt/probe");
	r = mount("probe", "/mnt/probe", "overlay", 0, options);
	if (r < 0) {
		CHECK_INT(errno, EBUSY);
		return true;
	}
	CHECK_INT(umount2("/mnt/probe", 0), 0);
	return false;
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

/* ----------------------------------------------------------------------- refusals */

TEST(refused_roots)
{
	static const char *const none[] = { NULL };
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
		{ "ext4", "/dev/vda", "ro", EOPNOTSUPP, "type 'ext4' is not supported" },
		{ "overlay", "overlay", "lowerdir=/etc", EPERM, "lowerdir '/etc' is beneath none" },
		{ "overlay", "overlay", "lowerdir=/mnt/snap/9", ENOENT, "does not exist" },
		{ "overlay", "overlay", "userxattr", EINVAL, "'userxattr' is not supported" },
		{ "overlay", "overlay", "upperdir=/mnt/snap/1/fs", EINVAL, "no lowerdir" },
	};
	struct rig r = world_up(1);

	CHECK_INT(symlink("/mnt/secret", "/mnt/snap/link"), 0);
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
	CHECK_OK(add(&r, 0, "", "bind", "/mnt/snap/1/fs", none, err));
	CHECK_REFUSED(add(&r, 0, "", "bind", "/mnt/snap/1/fs", none, err), EEXIST,
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
	static const char *const rw[] = { "rw", NULL };
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

static void lost_on_bundle(const char *bundle, const char *says)
{
	static const char *const rw[] = { "rw", NULL };
	struct rig r = rig_up();
	int status;

	CHECK_REFUSED(add(&r, 0, bundle, "bind", "/mnt/snap/1/fs", rw, err), EPROTO, says);
	status = role_ends(&r.role, 5000);
	CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 70);
	rig_close(&r);
}

TEST(a_frontend_that_names_others_bundles_is_lost)
{
	world_make();
	make_snapshots(1);
	make_bundle("other", "sandbox-2", "\"path\":\"rootfs\"");
	lost_on_bundle("other", "belongs to sandbox 'sandbox-2'");
	make_file("/mnt/bundles/other/config.json", "{\"root\":{\"path\":\"rootfs\"}}");
	lost_on_bundle("other", "belongs to sandbox ''");
	make_bundle("other", SANDBOX, "\"path\":\"rootfs\"");
	CHECK_INT(chown("/mnt/bundles/other/config.json", 1000, 0), 0);
	lost_on_bundle("other", "can be written by others than root");
	lost_on_bundle("../bundles/first", "is not a name");
	lost_on_bundle("..", "is not a name");
	lost_on_bundle("/mnt/bundles/first", "is not a name");
}

/* json-c makes hundreds of bytes of "{},": the worker's memory is limited, mountd does not notice.
 */
TEST(a_config_json_that_explodes)
{
#ifdef __SANITIZE_ADDRESS__
	test_skip("AddressSanitizer needs more memory than the limit");
#else
	static const char *const more[] = { "timeout_ms=6000", NULL };
	static const char *const rw[] = { "rw", NULL };
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
	static const char *const rw[] = { "rw", NULL };
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

/* So many rounds, or what this machine can do in 12 s. */
#define RACE_MS 12000
#define RACE(i, rounds)                               \
	(int64_t _end = clock_ms() + RACE_MS, _r = 0; \
		(i = (unsigned)_r) < (rounds) && clock_ms() < _end; _r++)

/* Exchanges two names as fast as it can, until killed. */
static pid_t swapper(const char *a, const char *b)
{
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;)
		syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2 /* RENAME_EXCHANGE */);
}

static void stop(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

TEST(symbolic_links_swapped_under_a_bind)
{
	static const char *const rw[] = { "rw", NULL };
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
	CHECK(mounted > 0 && refused > 0);
	rig_close(&r);
}

/* ------------------------------------------------------------------------ streams */

static void make_fifo(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/mnt/stdio/%s", name);
	CHECK_INT(mkfifo(path, 0600), 0);
}

/* The next packet to agentd: this type, for this process. */
static struct ipc_packet stream(struct rig *r, uint16_t type, uint32_t process)
{
	struct ipc_packet p = { .fds = FDLIST_INIT };
	Ipc__Stdio *msg;

	CHECK(next_packet(r->agentd, &ipc_mountd_agentd, &p)); /* which checks the kinds */
	CHECK_INT(p.hdr.type, type);
	msg = (Ipc__Stdio *)ipc_decode(&p, NULL);
	CHECK(msg);
	CHECK_INT(msg->process, process);
	ipc_free(&msg->base);
	return p;
}

TEST(stdio)
{
	struct rig r = world_up(0);
	struct ipc_packet in, out, errors;
	char text[8];
	int fd;

	make_fifo("in");
	make_fifo("out");
	make_fifo("err");
	CHECK_OK(ask_stdio(&r, 7, "/mnt/stdio/in", "/mnt/stdio/out", "/mnt/stdio/err", err));
	in = stream(&r, MOUNTD_AGENTD_STDIN, 7);
	out = stream(&r, MOUNTD_AGENTD_STDOUT, 7);
	errors = stream(&r, MOUNTD_AGENTD_STDERR, 7);
	for (int i = 0; i < 2; i++)
		CHECK(fcntl(in.fds.fd[i], F_GETFL) & O_NONBLOCK);
	CHECK(fcntl(out.fds.fd[0], F_GETFL) & O_NONBLOCK);

	fd = open("/mnt/stdio/in", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	CHECK_INT(write(fd, "hello", 5), 5);
	close(fd);
	CHECK_INT(read(in.fds.fd[0], text, sizeof(text)), 5);
	CHECK_INT(read(in.fds.fd[0], text, sizeof(text)),
		-1); /* the spare end: not the end of input */
	CHECK_INT(errno, EAGAIN);
	close(fdlist_steal(&in.fds, 1));
	CHECK_INT(read(in.fds.fd[0], text, sizeof(text)), 0);

	CHECK_INT(write(out.fds.fd[0], "bye", 3), 3);
	fd = open("/mnt/stdio/out", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	CHECK_INT(read(fd, text, sizeof(text)), 3);
	close(fd);
	ipc_packet_done(&in);
	ipc_packet_done(&out);
	ipc_packet_done(&errors);

	CHECK_OK(ask_stdio(&r, 8, "", "", "/mnt/stdio/err", err));
	errors = stream(&r, MOUNTD_AGENTD_STDERR, 8);
	ipc_packet_done(&errors);
	CHECK_OK(ask_stdio(&r, 9, "", "", "", err));
	CHECK(!next_packet(r.agentd, &ipc_mountd_agentd, &out));
	rig_close(&r);
}

TEST(refused_streams)
{
	static const struct {
		const char *path;
		int code;
		const char *says;
	} cases[] = {
		{ "/mnt/stdio/file", EINVAL,
			"stdout '/mnt/stdio/file' is a regular file, not a FIFO" },
		{ "/mnt/stdio/dir", EINVAL, "is a directory, not a FIFO" },
		{ "/mnt/stdio/dev", EINVAL, "is a device, not a FIFO" },
		{ "/mnt/stdio/link", EINVAL, "is a symbolic link, not a FIFO" },
		{ "/mnt/stdio/up/in", ELOOP, "symbolic link" },
		{ "/mnt/stdio/none", ENOENT, "does not exist" },
		{ "/mnt/stdio/../stdio/in", EINVAL, "without '.', '..' and '//'" },
		{ "/mnt/secret/fifo", EPERM, "beneath none of the directories of stdio_prefixes" },
		{ "stdio/in", EINVAL, "is not an absolute path" },
		{ "binary:///usr/bin/logger?id=1", EOPNOTSUPP, "'binary://' are not supported" },
		{ "file:///mnt/stdio/in", EOPNOTSUPP, "'file://' are not supported" },
	};
	struct rig r = world_up(0);
	struct ipc_packet p;

	make_fifo("in");
	make_file("/mnt/stdio/file", "");
	make_dir("/mnt/stdio/dir");
	CHECK_INT(mknod("/mnt/stdio/dev", S_IFCHR | 0600, makedev(1, 3)), 0);
	CHECK_INT(symlink("in", "/mnt/stdio/link"), 0);
	CHECK_INT(symlink("/mnt/stdio", "/mnt/stdio/up"), 0);
	CHECK_INT(mkfifo("/mnt/secret/fifo", 0600), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct error err = ERROR_INIT;
		/* A good stream before the bad one: agentd gets neither. */
		int code = ask_stdio(&r, 1, "/mnt/stdio/in", cases[i].path, "", &err);

		if (code != cases[i].code || !strstr(err.msg, cases[i].says))
			test_fail(__FILE__, __LINE__, "%s: %d, %s", cases[i].path, code, err.msg);
		CHECK(!next_packet(r.agentd, &ipc_mountd_agentd, &p));
	}
	rig_close(&r);
}

TEST(a_fifo_swapped_with_a_file)
{
	struct rig r = world_up(0);
	unsigned opened = 0, refused = 0, i;
	pid_t pid;

	make_fifo("out");
	make_file("/mnt/stdio/file", "");
	pid = swapper("/mnt/stdio/out", "/mnt/stdio/file");
	for
		RACE(i, 3000)
		{
			struct error err = ERROR_INIT;
			struct ipc_packet p;

			if (ask_stdio(&r, i, "", "/mnt/stdio/out", "", &err) == 0) {
				p = stream(&r, MOUNTD_AGENTD_STDOUT, i);
				ipc_packet_done(&p);
				opened++;
			} else {
				CHECK_CONTAINS(err.msg, "is a regular file, not a FIFO");
				refused++;
			}
		}
	stop(pid);
	CHECK(opened > 0 && refused > 0);
	rig_close(&r);
}

/* ------------------------------------------------------------------------- events */

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	CHECK_INT(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	CHECK_INT(listen(fd, 4), 0);
	return fd;
}

static int ask_events(struct rig *r, int *ret_fd, struct error *err)
{
	Ipc__MountdOpenEvents req = IPC__MOUNTD_OPEN_EVENTS__INIT;
	struct ipc_packet p;

	CHECK_INT(channel_send(r->role.channel, &ipc_frontend_mountd, IPC_REQUEST,
			  MOUNTD_OPEN_EVENTS, 77, &req.base, NULL, 0, 1000, err),
		0);
	CHECK_INT(channel_recv(r->role.channel, &ipc_frontend_mountd, 0, &p, err), 1);
	if (p.hdr.kind == IPC_ERROR) {
		CHECK_INT(ipc_decode_error(&p, err), 0);
		return err->code;
	}
	*ret_fd = fdlist_steal(&p.fds, 0);
	ipc_packet_done(&p);
	return 0;
}

TEST(events)
{
	static const char *const more[] = { "events=/mnt/containerd.ttrpc", NULL };
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int listener, peer, fd = -1;
	struct rig r;

	world_make();
	r = rig_start(more);
	role_lock(&r.role);
	CHECK_REFUSED(ask_events(&r, &fd, err), ENOENT, "containerd's events socket");
	listener = listen_at("/mnt/containerd.ttrpc");
	CHECK_OK(ask_events(&r, &fd, err));
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK_INT(getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &cred, &len), 0);
	CHECK_INT(cred.uid, 0); /* containerd demands it */
	CHECK_INT(cred.gid, 0);
	close(listener);
	close(peer);
	close(fd);
	rig_close(&r);
}

TEST(no_events_socket)
{
	struct rig r = world_up(0);
	int fd = -1;

	CHECK_REFUSED(ask_events(&r, &fd, err), ENOENT, "named no events socket");
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
	static const char *const rw[] = { "rw", NULL };
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

/* ---------------------------------------------------------------------- the share */

static int ask_share(struct rig *r, struct error *err)
{
	Ipc__MountdStartShare req = IPC__MOUNTD_START_SHARE__INIT;

	return role_ask(&r->role, &ipc_frontend_mountd, MOUNTD_START_SHARE, &req.base, err);
}

#define VIRTIOFSD "/usr/lib/qemu/virtiofsd"

/* The real slot, with our end of mountd's channel to it. */
static struct started slot_up(struct rig *r, const char *binary)
{
	static const char *const args[] = { "kind=virtiofsd", "uid=0", "binary=" VIRTIOFSD,
		"share=/mnt/share", NULL };
	int ctl[2], null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int file = open(binary, O_PATH | O_CLOEXEC);
	int mountd = (int)syscall(SYS_pidfd_open, r->role.pid, 0);
	struct started slot;

	if (file < 0)
		test_skip("no " VIRTIOFSD);
	test_pair(ctl);

	struct test_fd fds[] = {
		{ 0, null },
		{ 1, null },
		{ 2, STDERR_FILENO },
		{ FD_CTL, ctl[1] },
		{ SLOT_FD_JOB, r->slot },
		{ SLOT_FD_BINARY, file },
		{ SLOT_FD_NS, mountd },
		{ -1, -1 },
	};
	slot = (struct started){
		.pid = test_spawn("bulkhead-slot", args, fds),
		.ctl = ctl[0],
		.log = -1,
		.channel = -1,
	};
	close(ctl[1]);
	close(null);
	close(file);
	close(mountd);
	fd_close(&r->slot);
	CHECK_INT(ctl_send(slot.ctl, CTL_GO, ROLE_VIRTIOFSD, 0, NULL), 0);
	role_lock(&slot);
	return slot;
}

/* virtiofsd's worker: the child of the one that waits. */
static int worker_of(int pid)
{
	for (int i = 0; i < 500; i++) {
		int child = atoi(text_of_file("/proc/%d/task/%d/children", pid, pid));
		char seccomp[16];

		if (child > 0) {
			proc_status(child, "Seccomp", seccomp, sizeof(seccomp));
			if (strcmp(seccomp, "2") == 0)
				return child;
		}
		usleep(10000);
	}
	test_fail(__FILE__, __LINE__, "virtiofsd has no worker with a filter");
}

/* Its end of the work done, the one that waits has given up what it had. */
static void wait_without_caps(int pid)
{
	char caps[32] = "";

	for (int i = 0; i < 500; i++) {
		proc_status(pid, "CapEff", caps, sizeof(caps));
		if (strtoull(caps, NULL, 16) == 0)
			return;
		usleep(10000);
	}
	test_fail(__FILE__, __LINE__, "virtiofsd's first process still has capabilities %s", caps);
}

static const char *in_proc(int pid, const char *path)
{
	static char text[256];

	snprintf(text, sizeof(text), "/proc/%d/root%s", pid, path);
	return text;
}

/* START_SHARE is not permitted a second time: mountd's exit status. */
static int ask_twice(struct rig *r)
{
	Ipc__MountdStartShare req = IPC__MOUNTD_START_SHARE__INIT;

	CHECK_INT(channel_send(r->role.channel, &ipc_frontend_mountd, IPC_REQUEST,
			  MOUNTD_START_SHARE, 99, &req.base, NULL, 0, 1000, NULL),
		0);
	return WEXITSTATUS(role_ends(&r->role, 5000));
}

static int take_share(struct rig *r)
{
	struct ipc_packet p = { .fds = FDLIST_INIT };
	int fd;

	CHECK(next_packet(r->vmmd, &ipc_mountd_vmmd, &p));
	CHECK_INT(p.hdr.type, MOUNTD_VMMD_SHARE);
	fd = fdlist_steal(&p.fds, 0);
	ipc_packet_done(&p);
	return fd;
}

/* Those that act on files; then those that it takes to build its own sandbox. */
#define FILE_CAPS                                                                     \
	(BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) | \
		BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETFCAP))
#define SLOT_CAPS (FILE_CAPS | BIT(CAP_SYS_ADMIN) | BIT(CAP_SETPCAP) | BIT(CAP_MKNOD))

/* virtiofsd gives up the rest last of all, some time after it has a filter of its own. */
static unsigned long long caps_left(int pid, unsigned long long allowed)
{
	unsigned long long caps = 0;
	char text[32];

	for (int i = 0; i < 500; i++) {
		proc_status(pid, "CapEff", text, sizeof(text));
		caps = strtoull(text, NULL, 16);
		if (!(caps & ~allowed))
			break;
		usleep(10000);
	}
	return caps;
}

static void check_jail(int pid, unsigned long long caps_allowed)
{
	char nnp[8];

	CHECK(!same_namespace(pid, getpid(), "user"));
	CHECK(!same_namespace(pid, getpid(), "mnt"));
	CHECK(!same_namespace(pid, getpid(), "net"));
	CHECK(!same_namespace(pid, getpid(), "ipc"));
	CHECK(!same_namespace(pid, getpid(), "uts"));
	CHECK_STR(text_of_file("/proc/%d/uid_map", pid), "         0          0 4294967295\n");
	CHECK_STR(text_of_file("/proc/%d/gid_map", pid), "         0          0 4294967295\n");
	proc_status(pid, "NoNewPrivs", nnp, sizeof(nnp));
	CHECK_STR(nnp, "1");
	CHECK_INT(caps_left(pid, caps_allowed) & ~caps_allowed, 0);
}

/* Nothing of the host but what its slot left in its root. */
static void check_root(int pid)
{
	CHECK_INT(access(in_proc(pid, "/usr/bin"), F_OK), 0);
	CHECK_INT(access(in_proc(pid, "/mnt"), F_OK), -1);
	CHECK_INT(access(in_proc(pid, "/etc/passwd"), F_OK), -1);
	CHECK_INT(access(in_proc(pid, "/dev"), F_OK), -1);
	CHECK_INT(mkdir(in_proc(pid, "/x"), 0700), -1);
	CHECK_INT(errno, EROFS);
	CHECK_INT(mkdir(in_proc(pid, "/usr/x"), 0700), -1);
	CHECK_INT(errno, EROFS);
}

TEST(share_with_the_real_virtiofsd)
{
	static const char *const ro[] = { "ro", NULL };
	struct rig r = world_up(5);
	struct started slot;
	int worker, share;

	CHECK_OK(add_overlay(&r, 0, 3, two_layers, err)); /* before V exists */
	slot = slot_up(&r, VIRTIOFSD);
	check_root(slot.pid);
	check_jail(slot.pid, SLOT_CAPS);
	CHECK_OK(ask_share(&r, err));
	share = take_share(&r);
	worker = worker_of(slot.pid);
	wait_without_caps(slot.pid);
	check_jail(slot.pid, 0); /* only waits */
	check_jail(worker, FILE_CAPS);

	CHECK_STR(text_of_file("%s", in_proc(worker, "/c0/rootfs/l1")), "layer 1");
	CHECK_OK(add_overlay(&r, 1, 4, two_layers, err)); /* after */
	CHECK_STR(text_of_file("%s", in_proc(worker, "/c1/rootfs/l4")), "layer 4");
	make_file(in_proc(worker, "/c1/rootfs/new"), "new");
	CHECK_STR(text_of_file("/mnt/snap/4/fs/new"), "new");
	CHECK_OK(add(&r, 2, "", "bind", "/mnt/snap/5/fs", ro, err));
	CHECK_STR(text_of_file("%s", in_proc(worker, "/c2/rootfs/l5")), "layer 5");
	CHECK_INT(open(in_proc(worker, "/c2/rootfs/x"), O_CREAT | O_WRONLY, 0600), -1);
	CHECK_INT(errno, EROFS);

	/* The skeleton is read-only there. */
	CHECK_INT(mkdir(in_proc(worker, "/c9"), 0700), -1);
	CHECK_INT(errno, EROFS);
	CHECK_INT(mkdir(in_proc(worker, "/c0/x"), 0700), -1);
	CHECK_INT(errno, EROFS);

	CHECK_OK(del(&r, 1, err));
	CHECK_INT(access(in_proc(worker, "/c1"), F_OK), -1);
	CHECK(!in_use(4));
	CHECK(in_use(3));

	CHECK_INT(ask_twice(&r), 70);
	close(share); /* QEMU's end: virtiofsd ends with it */
	CHECK_INT(role_ends(&slot, 5000), 0);
	for (int i = 0; i < 100 && in_use(3); i++)
		usleep(20000);
	CHECK(!in_use(3));
	role_close(&slot);
	rig_close(&r);
}

TEST(a_slot_that_cannot_execute)
{
	struct rig r = world_up(0);
	struct started slot = slot_up(&r, "/etc/passwd");

	CHECK_REFUSED(ask_share(&r, err), EACCES, "start virtiofsd: execute " VIRTIOFSD);
	role_close(&slot);
	rig_close(&r);
}

TEST(a_slot_that_is_silent)
{
	static const char *const more[] = { "timeout_ms=300", NULL };
	struct rig r;

	world_make();
	r = rig_start(more);
	role_lock(&r.role);
	CHECK_REFUSED(ask_share(&r, err), ETIMEDOUT, "did not start it within 300 ms");
	rig_close(&r);
}

TEST(what_the_slot_is_told)
{
	struct rig r = world_up(0);
	Ipc__MountdStartShare req = IPC__MOUNTD_START_SHARE__INIT;
	struct ipc_packet p = { .fds = FDLIST_INIT };
	struct error err = ERROR_INIT;
	char all[1024] = "";
	int listener = -1, peer;

	CHECK_INT(channel_send(r.role.channel, &ipc_frontend_mountd, IPC_REQUEST,
			  MOUNTD_START_SHARE, 1, &req.base, NULL, 0, 1000, &err),
		0);
	do {
		ProtobufCMessage *msg;

		CHECK_INT(channel_recv(r.slot, &ipc_slot, 0, &p, &err), 1);
		msg = ipc_decode(&p, &err);
		if (p.hdr.type == SLOT_ARG) {
			strcat(all, ((Ipc__SlotArg *)msg)->part);
			strcat(all, " ");
			CHECK(((Ipc__SlotArg *)msg)->last);
		} else if (p.hdr.type == SLOT_FD) {
			CHECK_INT(((Ipc__SlotFd *)msg)->target, 3);
			CHECK_INT(fd_check_kind(p.fds.fd[0], FD_UNIX_LISTENER, &err), 0);
			listener = fdlist_steal(&p.fds, 0);
		}
		ipc_free(msg);
		ipc_packet_done(&p);
	} while (p.hdr.type != SLOT_EXEC);
	CHECK_CONTAINS(all, "--fd=3 -f -o source=/share -o sandbox=namespace ");
	/* No name of it is left: neither abstract nor in a directory. */
	CHECK(!strstr(text_of_file("/proc/net/unix"), "virtiofsd"));
	CHECK(!strstr(text_of_file("/proc/%d/net/unix", r.role.pid), "@"));
	fd_close(&r.slot); /* it runs */
	CHECK_INT(channel_recv(r.role.channel, &ipc_frontend_mountd, 0, &p, &err), 1);
	CHECK_INT(p.hdr.kind, IPC_REPLY);
	ipc_packet_done(&p);
	close(take_share(&r));
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(peer >= 0);
	close(peer);
	close(listener);
	rig_close(&r);
}
