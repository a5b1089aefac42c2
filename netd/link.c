#include "netd/link.h"

#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/msg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "common/log.h"
#include "common/mem.h"

#define SCAN_TRIES     16
#define SOCKET_WAIT_S  5
#define SOCKET_RCVBUF  (256 * 1024)
#define DUMP_MSG_BYTES (64 * 1024)

static int failed(struct error *err, int nl, const char *what)
{
	int code = nl == -NLE_AGAIN ? ETIMEDOUT : EIO;

	return error_set(err, code, "%s: %s", what,
		nl == -NLE_AGAIN ? "the kernel did not answer in time" : nl_geterror(nl));
}

static void socket_free(struct nl_sock **sk)
{
	nl_socket_free(*sk);
}

struct nl_sock *link_socket_open(struct error *err)
{
	const struct timeval wait = { .tv_sec = SOCKET_WAIT_S };
	CLEANUP(socket_free) struct nl_sock *sk = nl_socket_alloc();
	int r;

	if (!sk) {
		error_errno(err, ENOMEM, "allocate a netlink socket");
		return NULL;
	}
	r = nl_connect(sk, NETLINK_ROUTE);
	if (r == 0)
		r = nl_socket_set_buffer_size(sk, SOCKET_RCVBUF, 0);
	/* Not sized by peeking: a part of a dump is never larger than what we offer. */
	if (r == 0)
		r = nl_socket_set_msg_buf_size(sk, DUMP_MSG_BYTES);
	if (r < 0) {
		failed(err, r, "open a netlink socket");
		return NULL;
	}
	nl_socket_disable_msg_peek(sk);
	if (setsockopt(nl_socket_get_fd(sk), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0) {
		error_errno(err, errno, "limit the wait for netlink");
		return NULL;
	}
	return steal(sk);
}

/* Names may hold any byte but '/', ':' and white space; these go into sentences for people. */
static void copy_printable(char *to, size_t size, const struct nlattr *a)
{
	size_t len = a ? strnlen(nla_data(a), (size_t)nla_len(a)) : 0;

	if (len >= size)
		len = size - 1;
	for (size_t i = 0; i < len; i++) {
		char c = ((const char *)nla_data(a))[i];

		to[i] = c > ' ' && c <= '~' ? c : '?';
	}
	to[len] = '\0';
}

static const struct nlattr *info_kind(struct nlattr *linkinfo)
{
	struct nlattr *tb[IFLA_INFO_MAX + 1];

	if (!linkinfo || nla_parse_nested(tb, IFLA_INFO_MAX, linkinfo, NULL) < 0)
		return NULL;
	return tb[IFLA_INFO_KIND];
}

/*
 * Where these modules are loaded (an IPIP overlay of the node, say) the kernel
 * puts one of each into every new namespace. Nobody has set them up, as long
 * as they are down.
 */
static bool is_fallback(const struct link *link, const struct ifinfomsg *info)
{
	static const char *const devices[][2] = {
		{ "tunl0", "ipip" },	   { "sit0", "sit" },	      { "gre0", "gre" },
		{ "gretap0", "gretap" },   { "erspan0", "erspan" },   { "ip_vti0", "vti" },
		{ "ip6_vti0", "vti6" },	   { "ip6tnl0", "ip6tnl" },   { "ip6gre0", "ip6gre" },
	};

	if (info->ifi_flags & IFF_UP)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
		if (strcmp(link->name, devices[i][0]) == 0 &&
			strcmp(link->kind, devices[i][1]) == 0)
			return true;
	return false;
}

/* One message of the dump. */
static int take_link(struct nl_msg *msg, void *data)
{
	struct nlmsghdr *h = nlmsg_hdr(msg);
	const struct ifinfomsg *info = nlmsg_data(h);
	struct nlattr *tb[IFLA_MAX + 1];
	struct links *links = data;
	struct link link = { .ifindex = 0 };

	if (h->nlmsg_type != RTM_NEWLINK)
		return NL_SKIP;
	if (nlmsg_parse(h, sizeof(*info), tb, IFLA_MAX, NULL) < 0)
		return -NLE_MSG_TOOSHORT;
	/* By its flag: another device could be called lo. */
	if (info->ifi_flags & IFF_LOOPBACK)
		return NL_OK;
	link.ifindex = (unsigned)info->ifi_index;
	copy_printable(link.name, sizeof(link.name), tb[IFLA_IFNAME]);
	copy_printable(link.kind, sizeof(link.kind), info_kind(tb[IFLA_LINKINFO]));
	if (is_fallback(&link, info)) {
		log_debug("%s (%s) is down and not the pod's: left out", link.name, link.kind);
		return NL_OK;
	}
	if (links->n < LINKS_MAX)
		links->first[links->n] = link;
	links->n++;
	return NL_OK;
}

static int dump_done(struct nl_msg *msg, void *data)
{
	(void)msg;
	*(bool *)data = true;
	return NL_STOP;
}

static int dump_links(struct nl_sock *sk, struct links *ret)
{
	const struct ifinfomsg all = { .ifi_family = AF_UNSPEC };
	bool done = false;
	int r;

	*ret = (struct links){ .n = 0 };
	if (nl_socket_modify_cb(sk, NL_CB_VALID, NL_CB_CUSTOM, take_link, ret) < 0 ||
		nl_socket_modify_cb(sk, NL_CB_FINISH, NL_CB_CUSTOM, dump_done, &done) < 0)
		return -NLE_NOMEM;
	r = nl_send_simple(sk, RTM_GETLINK, NLM_F_DUMP, (void *)&all, sizeof(all));
	while (r >= 0 && !done)
		r = nl_recvmsgs_default(sk);
	return r < 0 ? r : 0;
}

int link_scan(struct nl_sock *sk, struct links *ret, struct error *err)
{
	struct links links;
	int r = -NLE_DUMP_INTR;

	/* The kernel says when links came or went in the middle of a dump. */
	for (int i = 0; i < SCAN_TRIES && r == -NLE_DUMP_INTR; i++)
		r = dump_links(sk, &links);
	if (r == -NLE_DUMP_INTR)
		return error_set(err, EAGAIN, "the links changed during each of %d dumps",
			SCAN_TRIES);
	if (r < 0)
		return failed(err, r, "dump the links");
	*ret = links;
	return 0;
}

/* What snprintf() has added at most fills the rest. */
static size_t added(size_t len, size_t size, int n)
{
	if (n < 0)
		return len;
	return len + (size_t)n < size ? len + (size_t)n : size - 1;
}

void link_describe(const struct links *links, char *text, size_t size)
{
	size_t shown = links->n < LINKS_MAX ? links->n : LINKS_MAX;
	size_t len = added(0, size, snprintf(text, size, "the link%s", links->n == 1 ? "" : "s"));

	for (size_t i = 0; i < shown; i++) {
		const struct link *l = &links->first[i];
		const char *before = i == 0 ? " " : i + 1 < links->n ? ", " : " and ";

		len = added(len, size,
			snprintf(text + len, size - len, "%s%s (%s)", before, l->name,
				l->kind[0] ? l->kind : "a plain device"));
	}
	if (links->n > shown)
		snprintf(text + len, size - len, " and %zu more", links->n - shown);
}
