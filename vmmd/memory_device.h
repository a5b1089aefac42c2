/*
 * Memory: what it is made of (-object memory-backend-...), and the devices by
 * which a VM gets more of it while it runs. The VM's own memory is a backend too.
 */
#pragma once

#include "vmmd/qemu_object.h"

#define MEMORY_PATH_SIZE 256
#define MEMORY_MIN       (UINT64_C(32) << 20)
#define MEMORY_MAX       (UINT64_C(1) << 40)
#define MEMORY_STEP      (UINT64_C(2) << 20) /* a huge page; virtio-mem's block */

enum memory_kind {
	MEMORY_MEMFD, /* what virtiofsd can map: made by QEMU, no path */
	MEMORY_RAM,
	MEMORY_FILE, /* a file, or a folder of hugetlbfs or tmpfs, in QEMU's root */
};

struct memory_backend_config {
	const char *id;
	enum memory_kind kind;
	uint64_t size;
	bool share, prealloc;
	bool hugepages;	  /* MEMORY_MEMFD: pages of 2 MiB */
	bool read_only;	  /* MEMORY_FILE: an image */
	const char *path; /* MEMORY_FILE */
};

/* One struct for the three: each prints what it has. */
struct memory_backend {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char mem_path[MEMORY_PATH_SIZE];
	uint64_t size;
	bool share, prealloc;
	bool hugetlb;
	uint64_t hugetlbsize;
	bool readonly;
};

struct device_pc_dimm {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char memdev[QEMU_ID_SIZE];
};

struct device_nvdimm {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char memdev[QEMU_ID_SIZE];
	bool unarmed; /* read-only for the guest */
};

struct device_virtio_pmem {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char memdev[QEMU_ID_SIZE];
};

struct device_virtio_mem {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char memdev[QEMU_ID_SIZE];
	uint64_t block_size;
	uint64_t requested_size;
	char bus[QEMU_ID_SIZE];
};

extern const struct qemu_class memory_backend_memfd_class, memory_backend_ram_class,
	memory_backend_file_class, device_pc_dimm_class, device_nvdimm_class,
	device_virtio_pmem_class, device_virtio_mem_class;

/* None has an fd: nothing to release. 0, or -EINVAL with err. */
int memory_backend_init(struct memory_backend *o, const struct memory_backend_config *config,
	struct error *err);

/* The device is "<memdev>-dimm". */
int device_pc_dimm_init(struct device_pc_dimm *o, const char *memdev, struct error *err);

/* The device is "<memdev>-virtio"; requested: 0 or a multiple of MEMORY_STEP. */
int device_virtio_mem_init(struct device_virtio_mem *o, const char *memdev, uint64_t requested,
	struct error *err);
