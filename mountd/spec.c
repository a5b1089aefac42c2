#include "mountd/spec.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/devices.h"
#include "common/fd.h"
#include "common/fdio.h"
#include "common/io.h"
#include "mountd/paths.h"

/* How containerd's CRI plugin and CRI-O write down whose container it is. */
static const char *const sandbox_annotations[] = {
	"io.kubernetes.cri.sandbox-id",
	"io.kubernetes.cri-o.SandboxID",
};

void spec_prepare(void)
{
	struct json_object *first = json_object_new_object();

	json_object_object_add(first, "", NULL);
	json_object_put(first);
}

int spec_open(int bundle, struct error *err)
{
	/* O_NONBLOCK: a FIFO in its place must not hold us. */
	_cleanup_close_ int fd = path_open(bundle, "config.json",
		O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, PATH_BENEATH);
	struct stat st;

	if (fd < 0)
		return error_errno(err, -fd, "open config.json of the bundle");
	if (fd_stat(fd, &st) < 0)
		return error_errno(err, errno, "config.json");
	if (!S_ISREG(st.st_mode))
		return error_set(err, EINVAL, "config.json is not a regular file");
	if (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return error_set(err, EPERM,
			"config.json can be written by others than root (uid %u, mode 0%o)",
			st.st_uid, st.st_mode & 07777);
	if (st.st_size > (off_t)SPEC_BYTES_MAX)
		return error_set(err, EFBIG, "config.json has %lld bytes, the limit is %u",
			(long long)st.st_size, SPEC_BYTES_MAX);
	return fd_steal(&fd);
}

static struct json_object *member(struct json_object *parent, const char *key, enum json_type type)
{
	struct json_object *value;

	if (!parent || !json_object_is_type(parent, json_type_object) ||
		!json_object_object_get_ex(parent, key, &value) ||
		!json_object_is_type(value, type))
		return NULL;
	return value;
}

/* NULL too when there is a NUL inside: what we check and what another reads must be the same. */
static const char *text_of(struct json_object *value)
{
	const char *text = value ? json_object_get_string(value) : NULL;

	if (!text || strlen(text) != (size_t)json_object_get_string_len(value))
		return NULL;
	return text;
}

static const char *text_member(struct json_object *parent, const char *key)
{
	return text_of(member(parent, key, json_type_string));
}

static struct json_object *parse(const char *text, size_t len, struct error *err)
{
	struct json_tokener *tok = json_tokener_new_ex(SPEC_DEPTH_MAX);
	struct json_object *json;
	enum json_tokener_error code;
	size_t end;

	if (!tok) {
		error_errno(err, ENOMEM, "parse config.json");
		return NULL;
	}
	json = json_tokener_parse_ex(tok, text, (int)len);
	code = json_tokener_get_error(tok);
	end = json_tokener_get_parse_end(tok);
	json_tokener_free(tok);
	while (json && end < len && isspace((unsigned char)text[end]))
		end++;
	if (json && end == len && json_object_is_type(json, json_type_object))
		return json;

	if (code == json_tokener_success || code == json_tokener_continue)
		error_set(err, EINVAL, "config.json is not one JSON object");
	else
		error_set(err, EINVAL, "config.json is not JSON: %s at byte %zu",
			json_tokener_error_desc(code), end);
	json_object_put(json);
	return NULL;
}

static const char *read_sandbox_id(struct json_object *json)
{
	struct json_object *annotations = member(json, "annotations", json_type_object);

	for (size_t i = 0; i < ARRAY_SIZE(sandbox_annotations); i++) {
		const char *id = text_member(annotations, sandbox_annotations[i]);

		if (id)
			return id;
	}
	return NULL;
}

int spec_parse(const char *text, size_t len, struct spec *ret, struct error *err)
{
	struct json_object *json, *root, *linux_, *value;

	if (len > SPEC_BYTES_MAX)
		return error_set(err, EFBIG, "config.json has %zu bytes, the limit is %u", len,
			SPEC_BYTES_MAX);
	json = parse(text, len, err);
	if (!json)
		return -EINVAL;

	root = member(json, "root", json_type_object);
	linux_ = member(json, "linux", json_type_object);
	value = member(root, "readonly", json_type_boolean);
	*ret = (struct spec){
		.json = json,
		.root_path = text_member(root, "path"),
		.readonly = value && json_object_get_boolean(value),
		.sandbox_id = read_sandbox_id(json),
		.cwd = text_member(member(json, "process", json_type_object), "cwd"),
		.mounts = member(json, "mounts", json_type_array),
		.devices = member(linux_, "devices", json_type_array),
		.device_rules = member(member(linux_, "resources", json_type_object), "devices",
			json_type_array),
	};
	if (!ret->root_path || !*ret->root_path) {
		spec_done(ret);
		return error_set(err, EINVAL, "config.json has no root.path");
	}
	return 0;
}

int spec_read(int fd, struct spec *ret, struct error *err)
{
	size_t len = 0;
	_cleanup_free_ char *text = read_file_fd(fd, SPEC_BYTES_MAX, &len, err);

	if (!text)
		return error_wrap(err, "read config.json");
	return spec_parse(text, len, ret, err);
}

void spec_done(struct spec *spec)
{
	json_object_put(spec->json);
	*spec = (struct spec)SPEC_INIT;
}

size_t spec_n_mounts(const struct spec *spec)
{
	return spec->mounts ? json_object_array_length(spec->mounts) : 0;
}

/* Of one mount alone or of all beneath it ("r"): the whole volume is followed, or nothing of it. */
static void read_propagation(struct spec_mount *m, const char *option)
{
	static const struct {
		const char *name;
		bool follows, shared;
	} words[] = {
		{ "private", false, false },
		{ "unbindable", false, false },
		{ "slave", true, false },
		{ "shared", true, true },
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strcmp(option, words[i].name) == 0 ||
			(option[0] == 'r' && strcmp(option + 1, words[i].name) == 0))
			m->follows = words[i].follows, m->shared = words[i].shared;
}

/* The last of ro, rw and rro counts, and the last that is about propagation. */
static void read_option(struct spec_mount *m, const char *option)
{
	bool rro = strcmp(option, "rro") == 0;

	if (strcmp(option, "bind") == 0)
		m->bind = true;
	else if (strcmp(option, "rbind") == 0)
		m->bind = m->recursive = true;
	else if (rro || strcmp(option, "ro") == 0 || strcmp(option, "rw") == 0)
		m->readonly = rro || option[1] == 'o', m->readonly_recursive = rro;
	else
		read_propagation(m, option);
}

bool spec_mount(const struct spec *spec, size_t i, struct spec_mount *ret)
{
	struct json_object *m = json_object_array_get_idx(spec->mounts, i);
	struct json_object *options = member(m, "options", json_type_array);
	const char *type = text_member(m, "type");

	*ret = (struct spec_mount){
		.destination = text_member(m, "destination"),
		.source = text_member(m, "source"),
		.bind = type && strcmp(type, "bind") == 0,
	};
	for (size_t k = 0; options && k < json_object_array_length(options); k++) {
		struct json_object *o = json_object_array_get_idx(options, k);
		const char *text = json_object_is_type(o, json_type_string) ? text_of(o) : NULL;

		if (text)
			read_option(ret, text);
	}
	return ret->destination;
}

bool spec_volume(const struct spec *spec, size_t number, struct spec_mount *ret)
{
	size_t n = spec_n_mounts(spec);

	for (size_t i = 0; i < n; i++)
		if (spec_mount(spec, i, ret) && ret->bind &&
			strcmp(ret->destination, "/dev/shm") != 0 && number-- == 0)
			return true;
	return false;
}

static size_t length(struct json_object *array)
{
	return array ? json_object_array_length(array) : 0;
}

/* "major" or "minor"; -1: every one, or none. */
static int64_t number_member(struct json_object *parent, const char *key)
{
	struct json_object *value = member(parent, key, json_type_int);

	return value ? json_object_get_int64(value) : -1;
}

/* Is a rule or a device of this type? A rule without one is of all. */
static bool is_type(struct json_object *o, const char *types)
{
	const char *type = text_member(o, "type");

	return type && *type ? strchr(types, type[0]) != NULL : strchr(types, 'a') != NULL;
}

static bool is_allowed(struct json_object *rule)
{
	struct json_object *allow = member(rule, "allow", json_type_boolean);

	return allow && json_object_get_boolean(allow);
}

static bool is_of(struct json_object *rule, int64_t major, int64_t minor)
{
	int64_t rule_major = number_member(rule, "major");
	int64_t rule_minor = number_member(rule, "minor");

	return (rule_major < 0 || rule_major == major) && (rule_minor < 0 || rule_minor == minor);
}

/* The last rule that is about writing decides. Without rules nothing is forbidden. */
static bool may_be_written(const struct spec *spec, int64_t major, int64_t minor)
{
	size_t n = length(spec->device_rules);
	bool may = n == 0;

	for (size_t i = 0; i < n; i++) {
		struct json_object *rule = json_object_array_get_idx(spec->device_rules, i);
		const char *access = text_member(rule, "access");

		if (is_type(rule, "ab") && is_of(rule, major, minor) &&
			(!access || strchr(access, 'w')))
			may = is_allowed(rule);
	}
	return may;
}

bool spec_device(const struct spec *spec, size_t number, struct spec_device *ret)
{
	size_t n = length(spec->devices);

	for (size_t i = 0; i < n; i++) {
		struct json_object *d = json_object_array_get_idx(spec->devices, i);

		if (!is_type(d, "b") || number-- > 0)
			continue;
		*ret = (struct spec_device){
			.place = i,
			.path = text_member(d, "path"),
			.major = number_member(d, "major"),
			.minor = number_member(d, "minor"),
		};
		ret->readonly = !may_be_written(spec, ret->major, ret->minor);
		return true;
	}
	return false;
}

bool spec_has_host_devices(const struct spec *spec)
{
	bool all = false;

	for (size_t i = 0; i < length(spec->device_rules); i++) {
		struct json_object *rule = json_object_array_get_idx(spec->device_rules, i);

		if (is_type(rule, "a") && is_of(rule, -1, -1))
			all = is_allowed(rule);
	}
	for (size_t i = 0; all && i < length(spec->devices); i++) {
		struct json_object *d = json_object_array_get_idx(spec->devices, i);

		if (is_type(d, "cu") &&
			!device_is_everywhere(number_member(d, "major"), number_member(d, "minor")))
			return true;
	}
	return false;
}
