/*
 * Follows a sandbox, or one role, by ptrace: from its first exec through every fork, thread, exec
 * and PID namespace to its end. Two things can be done on the way: note which rules of the system
 * call policies are used (uses.c), and make one system call of one process fail (faults.c).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

/* What a test can make fail: each kind is a set of system calls and the errno they are given. */
enum fault_kind {
	FAULT_MEMORY,    /* ENOMEM */
	FAULT_FDS,       /* EMFILE */
	FAULT_FDS_CAME,  /* no number is free for an fd that comes by recvmsg() */
	FAULT_IO,        /* EIO, on files and directories */
	FAULT_SPACE,     /* ENOSPC */
	FAULT_PROCESS,   /* EAGAIN of fork and thread creation */
	FAULT_PRIVILEGE, /* EPERM of what gives up, takes or uses privilege */
	FAULT_INTERRUPT, /* EINTR of whatever blocks */
	FAULT_AGAIN,     /* EAGAIN of what must not block */
	FAULT_KINDS,
	FAULT_NONE = FAULT_KINDS,
};

/* How far a process has come, for the list of calls. */
enum stage {
	STAGE_OPEN, /* no filter of ours yet */
	STAGE_SHUT, /* its filter is loaded */
	STAGE_VM,   /* and QEMU runs */
};

struct process {
	pid_t pid;
	char name[32];	 /* of what it executes: "start", "delete", "netd", "slot-qemu", "qemu"; its
			    n-th child until that executes something: "start.1" */
	unsigned forked; /* children so far */
	unsigned threads;
	int policy;	 /* of uses.c; -1: none is loaded */
	unsigned long calls[FAULT_KINDS];
	struct process *next;
};

/* One system call, from its entry to its exit. */
struct call {
	uint64_t nr, args[6];
	int64_t result;		/* at its exit */
	int loads;		/* the policy it loads; -1: none */
	unsigned kinds;		/* that it is of: 1 << enum fault_kind */
	int injected;		/* the errno that its caller will see; 0: it is carried out */
	bool no_fds;		/* RLIMIT_NOFILE is 0 for its length */
};

struct thread {
	pid_t tid;
	struct process *process;
	bool in_call;
	struct call call;
	struct thread *next;
};

/* The settings, lines of key=value; see tracer.c. */
struct settings {
	char report[512]; /* a directory */
	char log[512];	  /* a file */
	bool list;
	char process[32];
	enum fault_kind kind;
	unsigned long ordinal, every;
};

const char *call_name(uint64_t nr);

/* ---- uses.c: what of the policies is used ---- */

void uses_init(void);
/* The policy whose filter the call would load, or -1. */
int uses_loads(pid_t tid, const struct call *c);
const char *uses_policy_name(int policy);
void uses_note(int policy, const struct call *c);
/* Writes what was noted to a new file in the directory. */
void uses_write(const char *directory);

/* ---- faults.c: calls that fail ---- */

/* -1 and FAULT_NONE for unknown words. */
enum fault_kind fault_kind_of(const char *word);
const char *fault_kind_name(enum fault_kind kind);
/* At the entry of a call: classifies and counts it, and makes it fail if it is the one. */
void fault_enter(struct thread *t, const struct settings *s);
/* At its exit. */
void fault_leave(struct thread *t);
/* After it: one line for each kind it is of, with its number in the process. */
void fault_list(FILE *f, const struct thread *t, const char *stage);
