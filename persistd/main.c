/* persistd: writes down how containers ended, before anybody is told. README.md beside this. */
#include <sched.h>

#include "common/log.h"
#include "common/options.h"
#include "ipc/fds.h"
#include "ipc/role.h"
#include "persistd/handlers.h"
#include "persistd/jail.h"

static void shut_in(int argc, char **argv)
{
	struct error err = ERROR_INIT;
	uint64_t uid = 0;
	const struct option table[] = {
		{ "uid", OPTION_NUMBER, &uid, false },
		{ NULL, OPTION_TEXT, NULL, false },
	};
	struct isolation iso = {
		.name = "persistd",
		.first_free_fd = PERSISTD_FD_END,
		.void_pidfd = PERSISTD_FD_VOID,
		.void_namespaces = CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS,
		.nofile = 16,
		.landlock = true,
		.landlock_dir = PERSISTD_FD_DIR,
		.may_write_files = true, /* up to the limit of jail_directory() */
		.policy = "persistd",
	};

	role_ignore_signals();
	if (options_parse(table, argc, argv, &err) < 0)
		role_fail(ROLE_PERSISTD, &err);
	iso.uid = (uid_t)uid;
	if (jail_directory(PERSISTD_FD_DIR, &err) < 0 || isolate(&iso, &err) < 0)
		role_fail(ROLE_PERSISTD, &err);
	if (role_wait_lock(ROLE_PERSISTD, &err) < 0)
		role_fail(ROLE_PERSISTD, &err);
}

int main(int argc, char **argv)
{
	static struct store store; /* too large for the stack */
	struct helper h = persistd_helper(PERSISTD_FD_FRONTEND, &store);
	struct error err = ERROR_INIT;

	store.dirfd = PERSISTD_FD_DIR;
	shut_in(argc, argv);
	if (helper_serve(&h, &err) < 0) {
		log_error("%s", err.msg);
		return ROLE_EXIT_FAILED;
	}
	return 0;
}
