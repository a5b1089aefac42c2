/* ADD_CONTAINER: everything of the host that a container needs, or nothing of it. */
#pragma once

#include "ipc/mountd.pb-c.h"
#include "ipc/serve.h"

/* 0, or -errno with err. -EPROTO: no honest frontend asks for this. */
int add_container(struct helper *h, const Ipc__MountdAddContainer *req, struct error *err);
