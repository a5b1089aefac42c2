/* What persistd may be asked. */
#pragma once

#include "ipc/serve.h"
#include "persistd/store.h"

/* A helper that serves fd with s as its context. */
struct helper persistd_helper(int fd, struct store *s);
