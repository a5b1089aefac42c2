#include "netd/netlink.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <netlink/socket.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "common/fdio.h"

#define SOCKET_WAIT_S  5
#define SOCKET_RCVBUF  (256 * 1024)
#define DUMP_MSG_BYTES (64 * 1024)
#define DRAIN_READS    1024

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

struct nl_sock *netlink_open(struct error *err)
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
	/* Not against the number that comes next: after a lost answer nothing would match again. */
	nl_socket_disable_seq_check(sk);
	if (setsockopt(nl_socket_get_fd(sk), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0) {
		error_errno(err, errno, "limit the wait for netlink");
		return NULL;
	}
	return steal(sk);
}

/* A request under way. What still comes for an earlier one, which has failed, is left out. */
struct exchange {
	uint32_t seq;
	netlink_take take; /* NULL: only the acknowledgement counts */
	void *ctx;
	struct error *err;
	bool done;
	int result; /* 0 or -errno */
};

static int on_valid(struct nl_msg *msg, void *data)
{
	struct exchange *x = data;

	/* The rest of a dump that has failed is read, so that it is not in the next one's way. */
	if (x->take && x->result == 0 && nlmsg_hdr(msg)->nlmsg_seq == x->seq)
		x->result = x->take(nlmsg_hdr(msg), x->ctx, x->err);
	return NL_OK;
}

static int on_end(struct nl_msg *msg, void *data)
{
	struct exchange *x = data;

	if (nlmsg_hdr(msg)->nlmsg_seq != x->seq)
		return NL_SKIP;
	x->done = true;
	return NL_STOP;
}

static int on_error(struct sockaddr_nl *from, struct nlmsgerr *e, void *data)
{
	struct exchange *x = data;

	(void)from;
	if (e->msg.nlmsg_seq == x->seq) {
		x->result = e->error;
		x->done = true;
	}
	return NL_SKIP; /* NL_STOP would make it an error of libnl's */
}

/*
 * To the end of an exchange that has failed half way, if it can be had: the kernel refuses the
 * next dump (EBUSY) while one is unread, and what is undone afterwards begins with a dump. It
 * makes a part when the one before is read: what is not there at once does not come.
 */
static void drain(struct nl_sock *sk, const struct exchange *x)
{
	struct pollfd pfd = { .fd = nl_socket_get_fd(sk), .events = POLLIN };

	for (int i = 0; i < DRAIN_READS && !x->done && fd_poll(&pfd, 1, 0) == 1; i++)
		(void)nl_recvmsgs_default(sk);
}

/* Sends a request and reads until its end. An error of libnl, negative. */
static int run(struct nl_sock *sk, struct nl_msg *msg, struct exchange *x)
{
	int r = nl_send_auto(sk, msg);

	x->seq = nlmsg_hdr(msg)->nlmsg_seq;
	if (r >= 0 && (nl_socket_modify_cb(sk, NL_CB_VALID, NL_CB_CUSTOM, on_valid, x) < 0 ||
			      nl_socket_modify_cb(sk, NL_CB_FINISH, NL_CB_CUSTOM, on_end, x) < 0 ||
			      nl_socket_modify_cb(sk, NL_CB_ACK, NL_CB_CUSTOM, on_end, x) < 0 ||
			      nl_socket_modify_err_cb(sk, NL_CB_CUSTOM, on_error, x) < 0))
		r = -NLE_NOMEM;
	while (r >= 0 && !x->done)
		r = nl_recvmsgs_default(sk);
	if (r < 0)
		drain(sk, x);
	return r;
}

static void msg_free(struct nl_msg **msg)
{
	nlmsg_free(*msg);
}

int netlink_dump(struct nl_sock *sk, int type, const void *header, size_t len, netlink_take take,
	void *ctx, struct error *err)
{
	struct exchange x = { .take = take, .ctx = ctx, .err = err };
	CLEANUP(msg_free) struct nl_msg *msg = nlmsg_alloc_simple(type, NLM_F_DUMP);
	int r;

	if (!msg || nlmsg_append(msg, (void *)(uintptr_t)header, len, NLMSG_ALIGNTO) < 0)
		abort();
	r = run(sk, msg, &x);
	if (r == -NLE_DUMP_INTR)
		return -EINTR;
	if (r < 0)
		return failed(err, r, "a dump by netlink");
	if (x.result < 0 && err->code == 0)
		return error_errno(err, -x.result, "a dump by netlink");
	return x.result;
}

int netlink_get(struct nl_sock *sk, struct nl_msg *msg, netlink_take take, void *ctx,
	struct error *err)
{
	struct exchange x = { .take = take, .ctx = ctx, .err = err };
	int r = run(sk, msg, &x);

	if (r < 0)
		return r == -NLE_AGAIN ? -ETIMEDOUT : -EIO;
	return x.result;
}

int netlink_ask(struct nl_sock *sk, struct nl_msg *msg)
{
	struct error ignored = ERROR_INIT;

	return netlink_get(sk, msg, NULL, NULL, &ignored);
}

void netlink_free(struct nl_msg **msg)
{
	nlmsg_free(*msg);
}

struct nl_msg *netlink_request(int type, int flags, const void *header, size_t len)
{
	struct nl_msg *msg = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags);

	if (!msg || nlmsg_append(msg, (void *)(uintptr_t)header, len, NLMSG_ALIGNTO) < 0)
		abort();
	return msg;
}

void netlink_put(struct nl_msg *msg, int type, const void *data, size_t len)
{
	if (nla_put(msg, type, (int)len, data) < 0)
		abort();
}

struct nlattr *netlink_nest(struct nl_msg *msg, int type)
{
	struct nlattr *a = nla_nest_start(msg, type);

	if (!a)
		abort();
	return a;
}
