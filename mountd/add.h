/* ADD_CONTAINER: everything of the host that a container needs, or nothing of it. */
#pragma once

#include "ipc/mountd.pb-c.h"
#include "ipc/serve.h"
#include "ipc/tables.h"

/* The answer, with the disks that the container uses. */
struct container_reply {
	Ipc__MountdAddContainerReply msg;
	Ipc__MountdAddContainerReply__Disk item[DISKS_MAX], *at[DISKS_MAX];
};

/* 0 with the answer, or -errno with err. -EPROTO: no honest frontend asks for this. */
int add_container(struct helper *h, const Ipc__MountdAddContainer *req,
	struct container_reply *ret, struct error *err);
