#include "supervisor/job.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "ipc/slot.pb-c.h"
#include "ipc/tables.h"

struct job *job_new(void)
{
	struct job *job = calloc(1, sizeof(*job));

	for (size_t i = 0; job && i < SLOT_FDS_MAX; i++)
		job->fds[i] = -1;
	return job;
}

void job_free(struct job **job)
{
	for (size_t i = 0; *job && i < SLOT_FDS_MAX; i++)
		fd_close(&(*job)->fds[i]);
	free(steal(*job));
}

static int take_arg(struct job *job, const Ipc__SlotArg *msg, struct error *err)
{
	size_t len = strlen(msg->part);

	if (job->n_args == SLOT_ARGS_MAX)
		return error_set(err, EPROTO, "more than %d arguments", SLOT_ARGS_MAX);
	if (len >= SLOT_ARGS_BYTES - job->used)
		return error_set(err, EPROTO, "more than %d bytes of arguments", SLOT_ARGS_BYTES);
	memcpy(job->args + job->used, msg->part, len);
	job->used += len;
	job->unfinished = !msg->last;
	if (msg->last) {
		job->args[job->used++] = '\0';
		job->n_args++;
	}
	return 0;
}

static int take_fd(struct job *job, const Ipc__SlotFd *msg, struct fdlist *fds, struct error *err)
{
	if (msg->target < STDERR_FILENO || msg->target >= SLOT_FDS_MAX)
		return error_set(err, EPROTO, "an fd for the number %u, allowed are %d to %d",
			msg->target, STDERR_FILENO, SLOT_FDS_MAX - 1);
	if (job->fds[msg->target] >= 0)
		return error_set(err, EPROTO, "two fds for the number %u", msg->target);
	job->fds[msg->target] = fdlist_steal(fds, 0);
	return 0;
}

int job_take(struct job *job, struct ipc_packet *packet, struct error *err)
{
	ProtobufCMessage *msg = ipc_decode(packet, err);
	int r;

	if (!msg)
		return -EPROTO;
	switch (packet->hdr.type) {
	case SLOT_ARG:
		r = take_arg(job, (Ipc__SlotArg *)msg, err);
		break;
	case SLOT_FD:
		r = take_fd(job, (Ipc__SlotFd *)msg, &packet->fds, err);
		break;
	case SLOT_EXEC:
		r = packet->hdr.kind == IPC_REQUEST && job->n_args > 0 && !job->unfinished
			? JOB_EXEC
			: error_set(err, EPROTO, "exec without complete arguments");
		break;
	default:
		r = error_set(err, EPROTO, "unexpected '%s'", packet->row->name);
	}
	ipc_free(msg);
	return r;
}
