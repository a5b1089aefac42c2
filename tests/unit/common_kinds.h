/* One fd of every kind, to be the right one here and the wrong one everywhere else. */
#pragma once

#include "common/fd.h"

/* An fd that fd_check_kind() must take for this kind; -1 where the machine has no such thing. */
int make_kind(enum fd_kind kind);

/* What make_kind(real) gives is of this kind too: a stream is made as a unix stream. */
bool kind_is_also(enum fd_kind real, enum fd_kind kind);
