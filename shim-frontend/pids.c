/* Pids: one process, whose pid is the task's, and in its details what runs. */
#include <stdio.h>

#include "shim-frontend/frontend.h"

#define EXECS_TEXT_MAX ((size_t)EXECS_MAX * (ID_MAX + 1))

/* The execs that run, in one text: they have no pid of their own on this host. */
static bool pack_exec_ids(const struct container *c, uint8_t *packed, Containerd__Any *ret)
{
	Containerd__ProcessDetails details = CONTAINERD__PROCESS_DETAILS__INIT;
	char text[EXECS_TEXT_MAX];
	size_t n = 0;

	for (const struct process *p = c->execs; p; p = p->next)
		if (p->state == PROCESS_RUNNING)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s", n ? " " : "",
				p->exec_id);
	if (n == 0)
		return false;
	details.exec_id = text;
	ret->type_url = (char *)"containerd.runc.v1.ProcessDetails";
	ret->value.data = packed;
	ret->value.len = protobuf_c_message_pack(&details.base, packed);
	return true;
}

void handle_pids(void *ctx, struct rpc *rpc)
{
	struct frontend *fe = ctx;
	const Containerd__PidsRequest *r = (Containerd__PidsRequest *)rpc->request;
	Containerd__PidsResponse reply = CONTAINERD__PIDS_RESPONSE__INIT;
	Containerd__ProcessInfo info = CONTAINERD__PROCESS_INFO__INIT, *list[] = { &info };
	uint8_t packed[EXECS_TEXT_MAX + 16];
	struct error err = ERROR_INIT;
	Containerd__Any any = CONTAINERD__ANY__INIT;
	const struct container *c = find_container(fe, r->id, &err);

	if (!c) {
		rpc_fail(rpc, &err);
		return;
	}
	if (pack_exec_ids(c, packed, &any))
		info.info = &any;
	/* Also of a stopped one: containerd 1.7 takes an empty list for a leaked shim. */
	info.pid = fe->settings.task_pid;
	reply.n_processes = 1;
	reply.processes = list;
	rpc_reply(rpc, &reply.base);
}
