/*
 * Prints what a network namespace holds, one thing a line: what the e2e tests
 * compare, the pod's namespace with the guest. By the kernel's own numbers.
 */
#include <arpa/inet.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char names[4096][IF_NAMESIZE];
static struct rtattr *tb[128];

static void parse(void *data, size_t len)
{
	memset(tb, 0, sizeof(tb));
	for (struct rtattr *a = data; RTA_OK(a, len); a = RTA_NEXT(a, len))
		if ((a->rta_type & NLA_TYPE_MASK) < 128)
			tb[a->rta_type & NLA_TYPE_MASK] = a;
}

static unsigned u32(struct rtattr *a)
{
	return a ? *(unsigned *)RTA_DATA(a) : 0;
}

static const char *inet(struct rtattr *a)
{
	static char text[4][INET6_ADDRSTRLEN];
	static int turn;

	turn = (turn + 1) % 4;
	return a ? inet_ntop(RTA_PAYLOAD(a) == 4 ? AF_INET : AF_INET6, RTA_DATA(a), text[turn],
			   sizeof(text[0]))
		 : "-";
}

static const char *mac(struct rtattr *a)
{
	static char text[32];
	unsigned char *m = a ? RTA_DATA(a) : NULL;

	if (!a || RTA_PAYLOAD(a) != 6)
		return "-";
	snprintf(text, sizeof(text), "%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4],
		m[5]);
	return text;
}

static const char *name(unsigned index)
{
	return index < 4096 && names[index][0] ? names[index] : "-";
}

static void show_link(struct nlmsghdr *h)
{
	struct ifinfomsg *i = NLMSG_DATA(h);

	parse(IFLA_RTA(i), IFLA_PAYLOAD(h));
	snprintf(names[i->ifi_index % 4096], IF_NAMESIZE, "%s", (char *)RTA_DATA(tb[IFLA_IFNAME]));
	printf("link %s mac %s mtu %u%s%s\n", name((unsigned)i->ifi_index), mac(tb[IFLA_ADDRESS]),
		u32(tb[IFLA_MTU]), i->ifi_flags & IFF_UP ? " up" : "",
		i->ifi_flags & IFF_NOARP ? " noarp" : "");
}

static void show_address(struct nlmsghdr *h)
{
	struct ifaddrmsg *a = NLMSG_DATA(h);

	parse(IFA_RTA(a), IFA_PAYLOAD(h));
	printf("address %s %s/%u scope %u peer %s\n", name(a->ifa_index),
		inet(tb[IFA_LOCAL] ? tb[IFA_LOCAL] : tb[IFA_ADDRESS]), a->ifa_prefixlen,
		a->ifa_scope, inet(tb[IFA_ADDRESS]));
}

static void show_route(struct nlmsghdr *h)
{
	struct rtmsg *r = NLMSG_DATA(h);
	char dest[80];
	unsigned mtu;

	parse(RTM_RTA(r), RTM_PAYLOAD(h));
	if (r->rtm_table != RT_TABLE_MAIN || r->rtm_flags & RTM_F_CLONED || !tb[RTA_OIF])
		return;
	snprintf(dest, sizeof(dest), "%s %s/%u via %s dev %s src %s",
		r->rtm_family == AF_INET ? "v4" : "v6", inet(tb[RTA_DST]), r->rtm_dst_len,
		inet(tb[RTA_GATEWAY]), name(u32(tb[RTA_OIF])), inet(tb[RTA_PREFSRC]));
	printf("route %s scope %u proto %u metric %u%s", dest, r->rtm_scope, r->rtm_protocol,
		u32(tb[RTA_PRIORITY]), r->rtm_flags & RTNH_F_ONLINK ? " onlink" : "");
	mtu = 0;
	if (tb[RTA_METRICS]) {
		struct rtattr *m = tb[RTA_METRICS];

		parse(RTA_DATA(m), RTA_PAYLOAD(m));
		mtu = u32(tb[RTAX_MTU]);
	}
	printf(" mtu %u\n", mtu);
}

static void show_neighbor(struct nlmsghdr *h)
{
	struct ndmsg *n = NLMSG_DATA(h);

	parse((char *)n + NLMSG_ALIGN(sizeof(*n)), h->nlmsg_len - NLMSG_LENGTH(sizeof(*n)));
	if (n->ndm_state & NUD_PERMANENT)
		printf("neighbour %s %s mac %s\n", name((unsigned)n->ndm_ifindex), inet(tb[NDA_DST]),
			mac(tb[NDA_LLADDR]));
}

static int dump(int fd, unsigned short type, unsigned char family, void (*show)(struct nlmsghdr *))
{
	static char buf[1 << 16];
	struct {
		struct nlmsghdr h;
		union {
			struct ifinfomsg link;
			unsigned char family;
		};
	} q = { .h = { sizeof(q), type, NLM_F_REQUEST | NLM_F_DUMP, 1, 0 }, .family = family };

	if (send(fd, &q, sizeof(q), 0) < 0)
		return -1;
	for (;;) {
		ssize_t n = recv(fd, buf, sizeof(buf), 0);
		unsigned len = (unsigned)n;

		if (n <= 0)
			return -1;
		for (struct nlmsghdr *h = (void *)buf; NLMSG_OK(h, len); h = NLMSG_NEXT(h, len)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return -1;
			show(h);
		}
	}
}

int main(void)
{
	int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);

	if (fd < 0 || dump(fd, RTM_GETLINK, 0, show_link) < 0 ||
		dump(fd, RTM_GETADDR, 0, show_address) < 0 ||
		dump(fd, RTM_GETROUTE, AF_INET, show_route) < 0 ||
		dump(fd, RTM_GETROUTE, AF_INET6, show_route) < 0 ||
		dump(fd, RTM_GETNEIGH, 0, show_neighbor) < 0) {
		perror("netdump");
		return 1;
	}
	return 0;
}
