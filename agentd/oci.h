/*
 * config.json to the agent's Spec: a pure function of its text. Walks one table
 * per message, so that what is passed on can be read off it; what has no row is
 * not. Then the host's part is taken out: its paths, namespaces, labels and
 * hooks mean nothing in the guest. Devices are left to devices.h.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "agent.pb-c.h"
#include "common/error.h"
#include "oci.pb-c.h"

#define OCI_TEXT_MAX  ((size_t)4 << 20)
#define OCI_DEPTH_MAX 32

/* Where the guest sees the share, and the /dev/shm of its pod. */
#define GUEST_SHARE "/run/kata-containers/shared/containers/"
#define GUEST_SHM   "/run/kata-containers/sandbox/shm"

struct oci_spec {
	Grpc__Spec *spec;
	bool joins_pidns; /* it named a pid namespace to join: the pod's */
	Grpc__Storage **storages; /* what the guest mounts before: ephemeral.h, devices.h */
	size_t n_storages;
	Grpc__Device **devices; /* disks that are devices of the container: devices.h */
	size_t n_devices;
};

#define OCI_SPEC_INIT { .spec = NULL }

void oci_spec_done(struct oci_spec *s);

/*
 * text ends with a NUL that len does not count. 0, or -errno with one sentence
 * that names the place in the JSON.
 */
int oci_parse(const char *text, size_t len, unsigned index, struct oci_spec *ret,
	struct error *err);

/* The process of an exec, the resources of an update; the caller frees *ret. Errors as above. */
int oci_parse_process(const char *text, size_t len, Grpc__Process **ret, struct error *err);
int oci_parse_resources(const char *text, size_t len, Grpc__LinuxResources **ret,
	struct error *err);

/* config.json from a file, read once. */
int oci_read(int fd, unsigned index, struct oci_spec *ret, struct error *err);
