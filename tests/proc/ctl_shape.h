/* Packets for a control socket (ipc/ctl.h) that are no control message. */
#pragma once

#include "ipc/ctl.h"

/* How a packet is no control message. */
enum ctl_shape {
	CTL_WELL_FORMED,
	CTL_EMPTY,
	CTL_SHORT,
	CTL_LONG,
	CTL_NO_NUL,  /* the text has no end */
	CTL_NO_ROLE, /* a role that there is not */
	CTL_WITH_FD,
	CTL_SHAPES,
};

/* Sends a packet of this shape; type and role matter if it is well-formed otherwise. */
void ctl_send_shape(int fd, enum ctl_shape shape, uint16_t type, enum role role);
