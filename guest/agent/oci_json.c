/*
 * The conversion walks one table per message. A row names a field of the protocol and its key in
 * JSON; a field without a row is not passed on. proto3 does not tell 0 from absent, so zeros, empty
 * strings and empty lists are left out unless the row says that a zero is a value.
 */
#include "oci_json.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "util.h"

enum {
	ZERO = 1 << 0, /* 0 and false are values */
	MAP = 1 << 1,  /* StringEntry messages: an object */
};

struct row {
	const char *field, *key;
	const struct row *sub; /* rows of the submessage */
	unsigned int flags;
};

#define END                         \
	{                           \
		NULL, NULL, NULL, 0 \
	}

static const struct row box_rows[] = {
	{ "Height", "height", NULL, ZERO },
	{ "Width", "width", NULL, ZERO },
	END,
};

static const struct row user_rows[] = {
	{ "UID", "uid", NULL, ZERO },
	{ "GID", "gid", NULL, ZERO },
	{ "AdditionalGids", "additionalGids", NULL, 0 },
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
	{ "Type", "type", NULL, 0 },
	{ "Hard", "hard", NULL, ZERO },
	{ "Soft", "soft", NULL, ZERO },
	END,
};

static const struct row process_rows[] = {
	{ "Terminal", "terminal", NULL, 0 },
	{ "ConsoleSize", "consoleSize", box_rows, 0 },
	{ "User", "user", user_rows, 0 },
	{ "Args", "args", NULL, 0 },
	{ "Env", "env", NULL, 0 },
	{ "Cwd", "cwd", NULL, 0 },
	{ "Capabilities", "capabilities", capability_rows, 0 },
	{ "Rlimits", "rlimits", rlimit_rows, 0 },
	{ "NoNewPrivileges", "noNewPrivileges", NULL, 0 },
	{ "OOMScoreAdj", "oomScoreAdj", NULL, ZERO },
	END,
};

static const struct row root_rows[] = {
	{ "Path", "path", NULL, 0 },
	{ "Readonly", "readonly", NULL, 0 },
	END,
};

static const struct row mount_rows[] = {
	{ "destination", "destination", NULL, 0 },
	{ "source", "source", NULL, 0 },
	{ "type", "type", NULL, 0 },
	{ "options", "options", NULL, 0 },
	END,
};

static const struct row hook_rows[] = {
	{ "Path", "path", NULL, 0 },
	{ "Args", "args", NULL, 0 },
	{ "Env", "env", NULL, 0 },
	{ "Timeout", "timeout", NULL, 0 },
	END,
};

/* The one kind of hook that runs inside the container; the others are the host's business. */
static const struct row hooks_rows[] = {
	{ "StartContainer", "startContainer", hook_rows, 0 },
	END,
};

static const struct row id_mapping_rows[] = {
	{ "HostID", "hostID", NULL, ZERO },
	{ "ContainerID", "containerID", NULL, ZERO },
	{ "Size", "size", NULL, ZERO },
	END,
};

static const struct row device_cgroup_rows[] = {
	{ "Allow", "allow", NULL, ZERO },
	{ "Type", "type", NULL, 0 },
	{ "Major", "major", NULL, ZERO },
	{ "Minor", "minor", NULL, ZERO },
	{ "Access", "access", NULL, 0 },
	END,
};

static const struct row memory_rows[] = {
	{ "Limit", "limit", NULL, 0 },
	{ "Reservation", "reservation", NULL, 0 },
	{ "Swap", "swap", NULL, 0 },
	END,
};

static const struct row cpu_rows[] = {
	{ "Shares", "shares", NULL, 0 },
	{ "Quota", "quota", NULL, 0 },
	{ "Period", "period", NULL, 0 },
	{ "Cpus", "cpus", NULL, 0 },
	{ "Mems", "mems", NULL, 0 },
	END,
};

static const struct row pids_rows[] = {
	{ "Limit", "limit", NULL, 0 },
	END,
};

static const struct row hugepage_rows[] = {
	{ "Pagesize", "pageSize", NULL, 0 },
	{ "Limit", "limit", NULL, ZERO },
	END,
};

static const struct row resources_rows[] = {
	{ "Devices", "devices", device_cgroup_rows, 0 },
	{ "Memory", "memory", memory_rows, 0 },
	{ "CPU", "cpu", cpu_rows, 0 },
	{ "Pids", "pids", pids_rows, 0 },
	{ "HugepageLimits", "hugepageLimits", hugepage_rows, 0 },
	END,
};

static const struct row device_rows[] = {
	{ "Path", "path", NULL, 0 },
	{ "Type", "type", NULL, 0 },
	{ "Major", "major", NULL, ZERO },
	{ "Minor", "minor", NULL, ZERO },
	{ "FileMode", "fileMode", NULL, 0 },
	{ "UID", "uid", NULL, ZERO },
	{ "GID", "gid", NULL, ZERO },
	END,
};

static const struct row seccomp_arg_rows[] = {
	{ "Index", "index", NULL, ZERO },
	{ "Value", "value", NULL, ZERO },
	{ "ValueTwo", "valueTwo", NULL, ZERO },
	{ "Op", "op", NULL, 0 },
	END,
};

static const struct row syscall_rows[] = {
	{ "Names", "names", NULL, 0 },
	{ "Action", "action", NULL, 0 },
	{ "errnoret", "errnoRet", NULL, ZERO },
	{ "Args", "args", seccomp_arg_rows, 0 },
	END,
};

static const struct row seccomp_rows[] = {
	{ "DefaultAction", "defaultAction", NULL, 0 },
	{ "Architectures", "architectures", NULL, 0 },
	{ "Flags", "flags", NULL, 0 },
	{ "Syscalls", "syscalls", syscall_rows, 0 },
	END,
};

/* Sysctl is absent: the agent writes them itself, since the network and IPC are the guest's. */
static const struct row linux_rows[] = {
	{ "UIDMappings", "uidMappings", id_mapping_rows, 0 },
	{ "GIDMappings", "gidMappings", id_mapping_rows, 0 },
	{ "Resources", "resources", resources_rows, 0 },
	{ "Devices", "devices", device_rows, 0 },
	{ "Seccomp", "seccomp", seccomp_rows, 0 },
	{ "RootfsPropagation", "rootfsPropagation", NULL, 0 },
	{ "MaskedPaths", "maskedPaths", NULL, 0 },
	{ "ReadonlyPaths", "readonlyPaths", NULL, 0 },
	END,
};

static const struct row spec_rows[] = {
	{ "Process", "process", process_rows, 0 },
	{ "Root", "root", root_rows, 0 },
	{ "Mounts", "mounts", mount_rows, 0 },
	{ "Hooks", "hooks", hooks_rows, 0 },
	{ "Annotations", "annotations", NULL, MAP },
	{ "Linux", "linux", linux_rows, 0 },
	END,
};

static struct json_object *convert(const ProtobufCMessage *message, const struct row *rows);

/* One value at this address, or NULL if it is absent. Elements of lists are never absent. */
static struct json_object *convert_value(
        const ProtobufCFieldDescriptor *field, const void *at, const struct row *row, bool element)
{
	bool keep = element || (row->flags & ZERO);

	switch (field->type) {
	case PROTOBUF_C_TYPE_MESSAGE: {
		const ProtobufCMessage *sub = *(ProtobufCMessage *const *)at;

		return sub ? convert(sub, row->sub) : NULL;
	}
	case PROTOBUF_C_TYPE_STRING: {
		const char *s = *(char *const *)at;

		return (element || *s) ? json_object_new_string(s) : NULL;
	}
	case PROTOBUF_C_TYPE_BOOL: {
		bool b = *(const protobuf_c_boolean *)at;

		return (keep || b) ? json_object_new_boolean(b) : NULL;
	}
	case PROTOBUF_C_TYPE_UINT32: {
		uint32_t n = *(const uint32_t *)at;

		return (keep || n) ? json_object_new_int64(n) : NULL;
	}
	case PROTOBUF_C_TYPE_INT64: {
		int64_t n = *(const int64_t *)at;

		return (keep || n) ? json_object_new_int64(n) : NULL;
	}
	case PROTOBUF_C_TYPE_UINT64: {
		uint64_t n = *(const uint64_t *)at;

		return (keep || n) ? json_object_new_uint64(n) : NULL;
	}
	default:
		die("oci.proto: no conversion for the type of %s", field->name);
	}
}

static size_t element_size(const ProtobufCFieldDescriptor *field)
{
	switch (field->type) {
	case PROTOBUF_C_TYPE_MESSAGE:
	case PROTOBUF_C_TYPE_STRING:
		return sizeof(void *);
	case PROTOBUF_C_TYPE_UINT32:
		return sizeof(uint32_t);
	default:
		die("oci.proto: no conversion for lists like %s", field->name);
	}
}

static struct json_object *convert_list(
        const ProtobufCFieldDescriptor *field, const char *items, size_t n, const struct row *row)
{
	struct json_object *array = json_object_new_array();

	for (size_t i = 0; i < n; i++)
		json_object_array_add(
		        array, convert_value(field, items + i * element_size(field), row, true));
	return array;
}

static struct json_object *convert_map(Grpc__StringEntry *const *entries, size_t n)
{
	struct json_object *object = json_object_new_object();

	for (size_t i = 0; i < n; i++)
		json_object_object_add(
		        object, entries[i]->key, json_object_new_string(entries[i]->value));
	return object;
}

static struct json_object *convert_field(const ProtobufCMessage *message,
        const ProtobufCFieldDescriptor *field, const struct row *row)
{
	const char *base = (const char *)message;
	const void *at = base + field->offset;
	const void *quantifier = base + field->quantifier_offset;

	if (field->label == PROTOBUF_C_LABEL_REPEATED) {
		size_t n = *(const size_t *)quantifier;

		if (n == 0)
			return NULL;
		if (row->flags & MAP)
			return convert_map(*(Grpc__StringEntry *const *const *)at, n);
		return convert_list(field, *(const char *const *)at, n, row);
	}
	/* Of a oneof only the member that was sent. */
	if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
	        *(const uint32_t *)quantifier != field->id)
		return NULL;
	return convert_value(field, at, row, false);
}

static struct json_object *convert(const ProtobufCMessage *message, const struct row *rows)
{
	struct json_object *object = json_object_new_object();

	for (const struct row *row = rows; row->field; row++) {
		const ProtobufCFieldDescriptor *field =
		        protobuf_c_message_descriptor_get_field_by_name(
		                message->descriptor, row->field);
		struct json_object *value;

		if (!field)
			die("oci.proto has no field %s", row->field);
		value = convert_field(message, field, row);
		if (value)
			json_object_object_add(object, row->key, value);
	}
	return object;
}

static void add_namespace(struct json_object *list, const char *type, const char *path)
{
	struct json_object *ns = json_object_new_object();

	json_object_object_add(ns, "type", json_object_new_string(type));
	if (path)
		json_object_object_add(ns, "path", json_object_new_string(path));
	json_object_array_add(list, ns);
}

/*
 * The network, UTS and IPC namespaces of a pod are those the guest booted with. Only what separates
 * the containers of a pod is made anew.
 */
static struct json_object *namespaces(const Grpc__Linux *linux_, const char *pid_ns)
{
	struct json_object *list = json_object_new_array();

	add_namespace(list, "mount", NULL);
	add_namespace(list, "cgroup", NULL);
	add_namespace(list, "pid", pid_ns);
	if (linux_ && linux_->n_uidmappings > 0)
		add_namespace(list, "user", NULL);
	return list;
}

struct json_object *oci_json_config(const Grpc__Spec *spec, const char *pid_ns, const char *cgroup)
{
	struct json_object *config = convert(&spec->base, spec_rows);
	struct json_object *linux_ = json_object_object_get(config, "linux");

	if (!linux_) {
		linux_ = json_object_new_object();
		json_object_object_add(config, "linux", linux_);
	}
	json_object_object_add(config, "ociVersion", json_object_new_string("1.0.2"));
	json_object_object_add(linux_, "namespaces", namespaces(spec->linux, pid_ns));
	json_object_object_add(linux_, "cgroupsPath", json_object_new_string(cgroup));
	return config;
}

struct json_object *oci_json_process(const Grpc__Process *process)
{
	return convert(&process->base, process_rows);
}

struct json_object *oci_json_resources(const Grpc__LinuxResources *resources)
{
	return convert(&resources->base, resources_rows);
}
