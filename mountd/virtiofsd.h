/* Starts virtiofsd in its slot. */
#pragma once

#include "common/error.h"

/* QEMU's own, up to 7.x, and the one that took its place: they differ in their switches. */
enum virtiofsd_flavour { VIRTIOFSD_C, VIRTIOFSD_RUST };

/* "c" or "rust"; NULL: by where the binary lies. 0, or -errno with err. */
int virtiofsd_flavour_read(const char *text, const char *binary, enum virtiofsd_flavour *ret,
	struct error *err);

#define VIRTIOFSD_LISTENER 3 /* the fd number of its socket, in virtiofsd */
#define VIRTIOFSD_SHARE	   "/share" /* the share in virtiofsd's root: supervisor/slot_virtiofsd.c */

/* Its arguments behind argv[0] (which is the slot's), ended by NULL. */
const char *const *virtiofsd_args(enum virtiofsd_flavour flavour);

/*
 * Makes its socket (with a name in the directory `private` for an instant),
 * hands the listening end and the arguments to the slot and waits at most
 * timeout_ms until the program runs. The connected end, or -errno with err.
 */
int virtiofsd_start(int slot, int private, enum virtiofsd_flavour flavour, int timeout_ms,
	struct error *err);
