/* A12: everything that is wrong to say on a control socket (ipc/ctl.h). */
#pragma once

#include "tests/proc/ctl_shape.h"
#include "tests/proc/hostile.h"

/*
 * A supervisor that breaks the protocol after LOCK: the role of the target is
 * lost. ctl: the supervisor's end, once the target is up. Types in `takes` (a
 * bit each) are the role's to take, and are not tried.
 */
void hostile_supervisor(const struct hostile_target *t, int (*ctl)(void), unsigned takes);
