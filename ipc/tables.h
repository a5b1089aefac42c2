/* Every message that can cross a boundary: one table for each channel. */
#pragma once

#include "ipc/channel.h"

enum netd_msg { NETD_SCAN = 1, NETD_PART, NETD_ATTACH, NETD_DONE };
enum netd_vmmd_msg { NETD_VMMD_QUEUE = 1, NETD_VMMD_END };
enum mountd_msg {
	MOUNTD_START_SHARE = 1,
	MOUNTD_ADD_CONTAINER,
	MOUNTD_REMOVE_CONTAINER,
	MOUNTD_OPEN_STDIO,
	MOUNTD_OPEN_EVENTS,
	MOUNTD_ADD_BLOCK,
	MOUNTD_MARK_OOM,
};
enum mountd_agentd_msg {
	MOUNTD_AGENTD_CONFIG = 1,
	MOUNTD_AGENTD_STDIN,
	MOUNTD_AGENTD_STDOUT,
	MOUNTD_AGENTD_STDERR,
	MOUNTD_AGENTD_STDOUT_FILE,
	MOUNTD_AGENTD_STDERR_FILE,
};
enum mountd_vmmd_msg { MOUNTD_VMMD_SHARE = 1, MOUNTD_VMMD_BLOCK };
enum vmmd_msg {
	VMMD_LAUNCH = 1,
	VMMD_CONT,
	VMMD_STOP,
	VMMD_EVENT,
	VMMD_PAUSE,
	VMMD_RESUME,
	VMMD_ADD_BLOCK,
	VMMD_ADD_MEMORY,
	VMMD_ADD_CPU,
	VMMD_REMOVE,
	VMMD_ADD_NIC,
	VMMD_CONNECT,
};
enum vmmd_agentd_msg { VMMD_AGENTD_STREAM = 1, VMMD_AGENTD_CONSOLE };
enum agentd_msg {
	AGENTD_CONNECT = 1,
	AGENTD_CREATE_SANDBOX,
	AGENTD_CREATE_CONTAINER,
	AGENTD_START,
	AGENTD_SIGNAL,
	AGENTD_REMOVE,
	AGENTD_EXITED,
	AGENTD_LOST,
	AGENTD_CLOSE_STDIN,
	AGENTD_NETWORK,
	AGENTD_TEXT,
	AGENTD_EXEC,
	AGENTD_START_EXEC,
	AGENTD_REMOVE_EXEC,
	AGENTD_RESIZE,
	AGENTD_PAUSE,
	AGENTD_RESUME,
	AGENTD_UPDATE,
	AGENTD_STATS,
	AGENTD_OOM,
	AGENTD_LIMITS,
	AGENTD_ONLINE,
	AGENTD_PROCESSES,
};
enum persistd_msg { PERSISTD_RECORD = 1, PERSISTD_FORGET };
enum slot_msg { SLOT_ARG = 1, SLOT_FD, SLOT_EXEC };

extern const struct ipc_channel ipc_frontend_netd;
extern const struct ipc_channel ipc_frontend_mountd;
extern const struct ipc_channel ipc_frontend_vmmd;
extern const struct ipc_channel ipc_frontend_agentd;
extern const struct ipc_channel ipc_frontend_persistd;
extern const struct ipc_channel ipc_mountd_agentd;
extern const struct ipc_channel ipc_mountd_vmmd;
extern const struct ipc_channel ipc_netd_vmmd;
extern const struct ipc_channel ipc_vmmd_agentd;
extern const struct ipc_channel ipc_slot;

/* All of them, for tests and fuzzers. Ends with NULL. */
extern const struct ipc_channel *const ipc_channels[];

/* The name of the tap behind the link of this index: vmmd expects no other. */
#define NETWORK_TAP_FMT "tap%u_bk"

/* Links of a pod, and queues of each. */
#define NETWORK_LINKS_MAX  8
#define NETWORK_QUEUES_MAX 16

/* The path of a container's rootfs in the share, seen by mountd and by the guest alike. */
#define SHARE_ROOTFS_FMT "c%u/rootfs"
/* Of its volumes, by their number in config.json. */
#define SHARE_VOLUME_FMT "c%u/v%u"
#define SHARE_VOLUMES_MAX 128
#define SHARE_TAG	 "kataShared"

/* Disks of a VM: each takes one of its ports. */
#define DISKS_MAX 16
/* By this the guest finds one. */
#define DISK_SERIAL_FMT "disk-%u"

/* Of what AGENTD_TEXT brings under one number, and in one packet of it. */
#define AGENTD_TEXT_MAX	 ((size_t)256 << 10)
#define AGENTD_TEXT_PART ((size_t)15 << 10)

/* Of one process in the answer to AGENTD_PROCESSES. */
#define AGENTD_COMMAND_MAX ((size_t)128)
