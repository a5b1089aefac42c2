/*
 * The supervisor: PID 1 of the sandbox's PID namespace, in the pod's network
 * namespace. It makes the void, the channels and every other process, waits
 * until all are shut in, gives up its own privilege, says LOCK, and from then
 * on only reaps, relays log lines and kills.
 *
 * Its end is the guarantee: the kernel kills everything in the namespace.
 */
#pragma once

#include "common/options.h"

/* The fds the launcher leaves open for it. 0 and 1 are /dev/null, 2 is the log. */
enum supervisor_fd {
	SUPERVISOR_FD_LISTENER = 3,
	SUPERVISOR_FD_EVENTS, /* connected to containerd, or /dev/null */
	SUPERVISOR_FD_LOG,    /* containerd's log FIFO, or /dev/null */
	SUPERVISOR_FD_BUNDLE,
	SUPERVISOR_FD_STATE,	 /* persistd's directory */
	SUPERVISOR_FD_QEMU,	 /* O_PATH */
	SUPERVISOR_FD_VIRTIOFSD, /* O_PATH */
	SUPERVISOR_FD_VHOST_VSOCK, /* with the guest's CID, or /dev/null */
	SUPERVISOR_FD_VSOCK,	   /* not connected, or /dev/null */
	SUPERVISOR_FD_END,
};

/* From argv; the launcher has checked all of it. */
struct supervisor_options {
	const char *id, *namespace, *bundle, *dir, *libexec;
	const char *qemu, *virtiofsd, *kernel, *initrd, *cmdline, *accel, *accel_why, *events;
	const char *virtio_fs_cache, *network_model;
	uint64_t network_queues, disable_vhost_net;
	uint64_t uid_base, hello_timeout_ms;
	uint64_t vcpus, memory_mib, max_vcpus, max_memory_mib;
	uint64_t overhead_millicpus, overhead_memory_mib;
	uint64_t cid;		   /* of the guest; 0: its agent is not reached by vsock */
	uint64_t vm_oom_score_adj; /* + 1000 */
	uint64_t t0_us;		   /* CLOCK_MONOTONIC when `start` began, for the log */
	struct option_list rootfs_prefix, stdio_prefix, log_prefix, cgroups;
};

/* ---- void.c ---- */

/*
 * Forks a process that lives in new, empty mount, IPC, UTS and network
 * namespaces, for the roles to join. dir: any directory to build the empty
 * root on. It ends when *ret_hold is closed. The pidfd and the hold are the
 * caller's.
 */
int void_create(const char *dir, int *ret_pidfd, int *ret_hold, struct error *err);

/* ---- relay.c ---- */

struct relay {
	int64_t second; /* of the window */
	unsigned lines, dropped;
};

/* Reads all waiting lines of a role's log socket and writes them to the log, prefixed. */
void relay_drain(struct relay *r, int socket, int log, const char *role, const char *id);
