#include "netd/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"

/* Opens path with exactly this number. -ENOENT and -ENXIO: there is none. */
static int open_at(const char *path, int number, struct error *err)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return error_errno(err, errno, "%s", path);
	if (fd != number) {
		close(fd);
		return error_set(err, EBADF, "%s is opened as fd %d, not %d", path, fd, number);
	}
	return fd;
}

int tap_pool_open(struct tap_pool *p, unsigned queues, bool vhost, int first_fd, int *next,
	struct error *err)
{
	unsigned n = queues * NETWORK_LINKS_MAX;
	int fd = first_fd;

	*p = (struct tap_pool){ .n = 0 };
	if (n > POOL_MAX)
		n = POOL_MAX;
	for (unsigned i = 0; i < n && p->why.code == 0; i++) {
		p->tun[i] = open_at("/dev/net/tun", fd, &p->why);
		if (p->tun[i] < 0 && p->why.code == EBADF)
			return error_set(err, EBADF, "%s", p->why.msg);
		if (p->tun[i] >= 0) {
			p->n++;
			fd++;
		}
	}
	for (unsigned i = 0; vhost && i < p->n; i++) {
		struct error none = ERROR_INIT;

		p->vhost[i] = open_at("/dev/vhost-net", fd, &none);
		if (p->vhost[i] < 0) {
			log_info("no vhost-net: %s", none.msg);
			break;
		}
		p->n_vhost++;
		fd++;
	}
	*next = fd;
	return 0;
}

void tap_pool_done(struct tap_pool *p)
{
	for (size_t i = 0; i < p->n; i++)
		fd_close(&p->tun[i]);
	for (size_t i = 0; i < p->n_vhost; i++)
		fd_close(&p->vhost[i]);
	p->n = p->n_vhost = p->taken = 0;
}

static int add_queue(struct tap *t, struct tap_pool *p, short flags, struct error *err)
{
	struct ifreq ifr = { .ifr_flags = flags };
	unsigned i = t->queues;

	if (p->taken == p->n)
		return error_set(err, EMFILE, "the links of a pod have %zu queues at most", p->n);
	t->fd[i] = fd_steal(&p->tun[p->taken]);
	t->vhost[i] = p->taken < p->n_vhost ? fd_steal(&p->vhost[p->taken]) : -1;
	p->taken++;
	t->queues++;
	strcpy(ifr.ifr_name, t->name);
	if (ioctl(t->fd[i], TUNSETIFF, &ifr) < 0) {
		if (errno == EBUSY || errno == EEXIST)
			return error_set(err, EBUSY, "there is a link %s in the pod already", t->name);
		return error_errno(err, errno, "make queue %u of the tap %s", i, t->name);
	}
	/* With a "%" in it, or cut, it would have become another. */
	if (strcmp(ifr.ifr_name, t->name) != 0)
		return error_set(err, EPROTO, "the tap %s came up as %.15s", t->name, ifr.ifr_name);
	return 0;
}

int tap_create(struct tap *t, struct tap_pool *p, unsigned index, unsigned queues,
	struct error *err)
{
	short flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
	int r = 0;

	*t = (struct tap){ .queues = 0 };
	if (p->why.code)
		return error_set(err, p->why.code, "no tap can be made: %s", p->why.msg);
	snprintf(t->name, sizeof(t->name), NETWORK_TAP_FMT, index);
	if (queues > 1)
		flags |= IFF_MULTI_QUEUE;
	/* The first one makes it, and must not find it there: then it is somebody else's. */
	for (unsigned i = 0; r == 0 && i < queues; i++)
		r = add_queue(t, p, (short)(i == 0 ? flags | IFF_TUN_EXCL : flags), err);
	if (r < 0)
		tap_done(t);
	return r;
}

void tap_done(struct tap *t)
{
	for (unsigned i = 0; i < t->queues; i++) {
		fd_close(&t->fd[i]);
		fd_close(&t->vhost[i]);
	}
	t->queues = 0;
}
