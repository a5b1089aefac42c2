/*
 * File systems of the pod, as Storage messages describe them. They are the sandbox's: a mount point
 * named again, by another container, is the same storage, and all live until DestroySandbox. But for
 * disks: each is the container's that names it, which unmounts it.
 */
#pragma once

#include "agent.pb-c.h"
#include "util.h"

#define STORAGES_MAX 256

/* Mount them in order. For job children only: it blocks. Returns 0, or -1 with *err filled. */
int storage_mount_all(Grpc__Storage *const *storages, size_t n, struct error *err);

/* Is it the container's, and to be unmounted with it? */
bool storage_of_container(const Grpc__Storage *s);

/* Flush everything, then unmount what storage_mount_all() mounted. */
void storage_unmount_all(void);
