/*
 * How a role shuts itself in. A role is exec'ed as root with exactly its fds
 * and calls isolate() before it has read a byte from anybody. The stages:
 *
 *   1. fds         everything from first_free_fd up is closed
 *   2. namespaces  one setns() into the void: an empty, read-only root and
 *                  empty network, IPC and UTS namespaces, made once for all
 *                  roles of a sandbox
 *   3. limits      no core files, no locked memory, a known number of fds
 *   4. identity    securebits, bounding set, groups, uid; what capabilities
 *                  remain are the ones listed
 *   5. landlock    where it is asked for and the kernel has it
 *   6. filter      no_new_privs, the policy in seccomp-profiles/
 *
 * Namespaces come before identity because setns() needs the privilege that
 * identity gives up. Every stage fails closed: an error means that the caller
 * must exit, and it has no way to go on with more than it was to have.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/error.h"

struct isolation {
	const char *name;	/* of the process, as ps shows it */
	unsigned first_free_fd; /* lower ones are kept: the role's fds */
	int void_pidfd;		/* a process that lives in the void; -1: none. Closed. */
	int void_namespaces;	/* CLONE_NEW* flags to join of it */
	uid_t uid;		/* and gid; no supplementary groups */
	const int *caps;	/* CAP_* to keep, permitted and effective; ends with -1. NULL: none */
	unsigned nofile;	/* RLIMIT_NOFILE, soft and hard */
	bool landlock;		/* no file system any more; landlock.h says for whom not */
	int landlock_dir;	/* 0: none; else but files beneath this fd */
	bool may_fork;		/* else RLIMIT_NPROC is 0 */
	bool may_write_files;	/* else RLIMIT_FSIZE is 0 */
	mode_t umask;		/* 0: 077 */
	const char *policy;	/* seccomp-profiles/<policy>.policy. NULL: the caller loads it */
};

/* Runs the stages. 0, or -errno with err naming the stage. */
int isolate(const struct isolation *iso, struct error *err);

/*
 * 0 if the capability bounding set is exactly want, bits by capability, else
 * -EPERM: capng_apply() (0.8.3) says nothing when the kernel refuses to drop one.
 */
int isolate_check_bounding(uint64_t want, struct error *err);
