/* config.json to the agent's Spec: goldens, and every way to be wrong. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "agentd/devices.h"
#include "agentd/oci.h"
#include "common/fd.h"
#include "common/io.h"
#include "tests/lib/test.h"

/* -- a Spec as text: one line for each field that is set */

static void dump(FILE *out, const ProtobufCMessage *m, int depth);

static void dump_value(FILE *out, const ProtobufCFieldDescriptor *f, const void *at, int depth)
{
	fprintf(out, "%*s%s", depth * 2, "", f->name);
	switch (f->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
		fprintf(out, "\n");
		dump(out, *(ProtobufCMessage *const *)at, depth + 1);
		return;
	case PROTOBUF_C_TYPE_STRING:
		fprintf(out, " \"%s\"\n", *(char *const *)at);
		return;
	case PROTOBUF_C_TYPE_BOOL:
		fprintf(out, " %s\n", *(const protobuf_c_boolean *)at ? "true" : "false");
		return;
	case PROTOBUF_C_TYPE_UINT32:
		fprintf(out, " %u\n", *(const uint32_t *)at);
		return;
	case PROTOBUF_C_TYPE_INT64:
		fprintf(out, " %lld\n", (long long)*(const int64_t *)at);
		return;
	case PROTOBUF_C_TYPE_UINT64:
		fprintf(out, " %llu\n", (unsigned long long)*(const uint64_t *)at);
		return;
	default:
		test_fail(__FILE__, __LINE__, "%s", f->name);
	}
}

static bool is_set(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
	const char *at = (const char *)m + f->offset;

	if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
		return *(const uint32_t *)(const void *)((const char *)m + f->quantifier_offset) ==
		       f->id;
	switch (f->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
		return *(void *const *)(const void *)at;
	case PROTOBUF_C_TYPE_STRING:
		return **(char *const *)(const void *)at;
	case PROTOBUF_C_TYPE_BOOL:
	case PROTOBUF_C_TYPE_UINT32:
		return *(const uint32_t *)(const void *)at;
	default:
		return *(const uint64_t *)(const void *)at;
	}
}

static void dump(FILE *out, const ProtobufCMessage *m, int depth)
{
	for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
		const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
		const char *at = (const char *)m + f->offset;

		if (f->label == PROTOBUF_C_LABEL_REPEATED) {
			size_t n = *(const size_t *)(const void *)((const char *)m +
								   f->quantifier_offset);
			size_t size = f->type == PROTOBUF_C_TYPE_UINT32 ? 4 : sizeof(void *);

			for (size_t k = 0; k < n; k++)
				dump_value(out, f, *(const char *const *)(const void *)at + k * size,
					depth);
		} else if (is_set(m, f)) {
			dump_value(out, f, at, depth);
		}
	}
}

/* Packed and unpacked again: what the agent will see. */
static char *spec_text(const struct oci_spec *s)
{
	size_t len = grpc__spec__get_packed_size(s->spec), size;
	uint8_t *bytes = malloc(len);
	char *text = NULL;
	FILE *out = open_memstream(&text, &size);
	Grpc__Spec *again;

	grpc__spec__pack(s->spec, bytes);
	again = grpc__spec__unpack(NULL, len, bytes);
	CHECK(again);
	dump(out, &again->base, 0);
	fprintf(out, "(joins_pidns %s)\n", s->joins_pidns ? "true" : "false");
	fclose(out);
	grpc__spec__free_unpacked(again, NULL);
	free(bytes);
	return text;
}

/* BULKHEAD_UPDATE_GOLDEN=1 writes it anew. */
static void check_golden(const char *name, unsigned index)
{
	CLEANUP(oci_spec_done) struct oci_spec s = OCI_SPEC_INIT;
	Ipc__Config config = IPC__CONFIG__INIT;
	struct error err = ERROR_INIT;
	char json[4096], golden[4096];
	char *want, *got;
	size_t len;
	int fd;

	snprintf(json, sizeof(json), AGENTD_DATA "/%s.json", name);
	snprintf(golden, sizeof(golden), AGENTD_DATA "/%s.golden", name);
	fd = open(json, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	config.index = index;
	if (oci_read(fd, index, &s, &err) < 0 || devices_amend(&s, &config, &err) < 0)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	close(fd);
	got = spec_text(&s);
	if (getenv("BULKHEAD_UPDATE_GOLDEN")) {
		fd = open(golden, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		CHECK_INT(write_full(fd, got, strlen(got)), 0);
		close(fd);
	}
	fd = open(golden, O_RDONLY | O_CLOEXEC);
	CHECK(fd >= 0);
	want = read_file_fd(fd, 1 << 20, &len, &err);
	close(fd);
	CHECK_STR(got, want);
	free(want);
	free(got);
}

TEST(golden_ctr_default)
{
	check_golden("ctr-default", 0);
}

TEST(golden_pod_everything)
{
	check_golden("pod-everything", 17);
}

/* -- wrong input */

#define HEAD "{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"r\"},"
#define PROC "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\"}"
#define GOOD HEAD PROC ",\"linux\":{}}"

static const char *parse(const char *text)
{
	static struct error err;
	CLEANUP(oci_spec_done) struct oci_spec s = OCI_SPEC_INIT;

	err = (struct error)ERROR_INIT;
	if (oci_parse(text, strlen(text), 0, &s, &err) == 0)
		return "ok";
	CHECK(err.code > 0);
	return err.msg;
}

TEST(sentences)
{
	static const struct {
		const char *text, *want;
	} cases[] = {
		{ GOOD, "ok" },
		{ GOOD " \n\t", "ok" },
		{ "", "config.json: it ends in the middle" },
		{ "{", "config.json: it ends in the middle" },
		{ "nonsense", "config.json: byte 1: " },
		{ GOOD "x", "config.json: byte " },
		{ "[1]", "config.json: expected an object, got array" },
		{ "null ", "config.json: expected an object, got null" },
		{ "{}", "config.json: ociVersion: missing" },
		{ HEAD "\"linux\":{}}", "config.json: process: missing" },
		{ HEAD "\"process\":[],\"linux\":{}}",
			"config.json: process: expected an object, got array" },
		{ HEAD "\"process\":{\"cwd\":\"/\"},\"linux\":{}}",
			"config.json: process.args: missing" },
		{ HEAD "\"process\":{\"cwd\":\"/\",\"args\":null},\"linux\":{}}",
			"config.json: process.args: missing" },
		{ HEAD "\"process\":{\"cwd\":\"/\",\"args\":[]},\"linux\":{}}",
			"config.json: process.args: empty" },
		{ HEAD "\"process\":{\"cwd\":\"/\",\"args\":\"sh\"},\"linux\":{}}",
			"config.json: process.args: expected a list, got string" },
		{ HEAD "\"process\":{\"cwd\":\"/\",\"args\":[\"a\",null]},\"linux\":{}}",
			"config.json: process.args[1]: expected a string, got null" },
		{ HEAD "\"process\":{\"cwd\":\"/\",\"args\":[\"a\\u0000b\"]},\"linux\":{}}",
			"config.json: process.args[0]: a string with a NUL byte inside" },
		{ HEAD "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\"},\"linux\":{},"
		       "\"annotations\":{\"k\":\"a\\u0000b\"}}",
			"config.json: annotations.k: a string with a NUL byte inside" },
		{ HEAD "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\"},\"linux\":{},"
		       "\"annotations\":{\"k\":1}}",
			"config.json: annotations.k: expected a string, got int" },
		{ HEAD "\"process\":{\"args\":[\"a\"]},\"linux\":{}}",
			"config.json: process.cwd: missing" },
		{ HEAD "\"process\":{\"args\":[\"a\"],\"cwd\":\"\"},\"linux\":{}}",
			"config.json: process.cwd: not an absolute path" },
		{ HEAD "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"terminal\":1},\"linux\":{}}",
			"config.json: process.terminal: expected true or false, got int" },
		{ HEAD "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"user\":{\"uid\":-1}},"
		       "\"linux\":{}}",
			"config.json: process.user.uid: a number outside 0 to 4294967295" },
		{ HEAD "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"user\":{\"uid\":4294967296}},"
		       "\"linux\":{}}",
			"config.json: process.user.uid: a number outside 0 to 4294967295" },
		{ HEAD "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"user\":{\"uid\":1.5}},"
		       "\"linux\":{}}",
			"config.json: process.user.uid: expected a whole number, got double" },
		{ HEAD "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\","
		       "\"oomScoreAdj\":9223372036854775808},\"linux\":{}}",
			"config.json: process.oomScoreAdj: a number above 9223372036854775807" },
		{ HEAD "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"rlimits\":[{\"type\":\"R\","
		       "\"hard\":-1,\"soft\":1}]},\"linux\":{}}",
			"config.json: process.rlimits[0].hard: a negative number" },
		{ HEAD "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\",\"rlimits\":[{\"type\":\"R\","
		       "\"hard\":18446744073709551616,\"soft\":1}]},\"linux\":{}}",
			"config.json: byte 106: a number of more than 64 bits" },
		{ HEAD "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\","
		       "\"oomScoreAdj\":-9223372036854775809},\"linux\":{}}",
			"config.json: byte 91: a number of more than 64 bits" },
		{ HEAD PROC "}", "config.json: linux: missing" },
		{ HEAD PROC ",\"linux\":{\"sysctl\":{\"a\":1}}}",
			"config.json: linux.sysctl.a: expected a string, got int" },
		{ HEAD PROC ",\"linux\":{\"seccomp\":{\"defaultAction\":\"X\",\"syscalls\":[{}]}}}",
			"config.json: linux.seccomp.syscalls[0].names: missing" },
		{ HEAD PROC ",\"linux\":{},\"mounts\":[{\"destination\":\"/x\",\"type\":\"nfs\"}]}",
			"config.json: mounts[0]: /x is of type 'nfs', which the guest does not "
			"mount" },
		{ HEAD PROC ",\"linux\":{},\"mounts\":[{\"destination\":\"x\",\"type\":\"proc\"}]}",
			"config.json: mounts[0].destination: x is not an absolute path" },
		{ HEAD PROC ",\"linux\":{},\"annotations\":[]}",
			"config.json: annotations: expected an object, got array" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *got = parse(cases[i].text);

		if (strncmp(got, cases[i].want, strlen(cases[i].want)) != 0)
			test_fail(__FILE__, __LINE__, "%s\ngives \"%s\",\nnot \"%s\"", cases[i].text,
				got, cases[i].want);
		CHECK_INT(strcmp(got, "ok") == 0, strcmp(cases[i].want, "ok") == 0);
	}
}

static char *repeated(const char *head, const char *unit, size_t n, const char *tail)
{
	char *text = malloc(strlen(head) + n * strlen(unit) + strlen(tail) + 1);
	char *at = stpcpy(text, head);

	for (size_t i = 0; i < n; i++)
		at = stpcpy(at, unit);
	strcpy(at, tail);
	return text;
}

/* The spec itself is the first level. */
static const char *parse_depth(size_t depth)
{
	char *open = repeated("{\"x\":", "[", depth - 1, "");
	char *text = repeated(open, "]", depth - 1, ",\"ociVersion\":\"1\"}");
	const char *got = parse(text);

	free(open);
	free(text);
	return got;
}

TEST(depth)
{
	CHECK_STR(parse_depth(32), "config.json: process: missing");
	CHECK_STR(parse_depth(33), "config.json: nested deeper than 32 levels");
	CHECK_STR(parse_depth(16000), "config.json: nested deeper than 32 levels");
}

TEST(size)
{
	char *text = repeated(GOOD, " ", OCI_TEXT_MAX - strlen(GOOD), "");

	CHECK_STR(parse(text), "ok");
	free(text);
	text = repeated(GOOD, " ", OCI_TEXT_MAX + 1 - strlen(GOOD), "");
	CHECK_STR(parse(text), "config.json: 4194305 bytes, the limit is 4194304");
	free(text);
}

/* What costs json-c a hundred times its text. */
TEST(bombs)
{
	char *text = repeated("{\"x\":[", "{},", 1 << 20, "{}]}");

	CHECK_STR(parse(text), "config.json: more than 16384 objects and lists");
	free(text);
	text = repeated("{\"x\":[", "1,", 2 << 20, "1]}");
	CHECK(strlen(text) > OCI_TEXT_MAX);
	text[OCI_TEXT_MAX - 1] = '\0';
	CHECK_STR(parse(text), "config.json: more than 262144 values");
	free(text);
	/* Inside a string they are text. */
	text = repeated("{\"x\":\"\\\"", "{,[", 1 << 20, "\"}");
	CHECK_STR(parse(text), "config.json: ociVersion: missing");
	free(text);
}

static const char *read_fd(int fd)
{
	static struct error err;
	struct oci_spec s = OCI_SPEC_INIT;

	err = (struct error)ERROR_INIT;
	CHECK(oci_read(fd, 0, &s, &err) < 0);
	return err.msg;
}

TEST(files)
{
	int fd = memfd_create("x", MFD_CLOEXEC), pair[2];

	CHECK_INT(ftruncate(fd, 1 << 30), 0);
	CHECK_STR(read_fd(fd), "config.json: 1073741824 bytes, the limit is 4194304");
	CHECK_INT(ftruncate(fd, 0), 0);
	CHECK_STR(read_fd(fd), "config.json: it ends in the middle");
	close(fd);
	CHECK_INT(pipe2(pair, O_CLOEXEC), 0);
	CHECK_STR(read_fd(pair[0]), "config.json: not a regular file");
	close(pair[0]);
	close(pair[1]);
}
