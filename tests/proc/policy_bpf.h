/*
 * Runs a seccomp filter on paper: what the kernel would answer to a system
 * call, without making it.
 */
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

#define BPF_PROGRAM_MAX 4096

struct bpf_program {
	size_t n;
	struct sock_filter insn[BPF_PROGRAM_MAX];
};

/* The program that policy_export() gives for this policy; fails the test if there is none. */
void bpf_of_policy(const char *name, struct bpf_program *ret);

/* SECCOMP_RET_*; fails the test on an instruction that no seccomp filter has. */
uint32_t bpf_run(const struct bpf_program *p, const struct seccomp_data *d);
