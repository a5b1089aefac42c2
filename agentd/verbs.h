/* What the files with the verbs share: handlers.c has it, and the table of all verbs. */
#pragma once

#include "agentd/agentd.h"

/*
 * What a verb returns when the frontend is wrong in a way that no correct
 * frontend can be. 0: it is answered, or will be. -errno with err is an answer too.
 */
#define BROKEN 1

typedef int verb(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err);

/* exec.c */
verb handle_text, handle_exec, handle_start_exec, handle_remove_exec, handle_resize;
void execs_drop(struct agentd *a, struct container *c);

/* control.c */
verb handle_pause, handle_resume, handle_limits, handle_online, handle_update, handle_stats;
/* What of it the size of the VM depends on; r may be NULL. */
Ipc__Limits limits_of(const Grpc__LinuxResources *r);
/* Asks for the next news of memory that ran out. Once; it goes on by itself. */
void oom_listen(struct agentd *a);

/* processes.c */
verb handle_processes;

/* -- handlers.c */

/* Answers, NULL with an empty reply, and releases the request. */
void request_reply(struct request *req, const ProtobufCMessage *reply);
void request_fail(struct request *req, const struct error *failure);

/* For calls of the agent whose answer is only success or failure; ctx is the request. */
void on_answer(void *ctx, ProtobufCMessage *reply, const struct error *err);

int get_container(struct agentd *a, uint32_t index, struct container **ret, struct error *err);
struct process *find_process(struct container *c, uint32_t number);
bool process_exists(struct agentd *a, uint32_t number);

/* A process's streams that mountd has sent. */
struct wanted_streams {
	uint32_t process;
	bool in, out, err;
};

/* Moves them to *ret. 0, or BROKEN: not all are there. */
int take_fds(struct agentd *a, const struct wanted_streams *want, struct process_fds *ret,
	struct error *err);

/* Tells the frontend; the process's exited(). */
void on_exited(void *ctx, const struct process *p);
