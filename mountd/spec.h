/*
 * The little that mountd reads of a config.json: is it ours, is its root
 * read-only, where will something be mounted in it. agentd parses it whole.
 * Only a worker (worker.h) ever parses one.
 */
#pragma once

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"

#define SPEC_BYTES_MAX (4U << 20)
#define SPEC_DEPTH_MAX 32

struct spec {
	struct json_object *json; /* owns all text below */
	const char *root_path;
	bool readonly;
	const char *sandbox_id; /* the pod it says it belongs to; NULL: none */
	const char *cwd;	/* of the process; NULL: none */
	struct json_object *mounts; /* an array, or NULL */
	struct json_object *devices, *device_rules; /* of linux and of its resources; the same */
};

#define SPEC_INIT { .json = NULL }

/* Once, before the filter: json-c draws its hash seed from getrandom() when it sees the first key. */
void spec_prepare(void);

struct spec_mount {
	const char *destination;
	const char *source; /* NULL: none */
	bool bind, recursive, readonly, readonly_recursive;
	bool follows; /* what the host mounts in it later: slave, rslave, shared, rshared */
	bool shared;  /* the latter two, which say more than can be */
};

/*
 * Opens config.json in a bundle: a regular file of root, at most
 * SPEC_BYTES_MAX. The fd, or -errno with err.
 */
int spec_open(int bundle, struct error *err);

int spec_parse(const char *text, size_t len, struct spec *ret, struct error *err);
int spec_read(int fd, struct spec *ret, struct error *err);
void spec_done(struct spec *spec);

/* Number of mounts, and one of them: false when its destination cannot be read. */
size_t spec_n_mounts(const struct spec *spec);
bool spec_mount(const struct spec *spec, size_t i, struct spec_mount *ret);

/*
 * The volume of this number, in the order of config.json: whatever is bound, but
 * for /dev/shm, which is the guest's. agentd counts in the same way. False: there are no more.
 */
bool spec_volume(const struct spec *spec, size_t number, struct spec_mount *ret);

/* A block device of linux.devices. */
struct spec_device {
	size_t place; /* in the list */
	const char *path; /* in the container */
	int64_t major, minor; /* of the host; -1: it has none */
	bool readonly; /* the rules let nobody write to it */
};

/* The block device of this number, in the order of config.json. False: there are no more. */
bool spec_device(const struct spec *spec, size_t number, struct spec_device *ret);

/*
 * Are linux.devices all of the host, as containerd and Docker fill them in for a privileged
 * container? Everything is allowed then, and there are character devices that no VM has. Who names
 * the devices that he wants gets rules for them, and not all that.
 */
bool spec_has_host_devices(const struct spec *spec);
