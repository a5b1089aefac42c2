/*
 * The command line containerd gives a shim: Go's flag syntax, then one word
 * (containerd, docs: runtime-v2). -flag value, -flag=value, --flag=value.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "common/error.h"
#include "common/id.h"

enum action {
	ACTION_NONE,
	ACTION_START,
	ACTION_DELETE,
	ACTION_VERSION,
	ACTION_INFO,
};

struct args {
	enum action action;
	const char *namespace;
	const char *id;
	const char *address; /* of containerd's gRPC socket: only hashed into names */
	const char *bundle;  /* "" with start: the working directory */
	bool debug;
};

/* Fills *ret with pointers into argv. Ids and namespaces are checked: they become file names. */
int args_parse(int argc, char **argv, struct args *ret, struct error *err);
