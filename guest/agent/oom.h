/* Containers whose memory has run out: told by GetOOMEvent, before the exit it caused. */
#pragma once

#include <stdbool.h>

struct container;

/* Of a container that was created: hear of it from now on. */
void oom_watch(struct container *c);

/* Look now, before an exit is told. */
void oom_check(struct container *c);

/* It has run out and who listens has not heard of it yet. */
bool oom_untold(const struct container *c);
