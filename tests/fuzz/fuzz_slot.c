/* What vmmd or mountd tells a slot (supervisor/job.c), up to EXEC. */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "ipc/fds.h"
#include "ipc/tables.h"
#include "supervisor/job.h"
#include "tests/fuzz/lib/packet.h"
#include "tests/fuzz/lib/sim.h"

struct run {
	struct bytes in;
	struct peer_end peer;
};

static bool next(void *ctx)
{
	struct run *run = ctx;

	if (run->peer.fd < 0)
		return false;
	if (run->in.left > 0)
		peer_send(&run->peer, &run->in);
	else
		peer_close(&run->peer);
	return true;
}

static void check(const struct job *job)
{
	SIM_CHECK(job->n_args <= SLOT_ARGS_MAX && job->used <= SLOT_ARGS_BYTES);
	for (size_t i = 0; i < 2; i++)
		SIM_CHECK(job->fds[i] < 0);
}

/* As slot.c makes argv of it. */
static void check_args(const struct job *job)
{
	size_t at = 0;

	SIM_CHECK(job->n_args > 0 && job->args[job->used - 1] == '\0');
	for (unsigned i = 0; i < job->n_args; i++)
		at += strlen(job->args + at) + 1;
	SIM_CHECK(at == job->used);
}

static int role(void *ctx)
{
	CLEANUP(job_free) struct job *job = job_new();
	int r = 1;

	SIM_CHECK(job);
	for (;;) {
		CLEANUP(ipc_packet_done) struct ipc_packet p = { .fds = FDLIST_INIT };
		struct error err = ERROR_INIT;

		r = channel_recv(SLOT_FD_JOB, &ipc_slot, MSG_DONTWAIT, &p, &err);
		if (r == -EAGAIN && next(ctx))
			continue;
		if (r <= 0)
			return r;
		r = job_take(job, &p, &err);
		SIM_CHECK((r < 0) == !!err.code);
		check(job);
		if (r == JOB_EXEC)
			check_args(job);
		if (r != 0)
			return r;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct run run;
	struct sim sim = { .next = next, .role = role, .ctx = &run, .closes_fds = true };

	run.in = (struct bytes){ data, size };
	peer_open(&run.peer, &ipc_slot, SLOT_FD_JOB);
	sim_run(&sim);
	return 0;
}
