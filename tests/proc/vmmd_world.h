/*
 * bulkhead-vmmd with the real QEMU under our filter and the real guest, which is
 * asked what it sees; a proxy on QMP makes any command fail.
 */
#pragma once

#include "tests/proc/vmmd_proxy.h"

struct world {
	struct rig rig;
	struct proxy proxy;
	int agent, console;
	char initrd[64];
	char said[65536]; /* by the guest's console */
	size_t len;
};

/* A guest that runs: 1 CPU of 3, 256 MiB of 1 GiB, 3 ports. Skips the test if it cannot be had. */
void world_start(struct world *w);

/* STOP; nobody had to be killed, unless by KVM. */
void world_done(struct world *w);

/* ---- what the guest sees; each with a deadline ---- */

/* What guest_probe.c answers, in a buffer that the next call overwrites. */
const char *guest(struct world *w, const char *verb, const char *path, const char *text);

/* Until so many names in a directory begin with the prefix. */
void guest_has(struct world *w, const char *dir, const char *prefix, unsigned n);

/* Until a file contains a text. */
void guest_says(struct world *w, const char *path, const char *text);

/* Until it could be written: it may be still to come. */
void guest_set(struct world *w, const char *path, const char *text);

unsigned count_words(const char *text, const char *prefix);

/* ---- what QEMU and vmmd have: nodes, objects, devices, NICs, places of CPUs, fds ---- */

#define STATE_SIZE 65536

void state_of(struct world *w, char *ret);

/* Until it is as before: QEMU's own threads close some fds a moment later. */
void expect_state(struct world *w, const char *before, const char *when);
