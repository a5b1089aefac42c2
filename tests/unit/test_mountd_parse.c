/* mountd's pure parts: paths, the rootfs mount's options, config.json, virtiofsd's arguments. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mountd/paths.h"
#include "mountd/plan.h"
#include "mountd/spec.h"
#include "mountd/virtiofsd.h"
#include "tests/lib/test.h"

TEST(normal_paths)
{
	static const char *const good[] = { "/a", "/a/b", "/.a", "/a/..b", "/a/b...", "/a b/c:d" };
	static const char *const bad[] = { "", "/", "a", "a/b", "//", "//a", "/a/", "/a//b", "/.",
		"/..", "/a/.", "/a/..", "/a/../b", "/a/./b", "./a", "../a" };

	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
		if (!path_is_normal(good[i]))
			test_fail(__FILE__, __LINE__, "'%s' is normal", good[i]);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		if (path_is_normal(bad[i]))
			test_fail(__FILE__, __LINE__, "'%s' is not normal", bad[i]);
}

TEST(names)
{
	CHECK(path_is_name("c1"));
	CHECK(path_is_name("..."));
	CHECK(!path_is_name(""));
	CHECK(!path_is_name("."));
	CHECK(!path_is_name(".."));
	CHECK(!path_is_name("a/b"));
	CHECK(!path_is_name("/"));
}

TEST(behind_a_prefix)
{
	CHECK_STR(path_behind("/var/lib/x", "/var/lib"), "x");
	CHECK_STR(path_behind("/var/lib", "/var/lib"), "");
	CHECK(!path_behind("/var/library", "/var/lib"));
	CHECK(!path_behind("/var", "/var/lib"));
}

static void with_prefix(struct prefixes *p, char *dir)
{
	struct option_list list = { .n = 2, .item = { dir, "/nowhere/at/all" } };
	struct error err = ERROR_INIT;

	strcpy(dir, "/tmp/mountd-unit.XXXXXX");
	CHECK(mkdtemp(dir));
	CHECK_INT(prefixes_open(p, "rootfs_prefixes", &list, &err), 0);
	CHECK_INT(p->n, 2);
	CHECK_INT(p->item[1].fd, -1);
}

static int open_beneath(
	const struct prefixes *p, const char *dir, const char *rest, struct error *err)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s%s", dir, rest);
	fd = prefixes_open_path(p, "source", path, O_PATH, err);
	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

TEST(prefixes_hold)
{
	struct prefixes p;
	struct error err = ERROR_INIT;
	char dir[64], path[128];
	int fd;

	with_prefix(&p, dir);
	snprintf(path, sizeof(path), "%s/file", dir);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	CHECK_INT(open_beneath(&p, dir, "/file", &err), 0);

	CHECK_INT(open_beneath(&p, dir, "/../../etc", &err), -EINVAL);
	CHECK_INT(open_beneath(&p, dir, "/./file", &err), -EINVAL);
	CHECK_INT(open_beneath(&p, dir, "", &err), -EPERM);
	CHECK_INT(open_beneath(&p, dir, "x/file", &err), -EPERM); /* another directory's name */
	CHECK_INT(open_beneath(&p, "", "/etc/passwd", &err), -EPERM);
	CHECK_CONTAINS(err.msg, "rootfs_prefixes");
	CHECK_INT(open_beneath(&p, "", "/nowhere/at/all/x", &err), -ENOENT);
	CHECK_CONTAINS(err.msg, "did not exist");
	CHECK_INT(open_beneath(&p, dir, "/none", &err), -ENOENT);
	CHECK_CONTAINS(err.msg, "does not exist");

	unlink(path);
	CHECK_INT(symlink("/etc/passwd", path), 0);
	CHECK_INT(open_beneath(&p, dir, "/file", &err), -ELOOP);
	CHECK_CONTAINS(err.msg, "symbolic link");
	unlink(path);
	CHECK_INT(symlink("/etc", path), 0);
	CHECK_INT(open_beneath(&p, dir, "/file/passwd", &err), -ELOOP);
	unlink(path);
	close(p.item[0].fd);
	rmdir(dir);
}

TEST(a_prefix_must_be_normal)
{
	struct option_list list = { .n = 1, .item = { "relative" } };
	struct error err = ERROR_INIT;
	struct prefixes p;

	CHECK_INT(prefixes_open(&p, "stdio_prefixes", &list, &err), -EINVAL);
	CHECK_CONTAINS(err.msg, "stdio_prefixes 'relative'");
}

static int plan_of(
	struct rootfs_plan *plan, const char *type, const char **options, struct error *err)
{
	struct rootfs_mount m = { .type = type, .source = "/src", .options = (char **)options };

	while (options[m.n_options])
		m.n_options++;
	return rootfs_plan_read(plan, &m, 1, err);
}

TEST(overlay_options)
{
	const char *options[] = { "index=off", "workdir=/s/3/work", "upperdir=/s/3/fs",
		"lowerdir=/s/2/fs:/s/1/fs", NULL };
	struct rootfs_plan plan;
	struct error err = ERROR_INIT;

	CHECK_INT(plan_of(&plan, "overlay", options, &err), 0);
	CHECK_INT(plan.kind, ROOTFS_OVERLAY);
	CHECK_INT(plan.n_layers, 2);
	CHECK_STR(plan.layers[0], "/s/2/fs");
	CHECK_STR(plan.layers[1], "/s/1/fs");
	CHECK_STR(plan.upper, "/s/3/fs");
	CHECK_STR(plan.work, "/s/3/work");
	CHECK_INT(plan.n_flags, 1);
	CHECK_STR(plan.flags[0], "index=off");
	CHECK(!plan.readonly);
	rootfs_plan_done(&plan);
	rootfs_plan_done(&plan);
}

TEST(lowerdir_escapes)
{
	const char *options[] = { "lowerdir=/a\\:b:/c\\\\d:/e,f", NULL };
	struct rootfs_plan plan;
	struct error err = ERROR_INIT;

	CHECK_INT(plan_of(&plan, "overlay", options, &err), 0);
	CHECK_INT(plan.n_layers, 3);
	CHECK_STR(plan.layers[0], "/a:b");
	CHECK_STR(plan.layers[1], "/c\\d");
	CHECK_STR(plan.layers[2], "/e,f");
	CHECK(plan.readonly); /* no upperdir */
	rootfs_plan_done(&plan);
}

static void refused(const char *type, const char *option, const char *more, const char *says)
{
	const char *options[] = { option, more, NULL };
	struct rootfs_plan plan;
	struct error err = ERROR_INIT;

	if (plan_of(&plan, type, options, &err) == 0)
		test_fail(__FILE__, __LINE__, "%s %s was taken", type, option);
	CHECK_CONTAINS(err.msg, says);
	CHECK_INT(plan.n_layers, 0);
	CHECK(!plan.upper && !plan.work);
}

TEST(overlay_refusals)
{
	refused("overlay", "lowerdir=", NULL, "empty path");
	refused("overlay", "lowerdir=/a::/b", NULL, "empty path");
	refused("overlay", "lowerdir=/a:", NULL, "empty path");
	refused("overlay", "lowerdir=/a", "lowerdir=/b", "lowerdir occurs twice");
	refused("overlay", "lowerdir=/a", "upperdir=/u", "belong together");
	refused("overlay", "upperdir=/a", "upperdir=/u", "upperdir occurs twice");
	refused("overlay", "ro", NULL, "no lowerdir");
	refused("overlay", "lowerdir=/a", "redirect_dir=on", "'redirect_dir=on' is not supported");
	refused("overlay", "lowerdir=/a", "userxattr", "'userxattr' is not supported");
	refused("overlay", "lowerdir=/a", "lowerdir+=/b", "is not supported");
	refused("overlay", "lowerdir=/a", "index=on", "'index=on'");
	refused("overlay", "lowerdir=/a", "", "'' is not supported");
	refused("bind", "loop", NULL, "rootfs mount of type bind: option 'loop'");
	refused("ext4", "loop", "usrquota", "rootfs mount of type ext4: option 'usrquota'");
	refused("xfs", "ro", "context=x", "rootfs mount of type xfs: option 'context=x'");
	refused("btrfs", "ro", NULL, "type 'btrfs' is not supported");
	refused("", "ro", NULL, "type '' is not supported");
}

TEST(block_plan)
{
	const char *rw[] = { "loop", "discard", "noatime", NULL }, *ro[] = { "ro", NULL }, *none[] = { NULL };
	struct error err = ERROR_INIT;
	struct rootfs_plan plan;

	CHECK_INT(plan_of(&plan, "ext4", rw, &err), 0);
	CHECK_INT(plan.kind, ROOTFS_BLOCK);
	CHECK_STR(plan.source, "/src");
	CHECK_STR(plan.fstype, "ext4");
	CHECK(!plan.readonly);
	CHECK_INT(plan.n_flags, 2);
	CHECK_STR(plan.flags[0], "discard");
	CHECK_STR(plan.flags[1], "noatime");
	CHECK_INT(plan_of(&plan, "xfs", ro, &err), 0);
	CHECK(plan.readonly && plan.n_flags == 0);
	/* whatever the options say: nothing can write one */
	CHECK_INT(plan_of(&plan, "erofs", none, &err), 0);
	CHECK(plan.readonly);
}

static int plan_with_layers(unsigned n, struct rootfs_plan *plan, struct error *err)
{
	char text[2048] = "lowerdir=";
	const char *options[] = { text, NULL };

	for (unsigned i = 0; i < n; i++)
		snprintf(
			text + strlen(text), sizeof(text) - strlen(text), "%s/%u", i ? ":" : "", i);
	return plan_of(plan, "overlay", options, err);
}

TEST(number_of_layers)
{
	struct rootfs_plan plan;
	struct error err = ERROR_INIT;

	CHECK_INT(plan_with_layers(100, &plan, &err), 0);
	CHECK_INT(plan.n_layers, 100);
	CHECK_STR(plan.layers[99], "/99");
	rootfs_plan_done(&plan);
	CHECK_INT(plan_with_layers(101, &plan, &err), -E2BIG);
	CHECK_CONTAINS(err.msg, "more than 100 layers");
}

TEST(layer_names_differ_and_fit)
{
	char names[LAYERS_MAX][LAYER_NAME_MAX];
	size_t bytes = 0;

	for (unsigned i = 0; i < LAYERS_MAX; i++) {
		layer_name(i, names[i]);
		bytes += strlen(names[i]) + 1;
		CHECK(strcmp(names[i], "upper") != 0);
		for (unsigned k = 0; k < i; k++)
			CHECK(strcmp(names[i], names[k]) != 0);
	}
	CHECK(bytes <= 256); /* what fsconfig() takes */
}

TEST(bind_options)
{
	const char *rw[] = { "rbind", "rw", NULL }, *ro[] = { "bind", "ro", NULL };
	struct rootfs_plan plan;
	struct error err = ERROR_INIT;

	CHECK_INT(plan_of(&plan, "bind", rw, &err), 0);
	CHECK_INT(plan.kind, ROOTFS_BIND);
	CHECK_STR(plan.source, "/src");
	CHECK(plan.recursive && !plan.readonly);
	CHECK_INT(plan_of(&plan, "bind", ro, &err), 0);
	CHECK(!plan.recursive && plan.readonly);
}

TEST(number_of_mounts)
{
	struct rootfs_mount two[2] = { { .type = "bind", .source = "/a" },
		{ .type = "bind", .source = "/b" } };
	struct rootfs_plan plan;
	struct error err = ERROR_INIT;

	CHECK_INT(rootfs_plan_read(&plan, NULL, 0, &err), 0);
	CHECK_INT(plan.kind, ROOTFS_BUNDLE);
	CHECK_INT(rootfs_plan_read(&plan, two, 2, &err), -EOPNOTSUPP);
	CHECK_CONTAINS(err.msg, "2 mounts");
}

static int spec_of(const char *text, struct spec *spec, struct error *err)
{
	return spec_parse(text, strlen(text), spec, err);
}

TEST(config_json)
{
	struct error err = ERROR_INIT;
	struct spec spec;
	struct spec_mount m;

	CHECK_INT(spec_of("{\"root\":{\"path\":\"rootfs\",\"readonly\":true},"
			  "\"process\":{\"cwd\":\"/work\"},"
			  "\"annotations\":{\"io.kubernetes.cri.sandbox-id\":\"abc\"},"
			  "\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\"},"
			  "{\"destination\":\"/d\",\"type\":\"bind\",\"source\":\"/s\"},"
			  "{\"destination\":\"/e\",\"source\":\"/s\",\"options\":[\"rbind\"]},"
			  "{\"source\":\"/s\"}, 7]}\n ",
			  &spec, &err),
		0);
	CHECK_STR(spec.root_path, "rootfs");
	CHECK(spec.readonly);
	CHECK_STR(spec.sandbox_id, "abc");
	CHECK_STR(spec.cwd, "/work");
	CHECK_INT(spec_n_mounts(&spec), 5);
	CHECK(spec_mount(&spec, 0, &m) && !m.bind);
	CHECK(spec_mount(&spec, 1, &m) && m.bind);
	CHECK_STR(m.source, "/s");
	CHECK(spec_mount(&spec, 2, &m) && m.bind);
	CHECK(!spec_mount(&spec, 3, &m));
	CHECK(!spec_mount(&spec, 4, &m));
	spec_done(&spec);

	CHECK_INT(spec_of("{\"root\":{\"path\":\"rootfs\"},"
			  "\"annotations\":{\"io.kubernetes.cri-o.SandboxID\":\"xyz\"}}",
			  &spec, &err),
		0);
	CHECK(!spec.readonly && !spec.cwd);
	CHECK_STR(spec.sandbox_id, "xyz");
	CHECK_INT(spec_n_mounts(&spec), 0);
	spec_done(&spec);
}

/* The last word counts. */
TEST(what_a_mount_says_of_propagation)
{
	static const struct {
		const char *options;
		bool follows, shared;
	} rows[] = {
		{ "\"rbind\"", false, false },
		{ "\"rbind\",\"rprivate\"", false, false },
		{ "\"rbind\",\"private\",\"rw\"", false, false },
		{ "\"rbind\",\"rslave\"", true, false },
		{ "\"slave\",\"bind\",\"ro\"", true, false },
		{ "\"rbind\",\"rshared\"", true, true },
		{ "\"rbind\",\"shared\",\"rro\"", true, true },
		{ "\"rbind\",\"rshared\",\"rslave\"", true, false },
		{ "\"rbind\",\"rshared\",\"rprivate\"", false, false },
		{ "\"rbind\",\"rslave\",\"runbindable\"", false, false },
		{ "\"rbind\",\"rrslave\",\"slaves\",\"r\",\"\"", false, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct error err = ERROR_INIT;
		struct spec_mount m;
		struct spec spec;
		char text[256];

		snprintf(text, sizeof(text),
			"{\"root\":{\"path\":\"r\"},\"linux\":{\"rootfsPropagation\":\"rshared\"},"
			"\"mounts\":[{\"destination\":\"/d\",\"source\":\"/s\",\"options\":[%s]}]}",
			rows[i].options);
		CHECK_INT(spec_of(text, &spec, &err), 0);
		CHECK(spec_mount(&spec, 0, &m));
		CHECK_INT(m.follows, rows[i].follows);
		CHECK_INT(m.shared, rows[i].shared);
		spec_done(&spec);
	}
}

TEST(config_json_refusals)
{
	static const char *const bad[] = { "", " ", "{", "[]", "7", "null", "{}", "{} {}",
		"{\"root\":7}", "{\"root\":{}}", "{\"root\":{\"path\":7}}",
		"{\"root\":{\"path\":\"\"}}", "{\"root\":{\"path\":\"a\\u0000b\"}}",
		"{\"root\":{\"path\":\"rootfs\"}}x" };
	char deep[256] = "";
	struct spec spec;

	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		struct error err = ERROR_INIT;

		if (spec_of(bad[i], &spec, &err) != -EINVAL)
			test_fail(__FILE__, __LINE__, "'%s' was taken", bad[i]);
		CHECK_CONTAINS(err.msg, "config.json");
	}
	memset(deep, '[', 200);
	CHECK_INT(spec_of(deep, &spec, NULL), -EINVAL);
}

TEST(config_json_types_that_do_not_fit_are_absent)
{
	struct error err = ERROR_INIT;
	struct spec spec;

	CHECK_INT(
		spec_of("{\"root\":{\"path\":\"rootfs\",\"readonly\":\"true\"},\"annotations\":[],"
			"\"process\":null,\"mounts\":{}}",
			&spec, &err),
		0);
	CHECK(!spec.readonly && !spec.sandbox_id && !spec.cwd);
	CHECK_INT(spec_n_mounts(&spec), 0);
	spec_done(&spec);
}

TEST(config_json_must_be_roots)
{
	struct error err = ERROR_INIT;
	char dir[] = "/tmp/mountd-unit.XXXXXX";
	int bundle, fd;

	if (getuid() != 0)
		test_skip("not root");
	CHECK(mkdtemp(dir));
	bundle = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	CHECK_INT(spec_open(bundle, &err), -ENOENT);
	fd = openat(bundle, "config.json", O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	close(fd);
	fd = spec_open(bundle, &err);
	CHECK(fd >= 0);
	close(fd);
	CHECK_INT(fchmodat(bundle, "config.json", 0620, 0), 0);
	CHECK_INT(spec_open(bundle, &err), -EPERM);
	CHECK_INT(fchmodat(bundle, "config.json", 0600, 0), 0);
	CHECK_INT(fchownat(bundle, "config.json", 1000, 0, 0), 0);
	CHECK_INT(spec_open(bundle, &err), -EPERM);
	unlinkat(bundle, "config.json", 0);
	CHECK_INT(mkfifoat(bundle, "config.json", 0600), 0);
	CHECK_INT(spec_open(bundle, &err), -EINVAL);
	unlinkat(bundle, "config.json", 0);
	CHECK_INT(symlinkat("/etc/passwd", bundle, "config.json"), 0);
	CHECK_INT(spec_open(bundle, &err), -ELOOP);
	unlinkat(bundle, "config.json", 0);
	close(bundle);
	rmdir(dir);
}

static bool has(const char *const *args, const char *want)
{
	for (; *args; args++)
		if (strcmp(*args, want) == 0)
			return true;
	return false;
}

TEST(virtiofsd_arguments)
{
	static const char qemus[] = "/usr/lib/qemu/virtiofsd", other[] = "/usr/libexec/virtiofsd";
	const char *const *args = NULL;
	struct error err = ERROR_INIT;

	CHECK_INT(virtiofsd_args(qemus, "auto", &args, &err), 0);
	CHECK(has(args, "sandbox=namespace"));
	CHECK(has(args, "source=/share"));
	CHECK(has(args, "modcaps=-mknod"));
	CHECK(has(args, "cache=auto"));

	CHECK_INT(virtiofsd_args(qemus, "keep", &args, &err), 0);
	CHECK(has(args, "sandbox=namespace"));
	CHECK(has(args, "cache=always"));
	CHECK(has(args, "timeout=1"));
	CHECK(!has(args, "cache=auto"));

	CHECK_INT(virtiofsd_args(other, "auto", &args, &err), 0);
	CHECK(has(args, "--sandbox=namespace"));
	CHECK(has(args, "--shared-dir=/share"));
	CHECK(has(args, "--inode-file-handles=never"));
	CHECK(has(args, "--cache=auto"));

	/* "always" without a timeout would hide for a day what the host does. */
	CHECK_INT(virtiofsd_args(other, "keep", &args, &err), -EINVAL);
	CHECK_CONTAINS(err.msg, "/usr/libexec/virtiofsd would not ask the host again for a day");
	CHECK_INT(virtiofsd_args(qemus, "always", &args, &err), -EINVAL);
	CHECK_CONTAINS(err.msg, "virtio_fs_cache=always: auto or keep");
}

static struct spec spec_with(const char *devices, const char *rules)
{
	struct error err = ERROR_INIT;
	struct spec spec = SPEC_INIT;
	char text[2048];

	snprintf(text, sizeof(text),
		"{\"root\":{\"path\":\"r\"},\"linux\":{\"devices\":[%s],"
		"\"resources\":{\"devices\":[%s]}}}",
		devices, rules);
	if (spec_parse(text, strlen(text), &spec, &err) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", text, err.msg);
	return spec;
}

#define DEVICE(path, type, numbers) "{\"path\":\"" path "\",\"type\":\"" type "\"" numbers "}"
#define NUMBERS(a, b) ",\"major\":" #a ",\"minor\":" #b
#define RULE(allow, more) "{\"allow\":" allow more "}"
#define ACCESS(a) ",\"access\":\"" a "\""
#define NO_ONE	RULE("false", ACCESS("rwm"))

TEST(block_devices_of_a_spec)
{
	static const struct {
		const char *rules;
		bool readonly;
	} cases[] = {
		{ "", false },
		{ NO_ONE, true },
		{ RULE("true", ACCESS("rwm")), false },
		{ NO_ONE "," RULE("true", ",\"type\":\"b\"" NUMBERS(7, 3) ACCESS("rwm")), false },
		{ NO_ONE "," RULE("true", ",\"type\":\"b\"" NUMBERS(7, 3) ACCESS("rm")), true },
		{ NO_ONE "," RULE("true", ",\"type\":\"b\"" NUMBERS(7, 4) ACCESS("rwm")), true },
		{ NO_ONE "," RULE("true", ",\"type\":\"c\"" NUMBERS(7, 3) ACCESS("rwm")), true },
		{ NO_ONE "," RULE("true", ",\"type\":\"b\",\"major\":7,\"minor\":-1"), false },
		{ RULE("true", ACCESS("rwm")) "," RULE("false", NUMBERS(7, 3) ACCESS("w")), true },
	};
	struct spec spec;
	struct spec_device d;

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		spec = spec_with(DEVICE("/dev/null", "c", NUMBERS(1, 3)) "," DEVICE("/dev/a", "b", NUMBERS(7, 3)),
			cases[i].rules);
		CHECK(spec_device(&spec, 0, &d));
		CHECK_INT(d.place, 1);
		CHECK_STR(d.path, "/dev/a");
		CHECK_INT(d.major, 7);
		CHECK_INT(d.minor, 3);
		if (d.readonly != cases[i].readonly)
			test_fail(__FILE__, __LINE__, "rules %s", cases[i].rules);
		CHECK(!spec_device(&spec, 1, &d));
		spec_done(&spec);
	}
	spec = spec_with(DEVICE("/dev/a", "b", ""), "");
	CHECK(spec_device(&spec, 0, &d) && d.major == -1 && d.minor == -1);
	spec_done(&spec);
}

/* What a privileged container has, and who only looks like one. */
TEST(all_devices_of_the_host)
{
	static const struct {
		const char *devices, *rules;
		bool all;
	} cases[] = {
		{ DEVICE("/dev/kmsg", "c", NUMBERS(1, 11)) "," DEVICE("/dev/sda", "b", NUMBERS(8, 0)),
			RULE("true", ACCESS("rwm")), true },
		{ DEVICE("/dev/kmsg", "c", NUMBERS(1, 11)), NO_ONE "," RULE("true", ACCESS("rwm")), true },
		{ DEVICE("/dev/kmsg", "c", NUMBERS(1, 11)), "", false },
		{ DEVICE("/dev/kmsg", "c", NUMBERS(1, 11)), RULE("true", ACCESS("rwm")) "," NO_ONE, false },
		{ DEVICE("/dev/kmsg", "c", NUMBERS(1, 11)),
			NO_ONE "," RULE("true", ",\"type\":\"c\"" NUMBERS(1, 11) ACCESS("rwm")), false },
		{ DEVICE("/dev/sda", "b", NUMBERS(8, 0)) "," DEVICE("/dev/fuse", "c", NUMBERS(10, 229)),
			RULE("true", ACCESS("rwm")), false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct spec spec = spec_with(cases[i].devices, cases[i].rules);

		if (spec_has_host_devices(&spec) != cases[i].all)
			test_fail(__FILE__, __LINE__, "%s with %s", cases[i].devices, cases[i].rules);
		spec_done(&spec);
	}
}
