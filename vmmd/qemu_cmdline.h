/*
 * QEMU's command line: one struct for each switch, named as QEMU names it.
 * Backend and frontend of a device are two objects (struct chardev and struct
 * device_virtserialport), and qemu_cmdline_add_...() makes both.
 *
 * Objects own their fds, and the struct qemu_cmdline owns the objects: whoever
 * adds an fd has none to close, and after qemu_cmdline_done() none is left.
 * Building refuses what is outside QEMU's grammar, in one sentence, so that
 * QEMU never sees it; printing is qemu_cmdline_print(), which does no I/O.
 */
#pragma once

#include "vmmd/memory_device.h"
#include "vmmd/qemu_object.h"

#define QEMU_APPEND_SIZE 2048 /* the kernel's limit on x86 */
#define QEMU_PATH_SIZE   256
#define QEMU_NAME_SIZE   128
#define QEMU_FIRST_FD    10 /* QEMU's number for the first fd it gets */
#define QEMU_LAST_FD     255

#define QEMU_ROOT_PORTS_MAX 16
#define VCPUS_MAX           255 /* q35 without interrupt remapping */

enum machine_type { MACHINE_Q35, MACHINE_MICROVM, MACHINE_VIRT, MACHINE_S390 };
enum accel_type { ACCEL_TCG, ACCEL_KVM };
enum kernel_irqchip { KERNEL_IRQCHIP_DEFAULT, KERNEL_IRQCHIP_ON, KERNEL_IRQCHIP_SPLIT };
enum image_device { IMAGE_NVDIMM, IMAGE_VIRTIO_PMEM };

/* Guests that QEMU cannot look into: none is available yet. */
enum confidential {
	CONFIDENTIAL_NONE,
	CONFIDENTIAL_SEV,
	CONFIDENTIAL_SEV_SNP,
	CONFIDENTIAL_TDX,
	CONFIDENTIAL_S390_PV,
};
extern const char *const machine_types[];
extern const char *const accels[];

/* ---- single switches ---- */

struct name {
	struct qemu_object base;
	char guest[QEMU_NAME_SIZE];
};

/* Three switches: -kernel, -initrd, -append. */
struct kernel {
	struct qemu_object base;
	char kernel[QEMU_PATH_SIZE], initrd[QEMU_PATH_SIZE];
	char append[QEMU_APPEND_SIZE];
};

struct smp {
	struct qemu_object base;
	uint64_t cpus;
	uint64_t maxcpus; /* 0: no hot-plug */
};

struct machine {
	struct qemu_object base;
	unsigned type;		  /* enum machine_type */
	unsigned kernel_irqchip;  /* enum kernel_irqchip */
	bool sata, smbus, vmport; /* q35 */
	unsigned nvdimm;	  /* q35, virt: enum on_off_auto */
	unsigned rtc, pit, pic;	  /* microvm: enum on_off_auto */
	bool isa_serial;
	char memory_backend[QEMU_ID_SIZE];
};

struct accel {
	struct qemu_object base;
	unsigned type;	  /* enum accel_type */
	uint64_t tb_size; /* TCG: MiB of translated code; 0: QEMU's own, up to 1 GiB */
};

struct cpu {
	struct qemu_object base;
	unsigned model;
	unsigned pmu; /* enum on_off_auto */
};

/* -m; its backend is a struct memory_backend. */
struct memory {
	struct qemu_object base;
	uint64_t size;
	uint64_t slots, maxmem; /* of hot-plug; 0: none */
};

struct rtc {
	struct qemu_object base;
	unsigned base_time, clock, driftfix;
};

/* QEMU's own filter, beneath ours. */
struct sandbox {
	struct qemu_object base;
	bool enable;
	unsigned obsolete, elevateprivileges, spawn, resourcecontrol;
};

/* Switches that are only there or not. */
struct knobs {
	struct qemu_object base;
	bool nodefaults, no_user_config;
	unsigned display;
	bool no_reboot;
	bool S; /* the CPUs wait for QMP's cont */
};

/* ---- -chardev, -mon, -object ---- */

struct chardev_socket {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	struct qemu_fd fd;
};

struct mon {
	struct qemu_object base;
	char chardev[QEMU_ID_SIZE];
	unsigned mode;
};

struct object_rng_builtin {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
};

/* ---- -device ---- */

struct device_virtio_rng {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char rng[QEMU_ID_SIZE];
};

struct device_virtio_serial {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
};

struct device_virtserialport {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char bus[QEMU_ID_SIZE];
	char chardev[QEMU_ID_SIZE];
	char name[QEMU_ID_SIZE]; /* what the guest finds it by */
};

struct device_virtconsole {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char bus[QEMU_ID_SIZE];
	char chardev[QEMU_ID_SIZE];
};

struct device_vhost_user_fs {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	char chardev[QEMU_ID_SIZE];
	char tag[37]; /* 36 bytes in virtio */
	uint64_t queue_size;
};

/* ---- the whole line ---- */

struct qemu_cmdline {
	struct name name;
	struct kernel kernel;
	struct smp smp;
	struct machine machine;
	struct accel accel;
	struct cpu cpu;
	struct memory memory;
	struct rtc rtc;
	struct sandbox sandbox;
	struct knobs knobs;
	struct qemu_object *objects, **tail; /* the rest, in the order they are printed */
	enum qemu_transport transport;
	enum memory_kind memory_kind;
	unsigned next_fd;
};

struct qemu_config {
	const char *name;
	enum machine_type machine;
	enum accel_type accel;
	unsigned vcpus;
	unsigned memory_mib;
	const char *kernel, *initrd, *append; /* paths in QEMU's root */
	/* The rest may be 0. */
	unsigned max_vcpus;			       /* with hot-plugged ones */
	unsigned memory_slots, memory_max_mib;	       /* of hot-plug: both or none */
	enum memory_kind memory;		       /* MEMORY_RAM: no shared directory */
	bool memory_prealloc, memory_hugepages;
	const char *memory_path; /* MEMORY_FILE */
	bool no_pmu;		 /* the guest sees no performance counters */
	enum confidential confidential;
};

/*
 * A machine with memory, entropy and a virtio-serial bus, stopped. On failure
 * too qemu_cmdline_done() is the caller's.
 */
int qemu_cmdline_init(struct qemu_cmdline *c, const struct qemu_config *config, struct error *err);

/* Releases every object and closes every fd. May be called again. */
void qemu_cmdline_done(struct qemu_cmdline *c);

/* Each takes a connected stream socket: it belongs to c from here on, also on failure. */
int qemu_cmdline_add_monitor_consume(struct qemu_cmdline *c, int fd, struct error *err);
int qemu_cmdline_add_port_consume(struct qemu_cmdline *c, const char *id, const char *name, int fd,
	struct error *err);
int qemu_cmdline_add_console_consume(struct qemu_cmdline *c, int fd, struct error *err);
int qemu_cmdline_add_share_consume(struct qemu_cmdline *c, const char *tag, int fd,
	struct error *err);

/* A netdev and its virtio-net device (netdev.h). Takes all of the config's fds, also on failure. */
struct network_device_config;
int qemu_cmdline_add_network_device_consume(struct qemu_cmdline *c,
	const struct network_device_config *config, struct error *err);

/* A disk (block_device.h). Takes the config's fd, also on failure. */
struct block_device_config;
int qemu_cmdline_add_block_device_consume(struct qemu_cmdline *c,
	const struct block_device_config *config, struct error *err);

/*
 * /dev/vhost-vsock, its CID set. Takes fd, also on failure. It has no disable_modern:
 * QEMU takes the word and makes a modern device.
 */
int qemu_cmdline_add_vsock_consume(struct qemu_cmdline *c, int fd, uint64_t cid, struct error *err);

/* ---- without fds: memory_device.c, qemu_devices.c ---- */

int qemu_cmdline_add_memory_backend(struct qemu_cmdline *c,
	const struct memory_backend_config *config, struct error *err);
int qemu_cmdline_add_pc_dimm(struct qemu_cmdline *c, const struct memory_backend_config *config,
	struct error *err);
int qemu_cmdline_add_virtio_mem(struct qemu_cmdline *c, uint64_t size, uint64_t requested,
	struct error *err);
/* A root file system as memory, read-only; path in QEMU's root. */
int qemu_cmdline_add_image(struct qemu_cmdline *c, enum image_device device, const char *path,
	uint64_t size, struct error *err);
int qemu_cmdline_add_global(struct qemu_cmdline *c, const char *driver, const char *property,
	enum on_off_auto value, struct error *err);
int qemu_cmdline_add_bios(struct qemu_cmdline *c, const char *path, struct error *err);
int qemu_cmdline_add_iothread(struct qemu_cmdline *c, const char *id, struct error *err);
/* The controller scsi0, which BLOCK_SCSI needs. iothread: NULL, the main loop. */
int qemu_cmdline_add_scsi(struct qemu_cmdline *c, const char *iothread, struct error *err);
/* rp0, rp1... on pcie.0: each a place for one device at hot-plug. */
int qemu_cmdline_add_root_ports(struct qemu_cmdline *c, unsigned n, struct error *err);
/* addr: 0, the next slot that is free. Its id is "pci-bridge-<chassis>". */
int qemu_cmdline_add_pci_bridge(struct qemu_cmdline *c, unsigned chassis, unsigned addr,
	struct error *err);
int qemu_cmdline_add_balloon(struct qemu_cmdline *c, bool free_page_reporting, struct error *err);
int qemu_cmdline_add_iommu(struct qemu_cmdline *c, struct error *err);

/* Appends all words but argv[0]. Pure. */
int qemu_cmdline_print(const struct qemu_cmdline *c, enum qemu_form form, struct qemu_argv *argv,
	struct error *err);

/* Every fd with the number it is to have in QEMU. */
int qemu_cmdline_each_fd(const struct qemu_cmdline *c, qemu_fd_fn fn, void *ctx, struct error *err);
