/*
 * What the supervisor of test_hostile_supervisor starts in place of every
 * role: it says READY, and stays. The file `plan` beside the binary names one
 * that does something else:
 *
 *	<role> <when> <shape> <type> <as role>
 *
 * when: 0 in place of READY, 1 behind it, 2 behind LOCK. In the first two
 * cases persistd never says READY, so that there can be no LOCK. Whoever is
 * told LOCK makes a file `locked` there.
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "ipc/fds.h"
#include "tests/proc/ctl_shape.h"

struct plan {
	char role[32];
	unsigned when, shape, type, as;
};

static void read_plan(const char *dir, struct plan *ret)
{
	char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/plan", dir);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%31s %u %u %u %u", ret->role, &ret->when, &ret->shape, &ret->type,
			  &ret->as) != 5)
		_exit(1);
	fclose(f);
}

static enum role role_of(const char *name)
{
	for (int i = 0; i < ROLE_COUNT; i++)
		if (strcmp(role_name((enum role)i), name) == 0)
			return (enum role)i;
	_exit(1);
}

static void wait_lock(const char *dir)
{
	char path[512];
	struct ctl_msg msg;

	/* virtiofsd's slot is told GO before. */
	do
		if (ctl_recv(FD_CTL, 0, &msg) != 1)
			_exit(0);
	while (msg.type != CTL_LOCK);
	snprintf(path, sizeof(path), "%s/locked", dir);
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

int main(int argc, char **argv)
{
	char *dir = strdup((const char *)getauxval(AT_EXECFN));
	const char *name = argc > 0 ? argv[0] + strlen("bulkhead-") : "";
	struct plan plan;
	bool evil;

	*strrchr(dir, '/') = '\0';
	read_plan(dir, &plan);
	evil = strcmp(plan.role, name) == 0;
	if (strcmp(name, "persistd") == 0 && plan.when < 2 && !evil)
		for (;;)
			pause();
	if (!evil || plan.when > 0)
		ctl_send(FD_CTL, CTL_READY, role_of(name), 0, NULL);
	if (evil && plan.when == 2)
		wait_lock(dir);
	if (evil)
		ctl_send_shape(FD_CTL, (enum ctl_shape)plan.shape, (uint16_t)plan.type,
			(enum role)plan.as);
	if (!evil)
		wait_lock(dir);
	for (;;)
		pause();
}
