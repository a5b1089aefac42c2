#include "common/isolate.h"

#include <cap-ng.h>
#include <errno.h>
#include <grp.h>
#include <linux/securebits.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/filter.h"
#include "common/landlock.h"

#ifndef PR_SET_MDWE
#define PR_SET_MDWE		65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

#if defined(__SANITIZE_ADDRESS__)
/* Only in the dev build: no policy allows LeakSanitizer its tracer thread at exit, and no root
 * of ours has the /proc it reads. */
static bool shut_in;
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
	return shut_in;
}
#endif

static int stage_fds(const struct isolation *iso, struct error *err)
{
	if (close_range(iso->first_free_fd, ~0U, 0) < 0)
		return error_errno(err, errno, "close_range");
	return 0;
}

static int stage_namespaces(const struct isolation *iso, struct error *err)
{
	int fd = iso->void_pidfd;

	if (fd < 0)
		return 0;
	if (setns(fd, iso->void_namespaces) < 0)
		return error_errno(err, errno, "join the void's namespaces");
	fd_close(&fd);
	/* setns() leaves root and cwd at the namespace's root; a relative path must not lead out. */
	if ((iso->void_namespaces & CLONE_NEWNS) && chdir("/") < 0)
		return error_errno(err, errno, "chdir to the empty root");
	return 0;
}

static int limit(__rlimit_resource_t what, const char *name, rlim_t value, struct error *err)
{
	const struct rlimit rl = { .rlim_cur = value, .rlim_max = value };

	if (setrlimit(what, &rl) < 0)
		return error_errno(err, errno, "limit %s to %llu", name, (unsigned long long)value);
	return 0;
}

static int stage_limits(const struct isolation *iso, struct error *err)
{
	int r;

	umask(iso->umask ? iso->umask : 077);
	r = limit(RLIMIT_CORE, "core files", 0, err);
	if (r == 0)
		r = limit(RLIMIT_MEMLOCK, "locked memory", 0, err);
	if (r == 0)
		r = limit(RLIMIT_MSGQUEUE, "message queues", 0, err);
	if (r == 0)
		r = limit(RLIMIT_NOFILE, "open files", iso->nofile, err);
	if (r == 0 && !iso->may_write_files)
		r = limit(RLIMIT_FSIZE, "file size", 0, err);
	if (r == 0 && !iso->may_fork)
		r = limit(RLIMIT_NPROC, "processes", 0, err);
	return r;
}

int isolate_check_bounding(uint64_t want, struct error *err)
{
	unsigned cap;
	int r;

	/* The first number that the kernel does not know ends it; it knows some. */
	for (cap = 0; (r = prctl(PR_CAPBSET_READ, cap, 0, 0, 0)) >= 0; cap++)
		if (r != (int)(want >> cap & 1))
			return error_set(err, EPERM, "capability %u is %s the bounding set", cap,
				r ? "still in" : "no more in");
	if (cap == 0)
		return error_errno(err, errno, "read the bounding set");
	return 0;
}

static int stage_identity(const struct isolation *iso, struct error *err)
{
	const unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
				   SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
				   SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
	int r;

	if (iso->uid == (uid_t)-1)
		return error_set(err, EINVAL, "uid %u means no change to the kernel", iso->uid);
	capng_clear(CAPNG_SELECT_ALL);
	for (const int *cap = iso->caps; cap && *cap >= 0; cap++)
		if (capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, (unsigned)*cap) < 0)
			return error_set(err, EINVAL, "capability %d is unknown", *cap);

	/* With NO_SETUID_FIXUP no change of uid takes or gives a capability: capng_apply() does. */
	if (prctl(PR_SET_SECUREBITS, bits, 0, 0, 0) < 0)
		return error_errno(err, errno, "set securebits");
	if (setgroups(0, NULL) < 0)
		return error_errno(err, errno, "give up the supplementary groups");
	if (setresgid(iso->uid, iso->uid, iso->uid) < 0)
		return error_errno(err, errno, "change to gid %u", iso->uid);
	if (setresuid(iso->uid, iso->uid, iso->uid) < 0)
		return error_errno(err, errno, "change to uid %u", iso->uid);
	r = capng_apply(CAPNG_SELECT_ALL);
	if (r < 0)
		return error_set(err, EPERM, "give up capabilities (libcap-ng says %d)", r);
	return isolate_check_bounding(0, err);
}

static int stage_landlock(const struct isolation *iso, struct error *err)
{
	if (!iso->landlock)
		return 0;
	return landlock_enter(iso->landlock_dir > 0 ? iso->landlock_dir : -1, err);
}

static int stage_filter(const struct isolation *iso, struct error *err)
{
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return error_errno(err, errno, "set not dumpable");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, errno, "set no_new_privs");
#if defined(__SANITIZE_ADDRESS__)
	shut_in = true;
#endif
	if (!iso->policy)
		return 0;
	/* Since Linux 6.3; EINVAL before. An extra layer: the policies refuse PROT_EXEC too. */
	if (prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) < 0 && errno != EINVAL)
		return error_errno(err, errno, "refuse executable memory");
	return filter_load(iso->policy, err);
}

int isolate(const struct isolation *iso, struct error *err)
{
	static const struct {
		const char *name;
		int (*run)(const struct isolation *iso, struct error *err);
	} stages[] = {
		{ "fds", stage_fds },
		{ "namespaces", stage_namespaces },
		{ "limits", stage_limits },
		{ "identity", stage_identity },
		{ "landlock", stage_landlock },
		{ "filter", stage_filter },
	};

	if (prctl(PR_SET_NAME, iso->name, 0, 0, 0) < 0)
		return error_errno(err, errno, "set the name");
	for (size_t i = 0; i < ARRAY_SIZE(stages); i++) {
		int r = stages[i].run(iso, err);

		if (r < 0)
			return error_wrap(err, "isolation, stage %s", stages[i].name);
	}
	return 0;
}
