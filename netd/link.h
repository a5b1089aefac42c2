/* The links of the network namespace that this process is in, by rtnetlink. */
#pragma once

#include <netlink/netlink.h>
#include <stddef.h>

#include "common/error.h"

#define LINK_NAME_MAX 16 /* IFNAMSIZ */
#define LINK_KIND_MAX 32

/* One of the namespace. Both texts come from outside and are printable ASCII here. */
struct link {
	unsigned ifindex;
	char name[LINK_NAME_MAX];
	char kind[LINK_KIND_MAX]; /* IFLA_INFO_KIND: "veth", ...; "" for a plain device */
};

#define LINKS_MAX 8

struct links {
	size_t n;     /* how many there are */
	struct link first[LINKS_MAX]; /* the first of them */
};

/*
 * A route socket of the present namespace: it goes on speaking to that one
 * whatever this process joins later. Waits at most 5 s for the kernel.
 * NULL with err; nl_socket_free() it.
 */
struct nl_sock *link_socket_open(struct error *err);

/*
 * What is there besides the loopback and the fallback devices that some
 * tunnel modules put into every new namespace. *ret is written only on
 * success. 0, or -errno.
 */
int link_scan(struct nl_sock *sk, struct links *ret, struct error *err);

/* "the link eth0 (veth)", "the links eth0 (veth), eth1 (vlan) and 7 more". Cut to fit. */
void link_describe(const struct links *links, char *text, size_t size);
