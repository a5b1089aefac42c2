/* A pod's network namespace, as the launcher sees it: a path of config.json. */
#pragma once

#include <sys/types.h>

#include "common/error.h"

/* An fd, the caller's. It is a network namespace, and not the host's; else -errno with err. */
int netns_open(const char *path, struct error *err);

/*
 * Has netd, which is in libexec and runs there as uid with CAP_NET_ADMIN, take
 * back what it has changed on the links of the namespace. A path that is gone,
 * or is no such namespace any more, leaves nothing to do. Blocks at most 1 s.
 * 0, or -errno with err.
 */
int netns_clean(const char *path, const char *libexec, uid_t uid, struct error *err);
