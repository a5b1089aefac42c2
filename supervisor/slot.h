/*
 * A slot is the process that will be QEMU or virtiofsd. The supervisor forks
 * and execs it as root, in the cgroup `vm`, with the fds of enum slot_fd; it
 * shuts itself in, reports READY, and after LOCK takes one job from whoever
 * runs the program (vmmd, mountd): the arguments, the fds with their numbers,
 * then EXEC. So the supervisor never sees an argument or a foreign fd, and
 * the peer never has the privilege that building the program's root takes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "common/error.h"

/*
 * The binary is executed from this number, which QEMU's filter names. Fds on their
 * way to their numbers are parked between SLOT_FDS_MAX (job.h) and it.
 */
#define SLOT_EXEC_FD 1023

enum slot_kind { SLOT_QEMU, SLOT_VIRTIOFSD };

/* From argv: kind=, uid=, binary=, and what the kind needs. Text points into argv; NULL: absent. */
struct slot_options {
	enum slot_kind kind;
	uint64_t uid;       /* QEMU's; virtiofsd stays 0 */
	const char *binary; /* path of what SLOT_FD_BINARY is, for argv[0] */

	/* QEMU */
	const char *kernel; /* bound read-only at /kernel */
	const char *initrd; /* at /initrd */
	const char *accel;  /* "tcg" or "kvm" */

	/* virtiofsd */
	const char *share; /* path of the share in mountd's mount namespace */
};

/* For a QEMU whose options have been checked. */
static inline bool slot_has_kvm(const struct slot_options *o)
{
	return strcmp(o->accel, "kvm") == 0;
}

/*
 * Namespaces (through SLOT_FD_NS), root, identity, limits, no_new_privs: all
 * that the program will live with, except its filter. SLOT_FD_JOB and
 * SLOT_FD_BINARY stay open, SLOT_FD_NS is closed. 0, or -errno with err: the
 * caller exits.
 */
int slot_isolate_qemu(const struct slot_options *options, struct error *err);
int slot_isolate_virtiofsd(const struct slot_options *options, struct error *err);
