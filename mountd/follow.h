/*
 * Volumes with mount propagation: what the host mounts in one while its container runs appears
 * there, and goes when the host unmounts it.
 *
 * The kernel alone would do that if the volume in the share were a slave of the host's mount. But
 * what arrived would have the host's flags, be of any file system, also of those that no VM must
 * have, and the host could not unmount it (EBUSY) for as long as the guest remembers one file of it,
 * which virtiofsd then holds open. So the slave lies in the private tmpfs, where nobody opens
 * anything: the stage. Whenever mountinfo changes a worker makes the volume like its stage, by
 * copies that are looked at and made safe as every volume is.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

struct helper;

#define FOLLOWS_MAX	64 /* in a sandbox */
#define FOLLOW_NAME_MAX 81
#define FOLLOW_SOURCE	1 /* of mountd's helper_source */

struct follow {
	unsigned index, number;	    /* its place: c<index>/v<number> */
	bool readonly;		    /* what is mounted in it too */
	bool told;		    /* that something was kept out of it */
	char name[FOLLOW_NAME_MAX]; /* for sentences */
};

struct follows {
	size_t n;
	struct follow item[FOLLOWS_MAX];
};

/* Its volume is in the share. stage: a detached slave of its source. 0, or -errno with err. */
int follow_add(struct helper *h, const struct follow *what, int stage, struct error *err);

/* Makes every volume like its stage. Nothing that fails here is an error of a request: it is logged. */
void follow_all(struct helper *h);

/* Unmounts the stages of a container. May block: for a worker. */
int follow_unmount(struct helper *h, unsigned index, struct error *err);

/* Afterwards. Its volumes are not followed any more, unmounted or not. */
void follow_forget(struct helper *h, unsigned index);
