/*
 * The fd numbers each role finds open when it is exec'ed: all it ever has
 * besides what its channels bring. 0 and 1 are /dev/null, 2 is the log socket.
 * The golden tables in seccomp-profiles/README.md say the same for a reader.
 */
#pragma once

#define FD_CTL 3 /* to the supervisor, in every role: ipc/ctl.h */

enum frontend_fd {
	FRONTEND_FD_LISTENER = 4, /* the shim's ttRPC socket, listening */
	FRONTEND_FD_NETD,
	FRONTEND_FD_MOUNTD,
	FRONTEND_FD_VMMD,
	FRONTEND_FD_AGENTD,
	FRONTEND_FD_PERSISTD,
	FRONTEND_FD_EVENTS, /* connected to containerd's ttRPC socket; /dev/null without one */
	FRONTEND_FD_VOID,   /* pidfd of the void, closed by isolate() */
	FRONTEND_FD_END,
};

enum agentd_fd {
	AGENTD_FD_FRONTEND = 4,
	AGENTD_FD_MOUNTD, /* config.json and stdio FIFOs arrive here */
	AGENTD_FD_VMMD,	  /* the agent stream and the console arrive here */
	AGENTD_FD_VOID,
	AGENTD_FD_END,
};

enum vmmd_fd {
	VMMD_FD_FRONTEND = 4,
	VMMD_FD_MOUNTD, /* block fds and the vhost-user-fs connection arrive here */
	VMMD_FD_NETD,   /* taps and vhost-net arrive here */
	VMMD_FD_AGENTD,
	VMMD_FD_SLOT, /* QEMU's slot */
	VMMD_FD_VOID,
	/* Only where the guest's agent is reached by vsock (option `cid=`). */
	VMMD_FD_VHOST_VSOCK, /* /dev/vhost-vsock, its CID set: QEMU's */
	VMMD_FD_VSOCK,	     /* a socket that leads nowhere yet */
	VMMD_FD_END,
};

enum netd_fd {
	NETD_FD_FRONTEND = 4,
	NETD_FD_VMMD,
	NETD_FD_VOID,
	NETD_FD_END,
};

enum mountd_fd {
	MOUNTD_FD_FRONTEND = 4,
	MOUNTD_FD_VMMD,
	MOUNTD_FD_AGENTD,
	MOUNTD_FD_SLOT,	  /* virtiofsd's slot */
	MOUNTD_FD_BUNDLE, /* the first bundle, a directory, for reading */
	MOUNTD_FD_VOID,
	MOUNTD_FD_END,
};

enum persistd_fd {
	PERSISTD_FD_FRONTEND = 4,
	PERSISTD_FD_DIR, /* its one directory */
	PERSISTD_FD_VOID,
	PERSISTD_FD_END,
};

enum slot_fd {
	SLOT_FD_JOB = 4, /* to vmmd (QEMU) or mountd (virtiofsd): ipc/slot.h */
	SLOT_FD_BINARY,	 /* O_PATH: what it will become */
	SLOT_FD_NS,	 /* pidfd: QEMU's slot: the void; virtiofsd's: mountd */
	SLOT_FD_END,
};
