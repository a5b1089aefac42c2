/*
 * The settings of this host: <prefix>/etc/bulkhead/bulkhead.conf, lines of
 * key=value. The prefix is found from the shim's own path, so an installed
 * tree can be moved as a whole; beneath /usr the file is /etc/bulkhead/.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

#define CONFIG_LIST_MAX 12
#define CONFIG_PATH_MAX 512

struct config_list {
	unsigned n;
	char item[CONFIG_LIST_MAX][CONFIG_PATH_MAX];
};

#define VCPUS_MAX      240
#define MEMORY_MIB_MAX (4 << 20)

struct config {
	char libexec[CONFIG_PATH_MAX];	 /* where the helpers are; not a key */
	char run_dir[CONFIG_PATH_MAX];	 /* of all sandboxes */
	uint64_t uid_base;		 /* sandbox n gets uid_base + 8n to uid_base + 8n+7 */
	uint64_t max_sandboxes;
	char qemu[CONFIG_PATH_MAX];
	char virtiofsd[CONFIG_PATH_MAX]; /* "": the first that is installed */
	char virtio_fs_cache[8];	 /* auto or keep: mountd/virtiofsd.h */
	char kernel[CONFIG_PATH_MAX];
	char initrd[CONFIG_PATH_MAX];
	char cmdline[2048];
	char accel[8];	    /* as QEMU names it; "auto" in the file is resolved by config_resolve() */
	char accel_why[96]; /* why "auto" is not KVM; else "" */
	uint64_t vcpus, memory_mib; /* of a sandbox without limits */
	uint64_t max_vcpus, max_memory_mib; /* to which Update may raise a VM that runs; TCG: CPUs of the host at most */
	/* What a VM needs itself, beside its limits. */
	uint64_t overhead_millicpus, overhead_memory_mib;
	char network_model[16];		 /* tcfilter, macvtap or none */
	uint64_t network_queues;	 /* of each NIC */
	uint64_t disable_vhost_net;	 /* 1: not used, also where /dev/vhost-net is */
	char agent_transport[8];	 /* serial or vsock: how the guest's agent is reached */
	uint64_t hello_timeout_ms;
	struct config_list rootfs_prefix;
	struct config_list stdio_prefix;
	struct config_list log_prefix; /* where file:// may append; nowhere by default */
};

/* Defaults, then the file if it is there. An unknown key or a bad value is an error with its line. */
int config_load(struct config *ret, struct error *err);

/*
 * Puts the settings of a file's text, which is cut into pieces, over those of *c; path is its
 * name in sentences. 0, or -EINVAL with err.
 */
int config_parse(struct config *c, const char *path, char *text, struct error *err);

bool config_is_vsock(const struct config *c);

/* What only a start needs: finds virtiofsd, decides accel, reads the guest image's command line. */
int config_resolve(struct config *c, struct error *err);
