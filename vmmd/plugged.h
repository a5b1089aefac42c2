/* Inside hot-plug: one thing that is plugged, and what the kinds have in common. */
#pragma once

#include "vmmd/hotplug.h"
#include "vmmd/steps.h"
#include "vmmd/vmmd.h"

#define FDSET_HOTPLUG 1000 /* sets below are the command line's */

/* The first member of each kind's struct. */
struct plugged {
	struct plugged *next;
	struct vm *vm;
	enum hotplug_kind kind;
	uint32_t index;
	unsigned number; /* of its ids */
	int port;	 /* -1: none */
	const struct step *steps;
	size_t n_steps;
	void (*done)(struct plugged *p); /* releases what it owns besides its memory; NULL: nothing */
};

/*
 * A new one of `size` bytes, in no list. NULL with err: the index is taken, there
 * are too many.
 */
void *plugged_new(struct vm *vm, size_t size, enum hotplug_kind kind, uint32_t index,
	const struct step *steps, size_t n_steps, struct error *err);

/* Takes its steps: then it is in the list, else it is gone. */
int plugged_add_consume(struct plugged *p, struct error *err);

/* As a step: a port for it, whose id is set as the bus of its device. */
int take_port(struct plugged *p, char bus[QEMU_ID_SIZE], struct error *err);
int give_port(void *ctx, struct error *err);

/* Sends an object with device_add, netdev_add, blockdev-add or object-add. */
int call_add(struct vm *vm, const char *command, const struct qemu_object *o, struct error *err);

/* A command with one text. */
int call_text(struct vm *vm, const char *command, const char *key, const char *text, int fd,
	struct error *err);
