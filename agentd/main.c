/* agentd: speaks with the guest, and nobody else does. README.md beside this. */
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "agentd/agentd.h"
#include "common/log.h"
#include "common/options.h"
#include "ipc/fds.h"
#include "ipc/role.h"

/* Each process may hold four FIFO ends, each container for a moment its config.json. */
#define OPEN_FILES 4096

/*
 * libevent makes its fds before the filter is loaded, so that the filter need
 * not know how: isolate() is to keep them. They are what is open beyond ours.
 */
static unsigned first_fd_above_base(struct error *err)
{
	int fd = dup(STDIN_FILENO);

	if (fd < 0) {
		error_errno(err, errno, "dup");
		return 0;
	}
	close(fd);
	return (unsigned)fd;
}

static void shut_in(struct agentd *a, int argc, char **argv)
{
	struct error err = ERROR_INIT;
	uint64_t uid = 0, cid = 0, debug = 0;
	const char *sandbox = NULL;
	const struct option table[] = {
		{ "uid", OPTION_NUMBER, &uid, false },
		{ "sandbox", OPTION_TEXT, &sandbox, false },
		{ "cid", OPTION_NUMBER, &cid, true },
		{ "debug", OPTION_NUMBER, &debug, true },
		{ NULL, OPTION_TEXT, NULL, false },
	};
	struct isolation iso = {
		.name = "agentd",
		.void_pidfd = AGENTD_FD_VOID,
		.void_namespaces = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
		.nofile = OPEN_FILES,
		.may_write_files = true, /* those that take output instead of a FIFO */
		.landlock = true,
		.policy = "agentd",
	};

	role_ignore_signals();
	if (options_parse(table, argc, argv, &err) < 0)
		role_fail(ROLE_AGENTD, &err);
	if (debug)
		log_set_level(LOG_LEVEL_DEBUG);
	if (cid > UINT32_MAX) {
		error_set(&err, EINVAL, "cid=%llu is no CID", (unsigned long long)cid);
		role_fail(ROLE_AGENTD, &err);
	}
	iso.uid = (uid_t)uid;
	if (close_range(AGENTD_FD_END, ~0U, 0) < 0) {
		error_errno(&err, errno, "close_range");
		role_fail(ROLE_AGENTD, &err);
	}
	if (agentd_init(a, sandbox, (unsigned)cid, &err) < 0)
		role_fail(ROLE_AGENTD, &err);
	iso.first_free_fd = first_fd_above_base(&err);
	if (iso.first_free_fd == 0 || isolate(&iso, &err) < 0)
		role_fail(ROLE_AGENTD, &err);
	if (role_wait_lock(ROLE_AGENTD, &err) < 0)
		role_fail(ROLE_AGENTD, &err);
}

int main(int argc, char **argv)
{
	static struct agentd a;
	int status;

	shut_in(&a, argc, argv);
	status = agentd_run(&a);
	agentd_done(&a);
	/* Not exit(): nothing is registered there that the filter would let happen. */
	_exit(status);
}
