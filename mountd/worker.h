/*
 * Whatever touches a file system that is not ours happens in a forked worker:
 * an NFS server that does not answer holds the worker, not mountd. The worker
 * returns fds (a detached mount, an opened file) and mountd does with them
 * what only concerns its own directories. So a worker that must be given up
 * leaves nothing: what it has made goes with its fds.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/fd.h"

#define WORKERS_HUNG_MAX 4

struct workers {
	int timeout_ms;
	/* pidfds of workers that were given up and still exist; -1: free */
	int hung[WORKERS_HUNG_MAX];
};

#define WORKERS_INIT(ms) { .timeout_ms = (ms), .hung = { -1, -1, -1, -1 } }

/*
 * What runs in the worker: fds to return go to ret_fds. 0, or -errno with err.
 * -EPROTO: the peer has asked for what no honest frontend asks for.
 */
typedef int (*worker_fn)(void *ctx, struct fdlist *ret_fds, struct error *err);

/*
 * What a worker tells besides fds: bytes of the caller's, at most WORKER_NOTE_MAX, which fn fills
 * in its copy and which come back when it succeeds.
 */
#define WORKER_NOTE_MAX 1024

struct worker_note {
	void *data;
	size_t size;
};

#define WORKER_NOTE(v)	((struct worker_note){ (v), sizeof(*(v)) })
#define WORKER_NOTHING	((struct worker_note){ NULL, 0 })

/*
 * Runs fn in a worker. Blocks at most timeout_ms. what names the work in the
 * sentence when it takes longer (-ETIMEDOUT).
 */
int worker_run(struct workers *w, const char *what, worker_fn fn, void *ctx,
	struct worker_note note, struct fdlist *ret_fds, struct error *err);
