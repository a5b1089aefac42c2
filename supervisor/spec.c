#include "supervisor/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/io.h"
#include "common/filter.h"

#define SPEC_SIZE_MAX   (4 << 20)
#define SPEC_DEPTH_MAX  32
#define SPEC_TIMEOUT_MS 2000

/* What the child writes to the pipe, in one piece. */
struct spec_answer {
	struct error err;
	struct spec spec;
};

static struct json_object *member(struct json_object *o, const char *key)
{
	struct json_object *value;

	if (!json_object_is_type(o, json_type_object) || !json_object_object_get_ex(o, key, &value))
		return NULL;
	return value;
}

static int copy_text(struct json_object *o, const char *what, char *out, size_t size,
	struct error *err)
{
	if (!o)
		return 0;
	if (!json_object_is_type(o, json_type_string))
		return error_set(err, EINVAL, "%s is not a string", what);
	if ((size_t)json_object_get_string_len(o) != strlen(json_object_get_string(o)) ||
		strlen(json_object_get_string(o)) >= size)
		return error_set(err, EINVAL, "%s is too long or has a NUL byte", what);
	strcpy(out, json_object_get_string(o));
	return 0;
}

/* Of containerd's CRI plugin and of CRI-O. */
static const struct {
	const char *type, *sandbox;
} pod_annotations[] = {
	{ "io.kubernetes.cri.container-type", "io.kubernetes.cri.sandbox-id" },
	{ "io.kubernetes.cri-o.ContainerType", "io.kubernetes.cri-o.SandboxID" },
};

static int read_kind(struct json_object *root, struct spec *s, struct error *err)
{
	struct json_object *annotations = member(root, "annotations");
	char type[32] = "";
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(pod_annotations); i++) {
		r = copy_text(member(annotations, pod_annotations[i].type), pod_annotations[i].type,
			type, sizeof(type), err);
		if (r < 0)
			return r;
		if (!type[0])
			continue;
		if (strcmp(type, "sandbox") == 0)
			s->kind = CONTAINER_SANDBOX;
		else if (strcmp(type, "container") == 0)
			s->kind = CONTAINER_POD;
		else
			return error_set(err, EINVAL, "annotation %s is '%s'",
				pod_annotations[i].type, type);
		return copy_text(member(annotations, pod_annotations[i].sandbox),
			pod_annotations[i].sandbox, s->sandbox_id, sizeof(s->sandbox_id), err);
	}
	s->kind = CONTAINER_SINGLE;
	return 0;
}

/* One of linux.namespaces. */
static int read_namespace(struct json_object *ns, struct spec *s, struct error *err)
{
	char type[16] = "";
	int r = copy_text(member(ns, "type"), "linux.namespaces[].type", type, sizeof(type), err);

	if (r < 0)
		return r;
	s->has_pidns |= strcmp(type, "pid") == 0;
	s->has_ipcns |= strcmp(type, "ipc") == 0;
	if (strcmp(type, "network") != 0 || s->has_netns)
		return 0;
	s->has_netns = true;
	return copy_text(member(ns, "path"), "the network namespace's path", s->netns_path,
		sizeof(s->netns_path), err);
}

static int read_namespaces(struct json_object *linux_, struct spec *s, struct error *err)
{
	struct json_object *list = member(linux_, "namespaces");
	size_t n = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;

	for (size_t i = 0; i < n; i++) {
		int r = read_namespace(json_object_array_get_idx(list, i), s, err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* A limit: nothing, 0 and -1 are none. */
static int read_limit(struct json_object *o, const char *what, int64_t *ret, struct error *err)
{
	int64_t value = o ? json_object_get_int64(o) : 0;

	if (o && !json_object_is_type(o, json_type_int))
		return error_set(err, EINVAL, "%s is not a number", what);
	*ret = value > 0 ? value : 0;
	return 0;
}

static int read_hugepages(struct json_object *limits, struct spec *s, struct error *err)
{
	size_t n = json_object_is_type(limits, json_type_array) ? json_object_array_length(limits) : 0;

	for (size_t i = 0; i < n; i++) {
		int64_t limit = 0;
		int r = read_limit(member(json_object_array_get_idx(limits, i), "limit"),
			"linux.resources.hugepageLimits[].limit", &limit, err);

		if (r < 0)
			return r;
		s->hugepages = limit > INT64_MAX - s->hugepages ? INT64_MAX : s->hugepages + limit;
	}
	return 0;
}

static int read_resources(struct json_object *linux_, struct spec *s, struct error *err)
{
	struct json_object *resources = member(linux_, "resources");
	struct json_object *cpu = member(resources, "cpu");
	int r = read_limit(member(cpu, "quota"), "linux.resources.cpu.quota", &s->cpu_quota, err);

	if (r == 0)
		r = read_limit(member(cpu, "period"), "linux.resources.cpu.period", &s->cpu_period,
			err);
	if (r == 0)
		r = read_limit(member(member(resources, "memory"), "limit"),
			"linux.resources.memory.limit", &s->memory_limit, err);
	if (r == 0 && s->kind == CONTAINER_SINGLE)
		r = read_hugepages(member(resources, "hugepageLimits"), s, err);
	return r;
}

/* The same as text: what the kubelet says of the whole pod. */
static int read_pod_resources(struct json_object *root, struct spec *s, struct error *err)
{
	const struct {
		const char *key;
		int64_t *value;
	} keys[] = {
		{ "io.kubernetes.cri.sandbox-cpu-quota", &s->cpu_quota },
		{ "io.kubernetes.cri.sandbox-cpu-period", &s->cpu_period },
		{ "io.kubernetes.cri.sandbox-memory", &s->memory_limit },
	};
	struct json_object *annotations = member(root, "annotations");

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		char text[24] = "0", *end;
		long long value;
		int r = copy_text(member(annotations, keys[i].key), keys[i].key, text, sizeof(text),
			err);

		if (r < 0)
			return r;
		errno = 0;
		value = strtoll(text, &end, 10);
		if (end == text || *end || errno)
			return error_set(err, EINVAL, "annotation %s is '%s', which is no number",
				keys[i].key, text);
		*keys[i].value = value > 0 ? value : 0;
	}
	return 0;
}

static int read_oom(struct json_object *process, struct spec *s, struct error *err)
{
	struct json_object *o = member(process, "oomScoreAdj");
	int64_t value;

	if (!o)
		return 0;
	value = json_object_get_int64(o);
	if (!json_object_is_type(o, json_type_int) || value < -1000 || value > 1000)
		return error_set(err, EINVAL,
			"process.oomScoreAdj is not a number from -1000 to 1000");
	s->oom_score_adj = (int)value;
	s->has_oom_score_adj = true;
	return 0;
}

static void release_tokener(struct json_tokener **tok)
{
	if (*tok)
		json_tokener_free(*tok);
}

static void release_object(struct json_object **o)
{
	json_object_put(*o);
}

int spec_parse(const char *text, size_t len, struct spec *s, struct error *err)
{
	CLEANUP(release_tokener) struct json_tokener *tok = json_tokener_new_ex(SPEC_DEPTH_MAX);
	CLEANUP(release_object) struct json_object *root = NULL;
	struct json_object *linux_;
	int r;

	if (!tok)
		return error_errno(err, ENOMEM, "parse");
	*s = (struct spec){ .kind = CONTAINER_SINGLE };
	root = json_tokener_parse_ex(tok, text, (int)len);
	if (json_tokener_get_error(tok) != json_tokener_success)
		return error_set(err, EINVAL, "%s at byte %zu",
			json_tokener_error_desc(json_tokener_get_error(tok)),
			json_tokener_get_parse_end(tok));
	if (!json_object_is_type(root, json_type_object))
		return error_set(err, EINVAL, "not a JSON object");

	linux_ = member(root, "linux");
	r = read_kind(root, s, err);
	if (r == 0)
		r = copy_text(member(linux_, "cgroupsPath"), "linux.cgroupsPath", s->cgroups_path,
			sizeof(s->cgroups_path), err);
	if (r == 0)
		r = read_namespaces(linux_, s, err);
	if (r == 0 && s->kind == CONTAINER_SANDBOX)
		r = read_pod_resources(root, s, err);
	else if (r == 0)
		r = read_resources(linux_, s, err);
	if (r == 0)
		r = read_oom(member(root, "process"), s, err);
	return r;
}

static _Noreturn void child(int file_fd, int pipe_fd)
{
	static struct spec_answer a;
	size_t len;
	char *text;

	/* The file and the pipe are all it has. */
	if (dup2(file_fd, 3) < 0 || dup2(pipe_fd, 4) < 0 || close_range(5, ~0U, 0) < 0 ||
		close_range(0, 2, 0) < 0)
		_exit(1);
	prctl(PR_SET_NAME, "spec");
	if (filter_load("spec", &a.err) == 0) {
		text = read_file_fd(3, SPEC_SIZE_MAX, &len, &a.err);
		if (text)
			spec_parse(text, len, &a.spec, &a.err);
	}
	_exit(write_full(4, &a, sizeof(a)) < 0);
}

static int read_answer(int fd, struct spec_answer *a)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	int64_t deadline = clock_ms() + SPEC_TIMEOUT_MS;
	size_t got = 0;

	while (got < sizeof(*a)) {
		ssize_t n = poll(&pfd, 1, clock_left_ms(deadline));

		if (n == 0)
			return -ETIMEDOUT;
		if (n > 0)
			n = read(fd, (char *)a + got, sizeof(*a) - got);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return -EPROTO;
		got += (size_t)n;
	}
	/* Hostile bytes went through that process: trust the shape of nothing. */
	a->err.msg[sizeof(a->err.msg) - 1] = '\0';
	a->spec.sandbox_id[sizeof(a->spec.sandbox_id) - 1] = '\0';
	a->spec.cgroups_path[sizeof(a->spec.cgroups_path) - 1] = '\0';
	a->spec.netns_path[sizeof(a->spec.netns_path) - 1] = '\0';
	if (a->spec.kind > CONTAINER_POD)
		return -EPROTO;
	return 0;
}

int spec_read(int bundle_fd, struct spec *ret, struct error *err)
{
	_cleanup_close_ int file = -1, out = -1, in = -1;
	struct spec_answer a;
	int fds[2], status, r;
	pid_t pid;

	file = openat(bundle_fd, "config.json", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (file < 0)
		return error_errno(err, errno, "config.json");
	if (pipe2(fds, O_CLOEXEC) < 0)
		return error_errno(err, errno, "pipe");
	in = fds[0];
	out = fds[1];
	pid = fork();
	if (pid < 0)
		return error_errno(err, errno, "fork");
	if (pid == 0)
		child(file, out);
	fd_close(&out);
	r = read_answer(in, &a);
	if (r < 0)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == -ETIMEDOUT)
		return error_set(err, ETIMEDOUT, "config.json: not read within %d ms",
			SPEC_TIMEOUT_MS);
	if (r < 0)
		return error_set(err, EINVAL, "config.json: its reader died (wait status 0x%x)",
			status);
	if (a.err.code) {
		error_set(err, a.err.code, "%s", a.err.msg);
		return error_wrap(err, "config.json");
	}
	*ret = a.spec;
	return 0;
}
