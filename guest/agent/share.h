/*
 * The share: the host's directories, by virtiofs. Each file system of the host in it is one of its
 * own here (a submount), which the kernel mounts when somebody walks into it and takes away with
 * its last mount.
 *
 * A process that is killed while it waits for a page leaves the kernel's read on its way, and the
 * file's inode in use until the host has answered. A kernel that takes the file system away before
 * that stops with a BUG ("Busy inodes after unmount", Linux 6.1, fs/super.c; only for submounts: the
 * share itself waits for all requests). A container is killed at any moment, and its mounts go with
 * it. So the agent mounts what a container uses as well, and is the one that takes it away, when
 * everything is answered.
 */
#pragma once

#include "util.h"

/* Make the number of unanswered requests readable. Without virtiofs in the kernel nothing happens. */
void share_init(void);

/* Mount the file system that path is on in the share, if it is one; else nothing happens. */
void share_hold(const char *path);

/*
 * For job children only: it waits for the host. Take away what share_hold() mounted, after the last
 * process that used it has gone. Returns 0, or -1 with *err filled: then it stays mounted.
 */
int share_release(const char *path, struct error *err);
