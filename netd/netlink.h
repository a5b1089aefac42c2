/*
 * The route socket of the network namespace that this process is in: dumps and
 * requests, one at a time, each with an answer within 5 s.
 */
#pragma once

#include <netlink/msg.h>
#include <netlink/netlink.h>

#include "common/error.h"

/*
 * It goes on speaking to the present namespace whatever this process joins
 * later. NULL with err; nl_socket_free() it.
 */
struct nl_sock *netlink_open(struct error *err);

/* One message of a dump. 0, or -errno with err: the dump fails. */
typedef int (*netlink_take)(const struct nlmsghdr *h, void *ctx, struct error *err);

/*
 * Dumps everything of a type (RTM_GETLINK, ...) for which the family's header
 * asks. -EINTR: the kernel says that it changed in the middle.
 */
int netlink_dump(struct nl_sock *sk, int type, const void *header, size_t len, netlink_take take,
	void *ctx, struct error *err);

/* Sends a request and waits for its acknowledgement: 0 or the kernel's -errno, without a sentence. */
int netlink_ask(struct nl_sock *sk, struct nl_msg *msg);

/* The same, with what comes before the acknowledgement. */
int netlink_get(struct nl_sock *sk, struct nl_msg *msg, netlink_take take, void *ctx,
	struct error *err);

/*
 * A request with its family's header, which netlink_free() frees. What is put
 * into it has a few hundred bytes: out of memory aborts.
 */
struct nl_msg *netlink_request(int type, int flags, const void *header, size_t len);
void netlink_put(struct nl_msg *msg, int type, const void *data, size_t len);
/* nla_nest_end() it. */
struct nlattr *netlink_nest(struct nl_msg *msg, int type);
void netlink_free(struct nl_msg **msg);
