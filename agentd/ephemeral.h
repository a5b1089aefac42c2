/*
 * Volumes that are memory: the guest mounts a tmpfs or, for huge pages, a hugetlbfs of its own, once
 * for all containers of the pod that have the volume, and it lives as long as the pod. How many huge
 * pages the guest reserves the limits of each container say, not the volume.
 */
#pragma once

#include "agentd/oci.h"
#include "ipc/mountd.pb-c.h"

/* Where the guest has them; Kata's place. Behind it the volume's id. */
#define GUEST_EPHEMERAL "/run/kata-containers/sandbox/ephemeral/"

/*
 * For each volume that config calls memory: a storage is added to s, and the mount that took it
 * from the share takes it from there. Where the spec has no limit of a volume's huge pages it gets
 * one, if the volume has. 0, or -errno with err: no mount is of that volume, or ENOMEM.
 */
int ephemeral_amend(struct oci_spec *s, const Ipc__Config *config, struct error *err);
