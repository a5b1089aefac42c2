/*
 * The containers of the sandbox and the requests about them. A container is a directory under
 * /run/bulkhead/containers, a cgroup /bulkhead/<id>, its init and the processes exec'd into it.
 */
#pragma once

#include "rpc.h"

/* Collect every process that has ended. Called after each event. */
void containers_reap(void);

/* Go on with parked reads, when the host has taken what was queued for it. */
void containers_resume(void);

rpc_handler create_container, start_container, remove_container, update_container;
rpc_handler pause_container, resume_container, stats_container, get_oom_event;
rpc_handler exec_process, signal_process, wait_process, list_processes;
rpc_handler read_stdout, read_stderr, write_stdin, close_stdin, tty_win_resize;
