/*
 * A volume: a directory or a file of the host that config.json binds into the
 * container, as a detached mount. Any path, as with runc: who writes config.json
 * decides. Only what the host's kernel shows of itself, which virtiofsd as uid 0
 * could write, never gets into a VM. For a worker.
 */
#pragma once

#include "mountd/spec.h"

/*
 * proc: a procfs that shows this process. The mount, or -errno with err. It is
 * nodev, and for the host's kernel read-only as the options say: the topmost
 * mount alone with "ro", all of them with "rro".
 */
int volume_make(int proc, const struct spec_mount *m, struct error *err);

/*
 * An emptyDir whose medium is memory: a tmpfs that the kubelet has mounted on the
 * volume's directory. The guest has one of its own instead, which costs the pod's
 * memory and not the host's. 1 or 0, or -errno with err.
 */
int volume_is_memory(const struct spec_mount *m, struct error *err);
