#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <string.h>

#include "agent.pb-c.h"
#include "cgroup.h"
#include "job.h"
#include "port.h"
#include "storage.h"

#define MOUNT_TIMEOUT_S   30
#define DESTROY_TIMEOUT_S 5
#define ONLINE_TIMEOUT_S  10

static enum { SANDBOX_NONE, SANDBOX_CREATING, SANDBOX_READY } state;

bool sandbox_exists(void)
{
	return state == SANDBOX_READY;
}

static int write_resolv_conf(char *const *lines, size_t n, struct error *err)
{
	static const char *const paths[] = { "/run/kata-containers/sandbox/resolv.conf",
		"/etc/resolv.conf" };
	_cleanup_free_ char *text = xstrdup("");

	for (size_t i = 0; i < n; i++) {
		char *longer = xasprintf("%s%s\n", text, lines[i]);

		free(text);
		text = longer;
	}
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		int r = file_create(paths[i], text, strlen(text));

		if (r < 0) {
			errno = -r;
			return error_errno(err, "write %s", paths[i]);
		}
	}
	return 0;
}

static int create_work(const void *arg, struct job_report *report, struct error *err)
{
	const Grpc__CreateSandboxRequest *request = arg;

	(void)report;
	if (*request->hostname && sethostname(request->hostname, strlen(request->hostname)) < 0)
		return error_errno(err, "sethostname");
	if (make_dirs("/run/kata-containers/sandbox") < 0)
		return error_errno(err, "mkdir /run/kata-containers/sandbox");
	if (write_resolv_conf(request->dns, request->n_dns, err) < 0)
		return -1;
	return storage_mount_all(request->storages, request->n_storages, err);
}

static void create_done(
        void *owner, uint32_t stream, struct job_report *report, const struct error *err)
{
	(void)owner;
	(void)report;
	if (err) {
		state = SANDBOX_NONE;
		rpc_reply_error(stream, err);
		return;
	}
	state = SANDBOX_READY;
	rpc_reply_empty(stream);
}

void create_sandbox(uint32_t stream, const ProtobufCMessage *message)
{
	const Grpc__CreateSandboxRequest *request = (const void *)message;
	struct error err;
	const struct job_spec spec = {
		.work = create_work,
		.arg = request,
		.timeout_s = MOUNT_TIMEOUT_S,
		.done = create_done,
		.stream = stream,
	};

	if (state != SANDBOX_NONE) {
		rpc_fail(stream, CODE_ALREADY_EXISTS, "the sandbox exists");
		return;
	}
	if (request->n_kernel_modules > 0 || *request->guest_hook_path) {
		rpc_fail(stream, CODE_INVALID_ARGUMENT,
		        "kernel modules and guest hooks are not supported");
		return;
	}
	if (job_start(&spec, &err))
		state = SANDBOX_CREATING;
	else
		rpc_reply_error(stream, &err);
}

/* End every process, then give the file systems back. */
static int destroy_work(const void *arg, struct job_report *report, struct error *err)
{
	(void)arg;
	(void)report;
	(void)err;
	(void)file_write(CGROUP_ROOT "/cgroup.kill", "1");
	cgroup_wait_empty("");
	storage_unmount_all();
	return 0;
}

/* Whatever failed, the end is the same. */
static void destroy_done(
        void *owner, uint32_t stream, struct job_report *report, const struct error *err)
{
	(void)owner;
	(void)report;
	if (err)
		log_line("the sandbox did not end cleanly: %s", err->text);
	rpc_reply_empty(stream);
	port_on_empty(power_off);
}

void destroy_sandbox(uint32_t stream, const ProtobufCMessage *message)
{
	struct error err;
	const struct job_spec spec = {
		.work = destroy_work,
		.timeout_s = DESTROY_TIMEOUT_S,
		.done = destroy_done,
		.stream = stream,
	};

	(void)message;
	if (!job_start(&spec, &err))
		rpc_reply_error(stream, &err);
}

/* -- the guest */

void get_guest_details(uint32_t stream, const ProtobufCMessage *message)
{
	char *storage_handlers[] = { (char[]){ "virtio-fs" }, (char[]){ "ephemeral" },
		(char[]){ "local" }, (char[]){ "blk" } };
	char *device_handlers[] = { (char[]){ "blk" } };
	const Grpc__GuestDetailsRequest *request = (const void *)message;
	Grpc__GuestDetailsResponse response = GRPC__GUEST_DETAILS_RESPONSE__INIT;
	Grpc__AgentDetails details = GRPC__AGENT_DETAILS__INIT;
	char text[32];

	details.version = (char[]){ AGENT_VERSION };
	details.init_daemon = true;
	details.supports_seccomp = true;
	details.storage_handlers = storage_handlers;
	details.n_storage_handlers = ARRAY_SIZE(storage_handlers);
	details.device_handlers = device_handlers;
	details.n_device_handlers = ARRAY_SIZE(device_handlers);
	response.agent_details = &details;
	if (request->mem_block_size &&
	        file_read("/sys/devices/system/memory/block_size_bytes", text, sizeof(text)) > 0)
		response.mem_block_size_bytes = strtoull(text, NULL, 16);
	if (request->mem_hotplug_probe)
		response.support_mem_hotplug_probe =
		        access("/sys/devices/system/memory/probe", F_OK) == 0;
	rpc_reply(stream, &response.base);
}

#define MEMORY_BLOCKS "/sys/devices/system/memory/memory[0-9]*/state"

/* Write text to files of a pattern until so many say it; return how many do. */
static unsigned int online(const char *pattern, const char *text, size_t enough)
{
	unsigned int n = 0;
	glob_t found;

	if (glob(pattern, 0, NULL, &found) != 0)
		return 0;
	for (size_t i = 0; i < found.gl_pathc && n < enough; i++) {
		char now[16] = "";

		if (file_read(found.gl_pathv[i], now, sizeof(now)) > 0 &&
		        strncmp(now, text, strlen(text)) != 0)
			(void)file_write(found.gl_pathv[i], text);
		if (file_read(found.gl_pathv[i], now, sizeof(now)) > 0 &&
		        strncmp(now, text, strlen(text)) == 0)
			n++;
	}
	globfree(&found);
	return n;
}

static uint64_t block_mib(void)
{
	char text[32] = "0";

	(void)file_read("/sys/devices/system/memory/block_size_bytes", text, sizeof(text));
	return strtoull(text, NULL, 16) >> 20;
}

static unsigned int blocks_at_boot;

void sandbox_init(void)
{
	blocks_at_boot = online(MEMORY_BLOCKS, "online", SIZE_MAX);
}

/* CPUs and memory blocks appear a while after the host plugged them. */
static int online_work(const void *arg, struct job_report *report, struct error *err)
{
	const Grpc__OnlineCPUMemRequest *request = arg;
	uint64_t until = now_ms() + ONLINE_TIMEOUT_S * 1000, mib = 0, block = block_mib();
	/* cpu0 has no such file: it is always there. */
	size_t others = request->nb_cpus > 0 ? request->nb_cpus - 1 : SIZE_MAX;
	unsigned int cpus;

	(void)report;
	for (;;) {
		cpus = 1 + online("/sys/devices/system/cpu/cpu[0-9]*/online", "1", others);
		if (!request->cpu_only)
			mib = (online(MEMORY_BLOCKS, "online", SIZE_MAX) - blocks_at_boot) * block;
		if (!request->wait ||
		        (cpus >= request->nb_cpus && mib >= request->plugged_mib))
			return 0;
		if (now_ms() > until)
			return error_set(err, CODE_DEADLINE_EXCEEDED,
			        "the guest uses %u of %u CPUs, and %llu MiB of %llu that were plugged",
			        cpus, request->nb_cpus, (unsigned long long)mib,
			        (unsigned long long)request->plugged_mib);
		sleep_ms(10);
	}
}

static void online_done(
        void *owner, uint32_t stream, struct job_report *report, const struct error *err)
{
	(void)owner;
	(void)report;
	if (err)
		rpc_reply_error(stream, err);
	else
		rpc_reply_empty(stream);
}

void online_cpu_mem(uint32_t stream, const ProtobufCMessage *message)
{
	struct error err;
	const struct job_spec spec = {
		.work = online_work,
		.arg = message,
		.timeout_s = ONLINE_TIMEOUT_S + 1,
		.done = online_done,
		.stream = stream,
	};

	if (!job_start(&spec, &err))
		rpc_reply_error(stream, &err);
}

void health_check(uint32_t stream, const ProtobufCMessage *message)
{
	Grpc__HealthCheckResponse response = GRPC__HEALTH_CHECK_RESPONSE__INIT;

	(void)message;
	response.status = GRPC__HEALTH_CHECK_RESPONSE__SERVING_STATUS__SERVING;
	rpc_reply(stream, &response.base);
}

void health_version(uint32_t stream, const ProtobufCMessage *message)
{
	Grpc__VersionCheckResponse response = GRPC__VERSION_CHECK_RESPONSE__INIT;

	(void)message;
	response.grpc_version = (char[]){ "0.0.1" };
	response.agent_version = (char[]){ AGENT_VERSION };
	rpc_reply(stream, &response.base);
}
