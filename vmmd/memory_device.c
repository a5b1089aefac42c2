#include "vmmd/memory_device.h"

#include <errno.h>

#include "vmmd/qemu_fields.h"

/* ---- backends ---- */

#define BACKEND(m, k, t, ...) FIELD(memory_backend, m, k, t, __VA_ARGS__)
#define BACKEND_SIZE          BACKEND(size, "size", SIZE, RANGE(UINT64_C(1) << 20, MEMORY_MAX))
#define BACKEND_CLASS(k)                                                                           \
	const struct qemu_class memory_backend_##k##_class = { .fields = backend_##k##_fields,     \
		.size = sizeof(struct memory_backend), OBJECT("memory-backend-" #k) }

static const struct qemu_field backend_memfd_fields[] = {
	BACKEND(id, "id", ID),
	BACKEND_SIZE,
	BACKEND(share, "share", BOOL),
	BACKEND(prealloc, "prealloc", BOOL, OPTIONAL),
	BACKEND(hugetlb, "hugetlb", BOOL, OPTIONAL),
	BACKEND(hugetlbsize, "hugetlbsize", SIZE, OPTIONAL, RANGE(MEMORY_STEP, MEMORY_STEP)),
	{ 0 },
};
BACKEND_CLASS(memfd);

static const struct qemu_field backend_ram_fields[] = {
	BACKEND(id, "id", ID),
	BACKEND_SIZE,
	BACKEND(share, "share", BOOL),
	BACKEND(prealloc, "prealloc", BOOL, OPTIONAL),
	{ 0 },
};
BACKEND_CLASS(ram);

static const struct qemu_field backend_file_fields[] = {
	BACKEND(id, "id", ID),
	TEXT(memory_backend, mem_path, "mem-path"),
	BACKEND_SIZE,
	BACKEND(share, "share", BOOL),
	BACKEND(prealloc, "prealloc", BOOL, OPTIONAL),
	BACKEND(readonly, "readonly", BOOL, OPTIONAL),
	{ 0 },
};
BACKEND_CLASS(file);

static const struct qemu_class *const backend_classes[] = {
	[MEMORY_MEMFD] = &memory_backend_memfd_class,
	[MEMORY_RAM] = &memory_backend_ram_class,
	[MEMORY_FILE] = &memory_backend_file_class,
};

/* What one kind has and another would silently ignore. */
static int check_kind(const struct memory_backend_config *config, struct error *err)
{
	if ((unsigned)config->kind >= ARRAY_SIZE(backend_classes))
		return error_set(err, EINVAL, "-object: the kind of memory is unknown");
	if (config->hugepages && config->kind != MEMORY_MEMFD)
		return error_set(err, EINVAL, "-object %s: huge pages are memfd's",
			backend_classes[config->kind]->type);
	if ((config->read_only || config->path) && config->kind != MEMORY_FILE)
		return error_set(err, EINVAL, "-object %s: a path and read-only are a file's",
			backend_classes[config->kind]->type);
	if (config->hugepages && config->size % MEMORY_STEP)
		return error_set(err, EINVAL,
			"-object memory-backend-memfd: size is no multiple of a huge page's 2 MiB");
	return 0;
}

int memory_backend_init(struct memory_backend *o, const struct memory_backend_config *config,
	struct error *err)
{
	int r = check_kind(config, err);

	qemu_object_init(&o->base, r < 0 ? &memory_backend_memfd_class
					 : backend_classes[config->kind]);
	o->size = config->size;
	o->share = config->share;
	o->prealloc = config->prealloc;
	o->hugetlb = config->hugepages;
	o->hugetlbsize = config->hugepages ? MEMORY_STEP : 0;
	o->readonly = config->read_only;
	if (r == 0)
		r = qemu_set_id(o->id, "", config->id, err);
	if (r == 0 && config->path)
		r = qemu_set_text(o->mem_path, sizeof(o->mem_path), config->path, err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}

/* ---- devices ---- */

static const struct qemu_field device_pc_dimm_fields[] = {
	FIELD(device_pc_dimm, id, "id", ID),
	FIELD(device_pc_dimm, memdev, "memdev", ID),
	{ 0 },
};
CLASS(device_pc_dimm, DEVICE("pc-dimm"));

static const struct qemu_field device_nvdimm_fields[] = {
	FIELD(device_nvdimm, id, "id", ID),
	FIELD(device_nvdimm, memdev, "memdev", ID),
	FIELD(device_nvdimm, unarmed, "unarmed", BOOL, OPTIONAL),
	{ 0 },
};
CLASS(device_nvdimm, DEVICE("nvdimm"));

static const struct qemu_field device_virtio_pmem_fields[] = {
	FIELD(device_virtio_pmem, id, "id", ID),
	FIELD(device_virtio_pmem, memdev, "memdev", ID),
	{ 0 },
};
CLASS(device_virtio_pmem, DEVICE("virtio-pmem"), .has_transport = true);

static const struct qemu_field device_virtio_mem_fields[] = {
	FIELD(device_virtio_mem, id, "id", ID),
	FIELD(device_virtio_mem, memdev, "memdev", ID),
	FIELD(device_virtio_mem, block_size, "block-size", SIZE, RANGE(MEMORY_STEP, MEMORY_STEP)),
	FIELD(device_virtio_mem, requested_size, "requested-size", SIZE, RANGE(0, MEMORY_MAX)),
	FIELD(device_virtio_mem, bus, "bus", ID, OPTIONAL, ONLY_PCI),
	{ 0 },
};
CLASS(device_virtio_mem, DEVICE("virtio-mem"), .has_transport = true);

/* "<text><suffix>" */
static int set_suffixed(char field[QEMU_ID_SIZE], const char *text, const char *suffix,
	struct error *err)
{
	char start[QEMU_ID_SIZE];
	int r = qemu_set_id(start, "", text, err);

	return r < 0 ? r : qemu_set_id(field, start, suffix, err);
}

int device_pc_dimm_init(struct device_pc_dimm *o, const char *memdev, struct error *err)
{
	int r;

	qemu_object_init(&o->base, &device_pc_dimm_class);
	r = qemu_set_id(o->memdev, "", memdev, err);
	if (r == 0)
		r = set_suffixed(o->id, memdev, "-dimm", err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}

int device_virtio_mem_init(struct device_virtio_mem *o, const char *memdev, uint64_t requested,
	struct error *err)
{
	int r;

	qemu_object_init(&o->base, &device_virtio_mem_class);
	o->block_size = MEMORY_STEP;
	o->requested_size = requested;
	if (requested % MEMORY_STEP)
		return error_set(err, EINVAL,
			"-device virtio-mem: requested-size is no multiple of 2 MiB");
	r = qemu_set_id(o->memdev, "", memdev, err);
	if (r == 0)
		r = set_suffixed(o->id, memdev, "-virtio", err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}

int qemu_cmdline_add_memory_backend(struct qemu_cmdline *c,
	const struct memory_backend_config *config, struct error *err)
{
	struct memory_backend *o = qemu_cmdline_new(c, &memory_backend_memfd_class, err);

	return o ? memory_backend_init(o, config, err) : -ENOMEM;
}

int qemu_cmdline_add_virtio_mem(struct qemu_cmdline *c, uint64_t size, uint64_t requested,
	struct error *err)
{
	const struct memory_backend_config config = { .id = "vmem", .size = size, .share = true };
	struct device_virtio_mem *o;
	int r = qemu_cmdline_add_memory_backend(c, &config, err);

	if (r < 0)
		return r;
	o = qemu_cmdline_new(c, &device_virtio_mem_class, err);
	return o ? device_virtio_mem_init(o, "vmem", requested, err) : -ENOMEM;
}

int qemu_cmdline_add_pc_dimm(struct qemu_cmdline *c, const struct memory_backend_config *config,
	struct error *err)
{
	struct device_pc_dimm *o;
	int r = qemu_cmdline_add_memory_backend(c, config, err);

	if (r < 0)
		return r;
	o = qemu_cmdline_new(c, &device_pc_dimm_class, err);
	return o ? device_pc_dimm_init(o, config->id, err) : -ENOMEM;
}

int qemu_cmdline_add_image(struct qemu_cmdline *c, enum image_device device, const char *path,
	uint64_t size, struct error *err)
{
	const struct memory_backend_config config = { .id = "image", .kind = MEMORY_FILE,
		.size = size, .path = path, .read_only = true };
	struct device_virtio_pmem *pmem;
	struct device_nvdimm *nvdimm;
	int r = qemu_cmdline_add_memory_backend(c, &config, err);

	if (r < 0)
		return r;
	if (device == IMAGE_NVDIMM) {
		nvdimm = qemu_cmdline_new(c, &device_nvdimm_class, err);
		if (!nvdimm)
			return -ENOMEM;
		c->machine.nvdimm = ON_OFF_AUTO_ON;
		nvdimm->unarmed = true;
		r = qemu_set_id(nvdimm->id, "", "image-nvdimm", err);
		if (r == 0)
			r = qemu_set_id(nvdimm->memdev, "", config.id, err);
		return r < 0 ? r : qemu_object_check(&nvdimm->base, err);
	}
	pmem = qemu_cmdline_new(c, &device_virtio_pmem_class, err);
	if (!pmem)
		return -ENOMEM;
	r = qemu_set_id(pmem->id, "", "image-pmem", err);
	if (r == 0)
		r = qemu_set_id(pmem->memdev, "", config.id, err);
	return r < 0 ? r : qemu_object_check(&pmem->base, err);
}
