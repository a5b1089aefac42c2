/* netd: looks at the pod's network. README.md beside this. */
#include <errno.h>
#include <netlink/socket.h>
#include <sched.h>
#include <unistd.h>

#include "common/log.h"
#include "common/options.h"
#include "ipc/fds.h"
#include "ipc/role.h"
#include "netd/handlers.h"
#include "netd/link.h"

/* The only fd that netd opens: the first number after those it was given. */
#define NETD_FD_ROUTE NETD_FD_END

static struct nl_sock *open_route_socket(struct error *err)
{
	struct nl_sock *sk;

	/* isolate() keeps the fds below a number: nothing of others may be among them. */
	if (close_range(NETD_FD_ROUTE, ~0U, 0) < 0) {
		error_errno(err, errno, "close_range");
		return NULL;
	}
	sk = link_socket_open(err);
	if (sk && nl_socket_get_fd(sk) != NETD_FD_ROUTE) {
		error_set(err, EBADF, "started without fd %d", nl_socket_get_fd(sk));
		nl_socket_free(sk);
		return NULL;
	}
	return sk;
}

static struct nl_sock *shut_in(int argc, char **argv)
{
	struct error err = ERROR_INIT;
	uint64_t uid = 0;
	const struct option table[] = {
		{ "uid", OPTION_NUMBER, &uid, false },
		{ NULL, OPTION_TEXT, NULL, false },
	};
	/* In the pod's network namespace already, and staying there. A scan needs no capability. */
	struct isolation iso = {
		.name = "netd",
		.first_free_fd = NETD_FD_ROUTE + 1,
		.void_pidfd = NETD_FD_VOID,
		.void_namespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS,
		.nofile = 16,
		.landlock = true,
		.policy = "netd",
	};
	struct nl_sock *sk;

	role_ignore_signals();
	if (options_parse(table, argc, argv, &err) < 0)
		role_fail(ROLE_NETD, &err);
	iso.uid = (uid_t)uid;
	sk = open_route_socket(&err);
	if (!sk || isolate(&iso, &err) < 0 || role_wait_lock(ROLE_NETD, &err) < 0)
		role_fail(ROLE_NETD, &err);
	return sk;
}

int main(int argc, char **argv)
{
	struct nl_sock *sk = shut_in(argc, argv);
	struct helper h = netd_helper(NETD_FD_FRONTEND, sk);
	struct error err = ERROR_INIT;
	int r = helper_serve(&h, &err);

	nl_socket_free(sk);
	if (r < 0) {
		log_error("%s", err.msg);
		return ROLE_EXIT_FAILED;
	}
	return 0;
}
