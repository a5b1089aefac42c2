#include "common/devices.h"

#include <stddef.h>

#include "common/error.h"

bool device_is_everywhere(int64_t major, int64_t minor)
{
	static const struct {
		int64_t major, minor; /* -1: each of them */
	} everywhere[] = {
		{ 1, 3 },    /* null */
		{ 1, 5 },    /* zero */
		{ 1, 7 },    /* full */
		{ 1, 8 },    /* random */
		{ 1, 9 },    /* urandom */
		{ 5, 0 },    /* tty */
		{ 5, 1 },    /* console */
		{ 5, 2 },    /* ptmx */
		{ 10, 200 }, /* net/tun */
		{ 10, 229 }, /* fuse */
		{ 136, -1 }, /* pts */
	};

	for (size_t i = 0; i < ARRAY_SIZE(everywhere); i++)
		if (major == everywhere[i].major &&
			(minor == everywhere[i].minor || everywhere[i].minor < 0))
			return true;
	return false;
}
