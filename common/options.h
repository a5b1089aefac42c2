/*
 * A role's settings: argv words of the form key=value, written by the
 * launcher, never by a person or a peer. A role lists the keys it knows; any
 * other word, a key twice or a required one missing ends it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

enum option_type {
	OPTION_TEXT,   /* const char *, pointing into argv */
	OPTION_NUMBER, /* uint64_t, decimal */
	OPTION_LIST,   /* struct option_list: the key may occur up to OPTION_LIST_MAX times */
};

#define OPTION_LIST_MAX 16

struct option_list {
	unsigned n;
	const char *item[OPTION_LIST_MAX];
};

struct option {
	const char *key;
	enum option_type type;
	void *value;
	bool optional;
};

/* Fills the values from argv[1..]. The table ends with a row without key. */
int options_parse(const struct option *table, int argc, char **argv, struct error *err);
