#include "vmmd/device_cpu.h"

#include "vmmd/qemu_fields.h"

/* Emulated CPUs are there from the start: hotplug_cpu.c. */
static const char *const cpu_drivers[] = { "host-x86_64-cpu", NULL };

static const struct qemu_field device_cpu_fields[] = {
	WORD(device_cpu, driver, "driver", cpu_drivers, .implicit = true),
	FIELD(device_cpu, id, "id", ID),
	FIELD(device_cpu, socket_id, "socket-id", NUMBER, RANGE(0, VCPUS_MAX)),
	FIELD(device_cpu, die_id, "die-id", NUMBER, RANGE(0, VCPUS_MAX)),
	FIELD(device_cpu, core_id, "core-id", NUMBER, RANGE(0, VCPUS_MAX)),
	FIELD(device_cpu, thread_id, "thread-id", NUMBER, RANGE(0, VCPUS_MAX)),
	{ 0 },
};
CLASS(device_cpu, .name = "device", .style = QEMU_STYLE_JSON);

int device_cpu_init(struct device_cpu *o, const char *id, struct error *err)
{
	int r;

	qemu_object_init(&o->base, &device_cpu_class);
	r = qemu_set_id(o->id, "", id, err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}
