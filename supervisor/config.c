#include "supervisor/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/io.h"

#define CONFIG_FILE_MAX (64 << 10)

enum value_type { VALUE_TEXT, VALUE_NUMBER, VALUE_LIST };

static const struct {
	const char *key;
	enum value_type type;
	size_t offset, size;
	uint64_t min, max;
} keys[] = {
#define MEMBER(m) offsetof(struct config, m), sizeof(((struct config *)0)->m)
	{ "run_dir", VALUE_TEXT, MEMBER(run_dir), 0, 0 },
	{ "uid_base", VALUE_NUMBER, MEMBER(uid_base), 1000, 4000000000 },
	{ "max_sandboxes", VALUE_NUMBER, MEMBER(max_sandboxes), 1, 100000 },
	{ "qemu", VALUE_TEXT, MEMBER(qemu), 0, 0 },
	{ "virtiofsd", VALUE_TEXT, MEMBER(virtiofsd), 0, 0 },
	{ "virtio_fs_cache", VALUE_TEXT, MEMBER(virtio_fs_cache), 0, 0 },
	{ "kernel", VALUE_TEXT, MEMBER(kernel), 0, 0 },
	{ "initrd", VALUE_TEXT, MEMBER(initrd), 0, 0 },
	{ "cmdline", VALUE_TEXT, MEMBER(cmdline), 0, 0 },
	{ "accel", VALUE_TEXT, MEMBER(accel), 0, 0 },
	{ "vcpus", VALUE_NUMBER, MEMBER(vcpus), 1, VCPUS_MAX },
	{ "memory_mib", VALUE_NUMBER, MEMBER(memory_mib), 64, MEMORY_MIB_MAX },
	{ "max_vcpus", VALUE_NUMBER, MEMBER(max_vcpus), 1, VCPUS_MAX },
	{ "max_memory_mib", VALUE_NUMBER, MEMBER(max_memory_mib), 64, MEMORY_MIB_MAX },
	{ "overhead_millicpus", VALUE_NUMBER, MEMBER(overhead_millicpus), 0, 10000 },
	{ "overhead_memory_mib", VALUE_NUMBER, MEMBER(overhead_memory_mib), 0, 65536 },
	{ "network_model", VALUE_TEXT, MEMBER(network_model), 0, 0 },
	{ "network_queues", VALUE_NUMBER, MEMBER(network_queues), 1, 16 },
	{ "disable_vhost_net", VALUE_NUMBER, MEMBER(disable_vhost_net), 0, 1 },
	{ "agent_transport", VALUE_TEXT, MEMBER(agent_transport), 0, 0 },
	{ "hello_timeout_ms", VALUE_NUMBER, MEMBER(hello_timeout_ms), 100, 600000 },
	{ "rootfs_prefix", VALUE_LIST, MEMBER(rootfs_prefix), 0, 0 },
	{ "stdio_prefix", VALUE_LIST, MEMBER(stdio_prefix), 0, 0 },
	{ "log_prefix", VALUE_LIST, MEMBER(log_prefix), 0, 0 },
};

static int set_text(char *out, size_t size, const char *value, struct error *err)
{
	if (strlen(value) >= size)
		return error_set(err, EINVAL, "longer than %zu bytes", size - 1);
	strcpy(out, value);
	return 0;
}

static int set_number(uint64_t *out, const char *value, uint64_t min, uint64_t max,
	struct error *err)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(value, &end, 10);
	if (!isdigit((unsigned char)value[0]) || *end || errno || n < min || n > max)
		return error_set(err, EINVAL, "'%s' is not a number from %llu to %llu", value,
			(unsigned long long)min, (unsigned long long)max);
	*out = n;
	return 0;
}

static int set_key(struct config *c, const char *key, const char *value, bool first[],
	struct error *err)
{
	for (size_t k = 0; k < ARRAY_SIZE(keys); k++) {
		void *out = (char *)c + keys[k].offset;
		struct config_list *list = out;

		if (strcmp(keys[k].key, key) != 0)
			continue;
		if (keys[k].type == VALUE_TEXT)
			return set_text(out, keys[k].size, value, err);
		if (keys[k].type == VALUE_NUMBER)
			return set_number(out, value, keys[k].min, keys[k].max, err);
		/* The first line of a list replaces the defaults. */
		if (first[k])
			list->n = 0;
		first[k] = false;
		if (list->n == CONFIG_LIST_MAX)
			return error_set(err, EINVAL, "more than %d lines", CONFIG_LIST_MAX);
		return set_text(list->item[list->n++], CONFIG_PATH_MAX, value, err);
	}
	return error_set(err, EINVAL, "there is no such key");
}

int config_parse(struct config *c, const char *path, char *text, struct error *err)
{
	bool first[ARRAY_SIZE(keys)];
	unsigned number = 0;
	char *save = NULL;

	memset(first, true, sizeof(first));
	for (char *line = text; line; line = save) {
		char *end, *eq;

		number++;
		save = strchr(line, '\n');
		if (save)
			*save++ = '\0';
		while (isspace((unsigned char)*line))
			line++;
		for (end = line + strlen(line); end > line && isspace((unsigned char)end[-1]);)
			*--end = '\0';
		if (!*line || *line == '#')
			continue;
		eq = strchr(line, '=');
		if (!eq)
			return error_set(err, EINVAL, "%s:%u: not of the form key=value", path,
				number);
		*eq = '\0';
		if (set_key(c, line, eq + 1, first, err) < 0)
			return error_wrap(err, "%s:%u: %s", path, number, line);
	}
	return 0;
}

/* <prefix> of <prefix>/bin/containerd-shim-bulkhead-v2, without a slash at its end. */
static int find_prefix(char *out, size_t size, struct error *err)
{
	ssize_t n = readlink("/proc/self/exe", out, size - 1);

	if (n < 0)
		return error_errno(err, errno, "read /proc/self/exe");
	out[n] = '\0';
	for (int i = 0; i < 2; i++) {
		char *slash = strrchr(out, '/');

		if (!slash)
			return error_set(err, EINVAL, "the shim is not in a bin directory: %s",
				out);
		*slash = '\0';
	}
	return 0;
}

static void list_defaults(struct config_list *list, const char *const *items)
{
	for (list->n = 0; items[list->n]; list->n++)
		snprintf(list->item[list->n], CONFIG_PATH_MAX, "%s", items[list->n]);
}

static void set_defaults(struct config *c, const char *prefix)
{
	static const char *const roots[] = { "/var/lib/containerd", "/run/containerd",
		"/var/lib/docker", "/run/docker", "/var/lib/rancher/k3s/agent/containerd",
		"/run/k3s/containerd", "/var/lib/containers", "/dev/mapper", NULL };
	static const char *const stdio[] = { "/run/containerd", "/var/run/docker", "/run/docker",
		"/run/k3s/containerd", "/var/run/crio", "/run/crio", NULL };

	snprintf(c->libexec, sizeof(c->libexec), "%.400s/libexec/bulkhead", prefix);
	strcpy(c->run_dir, "/run/bulkhead");
	c->uid_base = 2000000000;
	c->max_sandboxes = 10000;
	strcpy(c->qemu, "/usr/bin/qemu-system-x86_64");
	strcpy(c->virtio_fs_cache, "auto");
	snprintf(c->kernel, sizeof(c->kernel), "%.400s/share/bulkhead/kernel", prefix);
	snprintf(c->initrd, sizeof(c->initrd), "%.400s/share/bulkhead/initrd", prefix);
	strcpy(c->accel, "auto");
	c->vcpus = 1;
	c->memory_mib = 512;
	c->max_vcpus = 8;
	c->max_memory_mib = 8192;
	c->overhead_millicpus = 200;
	c->overhead_memory_mib = 128; /* the guest boots with 96, measured */
	strcpy(c->network_model, "tcfilter");
	c->network_queues = 1;
	strcpy(c->agent_transport, "serial");
	c->hello_timeout_ms = 60000;
	list_defaults(&c->rootfs_prefix, roots);
	list_defaults(&c->stdio_prefix, stdio);
}

/* The image builder writes the guest's best command line beside its kernel. */
static int default_cmdline(struct config *c, struct error *err)
{
	char path[CONFIG_PATH_MAX + 16];
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	char *slash;
	size_t len;

	/* Without a kernel there is a better sentence to come than that its command line is missing. */
	if (c->cmdline[0] || access(c->kernel, F_OK) < 0)
		return 0;
	snprintf(path, sizeof(path), "%s", c->kernel);
	slash = strrchr(path, '/');
	snprintf(slash ? slash + 1 : path, 16, "cmdline");
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return error_errno(err, errno,
			"the guest kernel's command line %s (is the guest image built?)", path);
	text = read_file_fd(fd, sizeof(c->cmdline) - 1, &len, err);
	if (!text)
		return error_wrap(err, "%s", path);
	text[strcspn(text, "\n")] = '\0';
	return set_text(c->cmdline, sizeof(c->cmdline), text, err);
}

static int try_kvm(struct error *err)
{
	_cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return error_errno(err, errno, "/dev/kvm");
	return ioctl(fd, KVM_GET_API_VERSION, 0) == KVM_API_VERSION ?
		0 :
		error_set(err, ENODEV, "/dev/kvm is not KVM");
}

/*
 * A /dev/kvm without the processor's module is a hypervisor's stand-in for it. Guests hang
 * there, and a probe does not find out: a guest that halts at once runs well.
 */
static int find_kvm(struct error *err)
{
	if (access("/sys/module/kvm_intel", F_OK) < 0 && access("/sys/module/kvm_amd", F_OK) < 0)
		return error_set(err, ENODEV, "neither kvm_intel nor kvm_amd is loaded");
	return try_kvm(err);
}

static int resolve_accel(struct config *c, struct error *err)
{
	struct error why = ERROR_INIT;

	if (strcmp(c->accel, "auto") == 0) {
		strcpy(c->accel, find_kvm(&why) == 0 ? "kvm" : "tcg");
		snprintf(c->accel_why, sizeof(c->accel_why), "%.95s", why.msg);
		return 0;
	}
	if (strcmp(c->accel, "kvm") == 0)
		return try_kvm(err) == 0 ? 0 : error_wrap(err, "accel=kvm");
	if (strcmp(c->accel, "tcg") != 0)
		return error_set(err, EINVAL, "accel=%s: auto, kvm or tcg", c->accel);
	return 0;
}

/*
 * Emulated CPUs are all there from the start (vmmd/hotplug_cpu.c), which each boot pays for, and
 * more than the host has make nothing faster.
 */
static void limit_emulated_cpus(struct config *c)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	if (strcmp(c->accel, "tcg") == 0 && n > 0 && c->max_vcpus > (uint64_t)n)
		c->max_vcpus = (uint64_t)n;
}

static void default_virtiofsd(struct config *c)
{
	static const char *const places[] = { "/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd" };

	for (size_t i = 0; !c->virtiofsd[0] && i < ARRAY_SIZE(places); i++)
		if (access(places[i], X_OK) == 0)
			strcpy(c->virtiofsd, places[i]);
	if (!c->virtiofsd[0])
		strcpy(c->virtiofsd, places[0]);
}

/* mountd tells by its place which it is, and Debian 13 has a link in the other one's. */
static void follow_virtiofsd(struct config *c)
{
	char path[PATH_MAX];

	/* What is not there is said when it is opened. */
	if (realpath(c->virtiofsd, path) && strlen(path) < sizeof(c->virtiofsd))
		strcpy(c->virtiofsd, path);
}

int config_load(struct config *ret, struct error *err)
{
	char prefix[PATH_MAX], path[PATH_MAX + 32];
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r;

	memset(ret, 0, sizeof(*ret));
	r = find_prefix(prefix, sizeof(prefix), err);
	if (r < 0)
		return r;
	set_defaults(ret, prefix);

	snprintf(path, sizeof(path), "%s/etc/bulkhead/bulkhead.conf",
		strcmp(prefix, "/usr") == 0 ? "" : prefix);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	if (fd < 0 && errno != ENOENT)
		return error_errno(err, errno, "%s", path);
	if (fd >= 0) {
		text = read_file_fd(fd, CONFIG_FILE_MAX, &len, err);
		if (!text)
			return error_wrap(err, "%s", path);
		r = config_parse(ret, path, text, err);
		if (r < 0)
			return r;
	}
	return 0;
}

bool config_is_vsock(const struct config *c)
{
	return strcmp(c->agent_transport, "vsock") == 0;
}

int config_resolve(struct config *c, struct error *err)
{
	int r;

	if (strcmp(c->network_model, "tcfilter") != 0 && strcmp(c->network_model, "macvtap") != 0 &&
		strcmp(c->network_model, "none") != 0)
		return error_set(err, EINVAL, "network_model=%s: tcfilter, macvtap or none",
			c->network_model);
	if (strcmp(c->agent_transport, "serial") != 0 && !config_is_vsock(c))
		return error_set(err, EINVAL, "agent_transport=%s: serial or vsock",
			c->agent_transport);
	default_virtiofsd(c);
	follow_virtiofsd(c);
	r = resolve_accel(c, err);
	if (r < 0)
		return r;
	limit_emulated_cpus(c);
	return default_cmdline(c, err);
}
