#include "netd/macvtap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/mount.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netlink/attr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "netd/tap_link.h"

#define KIND	      "macvtap"
#define NODE	      "node"
#define UEVENT_MS     1000
#define UEVENT_BYTES  4096
#define UEVENT_GROUP  1 /* the kernel's own */
#define UEVENT_RCVBUF (1 << 20)
#define LOOK_TRIES    16

/* ---- the kernel's word about a device that it has made ---- */

static int uevent_open(struct error *err)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK, .nl_groups = UEVENT_GROUP };
	const struct timeval wait = { .tv_sec = UEVENT_MS / 1000 };
	const int size = UEVENT_RCVBUF;
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);

	if (fd < 0)
		return error_errno(err, errno, "a socket for uevents");
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0 ||
		setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0 ||
		bind(fd, (const struct sockaddr *)&kernel, sizeof(kernel)) < 0) {
		error_errno(err, errno, "a socket for uevents");
		close(fd);
		return -err->code;
	}
	return fd;
}

/* The value of a line KEY=value of the texts that follow each other in an uevent, or NULL. */
static const char *uevent_value(const char *texts, size_t len, const char *key)
{
	size_t key_len = strlen(key);

	for (const char *t = texts; t < texts + len; t += strlen(t) + 1)
		if (strncmp(t, key, key_len) == 0 && t[key_len] == '=')
			return t + key_len + 1;
	return NULL;
}

static int number_of(const char *text, unsigned *ret)
{
	char *end;
	unsigned long n;

	if (!text)
		return -1;
	n = strtoul(text, &end, 10);
	if (end == text || *end || n > UINT32_MAX)
		return -1;
	*ret = (unsigned)n;
	return 0;
}

/* Whether it is the kernel that speaks, of this device; then its number is *ret. */
static bool is_about(const char *texts, size_t len, uint32_t sender, const char *path, dev_t *ret)
{
	const char *devpath = uevent_value(texts, len, "DEVPATH");
	const char *action = uevent_value(texts, len, "ACTION");
	unsigned major, minor;

	if (sender != 0 || !devpath || strcmp(devpath, path) != 0 || !action ||
		strcmp(action, "add") != 0 ||
		number_of(uevent_value(texts, len, "MAJOR"), &major) < 0 ||
		number_of(uevent_value(texts, len, "MINOR"), &minor) < 0)
		return false;
	*ret = makedev(major, minor);
	return true;
}

/* It was said before the link's creation was acknowledged. */
static int uevent_read(int fd, const char *name, int ifindex, dev_t *ret, struct error *err)
{
	char path[128], texts[UEVENT_BYTES + 1];

	snprintf(path, sizeof(path), "/devices/virtual/net/%s/macvtap/tap%d", name, ifindex);
	for (;;) {
		struct sockaddr_nl from = { .nl_pid = 0 };
		socklen_t from_len = sizeof(from);
		ssize_t n = recvfrom(fd, texts, sizeof(texts) - 1, 0, (struct sockaddr *)&from,
			&from_len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_errno(err, errno, "the number of the macvtap %s", name);
		texts[n] = '\0';
		if (is_about(texts, (size_t)n, from.nl_pid, path, ret))
			return 0;
	}
}

/* ---- its node ---- */

/* A file system of our own that is mounted nowhere, with room for one node. */
static int private_dir(struct error *err)
{
	_cleanup_close_ int fs = (int)syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC);
	int fd;

	if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "mode", "0700", 0) < 0 ||
		syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "nr_inodes", "2", 0) < 0 ||
		syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		return error_errno(err, errno, "a directory for nodes");
	fd = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
	return fd < 0 ? error_errno(err, errno, "a directory for nodes") : fd;
}

/* That it is the device on this link, and no other one's. */
static int check_queue(int fd, const char *name, const struct link *link, struct error *err)
{
	struct ifreq is = { .ifr_flags = 0 }, mac = { .ifr_flags = 0 };

	if (ioctl(fd, TUNGETIFF, &is) < 0 || ioctl(fd, SIOCGIFHWADDR, &mac) < 0)
		return error_errno(err, errno, "the macvtap %s", name);
	if (strncmp(is.ifr_name, name, IFNAMSIZ) != 0 ||
		memcmp(mac.ifr_hwaddr.sa_data, link->mac, MAC_SIZE) != 0)
		return error_set(err, EPROTO, "the node of the macvtap %s is that of another", name);
	return 0;
}

static int open_queue(int dir, struct tap *t, const struct link *link, short flags, bool vhost,
	struct error *err)
{
	struct ifreq ifr = { .ifr_flags = flags };
	unsigned i = t->queues;

	t->fd[i] = openat(dir, NODE, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (t->fd[i] < 0)
		return error_errno(err, errno, "open queue %u of the macvtap %s", i, t->name);
	t->vhost[i] = vhost ? open("/dev/vhost-net", O_RDWR | O_NONBLOCK | O_CLOEXEC) : -1;
	t->queues++;
	if (vhost && t->vhost[i] < 0)
		return error_errno(err, errno, "/dev/vhost-net");
	if (ioctl(t->fd[i], TUNSETIFF, &ifr) < 0)
		return error_errno(err, errno, "set up queue %u of the macvtap %s", i, t->name);
	return check_queue(t->fd[i], t->name, link, err);
}

static int open_queues(dev_t dev, struct tap *t, const struct link *link, unsigned queues,
	bool vhost, struct error *err)
{
	_cleanup_close_ int dir = private_dir(err);
	short flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	int r = 0;

	if (dir < 0)
		return dir;
	if (mknodat(dir, NODE, S_IFCHR | 0600, dev) < 0)
		return error_errno(err, errno, "make the node of the macvtap %s", t->name);
	if (queues > 1)
		flags |= IFF_MULTI_QUEUE;
	for (unsigned i = 0; r == 0 && i < queues; i++)
		r = open_queue(dir, t, link, flags, vhost, err);
	if (unlinkat(dir, NODE, 0) < 0 && r == 0)
		r = error_errno(err, errno, "remove the node of the macvtap %s", t->name);
	return r;
}

/* ---- the device ---- */

static int add_link(struct nl_sock *sk, const char *name, const struct link *lower,
	unsigned queues, uint32_t group, struct error *err)
{
	const struct ifinfomsg info = { .ifi_family = AF_UNSPEC };
	CLEANUP(netlink_free) struct nl_msg *msg =
		netlink_request(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &info, sizeof(info));
	const uint32_t mode = MACVLAN_MODE_PASSTHRU, n = queues;
	struct nlattr *linkinfo, *data;
	int r;

	netlink_put(msg, IFLA_IFNAME, name, strlen(name) + 1);
	netlink_put(msg, IFLA_LINK, &lower->ifindex, sizeof(uint32_t));
	netlink_put(msg, IFLA_GROUP, &group, sizeof(group));
	netlink_put(msg, IFLA_NUM_TX_QUEUES, &n, sizeof(n));
	netlink_put(msg, IFLA_NUM_RX_QUEUES, &n, sizeof(n));
	linkinfo = netlink_nest(msg, IFLA_LINKINFO);
	netlink_put(msg, IFLA_INFO_KIND, KIND, sizeof(KIND));
	data = netlink_nest(msg, IFLA_INFO_DATA);
	netlink_put(msg, IFLA_MACVLAN_MODE, &mode, sizeof(mode));
	nla_nest_end(msg, data);
	nla_nest_end(msg, linkinfo);
	r = netlink_ask(sk, msg);
	if (r == -EEXIST)
		return error_set(err, EBUSY, "there is a link %s in the pod already", name);
	return r < 0 ? error_errno(err, -r, "make the macvtap %s", name) : 0;
}

static int make_one(struct macvtaps *m, struct nl_sock *sk, int uevents, const struct link *link,
	uint32_t group, unsigned queues, bool vhost)
{
	struct tap *t = &m->made[m->n].tap;
	struct error *err = &m->why;
	dev_t dev = 0;
	int ifindex, r;

	m->made[m->n].lower = link->ifindex;
	*t = (struct tap){ .queues = 0 };
	snprintf(t->name, sizeof(t->name), NETWORK_TAP_FMT, (unsigned)m->n++);
	r = add_link(sk, t->name, link, queues, group, err);
	if (r == 0)
		r = tap_find(sk, t->name, &ifindex, err);
	if (r == 0)
		r = uevent_read(uevents, t->name, ifindex, &dev, err);
	if (r == 0)
		r = open_queues(dev, t, link, queues, vhost, err);
	if (r == 0)
		r = tap_up(sk, ifindex, t->name, link, err);
	return r;
}

void macvtaps_make(struct macvtaps *m, struct nl_sock *sk, const struct network *n, unsigned queues,
	bool vhost)
{
	_cleanup_close_ int uevents = uevent_open(&m->why);
	struct error undo = ERROR_INIT;
	int r = uevents < 0 ? uevents : 0;

	if (vhost && access("/dev/vhost-net", F_OK) < 0) {
		log_info("no vhost-net: %s", strerrordesc_np(errno));
		vhost = false;
	}
	for (size_t i = 0; r == 0 && i < n->n_links; i++)
		r = make_one(m, sk, uevents, &n->links[i], n->own_group, queues, vhost);
	if (r == 0)
		return;
	macvtaps_done(m);
	if (macvtap_clean(sk, n->own_group, &undo) < 0)
		log_error("undo: %s", undo.msg);
}

int macvtaps_take(struct macvtaps *m, const struct link *link, struct tap *ret, struct error *err)
{
	if (m->why.code) {
		*err = m->why;
		return -err->code;
	}
	for (size_t i = 0; i < m->n; i++)
		if (m->made[i].lower == link->ifindex && m->made[i].tap.queues > 0) {
			*ret = m->made[i].tap;
			m->made[i].tap.queues = 0;
			return 0;
		}
	return error_set(err, EOPNOTSUPP,
		"it has come after the sandbox was started, which network_model=macvtap cannot serve");
}

int macvtaps_end(const struct macvtaps *m, int first)
{
	int end = first;

	for (size_t i = 0; i < m->n; i++)
		for (unsigned q = 0; q < m->made[i].tap.queues; q++) {
			const struct tap *t = &m->made[i].tap;
			int last = t->fd[q] > t->vhost[q] ? t->fd[q] : t->vhost[q];

			end = last >= end ? last + 1 : end;
		}
	return end;
}

void macvtaps_done(struct macvtaps *m)
{
	for (size_t i = 0; i < m->n; i++)
		tap_done(&m->made[i].tap);
	m->n = 0;
}

/* ---- what has been left ---- */

struct found {
	uint32_t group;
	size_t n;
	int ifindex[NETWORK_LINKS_MAX];
};

static int take_macvtap(const struct nlmsghdr *h, void *ctx, struct error *err)
{
	const struct ifinfomsg *info = nlmsg_data(h);
	struct nlattr *tb[IFLA_MAX + 1], *in[IFLA_INFO_MAX + 1];
	struct found *f = ctx;

	if (h->nlmsg_type != RTM_NEWLINK)
		return 0;
	if (nlmsg_parse((struct nlmsghdr *)(uintptr_t)h, sizeof(*info), tb, IFLA_MAX, NULL) < 0)
		return error_set(err, EPROTO, "the kernel's message about a link is too short");
	if (tb[IFLA_IFNAME] && network_is_tap(nla_get_string(tb[IFLA_IFNAME])) && tb[IFLA_GROUP] &&
		nla_get_u32(tb[IFLA_GROUP]) == f->group && tb[IFLA_LINKINFO] &&
		nla_parse_nested(in, IFLA_INFO_MAX, tb[IFLA_LINKINFO], NULL) == 0 &&
		in[IFLA_INFO_KIND] && nla_strcmp(in[IFLA_INFO_KIND], KIND) == 0 &&
		f->n < NETWORK_LINKS_MAX)
		f->ifindex[f->n++] = info->ifi_index;
	return 0;
}

static int find_macvtaps(struct nl_sock *sk, struct found *ret, struct error *err)
{
	const struct ifinfomsg all = { .ifi_family = AF_UNSPEC };
	int r = -EINTR;

	/* -EINTR: something came or went in the middle. */
	for (int i = 0; i < LOOK_TRIES && r == -EINTR; i++) {
		ret->n = 0;
		r = netlink_dump(sk, RTM_GETLINK, &all, sizeof(all), take_macvtap, ret, err);
	}
	return r == -EINTR ? error_set(err, EAGAIN, "the links changed while they were looked at") : r;
}

int macvtap_clean(struct nl_sock *sk, uint32_t group, struct error *err)
{
	struct found found = { .group = group };
	int r = find_macvtaps(sk, &found, err);

	for (size_t i = 0; r == 0 && i < found.n; i++) {
		const struct ifinfomsg info = { .ifi_family = AF_UNSPEC, .ifi_index = found.ifindex[i] };
		CLEANUP(netlink_free) struct nl_msg *msg =
			netlink_request(RTM_DELLINK, 0, &info, sizeof(info));
		int gone = netlink_ask(sk, msg);

		if (gone < 0 && gone != -ENODEV)
			r = error_errno(err, -gone, "remove a macvtap");
	}
	return r;
}
