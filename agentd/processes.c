/* What runs in a container: the guest's word for it, made fit to be shown. */
#include <errno.h>
#include <string.h>

#include "agentd/text.h"
#include "agentd/verbs.h"
#include "bulkhead.pb-c.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/tables.h"

/* Of an answer, which is one packet: and more than these would not fit. */
#define LIST_MAX 1024

/* What a process takes of it besides its command. */
#define ENTRY_OVERHEAD 20

/*
 * Questions that a silent guest leaves behind are kept until it answers them, and there is an end to how
 * many may be: whoever asks for what can be missed leaves the rest to who must be heard, Kill above all.
 */
#define UNANSWERED_MAX 4096

struct list {
	Ipc__AgentdProcessesReply reply;
	Ipc__AgentdProcessesReply__Process process[LIST_MAX], *at[LIST_MAX];
	char command[LIST_MAX][AGENTD_COMMAND_MAX + 1];
	size_t bytes;
};

/* The guest knows inits by their container's id or none, execs by the names we gave them. 0: neither. */
static uint32_t number_of(const struct container *c, const Bulkhead__ListedProcess *said)
{
	if (!c || !said->first)
		return 0;
	if (!said->exec_id[0])
		return c->init ? c->init->number : 0;
	for (const struct process *p = c->execs; p; p = p->next)
		if (strcmp(p->exec_id, said->exec_id) == 0)
			return p->number;
	return 0;
}

static bool is_listed(const struct list *l, uint32_t number)
{
	for (size_t i = 0; i < l->reply.n_processes; i++)
		if (l->process[i].process == number)
			return true;
	return false;
}

/* false: there is no room for it. */
static bool add(struct list *l, const struct container *c, const Bulkhead__ListedProcess *said)
{
	size_t n = l->reply.n_processes, len;
	char *command = l->command[n];

	if (n == LIST_MAX)
		return false;
	text_clean(command, sizeof(l->command[n]), (const char *)said->command.data,
		said->command.len);
	if (!command[0])
		strcpy(command, "?");
	len = strlen(command) + ENTRY_OVERHEAD;
	if (len > IPC_PAYLOAD_MAX - ENTRY_OVERHEAD - l->bytes)
		return false;
	l->bytes += len;
	ipc__agentd_processes_reply__process__init(&l->process[n]);
	l->process[n].pid = said->pid;
	l->process[n].command = command;
	l->process[n].process = number_of(c, said);
	if (l->process[n].process && is_listed(l, l->process[n].process))
		l->process[n].process = 0;
	l->at[n] = &l->process[n];
	l->reply.n_processes = n + 1;
	return true;
}

static void reply_processes(struct request *req, const Bulkhead__ListProcessesResponse *said)
{
	static struct list l;
	struct container *c;
	size_t i = 0;

	if (get_container(req->agentd, req->index, &c, NULL) < 0)
		c = NULL;
	l.bytes = 0;
	l.reply = (Ipc__AgentdProcessesReply)IPC__AGENTD_PROCESSES_REPLY__INIT;
	l.reply.processes = l.at;
	while (said && i < said->n_processes && add(&l, c, said->processes[i]))
		i++;
	/* A number that nobody relies on: it may be any. */
	if (said)
		l.reply.more = said->more + (uint32_t)(said->n_processes - i);
	request_reply(req, &l.reply.base);
}

/* An agent of Kata's knows no such method; how it says that has changed over time. */
static bool is_no_method(const struct error *err)
{
	return err->code == ENOSYS || err->code == ENOENT || err->code == EINVAL;
}

static void on_processes(void *ctx, ProtobufCMessage *message, const struct error *err)
{
	if (err && !is_no_method(err))
		request_fail(ctx, err);
	else
		reply_processes(ctx, (const Bulkhead__ListProcessesResponse *)message);
}

int handle_processes(struct agentd *a, struct request *req, const ProtobufCMessage *message,
	struct error *err)
{
	Bulkhead__ListProcessesRequest request = BULKHEAD__LIST_PROCESSES_REQUEST__INIT;
	struct container *c;
	int r = get_container(a, ((const Ipc__AgentdProcesses *)message)->index, &c, err);

	if (r < 0)
		return r;
	if (agent_client_unanswered(a->agent) > UNANSWERED_MAX)
		return error_set(err, EBUSY, "the guest's agent leaves too much unanswered");
	req->index = c->index;
	request.container_id = c->id;
	return agent_call(a->agent, &agent_list_processes, &request.base, on_processes, req, NULL,
		err);
}
