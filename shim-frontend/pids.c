/*
 * Pids: always one process, whose pid is the task's, for the guest's pids mean nothing on this host.
 * What runs is text in its details (containerd.runc.v1.ProcessDetails.exec_id). Of a container that
 * runs the guest is asked, and there is a line for each process:
 *
 *	PID EXEC COMMAND
 *
 * with the pid in the guest, the id of the exec that it is the first process of, or "-", and its
 * arguments. "- EXEC -" is an exec that runs and is not among them, "- - (N more)" what had no room.
 *
 * A guest that does not say it costs a second, not the answer: containerd 1.7 asks this after its
 * restart and loses a container whose shim fails here. Then, and of a container that does not run,
 * the text is the ids of the execs that run, as far as there are any, with blanks between.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "ipc/agentd.pb-c.h"
#include "shim-frontend/frontend.h"

#define PROCESSES_MS 1000
/* At once: the guest makes no more lists either, and a Kill finds nothing in its way. */
#define ASKING_MAX 4

/* An rpc that waits for agentd, about a container that may be gone when the answer comes. */
struct question {
	struct frontend *fe;
	struct rpc *rpc;
	uint32_t index;
};

static void answer(struct frontend *fe, struct rpc *rpc, const char *text)
{
	Containerd__PidsResponse reply = CONTAINERD__PIDS_RESPONSE__INIT;
	Containerd__ProcessInfo info = CONTAINERD__PROCESS_INFO__INIT, *list[] = { &info };
	Containerd__ProcessDetails details = CONTAINERD__PROCESS_DETAILS__INIT;
	Containerd__Any any = CONTAINERD__ANY__INIT;
	_cleanup_free_ uint8_t *packed = NULL;

	details.exec_id = (char *)text;
	packed = malloc(protobuf_c_message_get_packed_size(&details.base) + 1);
	if (!packed)
		abort();
	any.type_url = (char *)"containerd.runc.v1.ProcessDetails";
	any.value.data = packed;
	any.value.len = protobuf_c_message_pack(&details.base, packed);
	if (text[0])
		info.info = &any;
	/* Also of a stopped one: containerd 1.7 takes an empty list for a leaked shim. */
	info.pid = fe->settings.task_pid;
	reply.n_processes = 1;
	reply.processes = list;
	rpc_reply(rpc, &reply.base);
}

static FILE *text_begin(char **text, size_t *len)
{
	FILE *f = open_memstream(text, len);

	if (!f)
		abort();
	return f;
}

static void text_end(FILE *f)
{
	if (fclose(f) != 0)
		abort();
}

static void answer_from_memory(struct frontend *fe, struct rpc *rpc, const struct container *c)
{
	_cleanup_free_ char *text = NULL;
	const char *between = "";
	size_t len;
	FILE *f = text_begin(&text, &len);

	for (const struct process *p = c ? c->execs : NULL; p; p = p->next) {
		if (p->state != PROCESS_RUNNING)
			continue;
		fprintf(f, "%s%s", between, p->exec_id);
		between = " ";
	}
	text_end(f);
	answer(fe, rpc, text);
}

static const Ipc__AgentdProcessesReply__Process *find(const Ipc__AgentdProcessesReply *r,
	uint32_t number)
{
	for (size_t i = 0; i < r->n_processes; i++)
		if (r->processes[i]->process == number)
			return r->processes[i];
	return NULL;
}

static const char *exec_name(const struct container *c, uint32_t number)
{
	for (const struct process *p = c->execs; p; p = p->next)
		if (p->number == number)
			return p->exec_id;
	return "-";
}

static void answer_with(struct frontend *fe, struct rpc *rpc, const struct container *c,
	const Ipc__AgentdProcessesReply *r)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *f = text_begin(&text, &len);

	for (size_t i = 0; i < r->n_processes; i++)
		fprintf(f, "%s%u %s %s", i ? "\n" : "", r->processes[i]->pid,
			exec_name(c, r->processes[i]->process), r->processes[i]->command);
	for (const struct process *p = c->execs; p; p = p->next)
		if (p->state == PROCESS_RUNNING && !find(r, p->number))
			fprintf(f, "\n- %s -", p->exec_id);
	if (r->more)
		fprintf(f, "\n- - (%u more)", r->more);
	text_end(f);
	answer(fe, rpc, text);
}

/* agentd promises it. A text that is none would cost more than its process's line: the answer. */
static bool is_printable(const Ipc__AgentdProcessesReply *r)
{
	for (size_t i = 0; i < r->n_processes; i++)
		for (const char *s = r->processes[i]->command; *s; s++)
			if (*s < ' ' || *s > '~')
				return false;
	return true;
}

static void answered(void *ctx, const ProtobufCMessage *message, struct fdlist *fds,
	const struct error *err)
{
	const Ipc__AgentdProcessesReply *r = (const Ipc__AgentdProcessesReply *)message;
	struct question *q = ctx;
	const struct container *c = table_find_index(&q->fe->table, q->index);

	(void)fds;
	q->fe->asking--;
	if (err)
		log_debug("pids of %s: %s", c ? c->id : "a container that is gone", err->msg);
	if (!err && c && r->n_processes > 0 && is_printable(r))
		answer_with(q->fe, q->rpc, c, r);
	else
		answer_from_memory(q->fe, q->rpc, c);
	free(q);
}

static bool may_be_asked(const struct frontend *fe, const struct container *c)
{
	return c->init.state == PROCESS_RUNNING && !c->init.exit.seen &&
		c->pause == CONTAINER_NOT_PAUSED && fe->vm.state == VM_UP && fe->asking < ASKING_MAX;
}

static void ask(struct frontend *fe, struct rpc *rpc, const struct container *c)
{
	Ipc__AgentdProcesses request = IPC__AGENTD_PROCESSES__INIT;
	struct question *q = calloc(1, sizeof(*q));
	struct error err = ERROR_INIT;

	if (!q)
		abort();
	*q = (struct question){ .fe = fe, .rpc = rpc, .index = c->index };
	request.index = c->index;
	fe->asking++;
	if (call_start(&fe->agentd, AGENTD_PROCESSES, &request.base,
		    rpc_left_ms(rpc, frontend_ms(fe, PROCESSES_MS)), answered, q, &err) < 0)
		answered(q, NULL, NULL, &err);
}

void handle_pids(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	struct error err = ERROR_INIT;
	const struct container *c =
		find_container(fe, ((const Containerd__PidsRequest *)rpc->request)->id, &err);

	if (!c)
		rpc_fail(rpc, &err);
	else if (may_be_asked(fe, c))
		ask(fe, rpc, c);
	else
		answer_from_memory(fe, rpc, c);
}
