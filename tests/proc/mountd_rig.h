/*
 * The real mountd between a fake frontend, agentd, vmmd and supervisor, in a
 * small host of its own: the test's mount namespace with a tmpfs on /mnt, all
 * of it MS_SHARED so that whatever could propagate would.
 *
 *	/mnt/share			where the share goes
 *	/mnt/bundles/first		config.json, rootfs
 *	/mnt/snap/<n>/fs, work		snapshots: rootfs_prefix is /mnt/snap
 *	/mnt/stdio			FIFOs: stdio_prefix
 *	/mnt/log			files: log_prefix
 *	/mnt/secret/marker		beneath no prefix
 */
#pragma once

#include "ipc/fds.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/tables.h"
#include "tests/proc/common_role.h"

#define SANDBOX "sandbox-1"

struct rig {
	struct started role; /* its channel is the frontend's */
	int agentd, vmmd; /* our ends */
	int slot;	  /* the same; may be given to a real slot as SLOT_FD_JOB */
	int nothing; /* pidfd of the void */
	size_t n_memory; /* what the last CONFIG said of volumes in memory: how many, the first */
	Ipc__Config__Memory memory;
	/* what it said of disks, and the last answer */
	size_t n_uses;
	Ipc__Config__Disk uses[4];
	char fstype[16];
	bool host_devices, pod;
	size_t n_disks;
	uint32_t disks[DISKS_MAX];
	bool read_only[DISKS_MAX];
};

void world_make(void);

/* Makes directories as needed; printf() for the path. */
void make_dir(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void make_file(const char *path, const char *text);
/* "" when it cannot be read. For one expression: a static buffer. */
const char *text_of_file(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* /mnt/snap/<n>/fs with a file l<n> in it, and work. */
void make_snapshot(unsigned n);
void make_bundle(const char *name, const char *sandbox, const char *root);

/* more: further words of argv, or NULL. */
/* By its path mountd takes virtiofsd for QEMU's. A test that runs it asks for the one that is installed. */
#define RIG_VIRTIOFSD_C "/usr/lib/qemu/virtiofsd"
extern const char *rig_virtiofsd;
void rig_installed_virtiofsd(void);

struct rig rig_start(const char *const *more);
struct rig rig_up(void);
void rig_close(struct rig *r);

/* Path as mountd sees it: /proc/<pid>/root<path>. For one expression. */
const char *in_m(const struct rig *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* 0, or the errno of the answer. The config.json that agentd gets is checked and closed. */
int add(struct rig *r, unsigned index, const char *bundle, const char *type, const char *source,
	const char *const *options, struct error *err);
/* overlay of the snapshots top (upper and work), below[0], below[1], ... until 0. */
int add_overlay(struct rig *r, unsigned index, unsigned top, const unsigned *below,
	struct error *err);
int del(struct rig *r, unsigned index, struct error *err);
/* The same, and the disks that the last add() has told of are gone. */
int del_with_disks(struct rig *r, unsigned index, struct error *err);
int ask_stdio(struct rig *r, uint32_t process, const char *in, const char *out, const char *errors,
	struct error *err);

/* The next packet there; false: none. */
bool next_packet(int fd, const struct ipc_channel *def, struct ipc_packet *p);
