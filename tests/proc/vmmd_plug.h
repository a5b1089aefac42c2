/*
 * What a test asks of vmmd about things that come and go, as the frontend, netd and mountd: each
 * ask_...() sends what belongs to it and does not wait; then answered() or one of expect_...().
 */
#pragma once

#include "tests/proc/vmmd_world.h"

#define LINK 1

/* A file without a name, so many MiB. */
int new_disk(int mib);

/* A block device that is `backing`, opened with O_DIRECT, and ends with its last fd; -1: none can be had. */
int new_loop(int backing);

/* -1: this machine has no vhost-net */
int new_vhost(void);

/* Takes fd; to be written, or as read_only says. */
void ask_disk(struct world *w, uint32_t index, int fd);
void ask_disk_as(struct world *w, uint32_t index, bool read_only, int fd);

/* Of LINK, its tap in the namespace that the test has entered. 0 queues: netd has sent none. */
void ask_nic(struct world *w, uint32_t queues, bool vhost);

void ask_memory(struct world *w, uint32_t index); /* 256 MiB */
void ask_cpu(struct world *w, uint32_t index);
void ask_remove(struct world *w, Ipc__VmmdRemove__Kind kind, uint32_t index);

/* true: done; false: an error, its sentence in ret. */
bool answered(struct world *w, struct error *ret);

void expect_done(struct world *w);
void expect_refused(struct world *w, const char *text);
