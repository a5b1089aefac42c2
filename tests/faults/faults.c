/*
 * One system call fails. At its entry it is turned into getpid(), which every policy allows (a
 * call with the number -1, the usual way to skip one, is for a filter like any unknown call: it
 * kills), and at its exit its result is the errno. Where a failure is more than an errno, the
 * kernel is made to fail itself: brk() answers the old break, recvmsg() loses its fds.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <unistd.h>

#include "common/mem.h"
#include "tests/faults/tracer.h"

static const struct {
	const char *name;
	int error;
} kinds[FAULT_KINDS] = {
	[FAULT_MEMORY] = { "memory", ENOMEM },
	[FAULT_FDS] = { "fds", EMFILE },
	[FAULT_FDS_CAME] = { "fds-came", 0 },
	[FAULT_IO] = { "io", EIO },
	[FAULT_SPACE] = { "space", ENOSPC },
	[FAULT_PROCESS] = { "process", EAGAIN },
	[FAULT_PRIVILEGE] = { "privilege", EPERM },
	[FAULT_INTERRUPT] = { "interrupt", EINTR },
	[FAULT_AGAIN] = { "again", EAGAIN },
};

/* What a row asks of the arguments, mostly of the first, an fd. */
enum needs { ANY, REGULAR, NO_FILE, NONBLOCK, CREATES, GROWS, COPIES, CHANGES };

/* A call is of each kind that has a row for it, as long as a test asks for one kind at a time. */
static const struct {
	uint64_t nr;
	enum fault_kind kind;
	enum needs needs;
} calls[] = {
	{ SYS_mmap, FAULT_MEMORY, ANY },
	{ SYS_brk, FAULT_MEMORY, GROWS },
	{ SYS_mremap, FAULT_MEMORY, ANY },
	{ SYS_mprotect, FAULT_MEMORY, ANY },

	{ SYS_open, FAULT_FDS, ANY },
	{ SYS_openat, FAULT_FDS, ANY },
	{ SYS_openat2, FAULT_FDS, ANY },
	{ SYS_open_tree, FAULT_FDS, ANY },
	{ SYS_fsopen, FAULT_FDS, ANY },
	{ SYS_fsmount, FAULT_FDS, ANY },
	{ SYS_socket, FAULT_FDS, ANY },
	{ SYS_socketpair, FAULT_FDS, ANY },
	{ SYS_pipe2, FAULT_FDS, ANY },
	{ SYS_dup, FAULT_FDS, ANY },
	{ SYS_fcntl, FAULT_FDS, COPIES },
	{ SYS_accept4, FAULT_FDS, ANY },
	{ SYS_epoll_create1, FAULT_FDS, ANY },
	{ SYS_eventfd2, FAULT_FDS, ANY },
	{ SYS_signalfd4, FAULT_FDS, ANY },
	{ SYS_pidfd_open, FAULT_FDS, ANY },

	{ SYS_recvmsg, FAULT_FDS_CAME, ANY },

	{ SYS_read, FAULT_IO, REGULAR },
	{ SYS_pread64, FAULT_IO, REGULAR },
	{ SYS_write, FAULT_IO, REGULAR },
	{ SYS_fsync, FAULT_IO, ANY },
	{ SYS_fdatasync, FAULT_IO, ANY },
	{ SYS_getdents64, FAULT_IO, ANY },
	{ SYS_rename, FAULT_IO, ANY },
	{ SYS_renameat, FAULT_IO, ANY },
	{ SYS_mkdir, FAULT_IO, ANY },
	{ SYS_mkdirat, FAULT_IO, ANY },
	{ SYS_unlink, FAULT_IO, ANY },
	{ SYS_rmdir, FAULT_IO, ANY },
	{ SYS_unlinkat, FAULT_IO, ANY },
	{ SYS_readlink, FAULT_IO, ANY },
	{ SYS_newfstatat, FAULT_IO, ANY },
	{ SYS_fchown, FAULT_IO, ANY },
	{ SYS_fchownat, FAULT_IO, ANY },
	{ SYS_flock, FAULT_IO, ANY },

	{ SYS_openat, FAULT_SPACE, CREATES },
	{ SYS_write, FAULT_SPACE, REGULAR },
	{ SYS_mkdir, FAULT_SPACE, ANY },
	{ SYS_mkdirat, FAULT_SPACE, ANY },
	{ SYS_rename, FAULT_SPACE, ANY },
	{ SYS_renameat, FAULT_SPACE, ANY },
	{ SYS_symlinkat, FAULT_SPACE, ANY },
	{ SYS_mknodat, FAULT_SPACE, ANY },
	{ SYS_bind, FAULT_SPACE, ANY },
	{ SYS_fdatasync, FAULT_SPACE, ANY },

	{ SYS_fork, FAULT_PROCESS, ANY },
	{ SYS_vfork, FAULT_PROCESS, ANY },
	{ SYS_clone, FAULT_PROCESS, ANY },
	{ SYS_clone3, FAULT_PROCESS, ANY },

	{ SYS_setresuid, FAULT_PRIVILEGE, ANY },
	{ SYS_setresgid, FAULT_PRIVILEGE, ANY },
	{ SYS_setgroups, FAULT_PRIVILEGE, ANY },
	{ SYS_capset, FAULT_PRIVILEGE, ANY },
	{ SYS_prctl, FAULT_PRIVILEGE, CHANGES },
	{ SYS_seccomp, FAULT_PRIVILEGE, ANY },
	{ SYS_setns, FAULT_PRIVILEGE, ANY },
	{ SYS_unshare, FAULT_PRIVILEGE, ANY },
	{ SYS_pivot_root, FAULT_PRIVILEGE, ANY },
	{ SYS_mount, FAULT_PRIVILEGE, ANY },
	{ SYS_umount2, FAULT_PRIVILEGE, ANY },
	{ SYS_move_mount, FAULT_PRIVILEGE, ANY },
	{ SYS_mount_setattr, FAULT_PRIVILEGE, ANY },
	{ SYS_fsconfig, FAULT_PRIVILEGE, ANY },
	{ SYS_prlimit64, FAULT_PRIVILEGE, CHANGES },
	{ SYS_close_range, FAULT_PRIVILEGE, ANY },
	{ SYS_setsid, FAULT_PRIVILEGE, ANY },
	{ SYS_sethostname, FAULT_PRIVILEGE, ANY },
	{ SYS_chdir, FAULT_PRIVILEGE, ANY },
	{ SYS_fchdir, FAULT_PRIVILEGE, ANY },
	{ SYS_landlock_create_ruleset, FAULT_PRIVILEGE, ANY },
	{ SYS_landlock_add_rule, FAULT_PRIVILEGE, ANY },
	{ SYS_landlock_restrict_self, FAULT_PRIVILEGE, ANY },

	{ SYS_read, FAULT_INTERRUPT, NO_FILE },
	{ SYS_recvmsg, FAULT_INTERRUPT, ANY },
	{ SYS_recvfrom, FAULT_INTERRUPT, ANY },
	{ SYS_accept4, FAULT_INTERRUPT, ANY },
	{ SYS_poll, FAULT_INTERRUPT, ANY },
	{ SYS_ppoll, FAULT_INTERRUPT, ANY },
	{ SYS_epoll_wait, FAULT_INTERRUPT, ANY },
	{ SYS_wait4, FAULT_INTERRUPT, ANY },
	{ SYS_waitid, FAULT_INTERRUPT, ANY },
	{ SYS_clock_nanosleep, FAULT_INTERRUPT, ANY },

	{ SYS_read, FAULT_AGAIN, NONBLOCK },
	{ SYS_write, FAULT_AGAIN, NONBLOCK },
	{ SYS_recvmsg, FAULT_AGAIN, NONBLOCK },
	{ SYS_recvfrom, FAULT_AGAIN, NONBLOCK },
	{ SYS_sendmsg, FAULT_AGAIN, NONBLOCK },
	{ SYS_sendto, FAULT_AGAIN, NONBLOCK },
	{ SYS_accept4, FAULT_AGAIN, NONBLOCK },
};

enum fault_kind fault_kind_of(const char *word)
{
	for (int i = 0; i < FAULT_KINDS; i++)
		if (strcmp(kinds[i].name, word) == 0)
			return (enum fault_kind)i;
	return FAULT_NONE;
}

const char *fault_kind_name(enum fault_kind kind)
{
	return kinds[kind].name;
}

static bool is_regular(pid_t pid, uint64_t fd, bool *ret_known)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, (int)fd);
	*ret_known = stat(path, &st) == 0;
	return *ret_known && S_ISREG(st.st_mode);
}

static bool is_nonblock(pid_t pid, const struct call *c)
{
	char path[64], line[64];
	unsigned flags = 0;
	FILE *f;

	if ((c->nr == SYS_recvmsg || c->nr == SYS_sendmsg) && (c->args[2] & MSG_DONTWAIT))
		return true;
	if ((c->nr == SYS_recvfrom || c->nr == SYS_sendto) && (c->args[3] & MSG_DONTWAIT))
		return true;
	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", pid, (int)c->args[0]);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "flags: %o", &flags) == 1)
			break;
	if (f)
		fclose(f);
	return flags & O_NONBLOCK;
}

/* Of prctl(): what only reads, or names, gives and takes nothing. */
static bool changes_privilege(const struct call *c)
{
	switch (c->args[0]) {
	case PR_CAPBSET_READ:
	case PR_GET_SECUREBITS:
	case PR_GET_NO_NEW_PRIVS:
	case PR_SET_NAME:
		return false;
	case PR_CAP_AMBIENT:
		return c->args[1] != PR_CAP_AMBIENT_IS_SET;
	}
	return true;
}

static bool fits(pid_t pid, const struct call *c, enum needs needs)
{
	bool known;

	switch (needs) {
	case REGULAR:
		return is_regular(pid, c->args[0], &known);
	case NO_FILE:
		return !is_regular(pid, c->args[0], &known) && known;
	case NONBLOCK:
		return is_nonblock(pid, c);
	case CREATES:
		return c->args[2] & O_CREAT;
	case GROWS:
		return c->args[0] != 0;
	case COPIES:
		return c->args[1] == F_DUPFD || c->args[1] == F_DUPFD_CLOEXEC;
	case CHANGES:
		return c->nr == SYS_prlimit64 ? c->args[2] != 0 : changes_privilege(c);
	case ANY:
		break;
	}
	return true;
}

static bool is_of_kind(const struct thread *t, enum fault_kind kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (calls[i].nr == t->call.nr && calls[i].kind == kind)
			return fits(t->process->pid, &t->call, calls[i].needs);
	return false;
}

static void set_no_fds(pid_t pid, bool none)
{
	static struct rlimit before;
	struct rlimit now;

	if (none && prlimit(pid, RLIMIT_NOFILE, NULL, &before) == 0) {
		now = (struct rlimit){ 0, before.rlim_max };
		prlimit(pid, RLIMIT_NOFILE, &now, NULL);
	} else if (!none) {
		prlimit(pid, RLIMIT_NOFILE, &before, NULL);
	}
}

/* From here on the call is another one, or meets another limit. */
static void make_fail(struct thread *t, enum fault_kind kind)
{
	struct user_regs_struct regs;

	if (kind == FAULT_FDS_CAME) {
		set_no_fds(t->process->pid, true);
		t->call.no_fds = true;
		t->call.injected = EMFILE;
		return;
	}
	if (ptrace(PTRACE_GETREGS, t->tid, NULL, &regs) < 0)
		return;
	if (t->call.nr == SYS_brk)
		regs.rdi = 0;
	else
		regs.orig_rax = SYS_getpid;
	if (ptrace(PTRACE_SETREGS, t->tid, NULL, &regs) == 0)
		t->call.injected = kinds[kind].error;
}

/* Scattered, but always the same: in step with a loop it would hit the same call each time. */
static bool is_one_in(unsigned long every, unsigned long n)
{
	return ((uint32_t)n * 2654435761U >> 16) % every == 0;
}

void fault_enter(struct thread *t, const struct settings *s)
{
	struct process *p = t->process;

	t->call.kinds = 0;
	for (int k = 0; k < FAULT_KINDS; k++) {
		bool asked = k == (int)s->kind;

		if ((!asked && !s->list) || !is_of_kind(t, (enum fault_kind)k))
			continue;
		t->call.kinds |= 1U << k;
		p->calls[k]++;
		if (asked && (s->every ? is_one_in(s->every, p->calls[k]) : p->calls[k] == s->ordinal))
			make_fail(t, (enum fault_kind)k);
	}
}

void fault_leave(struct thread *t)
{
	struct user_regs_struct regs;

	if (!t->call.injected)
		return;
	if (t->call.no_fds) {
		set_no_fds(t->process->pid, false);
	} else if (ptrace(PTRACE_GETREGS, t->tid, NULL, &regs) == 0) {
		/* libc looks at what it has asked brk() for, in the register that no call changes. */
		if (t->call.nr == SYS_brk)
			regs.rdi = t->call.args[0];
		else
			regs.rax = (unsigned long long)-(long long)t->call.injected;
		ptrace(PTRACE_SETREGS, t->tid, NULL, &regs);
	}
}

static bool fds_came(const struct thread *t)
{
	struct msghdr mh;
	struct iovec to = { &mh, sizeof(mh) };
	struct iovec from = { (void *)(uintptr_t)t->call.args[1], sizeof(mh) };

	return t->call.result >= 0 && process_vm_readv(t->tid, &to, 1, &from, 1, 0) == sizeof(mh) &&
	       mh.msg_controllen > 0;
}

void fault_list(FILE *f, const struct thread *t, const char *stage)
{
	for (int k = 0; k < FAULT_KINDS; k++)
		if ((t->call.kinds & 1U << k) && (k != FAULT_FDS_CAME || fds_came(t)))
			fprintf(f, "call %s %s %s %lu %s %s\n", t->process->name, kinds[k].name,
				stage, t->process->calls[k], call_name(t->call.nr),
				t->call.result < 0 ? "failed" : "ok");
}
