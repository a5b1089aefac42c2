/*
 * A supervisor, frontend, mountd and agentd for bulkhead-vmmd and
 * bulkhead-slot to live among: all played by the test.
 */
#pragma once

#include "ipc/channel.h"
#include "ipc/ctl.h"
#include "ipc/tables.h"
#include "ipc/vmmd.pb-c.h"
#include "tests/lib/test.h"

#define RIG_UID_VMMD 71002
#define RIG_UID_QEMU 71005

#define DEADLINE_MS  60000 /* a guest boots in three seconds; on a machine that does much else in thirty */

/* What vmmd has besides where the guest's agent is reached by vsock; cid 0: it is not told so. */
extern struct rig_vsock {
	unsigned cid;
	int vhost, sock; /* borrowed; 0: none */
} rig_vsock;

struct rig {
	int void_pid, void_pidfd;
	int log[2];           /* datagrams: fd 2 of both */
	int slot, slot_pidfd; /* pid; QEMU's later */
	int slot_ctl, slot_job;
	int slot_status; /* once it has ended */
	bool slot_ended, kill_asked;
	int vmmd;
	int vmmd_ctl, frontend, mountd, netd, agentd;
	uint32_t seq;
};

/* What QEMU's slot is told. */
struct rig_slot {
	const char *binary, *kernel, *initrd, *accel;
};

/* Finds the void. */
void rig_init(struct rig *rig);

/* Starts the slot and waits for READY; rig->slot_job is our end of its job channel. */
void rig_start_slot(struct rig *rig, const struct rig_slot *s);

/* Starts vmmd beside whatever has the other end of `job`, and waits for READY. */
void rig_start_vmmd(struct rig *rig, int job, const char *append);

/* Everything, until LOCK. */
void rig_start(struct rig *rig, const struct rig_slot *s, const char *append);

void rig_lock(int ctl);

/* Ends everything; what is still running is killed. */
void rig_done(struct rig *rig);

/* Sends a request as the frontend. */
void rig_ask(struct rig *rig, enum vmmd_msg type, const ProtobufCMessage *msg);

/*
 * Plays the supervisor until something comes from vmmd to the frontend.
 * 1; 0: vmmd has closed its end. The test fails at DEADLINE_MS.
 */
int rig_next(struct rig *rig, struct ipc_packet *packet);

/* Asks and expects success; events on the way are dropped. */
void rig_ask_ok(struct rig *rig, enum vmmd_msg type, const ProtobufCMessage *msg);

/* Asks and expects an error, whose sentence is put into ret. */
void rig_ask_error(struct rig *rig, enum vmmd_msg type, const ProtobufCMessage *msg,
	struct error *ret);

/* The next thing that comes is this event; its text is put into text. */
void rig_expect_event(struct rig *rig, Ipc__VmEvent__Kind kind, int status, char text[512]);

/* Takes the next message, of this type with one fd, from one of vmmd's or mountd's channels. */
int rig_take_fd(int channel, const struct ipc_channel *def, uint16_t type);

void rig_launch(struct rig *rig, bool share);

/* What runs the guest's CPUs: $BULKHEAD_ACCEL, or "tcg". */
const char *rig_accel(void);

/* $BULKHEAD_IMAGE/<name>, or skips the test. */
const char *rig_image(const char *name);
