#include "shim-frontend/network.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"
#include "ipc/agentd.pb-c.h"
#include "ipc/netd.pb-c.h"
#include "ipc/vmmd.pb-c.h"
#include "shim-frontend/frontend.h"

#define SCAN_MS	  10000
#define ATTACH_MS 10000
#define PLUG_MS	  15000
#define GUEST_MS  60000

void network_done(struct network *n)
{
	for (size_t i = 0; i < NETWORK_PARTS_MAX; i++)
		free(n->part[i].data);
	*n = (struct network){ .n_links = 0 };
}

static struct frontend *frontend_of(struct flow *f)
{
	return rpc_flow_of(f)->fe;
}

static int broken(struct error *err, const char *what)
{
	return error_set(err, EPIPE, "netd is lost: part: %s", what);
}

/* ---- several calls in a row, one step ---- */

/* The first of them: what the step returns. */
static enum step_result begin(struct flow *f, int (*next)(struct flow *f, struct error *err))
{
	struct network *n = &frontend_of(f)->network;
	int r;

	n->at = 0;
	n->next = next;
	r = next(f, &f->err);
	if (r < 0)
		return STEP_FAIL;
	return r > 0 ? STEP_WAIT : STEP_DONE;
}

static void go_on(struct flow *f)
{
	struct network *n = &frontend_of(f)->network;
	struct error err = ERROR_INIT;
	int r;

	n->at++;
	r = n->next(f, &err);
	if (r <= 0)
		flow_resume(f, r < 0 ? &err : NULL);
}

static void answered(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *failure)
{
	(void)reply;
	(void)fds;
	if (failure)
		flow_resume(ctx, failure);
	else
		go_on(ctx);
}

static int ask(struct flow *f, struct peer *peer, uint16_t type, const ProtobufCMessage *request,
	int timeout_ms, call_fn fn, struct error *err)
{
	const struct rpc_flow *op = rpc_flow_of(f);
	int ms = rpc_left_ms(op->rpc, frontend_ms(op->fe, timeout_ms));
	int r = call_start(peer, type, request, ms, fn, f, err);

	return r < 0 ? r : 1;
}

/* ---- scan ---- */

static void scanned(struct flow *f, const ProtobufCMessage *reply)
{
	const Ipc__NetdScanReply *r = (const Ipc__NetdScanReply *)reply;
	struct frontend *fe = frontend_of(f);
	struct network *n = &fe->network;
	bool again = n->may_come;

	n->may_come = r->stays && !again;
	n->n_links = r->links;
	n->n_parts = r->parts;
	fe->netd.may_leave = r->links == 0 && !r->stays;
	if (r->links == 0 && !n->may_come)
		log_warn("the pod's network namespace has no interface besides lo");
}

enum step_result network_step_scan(struct flow *f)
{
	Ipc__NetdScan request = IPC__NETD_SCAN__INIT;
	const struct rpc_flow *op = rpc_flow_of(f);

	return flow_call(f, &op->fe->netd, NETD_SCAN, &request.base,
		rpc_left_ms(op->rpc, frontend_ms(op->fe, SCAN_MS)), scanned);
}

/* ---- attach ---- */

static int keep_link(struct network *n, const Ipc__NetworkLink *l, struct error *err)
{
	if (l->index >= n->n_links || (n->seen & 1U << l->index))
		return broken(err, "a link with a wrong number");
	if (l->mac.len != sizeof(n->nic[0].mac))
		return broken(err, "a link without a MAC address");
	n->seen |= 1U << l->index;
	memcpy(n->nic[l->index].mac, l->mac.data, l->mac.len);
	n->nic[l->index].mtu = l->mtu;
	log_info("network: %.16s (%.32s), MTU %u, %zu addresses", l->name,
		l->kind[0] ? l->kind : "a plain device", l->mtu, l->n_addresses);
	return 0;
}

static int keep_part(struct network *n, unsigned i, const Ipc__NetworkPart *p, struct error *err)
{
	int r = 0;

	if (!p)
		return broken(err, "an empty part");
	for (size_t k = 0; r == 0 && k < p->n_links; k++)
		r = keep_link(n, p->links[k], err);
	if (r < 0)
		return r;
	n->part[i].len = ipc__network_part__get_packed_size(p);
	n->part[i].data = malloc(n->part[i].len + 1);
	if (!n->part[i].data)
		abort();
	ipc__network_part__pack(p, n->part[i].data);
	return 0;
}

static void attach_answered(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *failure)
{
	struct flow *f = ctx;
	struct network *n = &frontend_of(f)->network;
	struct error err = ERROR_INIT;

	(void)fds;
	if (failure) {
		flow_resume(f, failure);
		return;
	}
	if (n->at < n->n_parts &&
		keep_part(n, n->at, ((const Ipc__NetdPartReply *)reply)->part, &err) < 0)
		frontend_fatal(frontend_of(f), &err); /* it is not the real netd any more */
	go_on(f);
}

/* Every part, then every link, then the end. */
static int next_attach(struct flow *f, struct error *err)
{
	Ipc__NetdPart part = IPC__NETD_PART__INIT;
	Ipc__NetdAttach attach = IPC__NETD_ATTACH__INIT;
	Ipc__NetdDone done = IPC__NETD_DONE__INIT;
	struct frontend *fe = frontend_of(f);
	struct network *n = &fe->network;

	if (n->at < n->n_parts) {
		part.part = n->at;
		return ask(f, &fe->netd, NETD_PART, &part.base, ATTACH_MS, attach_answered, err);
	}
	if (n->seen != (1U << n->n_links) - 1)
		return broken(err, "a link is missing");
	if (n->at < n->n_parts + n->n_links) {
		attach.index = n->at - n->n_parts;
		return ask(f, &fe->netd, NETD_ATTACH, &attach.base, ATTACH_MS, attach_answered, err);
	}
	if (n->at == n->n_parts + n->n_links) {
		fe->netd.may_leave = true;
		return ask(f, &fe->netd, NETD_DONE, &done.base, ATTACH_MS, attach_answered, err);
	}
	return 0;
}

enum step_result network_step_attach(struct flow *f)
{
	struct network *n = &frontend_of(f)->network;
	struct error err = ERROR_INIT;

	if (n->may_come || frontend_of(f)->netd.may_leave)
		return STEP_DONE;
	if (n->n_links > NETWORK_LINKS_MAX || n->n_parts > NETWORK_PARTS_MAX) {
		error_set(&err, EPIPE, "netd is lost: scan: more links or parts than there can be");
		frontend_fatal(frontend_of(f), &err);
	}
	return begin(f, next_attach);
}

static void fill_nic(struct network *n, uint32_t index, Ipc__VmmdLaunch__Nic *ret)
{
	ret->index = index;
	ret->mac.data = n->nic[index].mac;
	ret->mac.len = sizeof(n->nic[index].mac);
	ret->mtu = n->nic[index].mtu;
}

void network_fill(struct network *n, Ipc__VmmdLaunch *request, Ipc__VmmdLaunch__Nic *nics,
	Ipc__VmmdLaunch__Nic **list)
{
	for (uint32_t i = 0; i < n->n_links; i++) {
		ipc__vmmd_launch__nic__init(&nics[i]);
		fill_nic(n, i, &nics[i]);
		list[i] = &nics[i];
	}
	request->n_nics = n->n_links;
	request->nics = list;
}

/* ---- a VM that runs ---- */

static int next_plug(struct flow *f, struct error *err)
{
	Ipc__VmmdAddNic request = IPC__VMMD_ADD_NIC__INIT;
	Ipc__VmmdLaunch__Nic nic = IPC__VMMD_LAUNCH__NIC__INIT;
	struct frontend *fe = frontend_of(f);
	struct network *n = &fe->network;

	if (n->at == n->n_links)
		return 0;
	fill_nic(n, n->at, &nic);
	request.nic = &nic;
	return ask(f, &fe->vmmd, VMMD_ADD_NIC, &request.base, PLUG_MS, answered, err);
}

enum step_result network_step_plug(struct flow *f)
{
	return begin(f, next_plug);
}

/* ---- the guest ---- */

static int next_guest(struct flow *f, struct error *err)
{
	Ipc__AgentdNetwork request = IPC__AGENTD_NETWORK__INIT;
	struct frontend *fe = frontend_of(f);
	struct network *n = &fe->network;
	int r;

	if (n->at == n->n_parts) {
		network_done(n);
		return 0;
	}
	request.part = ipc__network_part__unpack(NULL, n->part[n->at].len, n->part[n->at].data);
	if (!request.part)
		return error_errno(err, ENOMEM, "part %u of the network", n->at);
	request.last = n->at + 1 == n->n_parts;
	r = ask(f, &fe->agentd, AGENTD_NETWORK, &request.base, GUEST_MS, answered, err);
	ipc__network_part__free_unpacked(request.part, NULL);
	return r;
}

enum step_result network_step_guest(struct flow *f)
{
	struct network *n = &frontend_of(f)->network;

	if (n->n_links == 0)
		return STEP_DONE;
	return begin(f, next_guest);
}
