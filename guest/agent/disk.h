/* Disks that the host has plugged in, by their serial numbers, and devices of containers that they are. */
#pragma once

#include "agent.pb-c.h"
#include "util.h"

/* For job children only: waits until the disk is there. Its node in /dev, which the caller frees, or NULL with *err filled. */
char *disk_find(const char *serial, struct error *err);

/*
 * The same of each device, which the spec has with the host's numbers: it and the rules about it get
 * the guest's. One that is not in /dev is bound from a node of the agent's own beneath dir, as the
 * root need not be a file system that can have devices. Returns 0, or -1 with *err filled.
 */
int disk_devices(Grpc__Spec *spec, Grpc__Device *const *devices, size_t n, const char *dir,
        struct error *err);
