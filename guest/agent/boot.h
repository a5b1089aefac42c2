/* What PID 1 does before it is an agent. */
#pragma once

#include <stdbool.h>

/* Mount proc, sysfs, devtmpfs and make the root one that crun can pivot away from. */
void boot_early(void);

/* Whether the kernel's command line has this word. */
bool boot_word(const char *word);

/* The rest, which the host need not wait for: cgroup2, devpts, tmpfs, loopback. */
void boot_late(void);
