/*
 * The one VM of a sandbox, as vmmd knows it. vm.c is its life: it reads what
 * QEMU and the supervisor say and tells the frontend; launch.c is its birth;
 * handlers.c is what the frontend may ask.
 */
#pragma once

#include "ipc/serve.h"
#include "ipc/tables.h"
#include "ipc/vmmd.pb-c.h"
#include "vmmd/hotplug.h"
#include "vmmd/lines.h"
#include "vmmd/net.h"
#include "vmmd/qemu_cmdline.h"
#include "vmmd/qmp.h"

/* From argv. */
struct vmmd_options {
	uint64_t uid;
	enum machine_type machine;
	enum accel_type accel;
	const char *append; /* the guest kernel's command line */
	const char *qemu;   /* what the slot executes, for the log */
	const char *name;   /* of the VM, as ps shows it */
	unsigned cid;	    /* of the guest; 0: its agent is not reached by vsock */
};

struct json_object;

/* What we have told QEMU about the guest's CPUs; between command and answer both are right. */
enum vm_cpus { VM_CPUS_STAND, VM_CPUS_RUN, VM_CPUS_CHANGE };

/* What has become of the device that vm_device_del() waits for. */
enum vm_left { VM_DEVICE_THERE, VM_DEVICE_GONE, VM_DEVICE_KEPT };

struct vm {
	const struct vmmd_options *options;
	struct helper *helper;
	struct qmp qmp;
	int stderr_fd; /* QEMU's stderr, our end */
	int vhost_vsock, vsock; /* until QEMU has the one, and agentd, connected, the other; -1 */
	struct lines lines;
	bool launched; /* LAUNCH has succeeded: from here on the frontend gets events */
	bool stopping; /* quit is sent: the end of QMP is what we want */
	bool ending;   /* or the guest has shut down: the CPUs may stop on their own */
	enum vm_cpus cpus;
	const char *unasked; /* what QEMU did to the guest unasked: it is lost */
	const char *leaving; /* the id of the device that is awaited to go; NULL: none */
	enum vm_left left;
	struct nics nics; /* that have come from netd and are no devices yet */
	struct hotplug hotplug;
	unsigned spare_cpus; /* emulated, and not the guest's yet */
	uint64_t virtio_mem_size, virtio_mem_wanted; /* bytes: what the guest has taken, is to take */
	bool exited;
	int status;     /* once exited: as a shell says it */
	unsigned told;  /* events sent, a mask: each at most once */
	char lost[128]; /* why QMP was given up; "": it was not */
};

/* ---- vm.c ---- */

void vm_init(struct vm *vm, const struct vmmd_options *options, struct helper *helper);
void vm_done(struct vm *vm);

/* Watched while the helper waits for a request. */
void vm_sources(struct vm *vm);

/*
 * Serves QEMU and the supervisor until the condition holds: 1. 0: it did not
 * within timeout_ms. -errno with err: the supervisor is gone.
 */
typedef bool (*vm_condition)(const struct vm *vm);
int vm_wait(struct vm *vm, vm_condition until, int timeout_ms, struct error *err);

/*
 * One look at QEMU, the supervisor, and `more`, which is the caller's to look at then. 1; 0: nothing
 * was ready within timeout_ms. -errno with err: the supervisor is gone.
 */
#define VM_POLL_MORE_MAX 2
int vm_poll(struct vm *vm, struct pollfd *more, size_t n_more, int timeout_ms, struct error *err);

bool vm_is_gone(const struct vm *vm);   /* QMP has ended */
bool vm_is_exited(const struct vm *vm); /* the process has ended */

#define VM_CALL_TIMEOUT_MS   5000
#define VM_UNPLUG_TIMEOUT_MS 10000 /* Kata's, for DEVICE_DELETED; a guest acknowledges in one second */
#define VIRTIO_MEM_ID	     "virtiomem0"

struct vm_call {
	const char *command;
	struct json_object *arguments; /* NULL: none */
	int fd;			       /* goes with it, borrowed; -1: none */
	int timeout_ms;		       /* 0: VM_CALL_TIMEOUT_MS */
};

/*
 * Sends a command and waits for its answer, whose value is the caller's in *ret
 * (NULL: unwanted). Takes the arguments, also on failure. -EPIPE: QEMU has ended
 * or broken QMP meanwhile; -ETIMEDOUT: it did not answer, and is lost; -ENODEV: no
 * such device; -EIO with QEMU's sentence: refused.
 */
int vm_call_consume(struct vm *vm, const struct vm_call *call, struct json_object **ret,
	struct error *err);

/* One without arguments. */
int vm_command(struct vm *vm, const char *command, struct error *err);

/* -EPIPE: QEMU has ended, with its last words. */
int vm_ended(const struct vm *vm, struct error *err);

/* An answer that makes no sense: QEMU is lost. -EPROTO. */
int vm_lost(struct vm *vm, struct error *err, const char *why);

int vm_cont(struct vm *vm, struct error *err);
int vm_pause(struct vm *vm, struct error *err);

/*
 * Takes a device from the guest and waits until it has let go of it. A device that is
 * not there: 0. -ETIMEDOUT, -EBUSY: the guest keeps it, and may let go later.
 */
int vm_device_del(struct vm *vm, const char *id, struct error *err);

/* Until the guest has taken, or given back, so many bytes. -ETIMEDOUT: it did not. */
int vm_wait_virtio_mem(struct vm *vm, uint64_t size, struct error *err);

/* Ends QEMU: the guest's power button if it is to be asked, quit, SIGKILL, each for a fixed time. */
int vm_stop(struct vm *vm, bool ask_guest, struct error *err);

/* Has the supervisor kill everything in the cgroup `vm`. */
void vm_kill(struct vm *vm);

/* "ended with status 1<when>: <last line>", for a sentence about QEMU. */
void vm_describe_end(const struct vm *vm, const char *when, char *ret, size_t size);

/* ---- launch.c ---- */

/*
 * Starts QEMU, its CPUs stopped; QMP is ready and agentd has its fds. On
 * failure no fd is left, and the supervisor is asked to kill what runs.
 */
int vm_launch(struct vm *vm, const Ipc__VmmdLaunch *request, struct error *err);

/* The disk of this index, which mountd has sent ahead; the caller's. -EPROTO: it has not. */
int vm_take_block_fd(uint32_t index, int *ret_fd, struct error *err);

/* Gives agentd its stream, or the console. The fd is borrowed. */
int vm_tell_agentd(enum vmmd_agentd_msg type, int fd, struct error *err);

/* ---- vsock.c ---- */

#define VSOCK_AGENT_PORT 1024 /* Kata's */

/*
 * Connects to the guest's agent by vsock, trying again for timeout_ms: the guest boots. agentd has the
 * stream then, and the socket is gone. -EPIPE: QEMU has ended, or the frontend; -ETIMEDOUT.
 */
int vm_connect(struct vm *vm, int timeout_ms, struct error *err);

/* ---- slot.c ---- */

/*
 * Gives QEMU's slot its arguments and fds and waits until it runs. After it,
 * successful or not, the slot's channel is closed.
 */
int slot_run(const struct qemu_cmdline *cmdline, int stderr_fd, struct error *err);

/* ---- handlers.c ---- */

enum vmmd_state {
	VMMD_NEW = 1,
	VMMD_LAUNCHED = 2,
	VMMD_RUNNING = 4,
	VMMD_PAUSED = 8,
	VMMD_OVER = 16,
};

int vmmd_serve(const struct vmmd_options *options, struct error *err);
