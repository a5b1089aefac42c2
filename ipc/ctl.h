/*
 * Between the supervisor and every role: packets of one fixed size on FD_CTL.
 * The supervisor parses nothing else but log lines.
 */
#pragma once

#include <stdint.h>

#include "common/error.h"

enum ctl_type {
	CTL_READY = 1,	/* role -> supervisor, once: isolated, ready for LOCK */
	CTL_FAILED,	/* role -> supervisor: cannot start, text says why; the role exits.
			 * supervisor -> frontend: some role could not; ends the wait for LOCK */
	CTL_LOCK,	/* supervisor -> role, once: everyone is ready, nobody has privilege left */
	CTL_CHILD_EXIT, /* supervisor -> frontend, vmmd: QEMU or virtiofsd (role) has ended */
	CTL_KILL_VM,	/* frontend, vmmd -> supervisor: kill everything in the cgroup `vm` */
	CTL_STOP,	/* frontend -> supervisor: the sandbox is over, end everything */
	CTL_GO,		/* supervisor -> virtiofsd's slot, once: mountd's mount namespace is there */
	CTL_OOM,	/* supervisor -> frontend, before its CTL_CHILD_EXIT: the host's OOM killer has
			 * ended QEMU or virtiofsd (role) */
};

/* Also the offset in the sandbox's uid block. */
enum role {
	ROLE_FRONTEND,
	ROLE_AGENTD,
	ROLE_VMMD,
	ROLE_PERSISTD,
	ROLE_NETD,
	ROLE_QEMU,
	ROLE_VIRTIOFSD, /* and mountd: uid 0 */
	ROLE_SUPERVISOR,
	ROLE_MOUNTD,
	ROLE_COUNT,
};

const char *role_name(enum role role);

struct ctl_msg {
	uint16_t type;
	uint16_t role;	/* CTL_CHILD_EXIT, CTL_FAILED, CTL_OOM: of whom */
	int32_t status; /* CTL_CHILD_EXIT: as a shell says it: 0..255, 128 + signal */
	char text[504]; /* NUL-terminated, the rest zero */
};

_Static_assert(sizeof(struct ctl_msg) == 512, "ctl_msg is one fixed size");

/* Never blocks. 0 or -errno; -EPIPE when the other side is gone. */
int ctl_send(int fd, enum ctl_type type, enum role role, int status, const char *text);

/*
 * Reads one packet. 1: *ret is filled; 0: the peer is gone; -EAGAIN: nothing
 * there (with MSG_DONTWAIT in flags); -EPROTO: not a packet of ours.
 */
int ctl_recv(int fd, int flags, struct ctl_msg *ret);
