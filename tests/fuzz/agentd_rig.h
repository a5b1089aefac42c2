/*
 * agentd behind its isolation, with everybody it speaks to played by the
 * input: for fuzz_agentd.c, where all of them are hostile, and fuzz_guest.c,
 * where only the guest is and a container runs already.
 *
 *	u8 what	0: bytes from the guest's agent	1: its answer to a call (below)
 *		2: its right answers to all calls but waits (odd: to those too), u16
 *		   half the bytes of output
 *		3: bytes of the console		4: time passes
 *		5: bytes into the container's stdin	6: its output is read
 *		7: the guest closes something	from 8 on, not of the guest:
 *		8: a packet of the frontend	9: of mountd	10: of vmmd
 *		11: a control message		12: one of them closes
 *		13: the right fds of a container, u8 its number
 *
 * An answer is u8 flags (1: a status, 2: to the newest call, 4: the call stays
 * open), then u8 code and a text, or the payload.
 */
#pragma once

#include "tests/fuzz/lib/input.h"

/* Runs it. guest_only: after a container has been started, in front of the input. */
void agentd_fuzz(const uint8_t *data, size_t size, int guest_only);
