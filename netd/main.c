/* netd: gives the pod's network to the VM. README.md beside this. */
#include <errno.h>
#include <linux/capability.h>
#include <netlink/socket.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "common/isolate.h"
#include "common/log.h"
#include "common/options.h"
#include "ipc/fds.h"
#include "ipc/role.h"
#include "netd/clean.h"
#include "netd/handlers.h"
#include "netd/netlink.h"
#include "netd/scan.h"

/* The fds that netd opens: the first numbers after those it was given. */
#define NETD_FD_ROUTE NETD_FD_END
#define NETD_FD_POOL  (NETD_FD_ROUTE + 1)

/* Of a netd that only cleans up. */
#define CLEAN_FD_ROUTE FD_CTL

struct options {
	uint64_t uid, queues, vhost, clean;
	const char *model;
};

static struct nl_sock *open_route_socket(int number, struct error *err)
{
	struct nl_sock *sk;

	/* isolate() keeps the fds below a number: nothing of others may be among them. */
	if (close_range((unsigned)number, ~0U, 0) < 0) {
		error_errno(err, errno, "close_range");
		return NULL;
	}
	sk = netlink_open(err);
	if (sk && nl_socket_get_fd(sk) != number) {
		error_set(err, EBADF, "started without fd %d", nl_socket_get_fd(sk));
		nl_socket_free(sk);
		return NULL;
	}
	return sk;
}

static int model_of(const char *name)
{
	static const char *const models[] = {
		[MODEL_TCFILTER] = "tcfilter", [MODEL_MACVTAP] = "macvtap", [MODEL_NONE] = "none" };

	for (size_t i = 0; i < ARRAY_SIZE(models); i++)
		if (strcmp(models[i], name) == 0)
			return (int)i;
	return -1;
}

static int parse(int argc, char **argv, struct options *o, struct error *err)
{
	const struct option table[] = {
		{ "uid", OPTION_NUMBER, &o->uid, false },
		{ "queues", OPTION_NUMBER, &o->queues, true },
		{ "vhost", OPTION_NUMBER, &o->vhost, true },
		{ "model", OPTION_TEXT, &o->model, true },
		{ "clean", OPTION_NUMBER, &o->clean, true },
		{ NULL, OPTION_TEXT, NULL, false },
	};
	int r = options_parse(table, argc, argv, err);

	if (r == 0 && (o->queues < 1 || o->queues > NETWORK_QUEUES_MAX))
		r = error_set(err, EINVAL, "queues=%llu is not from 1 to %d",
			(unsigned long long)o->queues, NETWORK_QUEUES_MAX);
	if (r == 0 && model_of(o->model) < 0)
		r = error_set(err, EINVAL, "model=%s: tcfilter, macvtap or none", o->model);
	return r;
}

static const int net_admin[] = { CAP_NET_ADMIN, -1 };

/* The first number that is free behind their fds. What has failed is told when it is asked for. */
static int make_macvtaps(struct netd *n, const struct options *o)
{
	struct macvtaps *m = &n->macvtaps;

	n->network.own_group = (uint32_t)o->uid;
	if (network_scan(n->sk, &n->network, &m->why) == 0 &&
		network_check(&n->network, &m->why) == 0)
		macvtaps_make(m, n->sk, &n->network, n->queues, o->vhost);
	return macvtaps_end(m, NETD_FD_POOL);
}

static int shut_in(struct netd *n, const struct options *o, struct error *err)
{
	/* In the pod's network namespace already, and staying there. */
	struct isolation iso = {
		.name = "netd",
		.void_pidfd = NETD_FD_VOID,
		.void_namespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS,
		.uid = (uid_t)o->uid,
		.caps = net_admin,
		.landlock = true,
		.policy = "netd",
	};
	int next = NETD_FD_POOL, r = 0;

	n->queues = (unsigned)o->queues;
	n->model = model_of(o->model);
	n->vmmd = NETD_FD_VMMD;
	n->sk = open_route_socket(NETD_FD_ROUTE, err);
	if (!n->sk)
		return -err->code;
	if (n->model == MODEL_NONE)
		iso.caps = NULL;
	else if (n->model == MODEL_MACVTAP)
		next = make_macvtaps(n, o);
	else
		r = tap_pool_open(&n->pool, n->queues, o->vhost, NETD_FD_POOL, &next, err);
	if (r < 0)
		return r;
	iso.first_free_fd = (unsigned)next;
	iso.nofile = (unsigned)next + 4;
	return isolate(&iso, err);
}

static int serve(const struct options *o, struct error *err)
{
	static struct netd n;
	struct helper h = netd_helper(NETD_FD_FRONTEND, &n);
	int r;

	if (shut_in(&n, o, err) < 0 || role_wait_lock(ROLE_NETD, err) < 0)
		role_fail(ROLE_NETD, err);
	r = helper_serve(&h, err);
	tap_pool_done(&n.pool);
	macvtaps_done(&n.macvtaps);
	nl_socket_free(n.sk);
	return r;
}

/* Run by `delete`, which has no void to join: the filter and Landlock let no path be used. */
static int clean(const struct options *o, struct error *err)
{
	const struct isolation iso = {
		.name = "netd",
		.void_pidfd = -1,
		.first_free_fd = CLEAN_FD_ROUTE + 1,
		.nofile = CLEAN_FD_ROUTE + 1 + 4,
		.uid = (uid_t)o->uid,
		.caps = net_admin,
		.landlock = true,
		.policy = "netd",
	};
	struct nl_sock *sk = open_route_socket(CLEAN_FD_ROUTE, err);
	int r;

	if (!sk)
		return -err->code;
	r = isolate(&iso, err);
	if (r == 0)
		r = network_clean(sk, (uint32_t)o->uid, err);
	nl_socket_free(sk);
	return r;
}

int main(int argc, char **argv)
{
	struct options o = { .queues = 1, .model = "tcfilter" };
	struct error err = ERROR_INIT;
	int r;

	role_ignore_signals();
	if (parse(argc, argv, &o, &err) < 0)
		role_fail(ROLE_NETD, &err);
	r = o.clean ? clean(&o, &err) : serve(&o, &err);
	if (r < 0) {
		log_error("%s", err.msg);
		return ROLE_EXIT_FAILED;
	}
	return 0;
}
