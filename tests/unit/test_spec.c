#include "supervisor/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/io.h"
#include "tests/lib/test.h"

static char bundle[32];

static int make_bundle(void)
{
	strcpy(bundle, "/tmp/bulkhead-spec-XXXXXX");
	if (!mkdtemp(bundle))
		test_fail(__FILE__, __LINE__, "mkdtemp");
	return open(bundle, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void remove_bundle(int dir)
{
	unlinkat(dir, "config.json", 0);
	rmdir(bundle);
	close(dir);
}

/* spec_read() of this text. */
static int read_text(const char *text, size_t len, struct spec *s, struct error *err)
{
	int dir = make_bundle(), r;
	int fd = openat(dir, "config.json", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	CHECK_INT(write_full(fd, text, len), 0);
	close(fd);
	r = spec_read(dir, s, err);
	remove_bundle(dir);
	return r;
}

TEST(what_ctr_writes)
{
	static const char text[] =
		"{\"process\":{\"oomScoreAdj\":-5},\"linux\":{\"cgroupsPath\":\"/default/c1\","
		"\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"network\"}]}}";
	struct error err = ERROR_INIT;
	struct spec s;

	CHECK_INT(read_text(text, sizeof(text) - 1, &s, &err), 0);
	CHECK_INT(s.kind, CONTAINER_SINGLE);
	CHECK_STR(s.cgroups_path, "/default/c1");
	CHECK(s.has_netns);
	CHECK_STR(s.netns_path, "");
	CHECK(s.has_oom_score_adj);
	CHECK_INT(s.oom_score_adj, -5);
}

TEST(pods)
{
	static const char sandbox[] =
		"{\"annotations\":{\"io.kubernetes.cri.container-type\":\"sandbox\","
		"\"io.kubernetes.cri.sandbox-id\":\"p1\"},\"linux\":{\"namespaces\":"
		"[{\"type\":\"network\",\"path\":\"/run/netns/x\"}]}}";
	static const char container[] =
		"{\"annotations\":{\"io.kubernetes.cri-o.ContainerType\":\"container\","
		"\"io.kubernetes.cri-o.SandboxID\":\"p2\"}}";
	struct error err = ERROR_INIT;
	struct spec s;

	CHECK_INT(read_text(sandbox, sizeof(sandbox) - 1, &s, &err), 0);
	CHECK_INT(s.kind, CONTAINER_SANDBOX);
	CHECK_STR(s.sandbox_id, "p1");
	CHECK_STR(s.netns_path, "/run/netns/x");
	CHECK_INT(read_text(container, sizeof(container) - 1, &s, &err), 0);
	CHECK_INT(s.kind, CONTAINER_POD);
	CHECK_STR(s.sandbox_id, "p2");
	CHECK(!s.has_netns);
}

TEST(what_is_refused)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{ "", "config.json" },
		{ "[]", "not a JSON object" },
		{ "{\"linux\":", "config.json" },
		{ "{\"linux\":{\"cgroupsPath\":7}}", "cgroupsPath is not a string" },
		{ "{\"linux\":{\"cgroupsPath\":\"a\\u0000b\"}}", "NUL byte" },
		{ "{\"process\":{\"oomScoreAdj\":2000}}", "oomScoreAdj" },
		{ "{\"process\":{\"oomScoreAdj\":\"x\"}}", "oomScoreAdj" },
		{ "{\"annotations\":{\"io.kubernetes.cri.container-type\":\"pod\"}}", "is 'pod'" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = ERROR_INIT;
		struct spec s;

		if (read_text(cases[i].text, strlen(cases[i].text), &s, &err) == 0)
			test_fail(__FILE__, __LINE__, "'%s' was taken", cases[i].text);
		CHECK_CONTAINS(err.msg, cases[i].says);
	}
}

TEST(depth_32_and_no_deeper)
{
	struct error err = ERROR_INIT;
	char text[256] = "{\"a\":";
	struct spec s;

	/* The object is one level, each bracket another. */
	memset(text + 5, '[', 30);
	memset(text + 35, ']', 30);
	strcpy(text + 65, "}");
	CHECK_INT(read_text(text, strlen(text), &s, &err), 0);
	memset(text + 5, '[', 40);
	memset(text + 45, ']', 40);
	strcpy(text + 85, "}");
	CHECK(read_text(text, strlen(text), &s, &err) < 0);
	CHECK_CONTAINS(err.msg, "nesting too deep");
}

TEST(four_mib_and_no_more)
{
	struct error err = ERROR_INIT;
	size_t len = (4 << 20) + 1;
	char *text = malloc(len);
	struct spec s;

	memset(text, ' ', len);
	memcpy(text, "{}", 2);
	CHECK_INT(read_text(text, len - 1, &s, &err), 0);
	CHECK(read_text(text, len, &s, &err) < 0);
	CHECK_CONTAINS(err.msg, "the limit is 4194304");
	free(text);
}

TEST(not_a_plain_file)
{
	struct error err = ERROR_INIT;
	struct spec s;
	int dir = make_bundle();

	CHECK(spec_read(dir, &s, &err) < 0);
	CHECK_CONTAINS(err.msg, "config.json: No such file");
	CHECK_INT(mkfifoat(dir, "config.json", 0600), 0);
	CHECK(spec_read(dir, &s, &err) < 0);
	CHECK_CONTAINS(err.msg, "not a regular file");
	unlinkat(dir, "config.json", 0);
	CHECK_INT(symlinkat("/etc/passwd", dir, "config.json"), 0);
	CHECK_INT(spec_read(dir, &s, &err), -ELOOP);
	remove_bundle(dir);
}
