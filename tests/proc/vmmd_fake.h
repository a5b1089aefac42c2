/* A QEMU of ours behind the real bulkhead-vmmd: the test is its slot, and then what it becomes. */
#pragma once

#include "tests/proc/vmmd_rig.h"

#define GREETING "{\"QMP\": {\"version\": {}, \"capabilities\": []}}\r\n"
#define QMP_FD	 10

struct fake {
	struct rig rig;
	int job;     /* the slot's end of its channel */
	int fds[64]; /* what vmmd has sent, by number */
	unsigned n_args;
	char args[16384]; /* one after another, each with a space behind it */
};


/* The process ends within 5 s, with this status. */
void expect_exit(int *pid, int status);

/* vmmd runs and nobody has asked it yet; nothing is left of either. */
void fake_start(struct fake *f);
void fake_done(struct fake *f);

/* As the frontend: asks, and does not wait. */
void ask_launch(struct fake *f);
void ask_stop(struct fake *f);

/* Takes the job as the slot would, then "becomes QEMU": the channel closes. */
void fake_exec(struct fake *f);

/* Up to a LAUNCH that has succeeded. */
void fake_launch(struct fake *f);

/* After it: the CPUs run; they stand still again. */
void fake_cont(struct fake *f);
void fake_pause(struct fake *f);

/* As QEMU, on QMP: a line; the next command and its id; success. */
void say(struct fake *f, const char *text);
int hear(struct fake *f, const char *command);
void answer(struct fake *f, int id);
void answer_with(struct fake *f, int id, const char *value);

/* QEMU closes everything it has, and the supervisor says so. */
void qemu_ends(struct fake *f, int status);

/* What comes to the frontend next is an error with this text in it. */
void expect_launch_error(struct fake *f, const char *text);

/* vmmd asks the supervisor for QEMU's end, or has done so. */
void expect_kill(struct fake *f);
