/* One vCPU more, at hot-plug. The numbers are those of query-hotpluggable-cpus. */
#pragma once

#include "vmmd/qemu_object.h"

struct device_cpu {
	struct qemu_object base;
	unsigned driver; /* the model of -cpu: there is one */
	char id[QEMU_ID_SIZE];
	uint64_t socket_id, die_id, core_id, thread_id;
};

extern const struct qemu_class device_cpu_class;

/* All numbers 0: the caller sets them and checks. */
int device_cpu_init(struct device_cpu *o, const char *id, struct error *err);
