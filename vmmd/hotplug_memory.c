#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>

#include "vmmd/json.h"
#include "vmmd/memory_device.h"
#include "vmmd/plugged.h"

#define BLOCK (UINT64_C(128) << 20) /* what Linux on x86 takes and gives back at once */

struct dimm {
	struct plugged base;
	struct memory_backend backend;
	struct device_pc_dimm device;
};

static int do_object(void *ctx, struct error *err)
{
	struct dimm *d = ctx;

	return call_add(d->base.vm, "object-add", &d->backend.base, err);
}

static int undo_object(void *ctx, struct error *err)
{
	struct dimm *d = ctx;

	return call_text(d->base.vm, "object-del", "id", d->backend.id, -1, err);
}

static int do_device(void *ctx, struct error *err)
{
	struct dimm *d = ctx;

	return call_add(d->base.vm, "device_add", &d->device.base, err);
}

static int undo_device(void *ctx, struct error *err)
{
	struct dimm *d = ctx;

	return vm_device_del(d->base.vm, d->device.id, err);
}

static const struct step steps[] = {
	{ "object-add", do_object, undo_object },
	{ "device_add", do_device, undo_device },
};

int hotplug_add_memory(struct vm *vm, uint32_t index, uint64_t size, struct error *err)
{
	char id[QEMU_ID_SIZE];
	/* shared: virtiofsd maps it */
	const struct memory_backend_config config = {
		.id = id,
		.kind = MEMORY_MEMFD,
		.size = size,
		.share = true,
	};
	struct dimm *d;
	int r;

	if (size == 0 || size % BLOCK)
		return error_set(err, EINVAL, "memory %u: %llu MiB, not a multiple of %llu", index,
			(unsigned long long)size >> 20, (unsigned long long)BLOCK >> 20);
	d = plugged_new(vm, sizeof(*d), HOTPLUG_MEMORY, index, steps, ARRAY_SIZE(steps), err);
	if (!d)
		return -err->code;
	snprintf(id, sizeof(id), "mem%u", d->base.number);
	r = memory_backend_init(&d->backend, &config, err);
	if (r == 0)
		r = device_pc_dimm_init(&d->device, id, err);
	if (r < 0) {
		free(d);
		return r;
	}
	return plugged_add_consume(&d->base, err);
}

/* ---- virtio-mem ---- */

static int request(struct vm *vm, uint64_t size, struct error *err)
{
	struct vm_call c = { "qom-set", json_object_new_object(), -1, 0 };

	if (json_set_text(c.arguments, "path", "/machine/peripheral/" VIRTIO_MEM_ID) < 0 ||
		json_set_text(c.arguments, "property", "requested-size") < 0 ||
		json_set_number(c.arguments, "value", size) < 0) {
		json_object_put(c.arguments);
		return error_errno(err, ENOMEM, "qom-set");
	}
	return vm_call_consume(vm, &c, NULL, err);
}

int hotplug_set_virtio_mem(struct vm *vm, uint64_t size, struct error *err)
{
	uint64_t before = vm->virtio_mem_wanted;
	struct error ignored = ERROR_INIT;
	int r = request(vm, size, err);

	if (r < 0)
		return error_wrap(err, "virtio-mem");
	r = vm_wait_virtio_mem(vm, size, err);
	if (r == 0)
		return 0;
	vm->virtio_mem_wanted = before;
	request(vm, before, &ignored);
	return error_wrap(err, "virtio-mem");
}
