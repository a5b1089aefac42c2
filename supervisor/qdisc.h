/* What netd has changed on the links of a pod, taken back when the sandbox is over. */
#pragma once

#include "common/error.h"

/*
 * In the network namespace at this path: takes the ingress qdiscs of netd from
 * every link, known by their filters (ipc/tcfilter.h), unless a VM lives there.
 * A path that is gone, or is none any more, leaves nothing to do. Works in a
 * child, at most 2 s. 0, or -errno with err.
 */
int qdisc_clean(const char *netns, struct error *err);
