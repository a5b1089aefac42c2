/*
 * The disks that the VM has, or is about to get: which device or image each of them is, so that
 * the containers of a pod that name the same one share it. How many do is the frontend's to count.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"
#include "ipc/tables.h"

struct disk_id {
	bool device; /* a block device; else an image */
	dev_t dev;   /* the device's own number; of an image the file system's */
	ino_t ino;   /* of an image */
};

struct disk {
	uint32_t index; /* 0: a free place */
	struct disk_id id;
	bool read_only;
	int fd; /* until vmmd gets it; -1: it has */
	unsigned container; /* that it was opened for */
};

struct disks {
	uint32_t last; /* index; none is used twice */
	struct disk item[DISKS_MAX];
};

#define DISKS_INIT { .last = 0 }

/* NULL: not there. */
const struct disk *disks_find(const struct disks *d, const struct disk_id *id);

/* Takes from's fd, also on failure; the index is ours to set. The new one, or NULL with err. */
const struct disk *disks_add_consume(struct disks *d, const struct disk *from, struct error *err);

/* The fd, once; -1: it has been taken, or there is no such disk. */
int disks_take_fd(struct disks *d, uint32_t index);

/* Closes it, if it is there. */
void disks_forget(struct disks *d, uint32_t index);

/* Those that were opened for this container and never went to vmmd. */
void disks_drop_unsent(struct disks *d, unsigned container);
