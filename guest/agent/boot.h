/* What PID 1 does before it is an agent. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Mount proc, sysfs, devtmpfs and make the root one that crun can pivot away from. */
void boot_early(void);

/* Copy the value of KEY=VALUE of the kernel's command line; false if there is no such word. */
bool boot_option(const char *key, char *value, size_t size);

/* The rest, which the host need not wait for: cgroup2, devpts, tmpfs, loopback. */
void boot_late(void);
