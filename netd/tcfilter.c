#include "netd/tcfilter.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <string.h>

#include "common/fdio.h"
#include "common/log.h"
#include "netd/tap_link.h"

#define FILTER_KIND	"u32"
#define FILTER_PRIORITY 1
#define INGRESS_HANDLE	TC_H_MAKE(TC_H_INGRESS, 0)
/* Of a link: blocks are numbered by whoever makes them, for the whole namespace. */
#define BLOCK_OF(ifindex) (0x80000000U | (uint32_t)(ifindex))
/* Another user of the same link's ingress, at this very moment: EBUSY. */
#define BUSY_TRIES   5
#define BUSY_WAIT_MS 20
#define FIND_TRIES   16

static int ask(struct nl_sock *sk, struct nl_msg *msg)
{
	int r = netlink_ask(sk, msg);

	for (int i = 1; r == -EBUSY && i < BUSY_TRIES; i++) {
		fd_poll(NULL, 0, BUSY_WAIT_MS);
		nlmsg_hdr(msg)->nlmsg_seq = 0; /* libnl numbers it anew */
		r = netlink_ask(sk, msg);
	}
	return r;
}

/* ---- qdiscs ---- */

static int qdisc(struct nl_sock *sk, int type, int flags, unsigned ifindex)
{
	const struct tcmsg tc = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)ifindex,
		.tcm_handle = INGRESS_HANDLE,
		.tcm_parent = TC_H_INGRESS,
	};
	CLEANUP(netlink_free) struct nl_msg *msg = netlink_request(type, flags, &tc, sizeof(tc));
	const uint32_t block = BLOCK_OF(ifindex);

	netlink_put(msg, TCA_KIND, "ingress", sizeof("ingress"));
	if (type == RTM_NEWQDISC)
		netlink_put(msg, TCA_INGRESS_BLOCK, &block, sizeof(block));
	return ask(sk, msg);
}

/* Links with a qdisc of ours: of all that there are, or of a first part. */
struct ours {
	size_t n;
	unsigned ifindex[64];
};

static int take_qdisc(const struct nlmsghdr *h, void *ctx, struct error *err)
{
	const struct tcmsg *tc = nlmsg_data(h);
	struct nlattr *tb[TCA_MAX + 1];
	struct ours *o = ctx;

	if (h->nlmsg_type != RTM_NEWQDISC)
		return 0;
	if (nlmsg_parse((struct nlmsghdr *)(uintptr_t)h, sizeof(*tc), tb, TCA_MAX, NULL) < 0)
		return error_set(err, EPROTO, "the kernel's message about a qdisc is too short");
	if (tb[TCA_KIND] && nla_strcmp(tb[TCA_KIND], "ingress") == 0 && tb[TCA_INGRESS_BLOCK] &&
		nla_len(tb[TCA_INGRESS_BLOCK]) == sizeof(uint32_t) &&
		nla_get_u32(tb[TCA_INGRESS_BLOCK]) == BLOCK_OF(tc->tcm_ifindex) &&
		o->n < ARRAY_SIZE(o->ifindex))
		o->ifindex[o->n++] = (unsigned)tc->tcm_ifindex;
	return 0;
}

static int find_ours(struct nl_sock *sk, struct ours *ret, struct error *err)
{
	const struct tcmsg all = { .tcm_family = AF_UNSPEC };
	int r;

	/* -EINTR: something came or went in the middle. */
	for (int i = 0; i < FIND_TRIES; i++) {
		ret->n = 0;
		r = netlink_dump(sk, RTM_GETQDISC, &all, sizeof(all), take_qdisc, ret, err);
		if (r != -EINTR)
			return r;
	}
	return error_set(err, EAGAIN, "the qdiscs changed while they were looked at");
}

static bool is_ours(struct nl_sock *sk, const struct link *link)
{
	struct error ignored = ERROR_INIT;
	struct ours ours;
	bool found = false;

	if (find_ours(sk, &ours, &ignored) < 0)
		return false;
	for (size_t i = 0; i < ours.n; i++)
		found |= ours.ifindex[i] == link->ifindex;
	return found;
}

static int add_qdisc(struct nl_sock *sk, const struct link *link, struct error *err)
{
	int r = qdisc(sk, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, link->ifindex);

	if (r == -EEXIST && is_ours(sk, link)) {
		log_info("%s: an earlier sandbox has left its qdisc", link->name);
		r = qdisc(sk, RTM_DELQDISC, 0, link->ifindex);
		if (r == 0)
			r = qdisc(sk, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, link->ifindex);
	}
	if (r == -EEXIST)
		return error_set(err, EEXIST,
			"the link %s has an ingress or clsact qdisc that is not ours", link->name);
	if (r == -EBUSY)
		return error_set(err, EBUSY, "the link %s: others are at its ingress qdisc all the time",
			link->name);
	return r < 0 ? error_errno(err, -r, "add an ingress qdisc to the link %s", link->name) : 0;
}

/* ---- filters ---- */

static void put_redirect(struct nl_msg *msg, int to)
{
	const struct tc_mirred mirred = {
		.action = TC_ACT_STOLEN,
		.eaction = TCA_EGRESS_REDIR,
		.ifindex = (uint32_t)to,
	};
	struct nlattr *actions = netlink_nest(msg, TCA_U32_ACT), *first = netlink_nest(msg, 1), *options;

	netlink_put(msg, TCA_ACT_KIND, "mirred", sizeof("mirred"));
	options = netlink_nest(msg, TCA_ACT_OPTIONS);
	netlink_put(msg, TCA_MIRRED_PARMS, &mirred, sizeof(mirred));
	nla_nest_end(msg, options);
	nla_nest_end(msg, first);
	nla_nest_end(msg, actions);
}

/* Everything: one key whose mask is 0. (matchall says the same, where the kernel has it.) */
static int redirect(struct nl_sock *sk, int from, int to)
{
	const struct tcmsg tc = {
		.tcm_family = AF_UNSPEC,
		.tcm_ifindex = (int)TCM_IFINDEX_MAGIC_BLOCK,
		.tcm_block_index = BLOCK_OF(from),
		.tcm_info = TC_H_MAKE((uint32_t)FILTER_PRIORITY << 16, htons(ETH_P_ALL)),
	};
	CLEANUP(netlink_free) struct nl_msg *msg =
		netlink_request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &tc, sizeof(tc));
	struct {
		struct tc_u32_sel sel;
		struct tc_u32_key key;
	} match = { .sel = { .flags = TC_U32_TERMINAL, .nkeys = 1 } };
	struct nlattr *options;

	netlink_put(msg, TCA_KIND, FILTER_KIND, sizeof(FILTER_KIND));
	options = netlink_nest(msg, TCA_OPTIONS);
	netlink_put(msg, TCA_U32_SEL, &match, sizeof(match));
	put_redirect(msg, to);
	nla_nest_end(msg, options);
	return ask(sk, msg);
}

static int tie(struct nl_sock *sk, const struct link *link, const struct tap *tap, int tap_ifindex,
	struct error *err)
{
	int r = redirect(sk, (int)link->ifindex, tap_ifindex);

	if (r < 0)
		return error_errno(err, -r, "redirect the link %s to the tap %s", link->name,
			tap->name);
	r = redirect(sk, tap_ifindex, (int)link->ifindex);
	if (r < 0)
		return error_errno(err, -r, "redirect the tap %s to the link %s", tap->name,
			link->name);
	return 0;
}

/* Whatever of it is there: an answer may be what was lost, and not the request. */
static void undo(struct nl_sock *sk, const struct link *link)
{
	struct error err = ERROR_INIT;

	if (is_ours(sk, link) && tcfilter_detach(sk, link, &err) < 0)
		log_error("undo: %s", err.msg);
}

int tcfilter_attach(struct nl_sock *sk, const struct link *link, const struct tap *tap,
	struct error *err)
{
	int ifindex, r;

	r = tap_find(sk, tap->name, &ifindex, err);
	if (r == 0)
		r = tap_up(sk, ifindex, tap->name, link, err);
	if (r < 0)
		return r;
	r = qdisc(sk, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, (unsigned)ifindex);
	if (r < 0)
		return error_errno(err, -r, "add an ingress qdisc to the tap %s", tap->name);
	r = add_qdisc(sk, link, err);
	if (r == 0)
		r = tie(sk, link, tap, ifindex, err);
	if (r < 0)
		undo(sk, link);
	return r;
}

int tcfilter_detach(struct nl_sock *sk, const struct link *link, struct error *err)
{
	int r = qdisc(sk, RTM_DELQDISC, 0, link->ifindex);

	return r < 0 ? error_errno(err, -r, "take the ingress qdisc from the link %s", link->name)
		     : 0;
}

int tcfilter_clean(struct nl_sock *sk, struct error *err)
{
	struct ours ours;
	int r;

	/* A part at a time; each is shorter by what the last one has taken. */
	do {
		r = find_ours(sk, &ours, err);
		for (size_t i = 0; r == 0 && i < ours.n; i++) {
			r = qdisc(sk, RTM_DELQDISC, 0, ours.ifindex[i]);
			/* The link has gone, and the qdisc with it. */
			r = r == -ENODEV || r == -ENOENT ? 0 : r;
			if (r < 0)
				error_errno(err, -r, "take the ingress qdisc from link number %u",
					ours.ifindex[i]);
		}
	} while (r == 0 && ours.n == ARRAY_SIZE(ours.ifindex));
	return r;
}
