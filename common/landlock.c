#include "common/landlock.h"

#include <errno.h>
#include <linux/landlock.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/fd.h"

/* As in Linux 6.12; the header at hand may be older. */
struct ruleset {
	uint64_t fs, net, scoped;
};

/* How many access rights to files each ABI knows; from ABI 5 on: 16. */
static const unsigned fs_rights[] = { 0, 13, 14, 15, 15, 16 };

static struct ruleset everything_of_abi(int abi)
{
	size_t i = (size_t)abi < ARRAY_SIZE(fs_rights) ? (size_t)abi : ARRAY_SIZE(fs_rights) - 1;

	return (struct ruleset){
		.fs = (1ULL << fs_rights[i]) - 1,
		.net = abi >= 4 ? 3 : 0,    /* bind and connect of TCP */
		.scoped = abi >= 6 ? 3 : 0, /* abstract sockets, signals */
	};
}

/* The kernel refuses fields that it does not know, were they zero or not. */
static size_t size_of_abi(int abi)
{
	return (abi >= 6 ? 3 : abi >= 4 ? 2 : 1) * sizeof(uint64_t);
}

static int allow_beneath(int ruleset, int dirfd, struct error *err)
{
	const struct landlock_path_beneath_attr rule = {
		.allowed_access = LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_WRITE_FILE |
				  LANDLOCK_ACCESS_FS_REMOVE_FILE,
		.parent_fd = dirfd,
	};

	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return error_errno(err, errno, "allow files beneath a directory");
	return 0;
}

int landlock_enter(int dirfd, struct error *err)
{
	_cleanup_close_ int fd = -1;
	struct ruleset all;
	int abi;

	abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	if (abi < 0 && (errno == ENOSYS || errno == EOPNOTSUPP))
		return 0;
	if (abi < 0)
		return error_errno(err, errno, "ask for Landlock's version");
	all = everything_of_abi(abi);
	fd = (int)syscall(SYS_landlock_create_ruleset, &all, size_of_abi(abi), 0);
	if (fd < 0)
		return error_errno(err, errno, "make a Landlock ruleset");
	if (dirfd >= 0) {
		int r = allow_beneath(fd, dirfd, err);

		if (r < 0)
			return r;
	}
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, errno, "set no_new_privs");
	if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		return error_errno(err, errno, "enter the Landlock domain");
	return 0;
}
