/* Hot-plug against a QEMU of a script: each step fails, each answer is a lie. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/clock.h"
#include "tests/unit/vmmd_scripted.h"

TEST_PATIENCE(120)

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

/* However QEMU lies, and whenever: an error in time, no fd kept, no port taken, and it is lost. */
TEST (every_lie_at_every_step) {
	for (size_t i = 0; i < OPERATIONS; i++) {
		const struct operation *o = &operations[i];

		for (enum lie lie = CONTROL; lie < LIES; lie++)
			for (unsigned k = 1; k <= o->commands; k++) {
				struct error err = ERROR_INIT;
				struct script s;
				int64_t began = clock_ms();
				int r, fds;

				if (lie == BEFORE && k == 1)
					continue;
				script_start(&s);
				fds = test_count_fds();
				script_arm(&s, lie, k);
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
				script_end(&s);
			}
	}
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

/* ---- fdsets ---- */

static void expect_sets(const char *value, const unsigned *sets, size_t n, bool ok)
{
	struct error err = ERROR_INIT;
	char line[512];
	struct script s;
	int r;

	script_start(&s);
	/* The test answers itself, once. */
	script_hold(&s);
	s.vm.qmp.next_id = 5;
	snprintf(line, sizeof(line), "{\"return\": %s, \"id\": 5}\r\n", value);
	/* vmmd reads nothing before it has asked. */
	script_say(&s, line);
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
