/* Which character devices mean the same to every kernel, so that a guest has its own of them. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* null, zero, full, random, urandom, tty, console, ptmx, the ptys, fuse, net/tun. minor -1: all of its major. */
bool device_is_everywhere(int64_t major, int64_t minor);
