#include "supervisor/spec.h"
#include "supervisor/vm_size.h"

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

TEST(what_a_pod_may_use)
{
	static const char pod[] =
		"{\"annotations\":{\"io.kubernetes.cri.container-type\":\"sandbox\","
		"\"io.kubernetes.cri.sandbox-cpu-quota\":\"150000\","
		"\"io.kubernetes.cri.sandbox-cpu-period\":\"100000\","
		"\"io.kubernetes.cri.sandbox-memory\":\"1073741824\"},"
		"\"linux\":{\"resources\":{\"memory\":{\"limit\":7}},\"namespaces\":"
		"[{\"type\":\"network\"},{\"type\":\"pid\"},{\"type\":\"ipc\"}]}}";
	static const char single[] = "{\"linux\":{\"resources\":{\"memory\":{\"limit\":-1},"
				     "\"cpu\":{\"quota\":50000,\"period\":100000}}}}";
	struct error err = ERROR_INIT;
	struct spec s;

	CHECK_INT(read_text(pod, sizeof(pod) - 1, &s, &err), 0);
	CHECK_INT(s.cpu_quota, 150000);
	CHECK_INT(s.cpu_period, 100000);
	CHECK_INT(s.memory_limit, 1073741824);
	CHECK(s.has_netns && s.has_pidns && s.has_ipcns);
	CHECK_INT(read_text(single, sizeof(single) - 1, &s, &err), 0);
	CHECK_INT(s.cpu_quota, 50000);
	CHECK_INT(s.memory_limit, 0);
	CHECK(!s.has_pidns && !s.has_ipcns);
}

/* Beside its memory, of all sizes; a pod's VM is as large as the kubelet says. */
TEST(huge_pages_of_a_single_container)
{
	static const struct config c = { .vcpus = 2, .memory_mib = 512, .overhead_memory_mib = 128 };
	static const struct {
		const char *memory, *limits;
		uint64_t memory_mib, overhead_mib;
		int code;
	} cases[] = {
		{ "0", "", 512, 128, 0 },
		{ "0", "{\"pageSize\":\"2MB\",\"limit\":67108864},{\"pageSize\":\"1GB\",\"limit\":1073741824}", 1600, 1216, 0 },
		{ "1073741824", "{\"pageSize\":\"2MB\",\"limit\":67108864},{\"pageSize\":\"1GB\",\"limit\":0}", 1216, 192, 0 },
		{ "0", "{\"limit\":9223372036854775807},{\"limit\":9223372036854775807}", 0, 0, -ERANGE },
		{ "0", "{\"limit\":\"x\"}", 0, 0, -EINVAL },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct error err = ERROR_INIT;
		struct vm_size size;
		struct spec s;
		char text[512];
		int r;

		snprintf(text, sizeof(text), "{\"linux\":{\"resources\":{\"memory\":{\"limit\":%s},\"hugepageLimits\":[%s]}}}",
			cases[i].memory, cases[i].limits);
		r = spec_parse(text, strlen(text), &s, &err);
		if (r == 0)
			r = vm_size(&c, &s, &size, &err);
		CHECK_INT(r, cases[i].code);
		if (r < 0)
			continue;
		CHECK_INT(size.memory_mib, cases[i].memory_mib);
		CHECK_INT(size.overhead_memory_mib, cases[i].overhead_mib);
	}
}

TEST(the_size_of_a_vm)
{
	static const struct config c = {
		.vcpus = 2, .memory_mib = 512, .overhead_millicpus = 200, .overhead_memory_mib = 128,
		.max_vcpus = 4, .max_memory_mib = 1024
	};
	static const struct {
		enum container_kind kind;
		int64_t quota, period, memory;
		uint64_t vcpus, memory_mib;
		const char *says;
	} cases[] = {
		{ CONTAINER_SANDBOX, 0, 0, 0, 2, 512, NULL },
		{ CONTAINER_SANDBOX, 100000, 0, 0, 2, 512, NULL },
		{ CONTAINER_SANDBOX, 80000, 100000, 16 << 20, 1, 144, NULL },
		{ CONTAINER_SANDBOX, 80001, 100000, (16 << 20) + 1, 2, 146, NULL },
		{ CONTAINER_SANDBOX, 400000, 100000, 1LL << 30, 5, 1152, NULL },
		{ CONTAINER_SINGLE, 80000, 100000, 16 << 20, 2, 512, NULL },
		{ CONTAINER_SINGLE, 400000, 100000, 1LL << 30, 5, 1152, NULL },
		{ CONTAINER_SANDBOX, 23980000, 100000, 0, 240, 512, NULL },
		{ CONTAINER_SANDBOX, 23980001, 100000, 0, 0, 0, "at most 240 CPUs" },
		{ CONTAINER_SANDBOX, INT64_MAX, 1, 0, 0, 0, "at most 240 CPUs" },
		{ CONTAINER_SANDBOX, 1, 1000001, 0, 0, 0, "the longest is 1000000" },
		{ CONTAINER_SANDBOX, 0, 0, INT64_MAX, 0, 0, "at most 4194304 MiB" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const struct spec s = { .kind = cases[i].kind,
			.cpu_quota = cases[i].quota,
			.cpu_period = cases[i].period,
			.memory_limit = cases[i].memory };
		struct error err = ERROR_INIT;
		struct vm_size size;
		int r = vm_size(&c, &s, &size, &err);

		CHECK_INT(r, cases[i].says ? -ERANGE : 0);
		if (cases[i].says) {
			CHECK_CONTAINS(err.msg, cases[i].says);
			continue;
		}
		CHECK_INT(size.vcpus, cases[i].vcpus);
		CHECK_INT(size.memory_mib, cases[i].memory_mib);
		/* It may grow so far; what is larger from the start does not. */
		CHECK_INT(size.max_vcpus, cases[i].vcpus > 4 ? cases[i].vcpus : 4);
		CHECK_INT(size.max_memory_mib, cases[i].memory_mib > 1024 ? cases[i].memory_mib : 1024);
	}
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
		{ "{\"linux\":{\"resources\":{\"memory\":{\"limit\":\"1G\"}}}}",
			"memory.limit is not a number" },
		{ "{\"linux\":{\"resources\":{\"cpu\":{\"quota\":true}}}}",
			"cpu.quota is not a number" },
		{ "{\"annotations\":{\"io.kubernetes.cri.container-type\":\"sandbox\","
		  "\"io.kubernetes.cri.sandbox-memory\":\"1G\"}}",
			"sandbox-memory is '1G', which is no number" },
		{ "{\"annotations\":{\"io.kubernetes.cri.container-type\":\"sandbox\","
		  "\"io.kubernetes.cri.sandbox-cpu-quota\":\"99999999999999999999\"}}",
			"which is no number" },
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
