/* Links that come between Create and Start: `ctr run --cni` and Docker make them then. */
#include <stdlib.h>

#include "shim-frontend/frontend.h"

struct late_flow {
	struct rpc_flow op; /* first */
	void (*done)(void *ctx, const struct error *err);
	void *ctx;
};

static enum step_result step_vm(struct flow *f)
{
	return vm_check(rpc_flow_of(f)->fe, &f->err) < 0 ? STEP_FAIL : STEP_DONE;
}

static const struct flow_step steps[] = {
	{ "scan the network again", network_step_scan, NULL },
	{ "attach the network", network_step_attach, NULL },
	{ "plug the network in", step_vm, NULL },
	{ "plug the network in", network_step_plug, NULL },
	{ "set up the network in the guest", network_step_guest, NULL },
};

static void finished(struct flow *f)
{
	struct late_flow *lf = (struct late_flow *)f;
	struct network *n = &lf->op.fe->network;

	/* Nothing of it is undone: no container may run with half of its network. */
	n->failed = f->err;
	lf->done(lf->ctx, f->err.code ? &f->err : NULL);
	free(lf);
}

void late_links_start(struct frontend *fe, struct rpc *rpc,
	void (*done)(void *ctx, const struct error *err), void *ctx)
{
	struct late_flow *lf = calloc(1, sizeof(*lf));

	if (!lf)
		abort();
	*lf = (struct late_flow){ .op = { .fe = fe, .rpc = rpc }, .done = done, .ctx = ctx };
	flow_start(&lf->op.flow, fe->loop, steps, ARRAY_SIZE(steps), finished);
}
