#include "persistd/handlers.h"

#include "ipc/persistd.pb-c.h"
#include "ipc/tables.h"

static int handle_record(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	const Ipc__PersistdRecord *m = (const Ipc__PersistdRecord *)request;

	(void)reply;
	(void)reply_fds;
	return store_record(h->ctx, m->id, m->status, m->exited_at_ns, err);
}

static int handle_forget(struct helper *h, const ProtobufCMessage *request,
	const ProtobufCMessage **reply, struct fdlist *reply_fds, struct error *err)
{
	const Ipc__PersistdForget *m = (const Ipc__PersistdForget *)request;

	(void)reply;
	(void)reply_fds;
	return store_forget(h->ctx, m->id, err);
}

enum { SERVING = 1 };

static const struct helper_request requests[] = {
	{ PERSISTD_RECORD, handle_record, SERVING, 0 },
	{ PERSISTD_FORGET, handle_forget, SERVING, 0 },
};

struct helper persistd_helper(int fd, struct store *s)
{
	return (struct helper){
		.channel = &ipc_frontend_persistd,
		.fd = fd,
		.requests = requests,
		.n_requests = ARRAY_SIZE(requests),
		.state = SERVING,
		.ctx = s,
	};
}
