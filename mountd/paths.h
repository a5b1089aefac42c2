/*
 * Opening what a peer names. mountd calls openat2() and nothing else to open
 * a file, here and only here: seccomp cannot see that call's flags, so what
 * they are must be readable in one place.
 *
 * A path of a peer is lexically normal, lies beneath one of the prefixes of
 * the configuration, and is walked from that prefix's directory fd without
 * following any symbolic link (but for root's own in /dev). Everything after the open works on the fd: who
 * swaps a directory for a link afterwards changes nothing.
 */
#pragma once

#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "common/error.h"
#include "common/options.h"

/* For a path that a peer has chosen. */
#define PATH_BENEATH (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS)

/* Paths go into sentences cut to this, so that what to do about it fits behind them. */
#define PATH_FMT "'%.160s'"

/* openat2() with O_CLOEXEC. The fd, or -errno. */
int path_open(int dirfd, const char *path, uint64_t flags, uint64_t resolve);

/* Makes a file that is not there yet. The fd, open for writing, or -errno. */
int path_create(int dirfd, const char *name, unsigned mode);

/* Opens what an O_PATH fd is, by /proc/self/fd of the procfs proc_fd. The fd, or -errno. */
int path_reopen(int proc_fd, int fd, uint64_t flags);

/* Absolute, without empty, "." or ".." components, without a slash at the end, not too long. */
bool path_is_normal(const char *path);

/* One component: no slash, not empty, not "." or "..". */
bool path_is_name(const char *name);

struct prefix {
	const char *path;
	int fd; /* O_PATH; -1: the directory does not exist */
};

struct prefixes {
	const char *key; /* of the configuration, for the sentences */
	unsigned n;
	struct prefix item[OPTION_LIST_MAX];
};

/*
 * Opens every directory of the list. One that does not exist is no error:
 * the defaults name the directories of all clients. 0, or -errno with err.
 */
int prefixes_open(struct prefixes *p, const char *key, const struct option_list *list,
	struct error *err);

/* What of path lies behind prefix: "" when they are the same, NULL when it is not beneath it. */
const char *path_behind(const char *path, const char *prefix);

/*
 * Opens path beneath one of the prefixes. what names it in the sentence:
 * "upperdir". The fd, or -errno with err.
 */
int prefixes_open_path(const struct prefixes *p, const char *what, const char *path,
	uint64_t flags, struct error *err);

/* The same for the directory that path lies in, as O_PATH. *ret_name points at the rest of path. */
int prefixes_open_parent(const struct prefixes *p, const char *what, const char *path,
	const char **ret_name, struct error *err);

/*
 * The same of a path in /dev, as an O_PATH fd. Links are followed as far as they stay in there:
 * they are root's, and what /dev/mapper has of a device is one.
 */
int prefixes_open_dev(const struct prefixes *p, const char *what, const char *path,
	struct error *err);

/* What a file is, for a sentence: "a FIFO". */
const char *path_type_name(mode_t mode);
