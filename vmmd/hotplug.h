/*
 * What comes to a running VM and goes again: NICs, disks, memory, CPUs. Each
 * is a table of steps (steps.h) with QEMU's commands in it, so that one that
 * fails leaves QEMU as it was: no node, no fd, no port taken.
 *
 * The frontend names a thing by its kind and an index of its own. QEMU's ids are
 * made from a number that is never given again: what is late from the life of
 * one device cannot be mistaken for the next.
 */
#pragma once

#include "ipc/channel.h"
#include "vmmd/netdev.h"

struct vm;

enum hotplug_kind { HOTPLUG_NIC, HOTPLUG_BLOCK, HOTPLUG_MEMORY, HOTPLUG_CPU };

#define HOTPLUG_MAX 320 /* things of all kinds: each CPU is one */

struct plugged;

struct hotplug {
	unsigned n_ports;     /* root ports of the machine; each is a bus with one slot */
	uint32_t ports_taken; /* a mask */
	unsigned next;	      /* number for ids */
	unsigned n;
	struct plugged *first;
};

#define HOTPLUG_INIT { .next = 1 }

void hotplug_done(struct hotplug *h);

/* A free port, which is the caller's until ports_give(), or -ENOSPC with err. */
int ports_take(struct hotplug *h, struct error *err);
void ports_give(struct hotplug *h, int port);

/*
 * Each: 0, or -errno with err, and nothing has changed. -EEXIST: the index is
 * taken; -EPIPE: QEMU has ended. Those with an fd take it, also on failure.
 */
/* The config's id is ours to set. */
int hotplug_add_nic_consume(struct vm *vm, uint32_t index, struct network_device_config *config,
	struct error *err);

/*
 * An image or a block device, open as read_only says: anything else is refused. Open with
 * O_DIRECT, it goes past the host's page cache. The guest finds it by its serial number,
 * "disk-<index>".
 */
int hotplug_add_block_consume(struct vm *vm, uint32_t index, int fd, bool read_only,
	struct error *err);

int hotplug_add_memory(struct vm *vm, uint32_t index, uint64_t size, struct error *err);

/* The next CPU that QEMU has room for. */
int hotplug_add_cpu(struct vm *vm, uint32_t index, struct error *err);

/*
 * The guest is asked, and has time until VM_UNPLUG_TIMEOUT_MS. -ENOENT: no such
 * thing; -ETIMEDOUT, -EBUSY: the guest keeps it, and nothing has changed.
 */
int hotplug_remove(struct vm *vm, enum hotplug_kind kind, uint32_t index, struct error *err);

/* virtio-mem: the guest is to have so many bytes of it. On failure what it had is asked for again. */
int hotplug_set_virtio_mem(struct vm *vm, uint64_t size, struct error *err);

/* QEMU has these sets of fds and no others, n of them, each with one fd; else it is lost. */
int hotplug_check_fdsets(struct vm *vm, const unsigned *sets, size_t n, struct error *err);
