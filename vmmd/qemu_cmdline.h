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

#include "vmmd/qemu_object.h"

#define QEMU_APPEND_SIZE 2048 /* the kernel's limit on x86 */
#define QEMU_PATH_SIZE   256
#define QEMU_NAME_SIZE   128
#define QEMU_FIRST_FD    10 /* QEMU's number for the first fd it gets */
#define QEMU_LAST_FD     255

enum machine_type { MACHINE_Q35 };
enum accel { ACCEL_TCG, ACCEL_KVM };
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
};

struct machine {
	struct qemu_object base;
	unsigned type; /* enum machine_type */
	unsigned accel;
	bool sata, smbus, vmport;
	char memory_backend[QEMU_ID_SIZE];
};

struct cpu {
	struct qemu_object base;
	unsigned model;
};

/* -m; its backend is a struct object_memory_backend_memfd. */
struct memory {
	struct qemu_object base;
	uint64_t size;
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

struct object_memory_backend_memfd {
	struct qemu_object base;
	char id[QEMU_ID_SIZE];
	uint64_t size;
	bool share;
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
	struct cpu cpu;
	struct memory memory;
	struct rtc rtc;
	struct sandbox sandbox;
	struct knobs knobs;
	struct qemu_object *objects, **tail; /* the rest, in the order they are printed */
	enum qemu_transport transport;
	unsigned next_fd;
};

struct qemu_config {
	const char *name;
	enum machine_type machine;
	enum accel accel;
	unsigned vcpus;
	unsigned memory_mib;
	const char *kernel, *initrd, *append; /* paths in QEMU's root */
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

/* Appends all words but argv[0]. Pure. */
int qemu_cmdline_print(const struct qemu_cmdline *c, enum qemu_form form, struct qemu_argv *argv,
	struct error *err);

/* Every fd with the number it is to have in QEMU. */
int qemu_cmdline_each_fd(const struct qemu_cmdline *c, qemu_fd_fn fn, void *ctx, struct error *err);
