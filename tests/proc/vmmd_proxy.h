/*
 * Between bulkhead-vmmd and the real QEMU: takes QEMU's end of QMP out of the
 * slot's job and puts itself there. A thread passes lines and fds on, makes a
 * command fail that the test names by its number, and asks QEMU for the test.
 */
#pragma once

#include <pthread.h>

#include "tests/proc/vmmd_rig.h"

struct proxy {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	int job_vmmd, job_slot; /* the slot's channel, both ways */
	int vmmd, qemu;		/* QMP, both ways */
	int wake[2];
	unsigned commands; /* of vmmd, since proxy_arm() */
	unsigned fail_at;  /* answer this one with an error: 0, none */
	bool fired;
	char failed[64]; /* the command that was made to fail */
	char *answer;	 /* to the test's own question */
};

/* Takes our ends: of vmmd's job, and of the slot's. */
void proxy_start(struct proxy *p, int job_vmmd, int job_slot);
void proxy_done(struct proxy *p);

/* From now on the n-th command of vmmd fails. 0: none. */
void proxy_arm(struct proxy *p, unsigned n);
bool proxy_fired(struct proxy *p);

/* QEMU's answer to a question of the test, the whole line; the caller's. */
char *proxy_ask(struct proxy *p, const char *command, const char *arguments);
