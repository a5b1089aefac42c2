/*
 * Disks and devices: what of config.json mountd has made a disk of the VM becomes the guest's, what
 * every kernel has stays, and nothing else of the host's is left.
 */
#pragma once

#include "agentd/oci.h"
#include "ipc/mountd.pb-c.h"

/*
 * The root that is a disk becomes a storage, a block device or one that is bound a device of the
 * guest, with rules for both. 0, or -errno with one sentence.
 */
int devices_amend(struct oci_spec *s, const Ipc__Config *config, struct error *err);
