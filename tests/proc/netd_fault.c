#include "tests/proc/netd_fault.h"

#include <errno.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define CALLS_MAX 500

static void replace_call(const struct started *r, struct user_regs_struct *regs)
{
	regs->orig_rax = SYS_getpid;
	CHECK(ptrace(PTRACE_SETREGS, r->pid, 0, regs) == 0);
}

static void replace_result(const struct started *r, struct user_regs_struct *regs)
{
	regs->rax = (unsigned long long)-ENOMEM;
	CHECK(ptrace(PTRACE_SETREGS, r->pid, 0, regs) == 0);
}

bool netd_follow(struct started *r, struct netd_fault *f, const struct netd_window *w)
{
	struct user_regs_struct regs;
	int calls = 0;
	bool begun = false;

	while (netd_step(r, &regs)) {
		bool counts = begun && (f->kill || w->can_fail(regs.orig_rax));

		if (begun && w->ends(r, &regs)) {
			CHECK(ptrace(PTRACE_DETACH, r->pid, 0, 0) == 0);
			return true;
		}
		begun |= w->begins(&regs);
		f->met = counts && calls++ == f->at;
		if (f->met && f->kill) {
			CHECK(kill(r->pid, SIGKILL) == 0);
			CHECK_INT(waitpid(r->pid, NULL, __WALL), r->pid);
			break;
		}
		if (f->met)
			replace_call(r, &regs);
		if (!netd_step(r, &regs))
			break; /* its exit */
		if (f->met) {
			replace_result(r, &regs);
			f->at = -1;
		}
	}
	r->pid = -1;
	return false;
}

struct netd_tally netd_at_every_call(bool kill, netd_faulty_fn one)
{
	char before[NETD_DUMP_MAX];
	struct netd_tally t = { 0 };
	int n;

	netns_dump(before);
	for (n = 0; n < CALLS_MAX && t.attached + t.refused + t.ended == n; n++) {
		struct netd_fault f = { .at = n, .kill = kill };

		one(&f, before, &t);
		if (f.at == n && !kill)
			break; /* there are no more */
		if (kill && t.attached)
			break;
	}
	CHECK(n < CALLS_MAX);
	return t;
}
