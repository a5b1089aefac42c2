/*
 * Hot-plug against a QEMU of a script: it keeps what it was given (fds by name,
 * sets, nodes, objects, netdevs, devices), makes any command fail, or lies.
 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <linux/if.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "ipc/ctl.h"
#include "ipc/fds.h"
#include "ipc/tables.h"
#include "ipc/vmmd.pb-c.h"
#include "tests/lib/test.h"
#include "vmmd/json.h"
#include "vmmd/vmmd.h"

TEST_PATIENCE(120)

enum lie {
	HONEST,
	REFUSE,		/* an error that a guest or a host may cause */
	CONTROL,	/* the same, in words that are none */
	OTHER_ID,	/* the answer to another command */
	TWICE,		/* two answers */
	BEFORE,		/* an answer before the question */
	BOTH,		/* an error and a value in one */
	HUGE_ID,	/* an id beyond 64 bits */
	NO_JSON,
	DEEP,
	WIDE,		/* more values than any answer has */
	FLOOD,		/* events without end */
	HALF,		/* half a line, and the end */
	DIES,
	WRONG_VALUE,	/* a value of another shape, and numbers as no fd and no CPU has */
	STOPS,		/* events that say that the guest stands still, unasked */
	RESUMES_PAUSED, /* never happens while it runs: no lie */
	LIES,
};

struct script {
	struct vm vm;
	struct helper helper;
	struct vmmd_options options;
	pthread_t thread;
	int qemu; /* its end */
	int frontend, ctl, saved;
	unsigned commands, lie_at;
	enum lie lie;
	bool keeps_devices; /* the guest never lets go */
	char has[64][80];   /* "kind:id" */
	size_t n;
	char last_fds[128];
	unsigned fds_received;
};

/* ---- what it has ---- */

static void has_add(struct script *s, const char *kind, const char *id)
{
	CHECK(s->n < ARRAY_SIZE(s->has));
	snprintf(s->has[s->n++], sizeof(s->has[0]), "%s:%.64s", kind, id);
}

static bool has_remove(struct script *s, const char *kind, const char *id)
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

static void say(struct script *s, const char *text)
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
	say(s, line);
}

static void say_value(struct script *s, unsigned long long id, const char *value)
{
	char line[4096];

	snprintf(line, sizeof(line), "{\"return\": %s, \"id\": %llu}\r\n", value, id);
	say(s, line);
}

static void say_long(struct script *s, const char *piece, unsigned n, const char *end)
{
	for (unsigned i = 0; i < n; i++)
		say(s, piece);
	say(s, end);
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
		say(s, "{\"return\": {}, \"error\": {\"desc\": \"x\"}, \"id\": 1}\r\n");
		return true;
	case HUGE_ID:
		say(s, "{\"return\": {}, \"id\": 18446744073709551617}\r\n");
		return true;
	case NO_JSON:
		say(s, "{\"return\": {]}\r\n");
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
		say(s, "{\"return\": {}, \"id\"");
		/* fall through */
	case DIES:
		shutdown(s->qemu, SHUT_RDWR);
		ctl_send(s->ctl, CTL_CHILD_EXIT, ROLE_QEMU, 137, NULL);
		return true;
	case WRONG_VALUE:
		say_value(s, id, "[{\"fdset-id\": -7, \"props\": {\"core-id\": 99999999999999999999}}]");
		return true;
	case STOPS:
		say(s, "{\"event\": \"STOP\"}\r\n");
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
		ok = has_remove(s, "fd", name) && ok;
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
	if (!has_remove(s, "device", device)) {
		say_error(s, id, "DeviceNotFound", "Device not found");
		return;
	}
	snprintf(line, sizeof(line),
		"{\"event\": \"DEVICE_DELETED\", \"data\": {\"path\": \"/x\"}}\r\n"
		"{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"another\"}}\r\n"
		"{\"event\": \"DEVICE_DELETED\", \"data\": {\"device\": \"%.64s\"}}\r\n",
		device);
	say_value(s, id, "{}");
	say(s, line);
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
			ok = has_remove(s, simple[i].kind, json_text(a, simple[i].key));
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
			ok = has_remove(s, "set", text);
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

static void start(struct script *s)
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
	s->helper = (struct helper){ .fd = frontend[0], .channel = &ipc_frontend_vmmd };
	vm_init(&s->vm, &s->options, &s->helper);
	s->vm.qmp.fd = qmp[0];
	s->vm.qmp.greeted = s->vm.launched = true;
	s->vm.cpus = VM_CPUS_RUN;
	s->vm.hotplug.n_ports = 2;
	CHECK_INT(pthread_create(&s->thread, NULL, be_qemu, s), 0);
}

static void end(struct script *s)
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

static void arm(struct script *s, enum lie lie, unsigned at)
{
	s->commands = 0;
	s->lie = lie;
	s->lie_at = at;
}

/* ---- operations ---- */

static int some_fd(int flags)
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

static const struct operation {
	const char *name;
	int (*add)(struct script *s, struct error *err);
	int (*remove)(struct script *s, struct error *err);
	unsigned commands; /* that add it */
} operations[] = {
	{ "NIC, 4 queues", add_nic_4, remove_nic, 6 },
	{ "NIC, 2 queues with vhost", add_nic_vhost, remove_nic, 6 },
	{ "disk", add_disk, remove_disk, 4 },
	{ "memory", add_memory, remove_memory, 2 },
	{ "CPU", add_cpu, remove_cpu, 2 },
};

/* ---- tests ---- */

TEST (queues_are_named_and_joined) {
	struct error err = ERROR_INIT;
	struct script s;

	start(&s);
	CHECK_INT(add_nic_4(&s, &err), 0);
	CHECK_STR(s.last_fds, "nic1-queue0:nic1-queue1:nic1-queue2:nic1-queue3");
	CHECK_INT(s.fds_received, 4);
	CHECK_INT(remove_nic(&s, &err), 0);
	CHECK_INT(s.n, 0);
	end(&s);
}

/* Step k fails, forwards and backwards: QEMU has what it had, and so have we. */
TEST (every_step_fails_and_is_undone) {
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		const struct operation *o = &operations[i];
		struct error err = ERROR_INIT;
		struct script s;
		unsigned k;
		size_t full;
		int fds;

		start(&s);
		fds = test_count_fds();
		for (k = 1; k <= o->commands; k++) {
			arm(&s, REFUSE, k);
			if (o->add(&s, &err) != -EIO)
				test_fail(o->name, (int)k, "it does not fail");
			CHECK_CONTAINS(err.msg, "made to fail");
			CHECK_INT(s.n, 0);
			CHECK_INT(s.vm.hotplug.ports_taken, 0);
			CHECK_INT(s.vm.hotplug.n, 0);
			CHECK_INT(test_count_fds(), fds);
		}
		arm(&s, HONEST, 0);
		CHECK_INT(o->add(&s, &err), 0);
		CHECK_INT(s.commands, o->commands);
		CHECK_INT(test_count_fds(), fds);
		CHECK_INT(o->add(&s, &err), -EEXIST);
		CHECK_INT(test_count_fds(), fds);
		full = s.n;
		for (k = 1;; k++) {
			uint32_t ports = s.vm.hotplug.ports_taken;

			arm(&s, REFUSE, k);
			if (o->remove(&s, &err) == 0)
				break;
			CHECK_CONTAINS(err.msg, "made to fail");
			if (s.n != full)
				test_fail(o->name, (int)k, "%zu things, not %zu", s.n, full);
			CHECK_INT(s.vm.hotplug.ports_taken, ports);
			CHECK_INT(s.vm.hotplug.n, 1);
		}
		CHECK(k > 1);
		CHECK_INT(s.n, 0);
		CHECK_INT(s.vm.hotplug.n, 0);
		CHECK_INT(s.vm.hotplug.ports_taken, 0);
		CHECK_INT(o->remove(&s, &err), -ENOENT);
		end(&s);
	}
}

/* However QEMU lies, and whenever: an error in time, no fd kept, no port taken, and it is lost. */
TEST (every_lie_at_every_step) {
	for (size_t i = 0; i < ARRAY_SIZE(operations); i++) {
		const struct operation *o = &operations[i];

		for (enum lie lie = CONTROL; lie < RESUMES_PAUSED; lie++)
			for (unsigned k = 1; k <= o->commands; k++) {
				struct error err = ERROR_INIT;
				struct script s;
				int64_t began = clock_ms();
				int r, fds;

				if (lie == BEFORE && k == 1)
					continue;
				start(&s);
				fds = test_count_fds();
				arm(&s, lie, k);
				r = o->add(&s, &err);
				if (r < 0)
					CHECK(*err.msg);
				for (const char *c = err.msg; *c; c++)
					CHECK(*c >= ' ' && *c <= '~');
				if (lie == CONTROL)
					CHECK(!vm_is_gone(&s.vm) && s.n == 0);
				else if (lie != WRONG_VALUE && !((lie == TWICE || lie == BEFORE) && r == 0) &&
					!(lie == STOPS && r == 0))
					CHECK(r < 0 && vm_is_gone(&s.vm));
				if (r < 0)
					CHECK_INT(s.vm.hotplug.ports_taken, 0);
				/* QMP's own may be closed by now. */
				CHECK_INT(test_count_fds(), fds - (vm_is_gone(&s.vm) ? 1 : 0));
				if (clock_ms() - began > 4000)
					test_fail(o->name, (int)k, "lie %d: %lld ms", lie,
						(long long)(clock_ms() - began));
				end(&s);
			}
	}
}

TEST (a_guest_that_keeps_its_device) {
	struct error err = ERROR_INIT;
	struct script s;

	start(&s);
	CHECK_INT(add_disk(&s, &err), 0);
	s.keeps_devices = true;
	CHECK_INT(remove_disk(&s, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.msg, "the guest has not let go of 'disk-hot1' within 10 s");
	CHECK_INT(s.vm.hotplug.n, 1);
	/* Later it has: QEMU knows no such device. */
	s.keeps_devices = false;
	CHECK(has_remove(&s, "device", "disk-hot1"));
	CHECK_INT(remove_disk(&s, &err), 0);
	CHECK_INT(s.n, 0);
	end(&s);
}

TEST (sizes_and_fds_that_are_refused) {
	struct error err = ERROR_INIT;
	struct script s;
	int pipes[2];

	start(&s);
	CHECK_INT(hotplug_add_memory(&s.vm, 1, UINT64_C(100) << 20, &err), -EINVAL);
	CHECK_INT(hotplug_add_memory(&s.vm, 1, 0, &err), -EINVAL);
	CHECK_INT(hotplug_add_block_consume(&s.vm, 1, some_fd(O_RDWR), true, &err), -EBADF);
	CHECK_CONTAINS(err.msg, "a disk that is to be read-only came open for something else");
	CHECK_INT(hotplug_add_block_consume(&s.vm, 1, some_fd(O_RDONLY), false, &err), -EBADF);
	CHECK_INT(pipe2(pipes, O_CLOEXEC), 0);
	CHECK_INT(hotplug_add_block_consume(&s.vm, 1, pipes[0], true, &err), -EBADF);
	close(pipes[1]);
	CHECK_INT(hotplug_add_block_consume(&s.vm, 1, some_fd(O_RDONLY), true, &err), 0);
	CHECK_INT(hotplug_add_block_consume(&s.vm, 2, some_fd(O_RDONLY), true, &err), 0);
	CHECK_INT(hotplug_add_block_consume(&s.vm, 3, some_fd(O_RDONLY), true, &err), -ENOSPC);
	CHECK_INT(s.commands, 8);
	end(&s);
}

/* ---- fdsets ---- */

static void expect_sets(const char *value, const unsigned *sets, size_t n, bool ok)
{
	struct error err = ERROR_INIT;
	char line[512];
	struct script s;
	int r;

	start(&s);
	/* The test answers itself, once. */
	pthread_cancel(s.thread);
	pthread_join(s.thread, NULL);
	s.vm.qmp.next_id = 5;
	snprintf(line, sizeof(line), "{\"return\": %s, \"id\": 5}\r\n", value);
	/* vmmd reads nothing before it has asked. */
	say(&s, line);
	r = hotplug_check_fdsets(&s.vm, sets, n, &err);
	CHECK_INT(pthread_create(&s.thread, NULL, be_qemu, &s), 0);
	CHECK_INT(r, ok ? 0 : -EPROTO);
	CHECK_INT(vm_is_gone(&s.vm), !ok);
	end(&s);
}

TEST (fdsets_are_those_that_were_given) {
	static const unsigned sets[] = { 1, 2 };

#define SET(id) "{\"fdset-id\": " id ", \"fds\": [{\"fd\": 9}]}"
	expect_sets("[]", NULL, 0, true);
	expect_sets("[" SET("2") "," SET("1") "]", sets, 2, true);
	expect_sets("[" SET("1") "]", NULL, 0, false);
	expect_sets("[" SET("1") "]", sets, 2, false);
	expect_sets("[" SET("1") "," SET("1") "]", sets, 2, false);
	expect_sets("[" SET("1") "," SET("3") "]", sets, 2, false);
	expect_sets("[" SET("1") "," SET("-2") "]", sets, 2, false);
	expect_sets("[" SET("1") ",{\"fdset-id\": 2, \"fds\": []}]", sets, 2, false);
	expect_sets("[" SET("1") ",7]", sets, 2, false);
	expect_sets("{}", NULL, 0, false);
	expect_sets("1e999", NULL, 0, false);
}

/* ---- virtio-mem ---- */

TEST (virtio_mem_takes_and_does_not) {
	struct error err = ERROR_INIT;
	struct script s;

	start(&s);
	say(&s,
		"{\"event\": \"MEMORY_DEVICE_SIZE_CHANGE\", \"data\": {\"id\": \"other\", \"size\": "
		"5}}\r\n"
		"{\"event\": \"MEMORY_DEVICE_SIZE_CHANGE\", \"data\": {\"id\": \"" VIRTIO_MEM_ID
		"\", \"size\": 268435456}}\r\n");
	CHECK_INT(hotplug_set_virtio_mem(&s.vm, UINT64_C(256) << 20, &err), 0);
	CHECK_INT(s.commands, 1);
	/* It never says that it gives back: what it had is asked for again. */
	CHECK_INT(hotplug_set_virtio_mem(&s.vm, 0, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.msg, "the guest has 256 MiB of virtio-mem after 10 s");
	CHECK_INT(s.commands, 3);
	end(&s);
}

/* ---- pause, the ladder ---- */

TEST (pause_resume_and_what_is_unasked) {
	static const char *const unasked[] = { "{\"event\": \"RESUME\"}\r\n",
		"{\"event\": \"RESET\", \"data\": {\"guest\": false}}\r\n" };
	struct error err = ERROR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(unasked); i++) {
		struct script s;

		start(&s);
		CHECK_INT(vm_pause(&s.vm, &err), 0);
		CHECK_INT(vm_cont(&s.vm, &err), 0);
		CHECK_INT(vm_pause(&s.vm, &err), 0);
		arm(&s, REFUSE, 1);
		CHECK_INT(vm_cont(&s.vm, &err), -EIO);
		CHECK_INT(s.vm.cpus, VM_CPUS_STAND);
		say(&s, unasked[i]);
		CHECK(vm_wait(&s.vm, vm_is_gone, 3000, &err) == 1);
		CHECK_CONTAINS(s.vm.lost, "unasked");
		end(&s);
	}
}

TEST (a_ladder_of_three_rungs) {
	struct error err = ERROR_INIT;
	int64_t began;
	struct script s;

	start(&s);
	began = clock_ms();
	CHECK_INT(vm_stop(&s.vm, true, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.msg, "QEMU has not ended 800 ms after its kill");
	CHECK_INT(s.commands, 2); /* system_powerdown, quit */
	CHECK(clock_ms() - began >= 2300 && clock_ms() - began < 4000);
	end(&s);
}

TEST (a_qemu_that_does_not_read) {
	struct error err = ERROR_INIT;
	char fill[4096];
	struct script s;

	start(&s);
	pthread_cancel(s.thread);
	pthread_join(s.thread, NULL);
	memset(fill, ' ', sizeof(fill));
	while (send(s.vm.qmp.fd, fill, sizeof(fill), MSG_DONTWAIT) > 0)
		;
	CHECK_INT(vm_command(&s.vm, "cont", &err), -EPROTO);
	CHECK(vm_is_gone(&s.vm));
	CHECK_INT(pthread_create(&s.thread, NULL, be_qemu, &s), 0);
	end(&s);
}
