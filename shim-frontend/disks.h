/*
 * The VM's disks, and which containers use them: one that two containers of a pod name is plugged
 * once, and goes with the last of them.
 *
 * mountd knows which device each is, and answers ADD_CONTAINER with the index of one that is there;
 * so none may go between that question and its answer. Whoever takes disks away waits for the
 * answer, and Create waits for whoever takes some away.
 */
#pragma once

#include "ipc/mountd.pb-c.h"
#include "ipc/tables.h"
#include "shim-frontend/flow.h"

/* Ports for disks of a pod's later containers: each costs the guest 20 ms of its boot under TCG, measured. */
#define DISKS_LATE_MAX 8

struct container;

struct disk {
	uint32_t index; /* mountd's; 0: a free place */
	unsigned users; /* containers */
	bool read_only;
	bool plugged; /* or vmmd was asked for it and has not said no */
};

struct disks {
	struct disk item[DISKS_MAX];
	bool adding;		 /* mountd has been asked, and has not answered */
	unsigned leaving;	 /* containers whose disks are being taken away */
	struct flow *waits;	 /* the Create that does, for these */
	struct container *first; /* those that wait for the answer */
};

/* Of one container. */
struct container_disks {
	uint32_t index[DISKS_MAX];
	unsigned n;
	bool released; /* it does not count any more */
	bool leaving;
	/* while its disks come or go */
	unsigned at;
	struct frontend *fe;
	struct flow *flow;
	struct container *next; /* that waits */
};

/* A step before ADD_CONTAINER, and what ends it: its answer, or its failure. */
enum step_result disks_step_begin(struct frontend *fe, struct flow *f);
void disks_end(struct frontend *fe);

/* The answer: -EPIPE with err when no mountd can mean it. */
int disks_take(struct frontend *fe, struct container *c,
	const Ipc__MountdAddContainerReply *reply, struct error *err);

/* Into the VM, which runs: those that are not there. */
enum step_result disks_step_plug(struct frontend *fe, struct container *c, struct flow *f);

/* The container lets go of its disks: out of the VM those that nobody uses. Never fails. */
enum step_result disks_step_unplug(struct frontend *fe, struct container *c, struct flow *f);

/* For REMOVE_CONTAINER: those of its disks that are gone. They are forgotten here. list lives as long as request. */
struct disks_list {
	Ipc__MountdRemoveContainer__Disk item[DISKS_MAX], *at[DISKS_MAX];
};

void disks_forget(struct frontend *fe, struct container *c, Ipc__MountdRemoveContainer *request,
	struct disks_list *list);
/* After it: a Create may go on. */
void disks_gone(struct frontend *fe, struct container *c);
