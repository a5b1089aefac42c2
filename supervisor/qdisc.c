#include "supervisor/qdisc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/magic.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/fd.h"
#include "ipc/tables.h"
#include "ipc/tcfilter.h"

#define WAIT_S	       2
#define LINKS_MAX      1024
#define INGRESS_HANDLE TC_H_MAKE(TC_H_INGRESS, 0)

struct request {
	struct nlmsghdr hdr;
	union {
		struct ifinfomsg link;
		struct tcmsg tc;
	};
};

/* What a link's ingress has. */
struct filters {
	unsigned ours, others;
};

static int ingress[LINKS_MAX]; /* the ifindexes of the links */
static unsigned n_links;
static bool in_use; /* a tap of a VM is there */

static const void *attribute(const struct nlmsghdr *h, size_t header, unsigned short type,
	size_t *ret_len)
{
	const struct rtattr *a = (const void *)((const char *)NLMSG_DATA(h) + NLMSG_ALIGN(header));
	size_t len = h->nlmsg_len - NLMSG_SPACE(header);

	if (h->nlmsg_len < NLMSG_SPACE(header))
		return NULL;
	for (; RTA_OK(a, len); a = RTA_NEXT(a, len))
		if ((a->rta_type & (unsigned)NLA_TYPE_MASK) == type) {
			*ret_len = RTA_PAYLOAD(a);
			return RTA_DATA(a);
		}
	return NULL;
}

static bool is_text(const void *data, size_t len, const char *text)
{
	return data && strnlen(data, len) == strlen(text) && memcmp(data, text, strlen(text)) == 0;
}

static void take_link(const struct nlmsghdr *h, void *ctx)
{
	size_t len = 0;
	const void *name = attribute(h, sizeof(struct ifinfomsg), IFLA_IFNAME, &len);
	char tap[32];

	(void)ctx;
	if (h->nlmsg_type != RTM_NEWLINK)
		return;
	for (unsigned i = 0; i < NETWORK_LINKS_MAX; i++) {
		snprintf(tap, sizeof(tap), NETWORK_TAP_FMT, i);
		in_use |= is_text(name, len, tap);
	}
	if (n_links < LINKS_MAX)
		ingress[n_links++] = ((const struct ifinfomsg *)NLMSG_DATA(h))->ifi_index;
}

static void take_filter(const struct nlmsghdr *h, void *ctx)
{
	const struct tcmsg *tc = NLMSG_DATA(h);
	struct filters *f = ctx;
	size_t len = 0;
	const void *kind = attribute(h, sizeof(*tc), TCA_KIND, &len);

	if (h->nlmsg_type != RTM_NEWTFILTER)
		return;
	if (TC_H_MAJ(tc->tcm_info) >> 16 == TCFILTER_PRIORITY && is_text(kind, len, TCFILTER_KIND))
		f->ours++;
	else
		f->others++;
}

/* Sends one request and reads to its end. 0 or -errno. */
static int ask(int fd, struct request *r, void (*take)(const struct nlmsghdr *h, void *ctx),
	void *ctx)
{
	static union {
		struct nlmsghdr align;
		char bytes[64 << 10];
	} buf;

	if (send(fd, r, r->hdr.nlmsg_len, 0) < 0)
		return -errno;
	for (;;) {
		ssize_t n = recv(fd, buf.bytes, sizeof(buf.bytes), 0);
		size_t left = n < 0 ? 0 : (size_t)n;

		if (n < 0 && errno != EINTR)
			return -errno;
		for (const struct nlmsghdr *h = &buf.align; NLMSG_OK(h, left);
			h = NLMSG_NEXT(h, left)) {
			if (h->nlmsg_type == NLMSG_DONE)
				return 0;
			if (h->nlmsg_type == NLMSG_ERROR)
				return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
			take(h, ctx);
		}
	}
}

static struct request tc_request(unsigned short type, unsigned short flags, int ifindex)
{
	return (struct request){
		.hdr = {
			.nlmsg_len = NLMSG_LENGTH(sizeof(struct tcmsg)),
			.nlmsg_type = type,
			.nlmsg_flags = (unsigned short)(NLM_F_REQUEST | flags),
		},
		.tc = {
			.tcm_ifindex = ifindex,
			.tcm_parent = type == RTM_GETTFILTER ? INGRESS_HANDLE : TC_H_INGRESS,
			.tcm_handle = type == RTM_GETTFILTER ? 0 : INGRESS_HANDLE,
		},
	};
}

static int clean_link(int fd, int ifindex)
{
	struct request dump = tc_request(RTM_GETTFILTER, NLM_F_DUMP, ifindex);
	struct request del = tc_request(RTM_DELQDISC, NLM_F_ACK, ifindex);
	struct filters f = { 0 };

	/* A link without an ingress has no filters there. */
	if (ask(fd, &dump, take_filter, &f) < 0 || f.ours == 0 || f.others > 0)
		return 0;
	return ask(fd, &del, NULL, NULL);
}

/* In the child, in the namespace. An errno. */
static int clean(void)
{
	const struct timeval wait = { .tv_sec = WAIT_S };
	struct request links = {
		.hdr = {
			.nlmsg_len = NLMSG_LENGTH(sizeof(struct ifinfomsg)),
			.nlmsg_type = RTM_GETLINK,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		},
	};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), r;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0)
		return errno;
	r = ask(fd, &links, take_link, NULL);
	for (unsigned i = 0; r == 0 && !in_use && i < n_links; i++)
		r = clean_link(fd, ingress[i]);
	return -r;
}

/* An fd, or -1: it is not there, is no namespace, or is our own. */
static int open_netns(const char *path)
{
	_cleanup_close_ int fd =
		open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat pod, own;
	struct statfs fs;

	if (fd < 0 || fstatfs(fd, &fs) < 0 || fs.f_type != NSFS_MAGIC || fstat(fd, &pod) < 0 ||
		stat("/proc/self/ns/net", &own) < 0 || pod.st_ino == own.st_ino)
		return -1;
	return fd_steal(&fd);
}

int qdisc_clean(const char *netns, struct error *err)
{
	_cleanup_close_ int fd = open_netns(netns);
	int status = 0;
	pid_t pid;

	if (fd < 0)
		return 0;
	pid = fork();
	if (pid < 0)
		return error_errno(err, errno, "fork");
	if (pid == 0)
		_exit(setns(fd, CLONE_NEWNET) < 0 ? errno : clean());
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return error_errno(err, WIFEXITED(status) ? WEXITSTATUS(status) : EIO,
			"take the qdiscs from %s", netns);
	return 0;
}
