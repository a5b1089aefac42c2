/* What mountd's tests share beyond their rig: snapshots by number, checks, and somebody who swaps names. */
#pragma once

#include <sys/types.h>

#include "common/clock.h"
#include "tests/proc/mountd_rig.h"

#define BIT(cap) (1ULL << (cap))

#define CHECK_OK(call)                                                 \
	do {                                                           \
		struct error _err = ERROR_INIT;                        \
		struct error *err = &_err;                             \
		if ((call) != 0)                                       \
			test_fail(__FILE__, __LINE__, "%s", _err.msg); \
	} while (0)

#define CHECK_REFUSED(call, code_, says)        \
	do {                                    \
		struct error _err = ERROR_INIT; \
		struct error *err = &_err;      \
		CHECK_INT(call, code_);         \
		CHECK_CONTAINS(_err.msg, says); \
	} while (0)

/* For add_overlay(): snapshots 2 and 1. */
extern const unsigned two_layers[];

void make_snapshots(unsigned n);

/* A world with so many snapshots, and mountd in it. */
struct rig world_up(unsigned snapshots);

/* Whether an overlay anywhere still has the snapshot's upperdir: with index=on the kernel says. */
bool in_use(unsigned top);

/* So many rounds, or what this machine can do in 12 s; in the long form 100,000 of them. */
#define RACE_MS		 12000
#define RACE_LONG_ROUNDS 100000
#define RACE_LONG_MS	 1200000
#define RACE(i, rounds)                                                                     \
	(int64_t _end = clock_ms() + (race_is_long() ? RACE_LONG_MS : RACE_MS), _r = 0;     \
		(i = (unsigned)_r) < (race_is_long() ? RACE_LONG_ROUNDS : (rounds)) &&      \
		clock_ms() < _end;                                                          \
		_r++)
bool race_is_long(void);

/* Exchanges two names as fast as it can, until killed. */
pid_t swapper(const char *a, const char *b);
void stop(pid_t pid);

/* ---- the share ---- */

/* START_SHARE: 0, or the errno of the answer. */
int ask_share(struct rig *r, struct error *err);
/* The real slot, with our end of mountd's channel to it. Skips the test where binary is not there. */
struct started slot_up(struct rig *r, const char *binary);
/* As vmmd: the connection to virtiofsd, that mountd has sent. */
int take_share(struct rig *r);
