/* A supervisor, frontend, mountd, vmmd and guest for bulkhead-agentd: all played by the test. */
#pragma once

#include "ipc/mountd.pb-c.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/channel.h"
#include "ipc/tables.h"
#include "tests/proc/agentd_guest.h"
#include "tests/proc/common_role.h"

#define RIG_SANDBOX "sb1"

struct rig {
	struct started s; /* s.channel is the frontend's */
	int mountd, vmmd;
	int agent, console; /* the guest's ends; -1 until rig_stream() */
	uint32_t seq;
};

/* agentd runs and waits for its first request. */
void rig_up(struct rig *r);
/* The same, told that the guest's agent is reached by vsock and which CID the guest has. */
void rig_up_by_vsock(struct rig *r, unsigned guest);
void rig_done(struct rig *r);

/* As vmmd: sends the agent stream and the console. */
void rig_stream(struct rig *r);
/* The same, the agent stream by vsock: it leads to this machine itself, CID 1. Needs vsock_loopback. */
void rig_stream_by_vsock(struct rig *r);

/* Sends one request, or fails the test. Its number. */
uint32_t rig_ask(struct rig *r, uint16_t type, const void *message);

/* The next thing that agentd says is the reply to seq. */
void rig_expect_reply(struct rig *r, uint16_t type, uint32_t seq);

/* ... is the error to seq; its sentence. */
const char *rig_expect_error(struct rig *r, uint16_t type, uint32_t seq, int code);

/* ... is an error; to which number? */
uint32_t rig_expect_any_error(struct rig *r, int code);

/* ... is this event; ipc_free() it. */
void *rig_expect_event(struct rig *r, uint16_t type);

/* Nothing comes within ms. */
void rig_expect_silence(struct rig *r, int ms);

/* Asks, and whatever it is, it succeeds. */
void rig_ask_ok(struct rig *r, uint16_t type, const void *message);

/* stream, CONNECT with hello, CREATE_SANDBOX with config.json of container 0 */
void rig_sandbox(struct rig *r);

/* As mountd: config.json with this text (NULL: a good one), FIFOs. */
void rig_config(struct rig *r, uint32_t index, const char *text);
void rig_config_memory(struct rig *r, uint32_t index, const char *text, Ipc__Config__Memory *memory);
int rig_stdin(struct rig *r, uint32_t process);			   /* the writer's end */
int rig_output(struct rig *r, uint32_t process, uint16_t type); /* the reader's end */
void rig_send_fds(struct rig *r, uint16_t type, uint32_t number, const int *fds, size_t n);

/* The requests, with the fields that matter. */
uint32_t rig_connect(struct rig *r, uint32_t timeout_ms);
uint32_t rig_create_sandbox(struct rig *r);
uint32_t rig_create(struct rig *r, uint32_t index, uint32_t process, bool in, bool out, bool err);
uint32_t rig_start(struct rig *r, uint32_t index);
uint32_t rig_signal(struct rig *r, uint32_t index, uint32_t process, uint32_t signal, bool all);
uint32_t rig_close_stdin(struct rig *r, uint32_t index, uint32_t process);
void rig_text(struct rig *r, uint32_t number, const char *text); /* waits for its answer */
uint32_t rig_exec(struct rig *r, uint32_t index, uint32_t process, bool terminal);
uint32_t rig_start_exec(struct rig *r, uint32_t index, uint32_t process);
uint32_t rig_remove_exec(struct rig *r, uint32_t index, uint32_t process);
uint32_t rig_resize(struct rig *r, uint32_t index, uint32_t process, uint32_t width, uint32_t height);
uint32_t rig_remove(struct rig *r, uint32_t index);

/* agentd has ended with this status. */
void rig_expect_exit(struct rig *r, int status);

int rig_fds_of_agentd(const struct rig *r);
