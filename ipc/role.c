#include "ipc/role.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "common/log.h"
#include "ipc/fds.h"

int role_wait_lock(enum role role, struct error *err)
{
	struct ctl_msg msg;
	int r = ctl_send(FD_CTL, CTL_READY, role, 0, NULL);

	if (r < 0)
		return error_errno(err, -r, "report READY");
	r = ctl_recv(FD_CTL, 0, &msg);
	if (r == 0)
		return error_set(err, EPIPE, "the supervisor went away before LOCK");
	if (r < 0)
		return error_errno(err, -r, "wait for LOCK");
	if (msg.type == CTL_FAILED && role == ROLE_FRONTEND)
		return error_set(err, ECANCELED, "%s: %s", role_name(msg.role), msg.text);
	if (msg.type != CTL_LOCK)
		return error_set(err, EPROTO, "control message %u instead of LOCK", msg.type);
	return 0;
}

void role_fail(enum role role, const struct error *err)
{
	log_error("%s", err->msg);
	ctl_send(FD_CTL, CTL_FAILED, role, 0, err->msg);
	_exit(ROLE_EXIT_FAILED);
}

void role_ignore_signals(void)
{
	static const int ignored[] = { SIGPIPE, SIGTERM, SIGHUP, SIGINT };

	for (size_t i = 0; i < ARRAY_SIZE(ignored); i++)
		signal(ignored[i], SIG_IGN);
}
