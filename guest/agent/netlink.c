#include "netlink.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define WAIT_S 5

/* What answers are read into: an acknowledgement repeats the request at most. */
union ack {
	struct nlmsghdr hdr;
	uint8_t bytes[sizeof(struct nl_request) + 256];
};

/* A part of a dump is half of that at most. */
union dump {
	struct nlmsghdr hdr;
	uint8_t bytes[64 << 10];
};

void nl_begin(struct nl_request *r, uint16_t type, uint16_t flags, const void *header, size_t len)
{
	memset(r, 0, sizeof(*r));
	r->hdr.nlmsg_type = type;
	r->hdr.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags);
	r->hdr.nlmsg_len = (uint32_t)(NLMSG_HDRLEN + NLMSG_ALIGN(len));
	memcpy(r->bytes + NLMSG_HDRLEN, header, len);
}

void nl_put(struct nl_request *r, uint16_t type, const void *data, size_t len)
{
	struct rtattr a = { .rta_len = (uint16_t)RTA_LENGTH(len), .rta_type = type };
	size_t at = r->hdr.nlmsg_len;

	if (at + RTA_SPACE(len) > sizeof(r->bytes))
		die("a netlink request does not fit");
	memcpy(r->bytes + at, &a, sizeof(a));
	if (len > 0)
		memcpy(r->bytes + at + RTA_LENGTH(0), data, len);
	r->hdr.nlmsg_len = (uint32_t)(at + RTA_SPACE(len));
}

void nl_put_u32(struct nl_request *r, uint16_t type, uint32_t value)
{
	nl_put(r, type, &value, sizeof(value));
}

size_t nl_nest(struct nl_request *r, uint16_t type)
{
	size_t at = r->hdr.nlmsg_len;

	nl_put(r, (uint16_t)(type | NLA_F_NESTED), NULL, 0);
	return at;
}

void nl_end_nest(struct nl_request *r, size_t nest)
{
	uint16_t len = (uint16_t)(r->hdr.nlmsg_len - nest);

	memcpy(r->bytes + nest, &len, sizeof(len)); /* rta_len comes first */
}

static int open_and_send(const struct nl_request *r)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	const struct timeval wait = { .tv_sec = WAIT_S };
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
	        sendto(fd, r->bytes, r->hdr.nlmsg_len, 0, (const struct sockaddr *)&kernel,
	                sizeof(kernel)) < 0)
		return -errno;
	return fd_steal(&fd);
}

/* Takes messages until the last. 0 or -errno. */
static int receive(int fd, struct nlmsghdr *buf, size_t size, nl_take *take, void *ctx)
{
	for (;;) {
		ssize_t n = recv(fd, buf, size, 0);
		size_t left = n < 0 ? 0 : (size_t)n;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		for (const struct nlmsghdr *h = buf; NLMSG_OK(h, left);
		        h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
			if (take)
				take(ctx, h);
		}
	}
}

int nl_ask(struct nl_request *r)
{
	_cleanup_close_ int fd = -1;
	union ack buf;

	r->hdr.nlmsg_flags |= NLM_F_ACK;
	fd = open_and_send(r);
	return fd < 0 ? fd : receive(fd, &buf.hdr, sizeof(buf), NULL, NULL);
}

int nl_dump(struct nl_request *r, nl_take *take, void *ctx)
{
	static union dump buf; /* a taker may ask, but starts no other dump */
	_cleanup_close_ int fd = -1;

	r->hdr.nlmsg_flags |= NLM_F_DUMP;
	fd = open_and_send(r);
	return fd < 0 ? fd : receive(fd, &buf.hdr, sizeof(buf), take, ctx);
}

static void parse(const uint8_t *data, size_t len, const struct rtattr **tb, size_t max)
{
	memset(tb, 0, (max + 1) * sizeof(*tb));
	for (const struct rtattr *a = (const void *)data; RTA_OK(a, len); a = RTA_NEXT(a, len)) {
		unsigned int type = a->rta_type & (unsigned int)NLA_TYPE_MASK;

		if (type <= max)
			tb[type] = a;
	}
}

void nl_attributes(const struct nlmsghdr *h, size_t header, const struct rtattr **tb, size_t max)
{
	size_t before = NLMSG_HDRLEN + NLMSG_ALIGN(header);

	parse((const uint8_t *)h + before, h->nlmsg_len < before ? 0 : h->nlmsg_len - before, tb,
	        max);
}

void nl_nested(const struct rtattr *a, const struct rtattr **tb, size_t max)
{
	parse(a ? RTA_DATA(a) : NULL, a ? RTA_PAYLOAD(a) : 0, tb, max);
}

uint32_t nl_u32(const struct rtattr *a)
{
	uint32_t v = 0;

	if (a && RTA_PAYLOAD(a) >= sizeof(v))
		memcpy(&v, RTA_DATA(a), sizeof(v));
	return v;
}
