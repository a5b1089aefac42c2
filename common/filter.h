/*
 * The system call filters: BPF programs that the build has made from
 * seccomp-profiles/<name>.policy (common/policy.h) and put into every binary.
 */
#pragma once

#include <linux/filter.h>
#include <stddef.h>

#include "common/error.h"

/* The program of policy <name> and its length in instructions, or NULL. */
const struct sock_filter *filter_program(const char *name, size_t *ret_len);

/* Sets no_new_privs and loads filter <name> on this process. Not undone by anything but its end. */
int filter_load(const char *name, struct error *err);
