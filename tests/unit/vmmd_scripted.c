#include "tests/unit/vmmd_scripted.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/ctl.h"
#include "ipc/fds.h"
#include "vmmd/json.h"

/* ---- what it has ---- */

static void has_add(struct script *s, const char *kind, const char *id)
{
	CHECK(s->n < ARRAY_SIZE(s->has));
	snprintf(s->has[s->n++], sizeof(s->has[0]), "%s:%.64s", kind, id);
}

bool script_forget(struct script *s, const char *kind, const char *id)
{
	char name[80];

	snprintf(name, sizeof(name), "%s:%.64s", kind, id);
	for (size_t i = 0; i < s->n; i++)
		if (strcmp(s->has[i], name) == 0) {
			memmove(s->has[i], s->has[i + 1], (--s->n - i) * sizeof(s->has[0]));
			return true;
		}
	return false;
}

/* ---- what it says ---- */

void script_say(struct script *s, const char *text)
{
	for (size_t len = strlen(text); len > 0;) {
		ssize_t n = send(s->qemu, text, len, MSG_NOSIGNAL);

		if (n <= 0)
			return;
		text += n;
		len -= (size_t)n;
	}
}

static void say_error(struct script *s, unsigned long long id, const char *class, const char *desc)
{
	char line[1024];

	snprintf(line, sizeof(line),
		"{\"error\": {\"class\": \"%s\", \"desc\": \"%s\"}, \"id\": %llu}\r\n", class,
		desc, id);
	script_say(s, line);
}

static void say_value(struct script *s, unsigned long long id, const char *value)
{
	char line[4096];

	snprintf(line, sizeof(line), "{\"return\": %s, \"id\": %llu}\r\n", value, id);
	script_say(s, line);
}

static void say_long(struct script *s, const char *piece, unsigned n, const char *end)
{
	for (unsigned i = 0; i < n; i++)
		script_say(s, piece);
	script_say(s, end);
}

/* true: it has said its lie instead of an answer */
static bool tell_lie(struct script *s, unsigned long long id)
{
	switch (s->lie) {
	case REFUSE:
		say_error(s, id, "GenericError", "made to fail");
		return true;
	case CONTROL:
		say_error(s, id, "GenericError", "made\\u0007 to\\n \\u001b[31mfail\\u00e9");
		return true;
	case OTHER_ID:
		say_value(s, id + 1, "{}");
		return true;
	case TWICE:
		say_value(s, id, "{}");
		say_value(s, id, "{}");
		return true;
	case BOTH:
		script_say(s, "{\"return\": {}, \"error\": {\"desc\": \"x\"}, \"id\": 1}\r\n");
		return true;
	case HUGE_ID:
		script_say(s, "{\"return\": {}, \"id\": 18446744073709551617}\r\n");
		return true;
	case NO_JSON:
		script_say(s, "{\"return\": {]}\r\n");
		return true;
	case DEEP:
		say_long(s, "[", 4000, "\n");
		return true;
	case WIDE:
		say_long(s, "[],[],[],[],[],[],[],[],", 10000, "\n");
		return true;
	case FLOOD:
		say_long(s, "{\"event\": \"NEVER_HEARD_OF\"}\n", 20000, "");
		return true;
	case HALF:
		script_say(s, "{\"return\": {}, \"id\"");
		/* fall through */
	case DIES:
		shutdown(s->qemu, SHUT_RDWR);
		ctl_send(s->ctl, CTL_CHILD_EXIT, ROLE_QEMU, 137, NULL);
		return true;
	case WRONG_VALUE:
		say_value(s, id, "[{\"fdset-id\": -7, \"props\": {\"core-id\": 99999999999999999999}}]");
		return true;
	case STOPS:
		script_say(s, "{\"event\": \"STOP\"}\r\n");
		return false;
	default:
		return false;
	}
}

/* ---- what it does ---- */

static const char *const cpus =
	"[{\"props\": {\"core-id\": 0, \"thread-id\": 0, \"socket-id\": 1}, \"vcpus-count\": 1, "
	"\"type\": \"host-x86_64-cpu\"},"
	" {\"props\": {\"core-id\": 0, \"thread-id\": 0, \"socket-id\": 0}, \"vcpus-count\": 1, "
	"\"qom-path\": \"/machine/unattached/device[0]\", \"type\": \"host-x86_64-cpu\"}]";

/* The names of a list that is joined by ":" are used up. */
static bool use_names(struct script *s, const char *list)
{
	char copy[512], *save = NULL;
	bool ok = true;

	snprintf(copy, sizeof(copy), "%s", list);
	for (char *name = strtok_r(copy, ":", &save); name; name = strtok_r(NULL, ":", &save))
		ok = script_forget(s, "fd", name) && ok;
	return ok;
}

static bool add_netdev(struct script *s, struct json_object *a)
{
	snprintf(s->last_fds, sizeof(s->last_fds), "%s", json_text(a, "fds"));
	if (!use_names(s, json_text(a, "fds")) || !use_names(s, json_text(a, "vhostfds")))
		return false;
	has_add(s, "netdev", json_text(a, "id"));
	return true;
}

static void delete_device(struct script *s, unsigned long long id, const char *device)
{
	char line[256];

	if (s->keeps_devices) {
		say_value(s, id, "{}");
		return;
	}
	if (!script_forget(s, "device", device)) {
		say_error(s, id, "DeviceNotFound", "Device not found");
		return;
	}
	snprintf(line, sizeof(line),
		"{\"event\": \"DEVICE_DELETED\", \"data\": {\"path\": \"/x\"}}\r\n"
		"{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"another\"}}\r\n"
		"{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"%.64s\"}}\r\n",
		device);
	say_value(s, id, "{}");
	script_say(s, line);
}

static void obey(struct script *s, struct json_object *msg, unsigned long long id)
{
	static const struct {
		const char *command, *kind, *key;
		bool adds;
	} simple[] = {
		{ "getfd", "fd", "fdname", true },
		{ "closefd", "fd", "fdname", false },
		{ "netdev_del", "netdev", "id", false },
		{ "device_add", "device", "id", true },
		{ "blockdev-add", "node", "node-name", true },
		{ "blockdev-del", "node", "node-name", false },
		{ "object-add", "object", "id", true },
		{ "object-del", "object", "id", false },
	};
	const char *command = json_text(msg, "execute");
	struct json_object *a = json_member(msg, "arguments", json_type_object);
	char text[128];
	uint64_t set = 0;
	bool ok = true;

	for (size_t i = 0; i < ARRAY_SIZE(simple); i++) {
		if (strcmp(command, simple[i].command) != 0)
			continue;
		if (simple[i].adds)
			has_add(s, simple[i].kind, json_text(a, simple[i].key));
		else
			ok = script_forget(s, simple[i].kind, json_text(a, simple[i].key));
	}
	json_number(a, "fdset-id", UINT32_MAX, &set);
	snprintf(text, sizeof(text), "%llu", (unsigned long long)set);
	if (strcmp(command, "add-fd") == 0) {
		has_add(s, "set", text);
		snprintf(text, sizeof(text), "{\"fdset-id\": %llu, \"fd\": 33}",
			(unsigned long long)set);
		say_value(s, id, text);
	} else if (strcmp(command, "device_del") == 0) {
		delete_device(s, id, json_text(a, "id"));
	} else if (strcmp(command, "query-hotpluggable-cpus") == 0) {
		say_value(s, id, cpus);
	} else {
		if (strcmp(command, "remove-fd") == 0)
			ok = script_forget(s, "set", text);
		if (strcmp(command, "netdev_add") == 0)
			ok = add_netdev(s, a);
		if (ok)
			say_value(s, id, "{}");
		else
			say_error(s, id, "GenericError", "there is none");
	}
}

static void on_line(struct script *s, const char *line)
{
	struct json_object *msg = json_tokener_parse(line);
	uint64_t id = 0;

	CHECK(msg && json_number(msg, "id", INT64_MAX, &id));
	if (++s->commands != s->lie_at || !tell_lie(s, id))
		obey(s, msg, id);
	if (s->lie == BEFORE && s->commands + 1 == s->lie_at)
		say_value(s, id + 1, "{}");
	json_object_put(msg);
}

static void *be_qemu(void *ctx)
{
	static char buf[65536];
	struct script *s = ctx;
	size_t len = 0;

	for (;;) {
		union {
			struct cmsghdr align;
			char buf[CMSG_SPACE(4 * sizeof(int))];
		} control;
		struct iovec iov = { buf + len, sizeof(buf) - 1 - len };
		struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			.msg_controllen = sizeof(control) };
		ssize_t n = recvmsg(s->qemu, &mh, 0);
		char *nl;

		if (n <= 0)
			return NULL;
		if (mh.msg_controllen >= CMSG_LEN(sizeof(int))) {
			int fd;

			memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(int));
			close(fd);
			s->fds_received++;
		}
		len += (size_t)n;
		buf[len] = '\0';
		while ((nl = strchr(buf, '\n'))) {
			*nl = '\0';
			on_line(s, buf);
			len -= (size_t)(nl + 1 - buf);
			memmove(buf, nl + 1, len + 1);
		}
	}
}

/* ---- start and end ---- */

void script_start(struct script *s)
{
	int qmp[2], ctl[2], frontend[2];

	*s = (struct script){ .options = { .name = "x", .accel = ACCEL_KVM } };
	/* First: 3 may be free, and then it is one of these. */
	s->saved = fcntl(FD_CTL, F_DUPFD_CLOEXEC, 100);
	test_pair(ctl);
	s->ctl = ctl[ctl[1] == FD_CTL ? 0 : 1];
	if (ctl[0] != FD_CTL && ctl[1] != FD_CTL) {
		CHECK_INT(dup2(ctl[0], FD_CTL), FD_CTL);
		close(ctl[0]);
	}
	CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp), 0);
	CHECK_INT(fcntl(qmp[0], F_SETFL, O_NONBLOCK), 0);
	test_pair(frontend);
	s->frontend = frontend[1];
	s->qemu = qmp[1];
	s->helper = (struct helper){ .fd = frontend[0], .channel = &ipc_frontend_vmmd,
		.ctx = &s->vm };
	vm_init(&s->vm, &s->options, &s->helper);
	s->vm.qmp.fd = qmp[0];
	s->vm.qmp.greeted = s->vm.launched = true;
	s->vm.cpus = VM_CPUS_RUN;
	s->vm.hotplug.n_ports = 2;
	CHECK_INT(pthread_create(&s->thread, NULL, be_qemu, s), 0);
}

void script_end(struct script *s)
{
	vm_done(&s->vm);
	shutdown(s->qemu, SHUT_RDWR);
	pthread_join(s->thread, NULL);
	close(s->qemu);
	close(s->ctl);
	close(s->frontend);
	close(s->helper.fd);
	if (s->saved >= 0) {
		dup2(s->saved, FD_CTL);
		close(s->saved);
	} else {
		close(FD_CTL);
	}
}

void script_arm(struct script *s, enum lie lie, unsigned at)
{
	s->commands = 0;
	s->lie = lie;
	s->lie_at = at;
}

void script_hold(struct script *s)
{
	pthread_cancel(s->thread);
	pthread_join(s->thread, NULL);
}

void script_unhear(struct script *s)
{
	char buf[4096];

	while (recv(s->qemu, buf, sizeof(buf), MSG_DONTWAIT) > 0)
		;
}

void script_release(struct script *s)
{
	CHECK_INT(pthread_create(&s->thread, NULL, be_qemu, s), 0);
}

/* ---- operations ---- */

int some_fd(int flags)
{
	int fd = memfd_create("disk", MFD_CLOEXEC), again;
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	again = open(path, flags | O_CLOEXEC);
	close(fd);
	CHECK(again >= 0);
	return again;
}

static int add_nic(struct script *s, unsigned queues, bool vhost, struct error *err)
{
	int taps[4], vhosts[4];
	struct network_device_config config = { .mac = { 2, 0, 0, 0, 0, 1 }, .queues = queues,
		.queue_fds = taps, .vhost_fds = vhost ? vhosts : NULL };

	for (unsigned i = 0; i < queues; i++) {
		taps[i] = some_fd(O_RDWR);
		if (vhost)
			vhosts[i] = some_fd(O_RDWR);
	}
	return hotplug_add_nic_consume(&s->vm, 7, &config, err);
}

static int add_nic_4(struct script *s, struct error *err)
{
	return add_nic(s, 4, false, err);
}

static int add_nic_vhost(struct script *s, struct error *err)
{
	return add_nic(s, 2, true, err);
}

static int remove_nic(struct script *s, struct error *err)
{
	return hotplug_remove(&s->vm, HOTPLUG_NIC, 7, err);
}

static int add_disk(struct script *s, struct error *err)
{
	return hotplug_add_block_consume(&s->vm, 7, some_fd(O_RDWR), false, err);
}

static int remove_disk(struct script *s, struct error *err)
{
	return hotplug_remove(&s->vm, HOTPLUG_BLOCK, 7, err);
}

static int add_memory(struct script *s, struct error *err)
{
	return hotplug_add_memory(&s->vm, 7, UINT64_C(256) << 20, err);
}

static int remove_memory(struct script *s, struct error *err)
{
	return hotplug_remove(&s->vm, HOTPLUG_MEMORY, 7, err);
}

static int add_cpu(struct script *s, struct error *err)
{
	return hotplug_add_cpu(&s->vm, 7, err);
}

static int remove_cpu(struct script *s, struct error *err)
{
	return hotplug_remove(&s->vm, HOTPLUG_CPU, 7, err);
}

const struct operation operations[OPERATIONS] = {
	[OP_NIC] = { "NIC, 4 queues", add_nic_4, remove_nic, 6 },
	[OP_VHOST] = { "NIC, 2 queues with vhost", add_nic_vhost, remove_nic, 6 },
	[OP_DISK] = { "disk", add_disk, remove_disk, 4 },
	[OP_MEMORY] = { "memory", add_memory, remove_memory, 2 },
	[OP_CPU] = { "CPU", add_cpu, remove_cpu, 2 },
};
