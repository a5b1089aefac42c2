#include "tests/proc/hostile_ctl.h"

static void lost_after(const struct hostile_target *t, int (*ctl)(void), enum ctl_shape shape,
	uint16_t type)
{
	struct hostile_end end = { .pid = -1 };
	char where[128];

	snprintf(where, sizeof(where), "supervisor, to whom hears %s: shape %d, type %u", t->name,
		shape, type);
	t->up(&t->channel->messages[0], &end);
	ctl_send_shape(ctl(), shape, type, ROLE_QEMU);
	hostile_expect_lost(&end, where, "control|supervisor", "control|supervisor", true);
	t->down(true);
}

void hostile_supervisor(const struct hostile_target *t, int (*ctl)(void), unsigned takes)
{
	static const uint16_t types[] = { 0, CTL_READY, CTL_FAILED, CTL_LOCK, CTL_CHILD_EXIT,
		CTL_KILL_VM, CTL_STOP, CTL_GO, CTL_OOM, CTL_OOM + 1, UINT16_MAX };
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		if (types[i] >= 32 || !(takes & (1U << types[i]))) {
			lost_after(t, ctl, CTL_WELL_FORMED, types[i]);
			n++;
		}
	for (int shape = CTL_EMPTY; shape < CTL_SHAPES; shape++, n++)
		lost_after(t, ctl, (enum ctl_shape)shape, CTL_CHILD_EXIT);
	printf("         supervisor, to whom hears %s: %u cases\n", t->name, n);
}
