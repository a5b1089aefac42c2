/* Mount points inside a root that will be read-only. For a worker. */
#pragma once

#include "mountd/spec.h"

/*
 * Makes, in the still writable root, the directories and files on which the
 * guest's runtime will mount, and the working directory: as runc does before
 * it makes a root read-only. The pause image, for one, has no /proc. What
 * cannot be made is left to the guest, which has the better sentence.
 */
void mountpoints_make(int root, const struct spec *spec);
