/*
 * The frontend: containerd's server, the table of containers, and the order
 * in which the other processes are asked. It holds no privilege, opens
 * nothing, and never sees a byte of the guest.
 *
 *	task_service.c  the RPC table
 *	create.c        Create as a flow over netd, mountd, vmmd, agentd
 *	network.c       the network's steps of it, and of a Start that finds more links
 *	disks.c         which disks the VM has, and for whom
 *	exec.c          Exec as a flow over mountd, agentd; the end of an exec
 *	control.c       Pause, Resume, Stats, ResizePty
 *	pids.c          Pids
 *	update.c        Update as a flow over agentd, vmmd: a VM that grows
 *	delete.c        Delete as a flow; Shutdown
 *	exit.c          an exit: recorded, published, told
 *	oom.c           memory that ran out, in the guest or on the host: told, marked in the bundle
 *	vm.c            the VM's life, and what Kill does about a silent guest
 *	events.c        what is forwarded to containerd
 */
#pragma once

#include "ipc/agentd.pb-c.h"
#include "ipc/ctl.h"
#include "ipc/tables.h"
#include "ipc/vmmd.pb-c.h"
#include "shim-frontend/call.h"
#include "shim-frontend/container.h"
#include "shim-frontend/events.h"
#include "shim-frontend/network.h"
#include "shim-frontend/ttrpc.h"

enum vm_state {
	VM_NONE,     /* not started; once dead it is never started again */
	VM_STARTING, /* vmmd has been asked to launch it */
	VM_UP,       /* the guest may run */
	VM_DYING,    /* it is over; what killed it, or its last line, is awaited */
	VM_DEAD,
};

/* Called when the VM is dead, from the loop. */
struct vm_waiter {
	struct vm_waiter *next;
	void (*fn)(void *ctx);
	void *ctx;
};

struct vm {
	enum vm_state state;
	bool ended;     /* QEMU has been seen to end */
	bool asked;     /* to stop, by us: its end is no error */
	bool spoke;     /* text is QEMU's own last line */
	bool oom;       /* the host's OOM killer has ended a part of it */
	int status;     /* as a shell says it */
	char text[512]; /* why: QEMU's last line, or our own sentence */
	struct timer timer;
	struct vm_waiter *waiters;
};

/* What the VM has more than at its start, and who waits for more. */
struct growth {
	uint32_t plugged_cpus, plugged_mib;
	uint32_t last_index; /* towards vmmd */
	bool online;	     /* the guest uses all of it */
	struct update_flow *running, *queue;
	unsigned n_queue;
};

struct settings {
	const char *id; /* of the sandbox, which is its first container's */
	const char *namespace;
	const char *bundle;
	uint32_t task_pid; /* told as everybody's pid */
	uint32_t vcpus, memory_mib; /* of the VM at its start */
	uint32_t max_vcpus, max_memory_mib;
	uint32_t overhead_millicpus, overhead_memory_mib;
	bool share;
	bool vsock;      /* the guest's agent is reached by it: vmmd has to connect */
	bool cgroups_v1; /* of the host: Stats speaks as its tools expect */
	int hello_timeout_ms;
	int call_timeout_max_ms; /* no call waits longer */
	int frame_timeout_ms;
};

struct frontend {
	struct settings settings;
	struct loop *loop;
	struct server server;
	struct table table;
	struct events events;
	struct vm vm;
	struct growth growth;
	struct network network;
	struct disks disks;
	struct peer netd, mountd, vmmd, agentd, persistd;
	struct watch ctl;

	struct create_flow *creating;            /* one at a time */
	struct create_flow *queue, **queue_last; /* the others */
	unsigned n_queue;
	bool sandbox_created; /* the VM is up and the guest has its sandbox */
	/* code set: no container can be created any more, and why */
	struct error broken;
	unsigned asking; /* Pids that wait for agentd */

	bool shutting_down;
	struct task shutdown;
	struct timer shutdown_timer;
	bool vm_stop_answered;
	int exit_status;
};

/*
 * Begins to accept: after LOCK only. broken: why no container can be created,
 * or NULL.
 */
int frontend_init(struct frontend *fe, const struct settings *settings, struct loop *loop,
	const struct error *broken, struct error *err);
void frontend_done(struct frontend *fe);

/* The sandbox is over: every request is answered with err, then exit. Does not return. */
_Noreturn void frontend_fatal(struct frontend *fe, const struct error *err);

/* A deadline, shortened by the setting. */
int frontend_ms(const struct frontend *fe, int ms);

int64_t realtime_ns(void);

/* task_service.c */
extern const struct rpc_service task_service;

/* create.c. Answers the rpc. */
void create_start(struct frontend *fe, struct rpc *rpc);
/* Before an exit: answers the one that runs, naming the step it was at. */
void create_fatal(struct frontend *fe, const struct error *err);

/*
 * late_links.c. Before the first Start: what has come since Create is given to
 * the running VM, and netd leaves. Calls done once, later, with NULL or why not.
 */
void late_links_start(struct frontend *fe, struct rpc *rpc,
	void (*done)(void *ctx, const struct error *err), void *ctx);

/* update.c. Answers the rpc; c is CREATED or RUNNING. */
void update_start(struct frontend *fe, struct rpc *rpc, struct container *c);
/* What a VM must be started with to grow as far as the settings say. */
void update_room(const struct settings *s, Ipc__VmmdLaunch *request);
/* What agentd says of a container's limits. */
struct limits limits_told(const Ipc__Limits *m);

/* delete.c. Answers the rpc; c is CREATED or STOPPED. */
void delete_start(struct frontend *fe, struct rpc *rpc, struct container *c);
/* Stops the VM, sends the last events, tells the supervisor and ends the loop: at most 2.5 s. */
void shutdown_start(struct frontend *fe);

/* exec.c. Answers the rpc; c runs, or waits for its Start. */
void exec_start(struct frontend *fe, struct rpc *rpc, struct container *c);
/* Starts it. Answers the rpc; p is CREATED. */
void exec_run(struct frontend *fe, struct rpc *rpc, struct process *p);
/* Answers the rpc and frees p, which is an exec that does not run. */
void exec_delete(struct frontend *fe, struct rpc *rpc, struct process *p);
/* The container is deleted: its execs have ended, and nobody waits for them any more. */
void exec_delete_all(struct frontend *fe, struct container *c);
/* Sends a document in parts, ahead of the request that needs it. 0 or -errno. */
int agentd_send_text(struct frontend *fe, uint32_t number, const Containerd__Any *any, int ms,
	struct error *err);

/* control.c: handlers of the RPC table */
void handle_pause(void *ctx, struct rpc *rpc);
void handle_resume(void *ctx, struct rpc *rpc);
void handle_update(void *ctx, struct rpc *rpc);
void handle_stats(void *ctx, struct rpc *rpc);
void handle_resize(void *ctx, struct rpc *rpc);

/* pids.c: the same */
void handle_pids(void *ctx, struct rpc *rpc);

/* task_service.c: what a request is about, if it exists for everybody; else NULL with err. */
struct process *find_process(struct frontend *fe, const char *id, const char *exec_id,
	struct error *err);
struct container *find_container(struct frontend *fe, const char *id, struct error *err);

/* exit.c */
/* The first word about a process's exit. */
void exit_seen(struct frontend *fe, struct process *p, uint32_t status, int64_t at_ns);
/* To be called when its Start has been answered: an exit seen meanwhile goes on. */
void exit_released(struct frontend *fe, struct process *p);
/* Every exec of the container that runs has ended with 137. */
void exit_execs(struct frontend *fe, struct container *c);
/* Every process that has not exited has done so with 137. */
void exit_all(struct frontend *fe);
/* The bundle is marked, or could not be: an exit that waited for it is told. */
void exit_marked(struct frontend *fe, struct container *c);
/* Publishes TaskExit and answers the waiters. The exit is recorded. */
void exit_tell(struct frontend *fe, struct process *p);

/* oom.c */
/* Memory ran out, and a process of c has been killed for it. To be called before its exit is seen. */
void oom_seen(struct frontend *fe, struct container *c);

/* vm.c */
void vm_init(struct frontend *fe);
void vm_done(struct frontend *fe);
void vm_set_state(struct frontend *fe, enum vm_state state);
void vm_on_ctl(struct frontend *fe, const struct ctl_msg *msg);
void vm_on_event(struct frontend *fe, uint16_t type, const ProtobufCMessage *event);
/* 0, or -EHOSTDOWN with err when it is not up any more. */
int vm_check(const struct frontend *fe, struct error *err);
/* vmmd has stopped it as we asked. */
void vm_stopped(struct frontend *fe);
/* The guest or a part of the VM is lost: everything of it is killed. */
void vm_kill(struct frontend *fe, const char *why);
/* fn once it is dead. Borrows w until then. */
void vm_wait_dead(struct frontend *fe, struct vm_waiter *w, void (*fn)(void *ctx), void *ctx);
