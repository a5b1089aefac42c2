#include "ipc/tables.h"

#include "ipc/agentd.pb-c.h"
#include "ipc/common.pb-c.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/netd.pb-c.h"
#include "ipc/persistd.pb-c.h"
#include "ipc/slot.pb-c.h"
#include "ipc/vmmd.pb-c.h"

#define D(m)	   (&ipc__##m##__descriptor)
#define REQ(m)	   .request = D(m), .reply = D(empty)
#define REQ_R(m)   .request = D(m), .reply = D(m##_reply)
#define EVENT(m)   .event = D(m)
#define FDS(n, ...) .nfds = (n), .min_fds = (n), .fds = { __VA_ARGS__ }
#define TABLE(var, text)                                                                           \
	const struct ipc_channel ipc_##var = { text, var##_rows, ARRAY_SIZE(var##_rows) }

static const struct ipc_message frontend_netd_rows[] = {
	{ NETD_SCAN, "scan", REQ_R(netd_scan) },
	{ NETD_PART, "part", REQ_R(netd_part) },
	{ NETD_ATTACH, "attach", REQ_R(netd_attach) },
	{ NETD_DONE, "done", REQ(netd_done) },
};
TABLE(frontend_netd, "frontend-netd");

static const struct ipc_message frontend_mountd_rows[] = {
	{ MOUNTD_START_SHARE, "start_share", REQ(mountd_start_share) },
	{ MOUNTD_ADD_CONTAINER, "add_container", REQ_R(mountd_add_container) },
	{ MOUNTD_REMOVE_CONTAINER, "remove_container", REQ(mountd_remove_container) },
	{ MOUNTD_OPEN_STDIO, "open_stdio", REQ(mountd_open_stdio) },
	{ MOUNTD_OPEN_EVENTS, "open_events", REQ(mountd_open_events), FDS(1, FD_UNIX_STREAM) },
	{ MOUNTD_ADD_BLOCK, "add_block", REQ(mountd_add_block) },
	{ MOUNTD_MARK_OOM, "mark_oom", REQ(mountd_mark_oom) },
};
TABLE(frontend_mountd, "frontend-mountd");

static const struct ipc_message frontend_vmmd_rows[] = {
	{ VMMD_LAUNCH, "launch", REQ(vmmd_launch) },
	{ VMMD_CONT, "cont", REQ(vmmd_cont) },
	{ VMMD_STOP, "stop", REQ(vmmd_stop) },
	{ VMMD_EVENT, "vm_event", EVENT(vm_event) },
	{ VMMD_PAUSE, "pause", REQ(vmmd_pause) },
	{ VMMD_RESUME, "resume", REQ(vmmd_resume) },
	{ VMMD_ADD_BLOCK, "add_block", REQ(vmmd_add_block) },
	{ VMMD_ADD_MEMORY, "add_memory", REQ(vmmd_add_memory) },
	{ VMMD_ADD_CPU, "add_cpu", REQ(vmmd_add_cpu) },
	{ VMMD_REMOVE, "remove", REQ(vmmd_remove) },
	{ VMMD_ADD_NIC, "add_nic", REQ(vmmd_add_nic) },
	{ VMMD_CONNECT, "connect", REQ(vmmd_connect) },
};
TABLE(frontend_vmmd, "frontend-vmmd");

static const struct ipc_message frontend_agentd_rows[] = {
	{ AGENTD_CONNECT, "connect", REQ_R(agentd_connect) },
	{ AGENTD_CREATE_SANDBOX, "create_sandbox", REQ(agentd_create_sandbox) },
	{ AGENTD_CREATE_CONTAINER, "create_container", REQ_R(agentd_create_container) },
	{ AGENTD_START, "start", REQ(agentd_start) },
	{ AGENTD_SIGNAL, "signal", REQ(agentd_signal) },
	{ AGENTD_REMOVE, "remove", REQ(agentd_remove) },
	{ AGENTD_EXITED, "exited", EVENT(agentd_exited) },
	{ AGENTD_LOST, "lost", EVENT(agentd_lost) },
	{ AGENTD_CLOSE_STDIN, "close_stdin", REQ(agentd_close_stdin) },
	{ AGENTD_NETWORK, "network", REQ(agentd_network) },
	{ AGENTD_TEXT, "text", REQ(agentd_text) },
	{ AGENTD_EXEC, "exec", REQ(agentd_exec) },
	{ AGENTD_START_EXEC, "start_exec", REQ(agentd_start_exec) },
	{ AGENTD_REMOVE_EXEC, "remove_exec", REQ(agentd_remove_exec) },
	{ AGENTD_RESIZE, "resize", REQ(agentd_resize) },
	{ AGENTD_PAUSE, "pause", REQ(agentd_pause) },
	{ AGENTD_RESUME, "resume", REQ(agentd_resume) },
	{ AGENTD_UPDATE, "update", REQ(agentd_update) },
	{ AGENTD_STATS, "stats", REQ_R(agentd_stats) },
	{ AGENTD_OOM, "oom", EVENT(agentd_oom) },
	{ AGENTD_LIMITS, "limits", REQ_R(agentd_limits) },
	{ AGENTD_ONLINE, "online", REQ(agentd_online) },
	{ AGENTD_PROCESSES, "processes", REQ_R(agentd_processes) },
};
TABLE(frontend_agentd, "frontend-agentd");

static const struct ipc_message frontend_persistd_rows[] = {
	{ PERSISTD_RECORD, "record", REQ(persistd_record) },
	{ PERSISTD_FORGET, "forget", REQ(persistd_forget) },
};
TABLE(frontend_persistd, "frontend-persistd");

static const struct ipc_message mountd_agentd_rows[] = {
	{ MOUNTD_AGENTD_CONFIG, "config", EVENT(config), FDS(1, FD_REGULAR_RO) },
	{ MOUNTD_AGENTD_STDIN, "stdin", EVENT(stdio), FDS(2, FD_FIFO_RO, FD_PIPE_W) },
	{ MOUNTD_AGENTD_STDOUT, "stdout", EVENT(stdio), FDS(1, FD_FIFO_RW) },
	{ MOUNTD_AGENTD_STDERR, "stderr", EVENT(stdio), FDS(1, FD_FIFO_RW) },
	{ MOUNTD_AGENTD_STDOUT_FILE, "stdout_file", EVENT(stdio), FDS(1, FD_REGULAR_APPEND) },
	{ MOUNTD_AGENTD_STDERR_FILE, "stderr_file", EVENT(stdio), FDS(1, FD_REGULAR_APPEND) },
};
TABLE(mountd_agentd, "mountd-agentd");

static const struct ipc_message mountd_vmmd_rows[] = {
	{ MOUNTD_VMMD_SHARE, "share", EVENT(share), FDS(1, FD_UNIX_STREAM) },
	{ MOUNTD_VMMD_BLOCK, "block", EVENT(block), FDS(1, FD_ANY) }, /* hotplug_block.c looks */
};
TABLE(mountd_vmmd, "mountd-vmmd");

static const struct ipc_message netd_vmmd_rows[] = {
	{ NETD_VMMD_QUEUE, "queue", EVENT(netd_queue), .nfds = 2, .min_fds = 1,
		.fds = { FD_TAP, FD_VHOST_NET } },
	{ NETD_VMMD_END, "end", EVENT(netd_end) },
};
TABLE(netd_vmmd, "netd-vmmd");

static const struct ipc_message vmmd_agentd_rows[] = {
	{ VMMD_AGENTD_STREAM, "agent_stream", EVENT(agent_stream), FDS(1, FD_STREAM) },
	{ VMMD_AGENTD_CONSOLE, "console", EVENT(console), FDS(1, FD_UNIX_STREAM) },
};
TABLE(vmmd_agentd, "vmmd-agentd");

static const struct ipc_message slot_rows[] = {
	{ SLOT_ARG, "arg", EVENT(slot_arg) },
	{ SLOT_FD, "fd", EVENT(slot_fd), FDS(1, FD_ANY) },
	{ SLOT_EXEC, "exec", REQ(slot_exec) },
};
TABLE(slot, "slot");

const struct ipc_channel *const ipc_channels[] = {
	&ipc_frontend_netd,	 &ipc_frontend_mountd, &ipc_frontend_vmmd, &ipc_frontend_agentd,
	&ipc_frontend_persistd, &ipc_mountd_agentd,   &ipc_mountd_vmmd,	  &ipc_netd_vmmd,
	&ipc_vmmd_agentd,	 &ipc_slot,	       NULL,
};
