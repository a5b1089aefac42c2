/* Hot-plug against a QEMU of a script: each step fails, each answer is a lie. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/unit/vmmd_scripted.h"

TEST_PATIENCE(120)
TEST_TOGETHER(8)

TEST (queues_are_named_and_joined) {
	struct error err = ERROR_INIT;
	struct script s;

	script_start(&s);
	CHECK_INT(operations[OP_NIC].add(&s, &err), 0);
	CHECK_STR(s.last_fds, "nic1-queue0:nic1-queue1:nic1-queue2:nic1-queue3");
	CHECK_INT(s.fds_received, 4);
	CHECK_INT(operations[OP_NIC].remove(&s, &err), 0);
	CHECK_INT(s.n, 0);
	script_end(&s);
}

/* Step k fails, forwards and backwards: QEMU has what it had, and so have we. */
TEST (every_step_fails_and_is_undone) {
	for (size_t i = 0; i < OPERATIONS; i++) {
		const struct operation *o = &operations[i];
		struct error err = ERROR_INIT;
		struct script s;
		unsigned k;
		size_t full;
		int fds;

		script_start(&s);
		fds = test_count_fds();
		for (k = 1; k <= o->commands; k++) {
			script_arm(&s, REFUSE, k);
			if (o->add(&s, &err) != -EIO)
				test_fail(o->name, (int)k, "it does not fail");
			CHECK_CONTAINS(err.msg, "made to fail");
			CHECK_INT(s.n, 0);
			CHECK_INT(s.vm.hotplug.ports_taken, 0);
			CHECK_INT(s.vm.hotplug.n, 0);
			CHECK_INT(test_count_fds(), fds);
		}
		script_arm(&s, HONEST, 0);
		CHECK_INT(o->add(&s, &err), 0);
		CHECK_INT(s.commands, o->commands);
		CHECK_INT(test_count_fds(), fds);
		CHECK_INT(o->add(&s, &err), -EEXIST);
		CHECK_INT(test_count_fds(), fds);
		full = s.n;
		for (k = 1;; k++) {
			uint32_t ports = s.vm.hotplug.ports_taken;

			script_arm(&s, REFUSE, k);
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
		script_end(&s);
	}
}

/* What is right after a lie instead of (TWICE, BEFORE: beside) the answer to a command. */
static void check_after_lie(struct script *s, enum lie lie, int r, const struct error *err)
{
	bool lost = vm_is_gone(&s->vm);

	for (const char *c = err->msg; *c; c++)
		CHECK(*c >= ' ' && *c <= '~');
	CHECK(r == 0 || *err->msg);
	if (lie == CONTROL)
		CHECK(r == -EIO && !lost);
	else if (lie == WRONG_VALUE)
		CHECK(r == 0 || lost || r == -EIO);
	else if (lie == TWICE || lie == BEFORE || lie == STOPS)
		CHECK(r == 0 || lost); /* said after the last answer, it is seen later */
	else
		CHECK(r < 0 && lost);
}

/* false: there is no k-th command */
static bool lie_once(const struct operation *o, bool add, enum lie lie, unsigned k)
{
	struct error err = ERROR_INIT;
	int64_t began = clock_ms();
	struct script s;
	unsigned told;
	int r, fds;

	script_start(&s);
	if (!add)
		CHECK_INT(o->add(&s, &err), 0);
	fds = test_count_fds();
	script_arm(&s, lie, k);
	r = (add ? o->add : o->remove)(&s, &err);
	told = s.commands;
	if (told >= k)
		check_after_lie(&s, lie, r, &err);
	CHECK_INT(s.vm.hotplug.n, add == (r == 0));
	if (s.vm.hotplug.n == 0)
		CHECK_INT(s.vm.hotplug.ports_taken, 0);
	/* QMP's own may be closed by now. */
	CHECK_INT(test_count_fds(), fds - (vm_is_gone(&s.vm) ? 1 : 0));
	if (clock_ms() - began > 4000)
		test_fail(o->name, (int)k, "lie %d: %lld ms", lie, (long long)(clock_ms() - began));
	script_end(&s);
	return told >= k;
}

static void every_lie(bool add)
{
	for (size_t i = 0; i < OPERATIONS; i++)
		for (enum lie lie = CONTROL; lie < LIES; lie++) {
			unsigned k = lie == BEFORE ? 2 : 1;

			/* Nobody looks at the values of what removes; the guest's patience is ten seconds. */
			if (!add && lie == WRONG_VALUE)
				continue;
			while (lie_once(&operations[i], add, lie, k))
				k++;
			CHECK(k > 1);
		}
}

/* However QEMU lies, and whenever: an error in time, no fd kept, no port taken, and it is lost. */
TEST (every_lie_at_every_step) {
	every_lie(true);
}

TEST (every_lie_at_every_step_back) {
	every_lie(false);
}

/* ---- much is said, and no answer */

struct talk {
	struct script *script;
	const char *piece;
	_Atomic bool enough;
};

static void *talk_on(void *ctx)
{
	struct talk *t = ctx;

	while (!t->enough) {
		script_say(t->script, t->piece);
		usleep(20000);
	}
	return NULL;
}

static void expect_no_answer(const char *piece)
{
	struct error err = ERROR_INIT;
	int64_t began = clock_ms();
	struct script s;
	struct talk t = { &s, piece, false };
	pthread_t thread;

	script_start(&s);
	script_hold(&s);
	CHECK_INT(pthread_create(&thread, NULL, talk_on, &t), 0);
	CHECK_INT(vm_command(&s.vm, "cont", &err), -ETIMEDOUT);
	CHECK(clock_ms() - began >= 4900 && clock_ms() - began < 7000);
	CHECK_STR(s.vm.lost, "it does not answer");
	t.enough = true;
	pthread_join(thread, NULL);
	script_release(&s);
	script_end(&s);
}

TEST (events_are_no_answer) {
	expect_no_answer("{\"event\": \"NEVER_HEARD_OF\"}\r\n");
}

TEST (a_line_byte_by_byte_has_no_more_time) {
	expect_no_answer("[");
}

TEST (a_guest_that_keeps_its_device) {
	struct error err = ERROR_INIT;
	struct script s;

	script_start(&s);
	CHECK_INT(operations[OP_DISK].add(&s, &err), 0);
	s.keeps_devices = true;
	CHECK_INT(operations[OP_DISK].remove(&s, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.msg, "the guest has not let go of 'disk-hot1' within 10 s");
	CHECK_INT(s.vm.hotplug.n, 1);
	/* Later it has: QEMU knows no such device. */
	s.keeps_devices = false;
	CHECK(script_forget(&s, "device", "disk-hot1"));
	CHECK_INT(operations[OP_DISK].remove(&s, &err), 0);
	CHECK_INT(s.n, 0);
	script_end(&s);
}

/* It may refuse as well, and by the name of another device it has refused nothing. */
TEST (a_guest_that_refuses) {
	static const char *const kinds[] = { "DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR" };
	struct error err = ERROR_INIT;
	struct script s;

	script_start(&s);
	CHECK_INT(operations[OP_MEMORY].add(&s, &err), 0);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		char line[256];

		script_hold(&s);
		snprintf(line, sizeof(line),
			"{\"return\": {}, \"id\": %llu}\r\n"
			"{\"event\": \"%s\", \"data\": {\"device\": \"mem2-dimm\"}}\r\n"
			"{\"event\": \"%s\", \"data\": {\"device\": \"mem1-dimm\"}}\r\n",
			(unsigned long long)s.vm.qmp.next_id, kinds[i], kinds[i]);
		script_say(&s, line);
		CHECK_INT(operations[OP_MEMORY].remove(&s, &err), -EBUSY);
		CHECK_CONTAINS(err.msg, "the guest refuses to let go of 'mem1-dimm'");
		CHECK_INT(s.vm.hotplug.n, 1);
		CHECK(!vm_is_gone(&s.vm));
		script_unhear(&s);
		script_release(&s);
	}
	script_end(&s);
}

TEST (sizes_and_fds_that_are_refused) {
	struct error err = ERROR_INIT;
	struct script s;
	int pipes[2];

	script_start(&s);
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
	script_end(&s);
}

/* ---- answers by hand ---- */

/* The test is QEMU, and answers the next command before it is asked: vmmd reads nothing earlier. */
static void answer_ahead(struct script *s, const char *value)
{
	char line[512];

	script_start(s);
	script_hold(s);
	s->vm.qmp.next_id = 5;
	snprintf(line, sizeof(line), "{\"return\": %s, \"id\": 5}\r\n", value);
	script_say(s, line);
}

static void expect_sets(const char *value, const unsigned *sets, size_t n, bool ok)
{
	struct error err = ERROR_INIT;
	struct script s;
	int r;

	answer_ahead(&s, value);
	r = hotplug_check_fdsets(&s.vm, sets, n, &err);
	script_release(&s);
	CHECK_INT(r, ok ? 0 : -EPROTO);
	CHECK_INT(vm_is_gone(&s.vm), !ok);
	script_end(&s);
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

static void expect_no_place(const char *value, int error)
{
	struct error err = ERROR_INIT;
	struct script s;

	answer_ahead(&s, value);
	CHECK_INT(hotplug_add_cpu(&s.vm, 7, &err), error);
	script_release(&s);
	CHECK_INT(vm_is_gone(&s.vm), error == -EPROTO);
	CHECK_INT(s.vm.hotplug.n, 0);
	script_end(&s);
}

TEST (places_of_cpus) {
	expect_no_place("[]", -ENOSPC);
	expect_no_place("[{\"props\": {\"core-id\": 1}, \"qom-path\": \"/x\"}]", -ENOSPC);
	expect_no_place("{}", -EPROTO);
	expect_no_place("[7]", -EPROTO);
	expect_no_place("[{\"qom-path\": \"/x\"}]", -EPROTO);
	expect_no_place("[{\"props\": {}}]", -EPROTO);
	expect_no_place("[{\"props\": {\"node-id\": 0}}]", -EPROTO);
	expect_no_place("[{\"props\": {\"core-id\": \"1\"}}]", -EPROTO);
	expect_no_place("[{\"props\": {\"core-id\": -1}}]", -EPROTO);
	expect_no_place("[{\"props\": {\"core-id\": 100000}}]", -EPROTO);
}

/* ---- virtio-mem ---- */

TEST (virtio_mem_takes_and_does_not) {
	struct error err = ERROR_INIT;
	struct script s;

	script_start(&s);
	script_say(&s,
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
	script_end(&s);
}

/* ---- pause, the ladder ---- */

TEST (pause_resume_and_what_is_unasked) {
	static const char *const unasked[] = { "{\"event\": \"RESUME\"}\r\n",
		"{\"event\": \"RESET\", \"data\": {\"guest\": false}}\r\n" };
	struct error err = ERROR_INIT;

	for (size_t i = 0; i < ARRAY_SIZE(unasked); i++) {
		struct script s;

		script_start(&s);
		CHECK_INT(vm_pause(&s.vm, &err), 0);
		CHECK_INT(vm_cont(&s.vm, &err), 0);
		CHECK_INT(vm_pause(&s.vm, &err), 0);
		script_arm(&s, REFUSE, 1);
		CHECK_INT(vm_cont(&s.vm, &err), -EIO);
		CHECK_INT(s.vm.cpus, VM_CPUS_STAND);
		script_say(&s, unasked[i]);
		CHECK(vm_wait(&s.vm, vm_is_gone, 3000, &err) == 1);
		CHECK_CONTAINS(s.vm.lost, "unasked");
		script_end(&s);
	}
}

TEST (a_ladder_of_three_rungs) {
	struct error err = ERROR_INIT;
	int64_t began;
	struct script s;

	script_start(&s);
	began = clock_ms();
	CHECK_INT(vm_stop(&s.vm, true, &err), -ETIMEDOUT);
	CHECK_CONTAINS(err.msg, "QEMU has not ended 800 ms after its kill");
	CHECK_INT(s.commands, 2); /* system_powerdown, quit */
	CHECK(clock_ms() - began >= 2300 && clock_ms() - began < 4000);
	script_end(&s);
}

TEST (a_qemu_that_does_not_read) {
	struct error err = ERROR_INIT;
	char fill[4096];
	struct script s;

	script_start(&s);
	script_hold(&s);
	memset(fill, ' ', sizeof(fill));
	while (send(s.vm.qmp.fd, fill, sizeof(fill), MSG_DONTWAIT) > 0)
		;
	CHECK_INT(vm_command(&s.vm, "cont", &err), -EPROTO);
	CHECK(vm_is_gone(&s.vm));
	script_release(&s);
	script_end(&s);
}
