#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>

#include "vmmd/device_cpu.h"
#include "vmmd/json.h"
#include "vmmd/plugged.h"

struct cpu_plug {
	struct plugged base;
	struct device_cpu device;
};

/* What QEMU may name a CPU's place by, at most one thread of one core. */
static bool take_props(struct device_cpu *cpu, struct json_object *props)
{
	const struct {
		const char *key;
		uint64_t *value;
	} places[] = {
		{ "socket-id", &cpu->socket_id },
		{ "die-id", &cpu->die_id },
		{ "core-id", &cpu->core_id },
		{ "thread-id", &cpu->thread_id },
	};
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		*places[i].value = 0;
		if (!json_object_object_get_ex(props, places[i].key, NULL))
			continue;
		if (!json_number(props, places[i].key, VCPUS_MAX, places[i].value))
			return false;
		any = true;
	}
	return any;
}

/* 1: this place is free and taken down; 0: a CPU sits there; -1: no place at all */
static int take_place(struct cpu_plug *cpu, struct json_object *place)
{
	struct json_object *props = json_member(place, "props", json_type_object);

	if (!props || !take_props(&cpu->device, props))
		return -1;
	return json_object_object_get_ex(place, "qom-path", NULL) ? 0 : 1;
}

/* QEMU lists the last place first. */
static int do_choose(void *ctx, struct error *err)
{
	struct cpu_plug *cpu = ctx;
	_cleanup_json_ struct json_object *result = NULL;
	const struct vm_call c = { .command = "query-hotpluggable-cpus", .fd = -1 };
	int r = vm_call_consume(cpu->base.vm, &c, &result, err);

	if (r < 0)
		return r;
	if (!json_object_is_type(result, json_type_array))
		return vm_lost(cpu->base.vm, err, "its list of CPUs is none");
	for (size_t i = json_object_array_length(result); i > 0; i--) {
		r = take_place(cpu, json_object_array_get_idx(result, i - 1));
		if (r < 0)
			return vm_lost(cpu->base.vm, err, "its list of CPUs is none");
		if (r > 0)
			return 0;
	}
	return error_set(err, ENOSPC, "the VM has all the CPUs it may have");
}

static int undo_choose(void *ctx, struct error *err)
{
	(void)ctx, (void)err;
	return 0;
}

static int do_device(void *ctx, struct error *err)
{
	struct cpu_plug *cpu = ctx;
	int r = qemu_object_check(&cpu->device.base, err);

	return r < 0 ? r : call_add(cpu->base.vm, "device_add", &cpu->device.base, err);
}

static int undo_device(void *ctx, struct error *err)
{
	struct cpu_plug *cpu = ctx;

	return vm_device_del(cpu->base.vm, cpu->device.id, err);
}

static const struct step steps[] = {
	{ "query-hotpluggable-cpus", do_choose, undo_choose },
	{ "device_add", do_device, undo_device },
};

/*
 * QEMU 7.2 does not survive it when an emulated CPU comes or goes. One that comes wants a region of
 * the buffer for translated code, and QEMU aborts when all are taken just then (tcg/region.c). Of one
 * that has gone the memory map still tells the changes, into what has been freed. And newer
 * kernels (6.12.117 is one) count only what is there from the start where they do not know
 * the hypervisor. So all are there from the start, and the guest's kernel is told how many to use.
 */
static int do_spare(void *ctx, struct error *err)
{
	struct cpu_plug *cpu = ctx;

	if (cpu->base.vm->spare_cpus == 0)
		return error_set(err, ENOSPC, "the VM has all the CPUs it may have");
	cpu->base.vm->spare_cpus--;
	return 0;
}

static int undo_spare(void *ctx, struct error *err)
{
	(void)ctx;
	return error_set(err, EOPNOTSUPP, "an emulated CPU is there from the start and stays");
}

static const struct step emulated_steps[] = {
	{ "spare CPU", do_spare, undo_spare },
};

int hotplug_add_cpu(struct vm *vm, uint32_t index, struct error *err)
{
	const bool kvm = vm->options->accel == ACCEL_KVM;
	struct cpu_plug *cpu =
		plugged_new(vm, sizeof(*cpu), HOTPLUG_CPU, index, kvm ? steps : emulated_steps,
			kvm ? ARRAY_SIZE(steps) : ARRAY_SIZE(emulated_steps), err);
	char id[QEMU_ID_SIZE];
	int r;

	if (!cpu)
		return -err->code;
	snprintf(id, sizeof(id), "cpu%u", cpu->base.number);
	r = device_cpu_init(&cpu->device, id, err);
	if (r < 0) {
		free(cpu);
		return r;
	}
	return plugged_add_consume(&cpu->base, err);
}
