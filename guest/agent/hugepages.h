/*
 * Huge pages: the guest has as many as the limits of its containers say. They are reserved when a
 * container is created, or it is not created, and given back when it is removed. Those that files
 * of a volume still take then stay theirs, and count for the next container that reserves some.
 */
#pragma once

#include "oci.pb-c.h"
#include "util.h"

#define HUGEPAGES_MAX 4 /* sizes of pages */

struct hugepages {
	size_t n;
	struct {
		uint64_t kib, pages;
	} of[HUGEPAGES_MAX];
};

/* What resources, or NULL, ask for. -1 with err: of pages of a size that the kernel does not have. */
int hugepages_read(const Grpc__LinuxResources *resources, struct hugepages *ret, struct error *err);

/* Drops limits of 0 for such pages: there is no file to write them to. */
void hugepages_leave_out(Grpc__LinuxResources *resources);

/* For a job: others do the same at the same time. All of them or, -1 with err, none. */
int hugepages_take(const struct hugepages *h, struct error *err);
void hugepages_give_back(const struct hugepages *h);

/* Does the kernel have pages of so many bytes? 0, or -1 with err. */
int hugepages_check(uint64_t bytes, struct error *err);

/* Whoever has no limit of them may take what memory there is now, when it maps them. */
void hugepages_on_demand(uint64_t bytes);
