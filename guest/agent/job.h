/*
 * Work that may block, in straight-line code: a forked child does it and reports once.
 *
 * The child sees the agent's memory as it was at the fork, so its argument needs no serialising.
 * Children of containers are adopted by the agent when crun has ended, so their exit statuses come
 * to reap() and not to the job. While any job runs, reap() leaves processes it does not know as
 * zombies: a pid in a report is therefore still that process, dead or alive.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "util.h"

/* What the child hands back when it succeeds. */
struct job_report {
	pid_t pid;
	int fd; /* -1, or a descriptor that the parent will own */
};

/* In the child. Returns 0, or -1 with *err filled. */
typedef int job_work(const void *arg, struct job_report *report, struct error *err);

/*
 * In the parent, exactly once. err is NULL on success. What is left in report->fd is closed
 * afterwards. owner is NULL if job_disown() was called.
 */
typedef void job_done(
        void *owner, uint32_t stream, struct job_report *report, const struct error *err);

struct job;

struct job_spec {
	job_work *work;
	const void *arg;
	const int *stdio;       /* the child's 0, 1 and 2, or NULL; -1 is /dev/null */
	unsigned int timeout_s; /* then the child is killed, with all it started */
	job_done *done;
	void *owner;
	uint32_t stream;
};

/*
 * Start a child. It has no descriptor but its standard ones. Returns NULL with *err filled if there
 * are too many; done() is not called then.
 */
struct job *job_start(const struct job_spec *spec, struct error *err);
void job_disown(struct job *job);
bool jobs_running(void);

/*
 * For work functions: run a program, which inherits the job's standard descriptors, and wait.
 * Returns its wait status, or -1 with *err filled.
 */
int job_run(const char *const argv[], struct error *err);
