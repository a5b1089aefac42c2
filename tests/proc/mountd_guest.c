/* The real bulkhead-mountd and virtiofsd, and a guest that asks by hand for what no kernel asks for. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "tests/proc/mountd_world.h"
#include "tests/proc/vhost_fs.h"

TEST_PATIENCE(120)

#define OPENS_MAX 1000000U

static struct rig r;
static struct started slot;
static int share;

/* c0: an overlay that can be written; c1: a bind that cannot. */
static void up(void)
{
	static const char *const ro[] = { "ro", NULL };

	rig_installed_virtiofsd();
	r = world_up(3);
	CHECK_INT(chmod("/mnt/secret/marker", 0600), 0);
	CHECK_OK(add_overlay(&r, 0, 3, two_layers, err));
	CHECK_OK(add(&r, 1, "", "bind", "/mnt/snap/2/fs", ro, err));
	slot = slot_up(&r, rig_virtiofsd);
	CHECK_OK(ask_share(&r, err));
	share = take_share(&r);
	vhost_fs_open(share);
}

static void down(void)
{
	vhost_fs_close();
	close(share);
	role_ends(&slot, 5000);
	role_close(&slot);
	rig_close(&r);
}

/* ---- all of the small host, as one number ---- */

static uint64_t sum;

static int add_up(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	char line[512];

	(void)type, (void)ftw;
	snprintf(line, sizeof(line), "%s %o %u %u %lld %u", path, st->st_mode, st->st_uid, st->st_gid,
		S_ISDIR(st->st_mode) ? 0LL : (long long)st->st_size, (unsigned)st->st_nlink);
	for (const char *c = line; *c; c++)
		sum = (sum ^ (uint8_t)*c) * 0x100000001b3ULL;
	return 0;
}

static uint64_t host(void)
{
	sum = 0xcbf29ce484222325ULL;
	CHECK_INT(nftw("/mnt", add_up, 16, FTW_PHYS), 0);
	return sum;
}

/* ---- requests ---- */

#define NAMES(...) __VA_ARGS__, sizeof(__VA_ARGS__)

static char names[512];

/* Two names, one behind the other. The length. */
static size_t two(const char *a, const char *b)
{
	size_t n = strlen(a) + 1;

	memcpy(names, a, n);
	memcpy(names + n, b, strlen(b) + 1);
	return n + strlen(b) + 1;
}

static int ask(uint32_t opcode, uint64_t node, const void *in, size_t in_len, size_t names_len)
{
	return vhost_fs(&(struct vhost_fs_ask){ .opcode = opcode, .node = node, .in = in,
		.in_len = in_len, .names = names, .names_len = names_len });
}

static int ask_one(uint32_t opcode, uint64_t node, const void *in, size_t in_len, const char *name)
{
	memcpy(names, name, strlen(name) + 1);
	return ask(opcode, node, in, in_len, strlen(name) + 1);
}

static int guest_symlink(uint64_t node, const char *name, const char *target)
{
	return ask(FUSE_SYMLINK, node, NULL, 0, two(name, target));
}

static int guest_mknod(uint64_t node, const char *name, mode_t mode, dev_t rdev)
{
	struct fuse_mknod_in in = { .mode = mode, .rdev = (uint32_t)rdev };

	return ask_one(FUSE_MKNOD, node, &in, sizeof(in), name);
}

static int guest_mkdir(uint64_t node, const char *name)
{
	struct fuse_mkdir_in in = { .mode = 0777 };

	return ask_one(FUSE_MKDIR, node, &in, sizeof(in), name);
}

static int guest_link(uint64_t old, uint64_t node, const char *name)
{
	struct fuse_link_in in = { .oldnodeid = old };

	return ask_one(FUSE_LINK, node, &in, sizeof(in), name);
}

static int guest_rename(uint64_t from, const char *name, uint64_t to, const char *as)
{
	struct fuse_rename_in in = { .newdir = to };

	return ask(FUSE_RENAME, from, &in, sizeof(in), two(name, as));
}

static int guest_create(uint64_t node, const char *name, uint32_t mode, uint32_t uid)
{
	struct fuse_create_in in = { .flags = O_CREAT | O_RDWR, .mode = S_IFREG | mode };
	struct {
		struct fuse_entry_out entry;
		struct fuse_open_out open;
	} out;

	return vhost_fs(&(struct vhost_fs_ask){ .opcode = FUSE_CREATE, .node = node, .uid = uid,
		.gid = uid, .in = &in, .in_len = sizeof(in), .names = name,
		.names_len = strlen(name) + 1, .out = &out, .out_len = sizeof(out) });
}

static int guest_open(uint64_t node, uint32_t flags, uint64_t *fh)
{
	struct fuse_open_in in = { .flags = flags };
	struct fuse_open_out out = { 0 };
	int code = vhost_fs(&(struct vhost_fs_ask){ .opcode = FUSE_OPEN, .node = node, .in = &in,
		.in_len = sizeof(in), .out = &out, .out_len = sizeof(out) });

	if (fh)
		*fh = out.fh;
	return code;
}

static int guest_chmod(uint64_t node, mode_t mode)
{
	struct fuse_setattr_in in = { .valid = FATTR_MODE, .mode = mode };

	return ask(FUSE_SETATTR, node, &in, sizeof(in), 0);
}

static int guest_truncate(uint64_t node)
{
	struct fuse_setattr_in in = { .valid = FATTR_SIZE };

	return ask(FUSE_SETATTR, node, &in, sizeof(in), 0);
}

static int guest_setxattr(uint64_t node, const char *name, const void *value, size_t len)
{
	/* As of before its flags grew: the guest did not ask for those. */
	const struct {
		uint32_t size, flags;
	} in = { (uint32_t)len, 0 };
	size_t n = strlen(name) + 1;

	memcpy(names, name, n);
	memcpy(names + n, value, len);
	return ask(FUSE_SETXATTR, node, &in, sizeof(in), n + len);
}

/* ---- names ---- */

/* A guest's kernel splits paths before it asks: virtiofsd must take none, in any place of any request. */
TEST(names_that_lead_out_of_the_share)
{
	static const char *const bad[] = { "..", ".", "", "/", "/mnt/secret/marker", "../x", "a/b",
		"l1/../../../../mnt/secret/x", "../../../secret/x", "./x" };
	uint64_t before, root, file, top;
	struct fuse_entry_out e;

	up();
	root = vhost_fs_walk("c0/rootfs");
	file = vhost_fs_walk("c0/rootfs/l3");
	before = host();
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		CHECK(guest_symlink(root, bad[i], "x") > 0);
		CHECK(guest_mknod(root, bad[i], S_IFREG | 0666, 0) > 0);
		CHECK(guest_mkdir(root, bad[i]) > 0);
		CHECK(guest_link(file, root, bad[i]) > 0);
		CHECK(guest_rename(root, "l3", root, bad[i]) > 0);
		CHECK(guest_rename(root, bad[i], root, "n") > 0);
		CHECK(guest_create(root, bad[i], 0666, 0) > 0);
		CHECK(ask_one(FUSE_UNLINK, root, NULL, 0, bad[i]) > 0);
		CHECK(ask_one(FUSE_RMDIR, root, NULL, 0, bad[i]) > 0);
		if (strchr(bad[i], '/') || !bad[i][0])
			CHECK(vhost_fs_lookup(root, bad[i], &e) > 0);
	}
	CHECK_INT(host() == before, true);
	/* However often it goes up, it stays in the share. */
	top = root;
	for (int i = 0; i < 8; i++) {
		if (vhost_fs_lookup(top, "..", &e) != 0)
			break;
		top = e.nodeid;
	}
	CHECK_INT(vhost_fs_lookup(top, "mnt", &e), ENOENT);
	CHECK_INT(vhost_fs_lookup(top, "usr", &e), ENOENT);
	down();
}

/* ---- what is made ---- */

TEST(a_link_of_the_guests_leads_nowhere_on_the_host)
{
	uint64_t root, link, fh;
	struct fuse_entry_out e;
	struct stat st;

	up();
	root = vhost_fs_walk("c0/rootfs");
	CHECK_INT(guest_symlink(root, "link", "/mnt/secret/marker"), 0);
	CHECK_INT(guest_symlink(root, "dir", "/mnt/secret"), 0);
	link = vhost_fs_walk("c0/rootfs/link");
	CHECK(guest_open(link, O_RDONLY, &fh) > 0);
	CHECK(guest_open(link, O_RDWR | O_TRUNC, &fh) > 0);
	CHECK(guest_truncate(link) > 0);
	(void)guest_chmod(link, 0777); /* of the link, if at all */
	CHECK_INT(stat("/mnt/secret/marker", &st), 0);
	CHECK_INT(st.st_mode & 07777, 0600);
	link = vhost_fs_walk("c0/rootfs/dir");
	CHECK_INT(vhost_fs_lookup(link, "marker", &e), ENOTDIR);
	CHECK_INT(guest_create(link, "x", 0666, 0), ENOTDIR);
	CHECK(ask_one(FUSE_UNLINK, link, NULL, 0, "marker") > 0);
	CHECK_INT(access("/mnt/secret/x", F_OK), -1);
	CHECK_INT(access("/mnt/secret/marker", F_OK), 0);
	down();
}

TEST(devices_are_neither_made_nor_opened)
{
	uint64_t root;

	up();
	root = vhost_fs_walk("c0/rootfs");
	CHECK_INT(guest_mknod(root, "null", S_IFCHR | 0666, makedev(1, 3)), EPERM);
	CHECK_INT(guest_mknod(root, "disk", S_IFBLK | 0666, makedev(8, 0)), EPERM);
	/* From an image, or from the host. */
	CHECK_INT(mknod("/mnt/snap/3/fs/node", S_IFCHR | 0666, makedev(1, 3)), 0);
	CHECK_INT(mkfifo("/mnt/snap/3/fs/fifo", 0666), 0);
	CHECK(guest_open(vhost_fs_walk("c0/rootfs/node"), O_RDWR, NULL) > 0);
	CHECK(guest_open(vhost_fs_walk("c0/rootfs/fifo"), O_RDWR, NULL) > 0);
	down();
}

/* Renamed, linked or removed beyond a mount: into another container's, or the share's own directories. */
TEST(nothing_leaves_its_mount)
{
	uint64_t c0, c1, root, other, file;

	up();
	c0 = vhost_fs_walk("c0");
	c1 = vhost_fs_walk("c1");
	root = vhost_fs_walk("c0/rootfs");
	other = vhost_fs_walk("c1/rootfs");
	file = vhost_fs_walk("c0/rootfs/l3");
	CHECK(guest_rename(root, "l3", other, "l3") > 0);
	CHECK(guest_rename(root, "l3", c1, "l3") > 0);
	CHECK(guest_link(file, other, "l3") > 0);
	CHECK(guest_link(file, c0, "l3") > 0);
	CHECK(guest_rename(c0, "rootfs", c0, "gone") > 0);
	CHECK(guest_rename(FUSE_ROOT_ID, "c1", FUSE_ROOT_ID, "c9") > 0);
	CHECK(ask_one(FUSE_RMDIR, FUSE_ROOT_ID, NULL, 0, "c1") > 0);
	CHECK_INT(guest_mkdir(FUSE_ROOT_ID, "c9"), EROFS);
	CHECK_INT(guest_create(c0, "x", 0666, 0), EROFS);
	CHECK_INT(access(in_m(&r, "/mnt/share/c9"), F_OK), -1);
	CHECK_STR(text_of_file("%s", in_m(&r, "/mnt/share/c0/rootfs/l3")), "layer 3");
	CHECK_OK(del(&r, 1, err));
	CHECK_OK(del(&r, 0, err));
	down();
}

/* What an overlay believes of its upper directory is root's to write: a redirect leads anywhere. */
TEST(attributes_that_mean_something_to_the_host)
{
	static const uint8_t cap_net_raw[20] = { 1, 0, 0, 2, 0, 0x20, 0, 0 };
	uint64_t root, file;

	up();
	root = vhost_fs_walk("c0/rootfs");
	file = vhost_fs_walk("c0/rootfs/l3");
	CHECK(guest_setxattr(root, "trusted.overlay.redirect", NAMES("/mnt/secret")) > 0);
	CHECK(guest_setxattr(root, "trusted.overlay.opaque", NAMES("y")) > 0);
	CHECK(guest_setxattr(file, "trusted.overlay.metacopy", NAMES("")) > 0);
	CHECK_INT(getxattr("/mnt/snap/3/fs", "trusted.overlay.redirect", NULL, 0), -1);
	/* An image's file may have capabilities, as it may have set-id bits; a file that cannot be
	 * written gets none. */
	(void)guest_setxattr(file, "security.capability", cap_net_raw, sizeof(cap_net_raw));
	CHECK(guest_setxattr(vhost_fs_walk("c1/rootfs/l2"), "security.capability", cap_net_raw,
		      sizeof(cap_net_raw)) > 0);
	CHECK_INT(getxattr("/mnt/snap/2/fs/l2", "security.capability", NULL, 0), -1);
	CHECK_INT(getxattr("/mnt/secret/marker", "security.capability", NULL, 0), -1);
	down();
}

TEST(what_is_read_only_stays_as_it_is)
{
	struct fuse_write_in write = { .size = 4 };
	struct fuse_fallocate_in fallocate = { .length = 1 << 20 };
	struct fuse_setupmapping_in {
		uint64_t fh, foffset, len, flags, moffset;
	} map = { .len = 4096, .flags = 3 };
	uint64_t root, file, fh, before;

	up();
	root = vhost_fs_walk("c1/rootfs");
	file = vhost_fs_walk("c1/rootfs/l2");
	before = host();
	CHECK_INT(guest_open(file, O_RDWR, NULL), EROFS);
	CHECK_INT(guest_open(file, O_WRONLY | O_TRUNC, NULL), EROFS);
	CHECK_INT(guest_truncate(file), EROFS);
	CHECK_INT(guest_chmod(file, 0777), EROFS);
	CHECK_INT(guest_create(root, "x", 0666, 0), EROFS);
	CHECK_INT(guest_mkdir(root, "x"), EROFS);
	CHECK_INT(guest_symlink(root, "x", "y"), EROFS);
	CHECK_INT(guest_link(file, root, "x"), EROFS);
	CHECK_INT(guest_rename(root, "l2", root, "x"), EROFS);
	CHECK_INT(ask_one(FUSE_UNLINK, root, NULL, 0, "l2"), EROFS);
	/* Through what was opened for reading. */
	CHECK_INT(guest_open(file, O_RDONLY, &fh), 0);
	write.fh = fallocate.fh = map.fh = fh;
	memcpy(names, "evil", 4);
	CHECK(ask(FUSE_WRITE, file, &write, sizeof(write), 4) != 0);
	CHECK(ask(FUSE_FALLOCATE, file, &fallocate, sizeof(fallocate), 0) != 0);
	CHECK(ask(48 /* FUSE_SETUPMAPPING */, file, &map, sizeof(map), 0) != 0);
	CHECK_INT(host() == before, true);
	CHECK_STR(text_of_file("/mnt/snap/2/fs/l2"), "layer 2");
	down();
}

/* A file takes its directory's group there; the bit that lends that group is not for who is not in it. */
TEST(a_set_gid_directory_lends_its_group_to_nobody)
{
	struct stat st;

	up();
	CHECK_INT(mkdir("/mnt/snap/3/fs/shared", 0777), 0);
	CHECK_INT(chown("/mnt/snap/3/fs/shared", 0, 12345), 0);
	CHECK_INT(chmod("/mnt/snap/3/fs/shared", 02777), 0);
	CHECK_INT(guest_create(vhost_fs_walk("c0/rootfs/shared"), "tool", 02755, 1000), 0);
	CHECK_INT(stat("/mnt/snap/3/fs/shared/tool", &st), 0);
	CHECK_INT(st.st_uid, 1000);
	CHECK_INT(st.st_gid, 12345);
	CHECK_INT(st.st_mode & 07777, 0755);
	down();
}

/* ---- numbers ---- */

TEST(nodes_and_handles_that_never_were)
{
	static const uint64_t bad[] = { 0, 2, 0xdeadbeef, 1ULL << 63, UINT64_MAX };
	struct fuse_getattr_in getattr = { 0 };
	struct fuse_entry_out e;
	uint64_t before, file;

	up();
	before = host();
	file = vhost_fs_walk("c0/rootfs/l3");
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct fuse_read_in read = { .fh = bad[i], .size = 4096 };
		struct fuse_release_in release = { .fh = bad[i] };
		uint64_t node = bad[i] + (bad[i] == 2 ? 1000 : 0);

		CHECK(ask(FUSE_GETATTR, node, &getattr, sizeof(getattr), 0) > 0);
		CHECK(vhost_fs_lookup(node, "l1", &e) > 0);
		CHECK(guest_open(node, O_RDONLY, NULL) > 0);
		CHECK(ask(FUSE_READ, file, &read, sizeof(read), 0) > 0);
		(void)ask(FUSE_RELEASE, file, &release, sizeof(release), 0);
	}
	CHECK_INT(vhost_fs_lookup(FUSE_ROOT_ID, "c0", &e), 0); /* it still serves */
	CHECK_INT(host() == before, true);
	down();
}

/* A file stays open until the guest says otherwise: so many, and no more. */
TEST(opens_without_end)
{
	struct fuse_release_in release = { 0 };
	struct fuse_entry_out e;
	uint64_t file;
	unsigned n = 0;
	int code;

	up();
	file = vhost_fs_walk("c0/rootfs/l3");
	while ((code = guest_open(file, O_RDONLY, &release.fh)) == 0 && n < OPENS_MAX)
		n++;
	CHECK(code == EMFILE || code == ENFILE);
	printf("         %u files are open at most\n", n);
	release.fh = 0;
	CHECK_INT(ask(FUSE_RELEASE, file, &release, sizeof(release), 0), 0);
	CHECK_INT(vhost_fs_lookup(FUSE_ROOT_ID, "c0", &e), 0);
	CHECK_OK(add_overlay(&r, 2, 2, (const unsigned[]){ 1, 0 }, err)); /* mountd has its own */
	down();
}
