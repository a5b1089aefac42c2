#include "agentd/oci.h"

#include <errno.h>
#include <json-c/json.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "common/io.h"
#include "ipc/tables.h"

/* An empty object costs json-c 250 times its text: bound what 4 MiB can ask for. */
#define CONTAINERS_MAX 16384 /* { and [ */
#define VALUES_MAX     262144

/* -- the tables */

enum {
	REQUIRED = 1 << 0,
	MAP = 1 << 1, /* an object of strings becomes StringEntry messages */
	EVERY = 1 << 2, /* a number that is missing is -1 */
};

struct row {
	const char *field, *key; /* in oci.proto, in JSON */
	const struct row *sub;	 /* rows of the submessage */
	unsigned flags;
};

#define END { NULL, NULL, NULL, 0 }

static const struct row box_rows[] = {
	{ "Height", "height", NULL, 0 },
	{ "Width", "width", NULL, 0 },
	END,
};

static const struct row user_rows[] = {
	{ "UID", "uid", NULL, 0 },
	{ "GID", "gid", NULL, 0 },
	{ "AdditionalGids", "additionalGids", NULL, 0 },
	{ "Username", "username", NULL, 0 },
	END,
};

static const struct row capability_rows[] = {
	{ "Bounding", "bounding", NULL, 0 },
	{ "Effective", "effective", NULL, 0 },
	{ "Inheritable", "inheritable", NULL, 0 },
	{ "Permitted", "permitted", NULL, 0 },
	{ "Ambient", "ambient", NULL, 0 },
	END,
};

static const struct row rlimit_rows[] = {
	{ "Type", "type", NULL, REQUIRED },
	{ "Hard", "hard", NULL, REQUIRED },
	{ "Soft", "soft", NULL, REQUIRED },
	END,
};

/* Without apparmorProfile and selinuxLabel: they name policies of the host's kernel. */
static const struct row process_rows[] = {
	{ "Terminal", "terminal", NULL, 0 },
	{ "ConsoleSize", "consoleSize", box_rows, 0 },
	{ "User", "user", user_rows, 0 },
	{ "Args", "args", NULL, REQUIRED },
	{ "Env", "env", NULL, 0 },
	{ "Cwd", "cwd", NULL, REQUIRED },
	{ "Capabilities", "capabilities", capability_rows, 0 },
	{ "Rlimits", "rlimits", rlimit_rows, 0 },
	{ "NoNewPrivileges", "noNewPrivileges", NULL, 0 },
	{ "OOMScoreAdj", "oomScoreAdj", NULL, 0 },
	END,
};

static const struct row root_rows[] = {
	{ "Path", "path", NULL, REQUIRED },
	{ "Readonly", "readonly", NULL, 0 },
	END,
};

static const struct row mount_rows[] = {
	{ "destination", "destination", NULL, REQUIRED },
	{ "source", "source", NULL, 0 },
	{ "type", "type", NULL, 0 },
	{ "options", "options", NULL, 0 },
	END,
};

static const struct row hook_rows[] = {
	{ "Path", "path", NULL, REQUIRED },
	{ "Args", "args", NULL, 0 },
	{ "Env", "env", NULL, 0 },
	{ "Timeout", "timeout", NULL, 0 },
	END,
};

/* The only hooks that run inside the container. */
static const struct row hooks_rows[] = {
	{ "StartContainer", "startContainer", hook_rows, 0 },
	END,
};

static const struct row id_mapping_rows[] = {
	{ "HostID", "hostID", NULL, REQUIRED },
	{ "ContainerID", "containerID", NULL, REQUIRED },
	{ "Size", "size", NULL, REQUIRED },
	END,
};

static const struct row memory_rows[] = {
	{ "Limit", "limit", NULL, 0 },
	{ "Reservation", "reservation", NULL, 0 },
	{ "Swap", "swap", NULL, 0 },
	{ "Kernel", "kernel", NULL, 0 },
	{ "KernelTCP", "kernelTCP", NULL, 0 },
	{ "Swappiness", "swappiness", NULL, 0 },
	{ "DisableOOMKiller", "disableOOMKiller", NULL, 0 },
	END,
};

/* Without cpus and mems: the guest has CPUs and nodes of its own. */
static const struct row cpu_rows[] = {
	{ "Shares", "shares", NULL, 0 },
	{ "Quota", "quota", NULL, 0 },
	{ "Period", "period", NULL, 0 },
	{ "RealtimeRuntime", "realtimeRuntime", NULL, 0 },
	{ "RealtimePeriod", "realtimePeriod", NULL, 0 },
	END,
};

static const struct row pids_rows[] = {
	{ "Limit", "limit", NULL, 0 },
	END,
};

static const struct row hugepage_rows[] = {
	{ "Pagesize", "pageSize", NULL, REQUIRED },
	{ "Limit", "limit", NULL, REQUIRED },
	END,
};

static const struct row device_rule_rows[] = {
	{ "Allow", "allow", NULL, 0 },
	{ "Type", "type", NULL, 0 },
	{ "Major", "major", NULL, EVERY },
	{ "Minor", "minor", NULL, EVERY },
	{ "Access", "access", NULL, 0 },
	END,
};

/* Without blockIO, network and rdma: they name the host's devices. Of rules for devices see devices.h. */
static const struct row resources_rows[] = {
	{ "Devices", "devices", device_rule_rows, 0 },
	{ "Memory", "memory", memory_rows, 0 },
	{ "CPU", "cpu", cpu_rows, 0 },
	{ "Pids", "pids", pids_rows, 0 },
	{ "HugepageLimits", "hugepageLimits", hugepage_rows, 0 },
	END,
};

/* A container that runs keeps the rules that it has. */
static const struct row update_rows[] = {
	{ "Memory", "memory", memory_rows, 0 },
	{ "CPU", "cpu", cpu_rows, 0 },
	{ "Pids", "pids", pids_rows, 0 },
	{ "HugepageLimits", "hugepageLimits", hugepage_rows, 0 },
	END,
};

static const struct row namespace_rows[] = {
	{ "Type", "type", NULL, REQUIRED },
	{ "Path", "path", NULL, 0 },
	END,
};

static const struct row device_rows[] = {
	{ "Path", "path", NULL, REQUIRED },
	{ "Type", "type", NULL, REQUIRED },
	{ "Major", "major", NULL, 0 },
	{ "Minor", "minor", NULL, 0 },
	{ "FileMode", "fileMode", NULL, 0 },
	{ "UID", "uid", NULL, 0 },
	{ "GID", "gid", NULL, 0 },
	END,
};

static const struct row seccomp_arg_rows[] = {
	{ "Index", "index", NULL, REQUIRED },
	{ "Value", "value", NULL, REQUIRED },
	{ "ValueTwo", "valueTwo", NULL, 0 },
	{ "Op", "op", NULL, REQUIRED },
	END,
};

static const struct row syscall_rows[] = {
	{ "Names", "names", NULL, REQUIRED },
	{ "Action", "action", NULL, REQUIRED },
	{ "errnoret", "errnoRet", NULL, 0 },
	{ "Args", "args", seccomp_arg_rows, 0 },
	END,
};

static const struct row seccomp_rows[] = {
	{ "DefaultAction", "defaultAction", NULL, REQUIRED },
	{ "Architectures", "architectures", NULL, 0 },
	{ "Flags", "flags", NULL, 0 },
	{ "Syscalls", "syscalls", syscall_rows, 0 },
	END,
};

/* Without mountLabel (SELinux) and intelRdt: the host's. */
static const struct row linux_rows[] = {
	{ "UIDMappings", "uidMappings", id_mapping_rows, 0 },
	{ "GIDMappings", "gidMappings", id_mapping_rows, 0 },
	{ "Sysctl", "sysctl", NULL, MAP },
	{ "Resources", "resources", resources_rows, 0 },
	{ "CgroupsPath", "cgroupsPath", NULL, 0 },
	{ "Namespaces", "namespaces", namespace_rows, 0 },
	{ "Devices", "devices", device_rows, 0 },
	{ "Seccomp", "seccomp", seccomp_rows, 0 },
	{ "RootfsPropagation", "rootfsPropagation", NULL, 0 },
	{ "MaskedPaths", "maskedPaths", NULL, 0 },
	{ "ReadonlyPaths", "readonlyPaths", NULL, 0 },
	END,
};

static const struct row spec_rows[] = {
	{ "Version", "ociVersion", NULL, REQUIRED },
	{ "Process", "process", process_rows, REQUIRED },
	{ "Root", "root", root_rows, REQUIRED },
	{ "Hostname", "hostname", NULL, 0 },
	{ "Mounts", "mounts", mount_rows, 0 },
	{ "Hooks", "hooks", hooks_rows, 0 },
	{ "Annotations", "annotations", NULL, MAP },
	{ "Linux", "linux", linux_rows, REQUIRED },
	END,
};

/* -- the walk */

/* Where we are, for the sentence: config.json: process.args[3]. The outermost is the document. */
struct place {
	const struct place *up;
	const char *key; /* NULL: an element of the list above */
	size_t i;
};

static size_t print_place(const struct place *p, char *out, size_t size)
{
	size_t n;

	if (!p) {
		out[0] = '\0';
		return 0;
	}
	n = print_place(p->up, out, size);
	if (n < size)
		n += (size_t)(p->key ? snprintf(out + n, size - n, "%s%s",
					       !p->up ? "" : p->up->up ? "." : ": ", p->key) :
				       snprintf(out + n, size - n, "[%zu]", p->i));
	return n < size ? n : size - 1;
}

static int bad(struct error *err, const struct place *p, const char *what)
{
	char text[200];

	print_place(p, text, sizeof(text));
	return error_set(err, EINVAL, "%s: %s", text, what);
}

static int wrong_type(struct error *err, const struct place *p, const char *want,
	struct json_object *got)
{
	char what[96];

	snprintf(what, sizeof(what), "expected %s, got %s", want,
		json_type_to_name(json_object_get_type(got)));
	return bad(err, p, what);
}

static int convert(const ProtobufCMessageDescriptor *d, const struct row *rows,
	const struct place *place, struct json_object *object, ProtobufCMessage **ret,
	struct error *err);

static ProtobufCMessage *message_new(const ProtobufCMessageDescriptor *d)
{
	ProtobufCMessage *m = calloc(1, d->sizeof_message);

	if (m)
		protobuf_c_message_init(d, m);
	return m;
}

/* Whole: what is behind a NUL nobody would see. */
static int get_text(const char **ret, struct json_object *value, const struct place *place,
	struct error *err)
{
	if (json_object_get_type(value) != json_type_string)
		return wrong_type(err, place, "a string", value);
	*ret = json_object_get_string(value);
	if (strlen(*ret) != (size_t)json_object_get_string_len(value))
		return bad(err, place, "a string with a NUL byte inside");
	return 0;
}

static int convert_string(const char **ret, struct json_object *value, const struct place *place,
	struct error *err)
{
	const char *text;
	int r = get_text(&text, value, place, err);

	if (r < 0)
		return r;
	*ret = strdup(text);
	return *ret ? 0 : error_errno(err, ENOMEM, "an OCI document");
}

static int convert_number(const ProtobufCFieldDescriptor *f, void *at, struct json_object *value,
	const struct place *place, struct error *err)
{
	/* json-c keeps what exceeds int64 as uint64, and answers INT64_MAX when asked for int64. */
	int64_t i = json_object_get_int64(value);
	uint64_t u = json_object_get_uint64(value);
	bool negative = i < 0, wide = !negative && u > INT64_MAX;

	if (json_object_get_type(value) != json_type_int)
		return wrong_type(err, place, "a whole number", value);
	switch (f->type) {
	case PROTOBUF_C_TYPE_UINT32:
		if (negative || u > UINT32_MAX)
			return bad(err, place, "a number outside 0 to 4294967295");
		*(uint32_t *)at = (uint32_t)u;
		return 0;
	case PROTOBUF_C_TYPE_UINT64:
		if (negative)
			return bad(err, place, "a negative number");
		*(uint64_t *)at = u;
		return 0;
	case PROTOBUF_C_TYPE_INT64:
		if (wide)
			return bad(err, place, "a number above 9223372036854775807");
		*(int64_t *)at = i;
		return 0;
	default:
		return bad(err, place, "no conversion for this field");
	}
}

/* One value, not a list, to the place of its C member. */
static int convert_value(const ProtobufCFieldDescriptor *f, void *at, const struct row *row,
	struct json_object *value, const struct place *place, struct error *err)
{
	switch (f->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
		return convert(f->descriptor, row->sub, place, value, at, err);
	case PROTOBUF_C_TYPE_STRING:
		return convert_string(at, value, place, err);
	case PROTOBUF_C_TYPE_BOOL:
		if (json_object_get_type(value) != json_type_boolean)
			return wrong_type(err, place, "true or false", value);
		*(protobuf_c_boolean *)at = json_object_get_boolean(value);
		return 0;
	default:
		return convert_number(f, at, value, place, err);
	}
}

static size_t element_size(const ProtobufCFieldDescriptor *f)
{
	return f->type == PROTOBUF_C_TYPE_UINT32 ? sizeof(uint32_t) : sizeof(void *);
}

static int convert_list(const ProtobufCFieldDescriptor *f, char *message, const struct row *row,
	struct json_object *list, const struct place *place, struct error *err)
{
	size_t *n = (size_t *)(void *)(message + f->quantifier_offset);
	char **items = (char **)(void *)(message + f->offset);
	size_t len;

	if (json_object_get_type(list) != json_type_array)
		return wrong_type(err, place, "a list", list);
	len = json_object_array_length(list);
	if (len == 0)
		return 0;
	*items = calloc(len, element_size(f));
	if (!*items)
		return error_errno(err, ENOMEM, "an OCI document");
	for (size_t i = 0; i < len; i++) {
		const struct place here = { .up = place, .i = i };
		int r = convert_value(f, *items + i * element_size(f), row,
			json_object_array_get_idx(list, i), &here, err);

		if (r < 0)
			return r;
		*n = i + 1;
	}
	return 0;
}

static Grpc__StringEntry *entry_new(const char *key, const char *value)
{
	Grpc__StringEntry *e = (void *)message_new(&grpc__string_entry__descriptor);

	if (!e)
		return NULL;
	e->key = strdup(key);
	e->value = strdup(value);
	if (!e->key || !e->value) {
		grpc__string_entry__free_unpacked(e, NULL);
		return NULL;
	}
	return e;
}

/* Appends one entry, with room for it already there. */
static int add_entry(Grpc__StringEntry **list, size_t *n, const char *key, const char *value,
	struct error *err)
{
	list[*n] = entry_new(key, value);
	if (!list[*n])
		return error_errno(err, ENOMEM, "an OCI document");
	(*n)++;
	return 0;
}

static int convert_map(const ProtobufCFieldDescriptor *f, char *message, struct json_object *map,
	const struct place *place, struct error *err)
{
	size_t *n = (size_t *)(void *)(message + f->quantifier_offset);
	Grpc__StringEntry ***list = (void *)(message + f->offset);

	if (json_object_get_type(map) != json_type_object)
		return wrong_type(err, place, "an object", map);
	if (json_object_object_length(map) == 0)
		return 0;
	*list = calloc((size_t)json_object_object_length(map), sizeof(**list));
	if (!*list)
		return error_errno(err, ENOMEM, "an OCI document");
	json_object_object_foreach(map, key, value) {
		const struct place here = { .up = place, .key = key };
		const char *text;
		int r = get_text(&text, value, &here, err);

		if (r == 0)
			r = add_entry(*list, n, key, text, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int convert_field(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
	const struct row *row, struct json_object *value, const struct place *place,
	struct error *err)
{
	char *base = (char *)m;
	int r;

	if (row->flags & MAP)
		return convert_map(f, base, value, place, err);
	if (f->label == PROTOBUF_C_LABEL_REPEATED)
		return convert_list(f, base, row, value, place, err);
	r = convert_value(f, base + f->offset, row, value, place, err);
	if (r == 0 && (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF))
		*(uint32_t *)(void *)(base + f->quantifier_offset) = f->id;
	return r;
}

static int convert_rows(ProtobufCMessage *m, const struct row *rows, const struct place *place,
	struct json_object *object, struct error *err)
{
	for (const struct row *row = rows; row->field; row++) {
		const struct place here = { .up = place, .key = row->key };
		const ProtobufCFieldDescriptor *f =
			protobuf_c_message_descriptor_get_field_by_name(m->descriptor, row->field);
		/* NULL for a missing key and for null alike, as Go writes an empty list. */
		struct json_object *value = json_object_object_get(object, row->key);
		int r = 0;

		if (!f)
			return bad(err, &here, "the agent's protocol has no such field");
		if (value)
			r = convert_field(m, f, row, value, &here, err);
		else if (row->flags & REQUIRED)
			r = bad(err, &here, "missing");
		else if (row->flags & EVERY)
			*(int64_t *)(void *)((char *)m + f->offset) = -1;
		if (r < 0)
			return r;
	}
	return 0;
}

static int convert(const ProtobufCMessageDescriptor *d, const struct row *rows,
	const struct place *place, struct json_object *object, ProtobufCMessage **ret,
	struct error *err)
{
	ProtobufCMessage *m;
	int r;

	if (json_object_get_type(object) != json_type_object)
		return wrong_type(err, place, "an object", object);
	m = message_new(d);
	if (!m)
		return error_errno(err, ENOMEM, "an OCI document");
	r = convert_rows(m, rows, place, object, err);
	if (r < 0)
		protobuf_c_message_free_unpacked(m, NULL);
	else
		*ret = m;
	return r;
}

/* -- what the guest needs other than the host */

static int set_string(char **at, const char *text, struct error *err)
{
	char *copy = strdup(text);

	if (!copy)
		return error_errno(err, ENOMEM, "an OCI document");
	/* Strings that were never set point to protobuf-c's own empty one. */
	if (*at != protobuf_c_empty_string)
		free(*at);
	*at = copy;
	return 0;
}

static int shm_from_guest(Grpc__Mount *m, struct error *err)
{
	int r = set_string(&m->type, "bind", err);

	if (r == 0)
		r = set_string(&m->source, GUEST_SHM, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < m->n_options; i++)
		free(m->options[i]);
	free(m->options);
	m->n_options = 0;
	m->options = calloc(1, sizeof(*m->options));
	if (m->options)
		m->options[0] = strdup("rbind");
	if (!m->options || !m->options[0])
		return error_errno(err, ENOMEM, "an OCI document");
	m->n_options = 1;
	return 0;
}

static bool is_bind(const Grpc__Mount *m)
{
	if (strcmp(m->type, "bind") == 0)
		return true;
	for (size_t i = 0; i < m->n_options; i++)
		if (strcmp(m->options[i], "bind") == 0 || strcmp(m->options[i], "rbind") == 0)
			return true;
	return false;
}

/* mountd has put it beside the container's rootfs; it counts them in the same way. */
static int volume_from_share(Grpc__Mount *m, unsigned index, unsigned number, struct error *err)
{
	char path[sizeof(GUEST_SHARE SHARE_VOLUME_FMT) + 16];

	snprintf(path, sizeof(path), GUEST_SHARE SHARE_VOLUME_FMT, index, number);
	return set_string(&m->source, path, err);
}

static int check_mount(Grpc__Mount *m, size_t i, unsigned index, unsigned *volumes,
	struct error *err)
{
	static const char *const guest_types[] = { "proc", "sysfs", "tmpfs", "devpts", "mqueue",
		"cgroup", "cgroup2" };

	if (m->destination[0] != '/')
		return error_set(err, EINVAL,
			"config.json: mounts[%zu].destination: %s is not an absolute path", i,
			m->destination);
	if (strcmp(m->destination, "/dev/shm") == 0)
		return shm_from_guest(m, err);
	if (is_bind(m))
		return volume_from_share(m, index, (*volumes)++, err);
	for (size_t k = 0; k < ARRAY_SIZE(guest_types); k++)
		if (strcmp(m->type, guest_types[k]) == 0)
			return 0;
	return error_set(err, ENOTSUP,
		"config.json: mounts[%zu]: %s is of type '%s', which the guest does not mount", i,
		m->destination, m->type);
}

static int amend_mounts(Grpc__Spec *spec, unsigned index, struct error *err)
{
	unsigned volumes = 0;

	for (size_t i = 0; i < spec->n_mounts; i++) {
		int r = check_mount(spec->mounts[i], i, index, &volumes, err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* The guest's own network, pids and clock; no namespace of the host has a name there. */
static void amend_namespaces(Grpc__Linux *linux_, bool *ret_joins_pidns)
{
	size_t kept = 0;

	for (size_t i = 0; i < linux_->n_namespaces; i++) {
		Grpc__LinuxNamespace *ns = linux_->namespaces[i];

		if (strcmp(ns->type, "pid") == 0 && *ns->path)
			*ret_joins_pidns = true;
		if (strcmp(ns->type, "pid") == 0 || strcmp(ns->type, "network") == 0 ||
			strcmp(ns->type, "time") == 0) {
			grpc__linux_namespace__free_unpacked(ns, NULL);
			continue;
		}
		if (*ns->path) {
			free(ns->path);
			ns->path = (char *)protobuf_c_empty_string;
		}
		linux_->namespaces[kept++] = ns;
	}
	linux_->n_namespaces = kept;
}

static const char *annotation(const Grpc__Spec *spec, const char *key)
{
	for (size_t i = 0; i < spec->n_annotations; i++)
		if (strcmp(spec->annotations[i]->key, key) == 0)
			return spec->annotations[i]->value;
	return NULL;
}

static const char *container_type(const Grpc__Spec *spec)
{
	static const char *const keys[] = { "io.kubernetes.cri-o.ContainerType",
		"io.kubernetes.cri.container-type", "io.kubernetes.docker.type" };
	const char *value = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(keys) && !value; i++)
		value = annotation(spec, keys[i]);
	if (!value)
		return "single_container";
	if (strcmp(value, "sandbox") == 0 || strcmp(value, "podsandbox") == 0 ||
		strcmp(value, "pod_sandbox") == 0)
		return "pod_sandbox";
	if (strcmp(value, "container") == 0 || strcmp(value, "pod_container") == 0)
		return "pod_container";
	return "single_container";
}

static void drop_annotation(Grpc__Spec *spec, const char *key)
{
	size_t kept = 0;

	for (size_t i = 0; i < spec->n_annotations; i++) {
		if (strcmp(spec->annotations[i]->key, key) == 0)
			grpc__string_entry__free_unpacked(spec->annotations[i], NULL);
		else
			spec->annotations[kept++] = spec->annotations[i];
	}
	spec->n_annotations = kept;
}

static int amend_annotations(Grpc__Spec *spec, unsigned index, struct error *err)
{
	static const char type_key[] = "io.katacontainers.pkg.oci.container_type";
	static const char path_key[] = "io.katacontainers.pkg.oci.bundle_path";
	const char *type = container_type(spec);
	Grpc__StringEntry **longer;
	char path[sizeof(GUEST_SHARE) + 16];
	int r;

	drop_annotation(spec, "io.katacontainers.config.hypervisor.cc_init_data");
	drop_annotation(spec, type_key);
	drop_annotation(spec, path_key);
	longer = realloc(spec->annotations, (spec->n_annotations + 2) * sizeof(*longer));
	if (!longer)
		return error_errno(err, ENOMEM, "an OCI document");
	spec->annotations = longer;
	/* The bundle as the guest sees it: the folder that holds rootfs. */
	snprintf(path, sizeof(path), GUEST_SHARE "c%u", index);
	r = add_entry(longer, &spec->n_annotations, type_key, type, err);
	return r < 0 ? r : add_entry(longer, &spec->n_annotations, path_key, path, err);
}

static int amend(Grpc__Spec *spec, unsigned index, bool *ret_joins_pidns, struct error *err)
{
	char root[sizeof(GUEST_SHARE SHARE_ROOTFS_FMT) + 16];
	int r;

	if (spec->process->n_args == 0)
		return error_set(err, EINVAL, "config.json: process.args: empty");
	if (spec->process->cwd[0] != '/')
		return error_set(err, EINVAL, "config.json: process.cwd: not an absolute path");
	snprintf(root, sizeof(root), GUEST_SHARE SHARE_ROOTFS_FMT, index);
	r = set_string(&spec->root->path, root, err);
	if (r == 0)
		r = amend_mounts(spec, index, err);
	if (r == 0)
		r = amend_annotations(spec, index, err);
	if (r == 0)
		amend_namespaces(spec->linux, ret_joins_pidns);
	return r;
}

/* -- the text */

/* json-c 0.16 makes the largest number there is of one that is larger. */
static bool is_too_large(const char *digits, size_t n, bool negative)
{
	const char *limit = negative ? "9223372036854775808" : "18446744073709551615";
	size_t limit_len = strlen(limit);

	return n > limit_len || (n == limit_len && memcmp(digits, limit, n) > 0);
}

/*
 * What json-c would not tell: counts what will cost memory before it allocates
 * any of it, and finds numbers it would change. Text in strings is skipped.
 */
static int check_text(const char *name, const char *text, size_t len, struct error *err)
{
	size_t containers = 0, values = 0;
	bool quoted = false;

	if (len > OCI_TEXT_MAX)
		return error_set(err, EFBIG, "%s: %zu bytes, the limit is %zu", name, len,
			OCI_TEXT_MAX);
	for (size_t i = 0; i < len; i++) {
		if (quoted && text[i] == '\\') {
			i++;
		} else if (text[i] == '"') {
			quoted = !quoted;
		} else if (quoted) {
			continue;
		} else if (text[i] == '{' || text[i] == '[') {
			containers++;
		} else if (text[i] == ',') {
			values++;
		} else if (text[i] >= '0' && text[i] <= '9') {
			size_t n = strspn(text + i, "0123456789");
			char before = i > 0 ? text[i - 1] : '\0';

			if (before != '.' && is_too_large(text + i, n, before == '-'))
				return error_set(err, EINVAL,
					"%s: byte %zu: a number of more than 64 bits", name, i);
			i += n - 1;
		}
	}
	if (containers > CONTAINERS_MAX)
		return error_set(err, EFBIG, "%s: more than %d objects and lists", name,
			CONTAINERS_MAX);
	if (values > VALUES_MAX)
		return error_set(err, EFBIG, "%s: more than %d values", name, VALUES_MAX);
	return 0;
}

static struct json_object *parse(struct json_tokener *tok, const char *name, const char *text,
	size_t len, struct error *err)
{
	struct json_object *object;
	enum json_tokener_error e;

	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	object = json_tokener_parse_ex(tok, text, (int)len);
	e = json_tokener_get_error(tok);
	if (e == json_tokener_success && object)
		return object;
	json_object_put(object);
	if (e == json_tokener_continue)
		error_set(err, EINVAL, "%s: it ends in the middle", name);
	else if (e == json_tokener_error_depth)
		error_set(err, EINVAL, "%s: nested deeper than %d levels", name, OCI_DEPTH_MAX);
	else if (e == json_tokener_success)
		error_set(err, EINVAL, "%s: expected an object, got null", name);
	else
		error_set(err, EINVAL, "%s: byte %zu: %s", name, json_tokener_get_parse_end(tok),
			json_tokener_error_desc(e));
	return NULL;
}

static void release_object(struct json_object **o)
{
	json_object_put(*o);
}

static void release_tokener(struct json_tokener **t)
{
	if (*t)
		json_tokener_free(*t);
}

/* A document of one message. *ret is the caller's. */
static int parse_message(const char *name, const char *text, size_t len,
	const ProtobufCMessageDescriptor *d, const struct row *rows, ProtobufCMessage **ret,
	struct error *err)
{
	CLEANUP(release_tokener) struct json_tokener *tok = NULL;
	CLEANUP(release_object) struct json_object *object = NULL;
	const struct place root = { .key = name };
	int r = check_text(name, text, len, err);

	if (r < 0)
		return r;
	tok = json_tokener_new_ex(OCI_DEPTH_MAX);
	if (!tok)
		return error_errno(err, ENOMEM, "an OCI document");
	object = parse(tok, name, text, len, err);
	if (!object)
		return -err->code;
	return convert(d, rows, &root, object, ret, err);
}

int oci_parse(const char *text, size_t len, unsigned index, struct oci_spec *ret,
	struct error *err)
{
	CLEANUP(oci_spec_done) struct oci_spec s = OCI_SPEC_INIT;
	int r = parse_message("config.json", text, len, &grpc__spec__descriptor, spec_rows,
		(void *)&s.spec, err);

	if (r == 0)
		r = amend(s.spec, index, &s.joins_pidns, err);
	if (r < 0)
		return r;
	*ret = s;
	s.spec = NULL;
	return 0;
}

int oci_parse_process(const char *text, size_t len, Grpc__Process **ret, struct error *err)
{
	static const char name[] = "the process";
	Grpc__Process *p = NULL;
	int r = parse_message(name, text, len, &grpc__process__descriptor, process_rows,
		(void *)&p, err);

	if (r < 0)
		return r;
	if (p->n_args == 0)
		r = error_set(err, EINVAL, "%s: args: empty", name);
	else if (p->cwd[0] != '/')
		r = error_set(err, EINVAL, "%s: cwd: not an absolute path", name);
	if (r < 0)
		grpc__process__free_unpacked(p, NULL);
	else
		*ret = p;
	return r;
}

int oci_parse_resources(const char *text, size_t len, Grpc__LinuxResources **ret,
	struct error *err)
{
	return parse_message("the resources", text, len, &grpc__linux_resources__descriptor,
		update_rows, (void *)ret, err);
}

int oci_read(int fd, unsigned index, struct oci_spec *ret, struct error *err)
{
	size_t len = 0;
	_cleanup_free_ char *text = read_file_fd(fd, OCI_TEXT_MAX, &len, err);

	if (!text)
		return error_wrap(err, "config.json");
	return oci_parse(text, len, index, ret, err);
}

void oci_spec_done(struct oci_spec *s)
{
	if (s->spec)
		grpc__spec__free_unpacked(s->spec, NULL);
	for (size_t i = 0; i < s->n_storages; i++)
		grpc__storage__free_unpacked(s->storages[i], NULL);
	free(s->storages);
	for (size_t i = 0; i < s->n_devices; i++)
		grpc__device__free_unpacked(s->devices[i], NULL);
	free(s->devices);
	*s = (struct oci_spec)OCI_SPEC_INIT;
}
