/* Requests to rtnetlink, without a library: one socket for each, answers in the order asked. */
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>

#include "util.h"

/* A request being written. Overflow is a bug of ours and ends the agent. */
struct nl_request {
	union {
		struct nlmsghdr hdr;
		uint8_t bytes[2048];
	};
};

void nl_begin(struct nl_request *r, uint16_t type, uint16_t flags, const void *header, size_t len);
void nl_put(struct nl_request *r, uint16_t type, const void *data, size_t len);
void nl_put_u32(struct nl_request *r, uint16_t type, uint32_t value);
/* What is put until nl_end_nest() is inside. */
size_t nl_nest(struct nl_request *r, uint16_t type);
void nl_end_nest(struct nl_request *r, size_t nest);

/* Sends it and waits for the acknowledgement. 0 or -errno. */
int nl_ask(struct nl_request *r);

/* Calls take for each message that a dump answers with. 0 or -errno. */
typedef void nl_take(void *ctx, const struct nlmsghdr *h);
int nl_dump(struct nl_request *r, nl_take *take, void *ctx);

/* The attributes behind a family's header, by type; those above max are passed over. */
void nl_attributes(const struct nlmsghdr *h, size_t header, const struct rtattr **tb, size_t max);
void nl_nested(const struct rtattr *a, const struct rtattr **tb, size_t max);
uint32_t nl_u32(const struct rtattr *a);
