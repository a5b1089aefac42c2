/*
 * The one VM of a sandbox, as vmmd knows it. vm.c is its life: it reads what
 * QEMU and the supervisor say and tells the frontend; launch.c is its birth;
 * handlers.c is what the frontend may ask.
 */
#pragma once

#include "ipc/serve.h"
#include "ipc/vmmd.pb-c.h"
#include "vmmd/lines.h"
#include "vmmd/qemu_cmdline.h"
#include "vmmd/qmp.h"

/* From argv. */
struct vmmd_options {
	uint64_t uid;
	enum machine_type machine;
	enum accel accel;
	const char *append; /* the guest kernel's command line */
	const char *qemu;   /* what the slot executes, for the log */
	const char *name;   /* of the VM, as ps shows it */
};

struct vm {
	const struct vmmd_options *options;
	struct helper *helper;
	struct qmp qmp;
	int stderr_fd; /* QEMU's stderr, our end */
	struct lines lines;
	bool launched; /* LAUNCH has succeeded: from here on the frontend gets events */
	bool stopping; /* quit is sent: the end of QMP is what we want */
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

bool vm_is_gone(const struct vm *vm);   /* QMP has ended */
bool vm_is_exited(const struct vm *vm); /* the process has ended */

/* Sends a command and waits for its answer. A QEMU that ends or breaks QMP meanwhile: -EPIPE. */
int vm_command(struct vm *vm, const char *command, int timeout_ms, struct error *err);

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

/* ---- slot.c ---- */

/*
 * Gives QEMU's slot its arguments and fds and waits until it runs. After it,
 * successful or not, the slot's channel is closed.
 */
int slot_run(const struct qemu_cmdline *cmdline, int stderr_fd, struct error *err);

/* ---- handlers.c ---- */

enum vmmd_state { VMMD_NEW = 1, VMMD_LAUNCHED = 2, VMMD_RUNNING = 4, VMMD_OVER = 8 };

int vmmd_serve(const struct vmmd_options *options, struct error *err);
