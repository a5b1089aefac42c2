/* Detached mounts: made, and made safe, before anybody can see them. For workers. */
#pragma once

#include <stdbool.h>

#include "common/error.h"

/* A copy of the mount that dir is in, from there on. -1 with errno. */
int tree_clone(int dir, bool recursive);

/* The same, private and nodev. dir may be a file. The mount, or -errno with err. */
int tree_bind(int dir, bool recursive, struct error *err);

/* Not private but a slave of the host's: what is mounted there later appears in it. The same. */
int tree_follow(int dir, bool recursive, struct error *err);

/* On the detached tree: by a later remount, the copy that virtiofsd sees would stay writable. Checked. */
int tree_make_readonly(int tree, bool recursive, struct error *err);
