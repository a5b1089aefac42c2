/*
 * Documents that come in parts, ahead of the request that needs them: the
 * process of an exec, the resources of an update. By number.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* More than this many at once: the peer is lost. */
#define TEXTS_MAX 1024

struct text;

struct texts {
	struct text *first;
	unsigned n;
	size_t bytes;
};

/* Of all together. */
#define TEXTS_BYTES_MAX ((size_t)16 << 20)

void texts_done(struct texts *t);

/* Appends a part. 0; -EPROTO: more than a correct peer sends; -ENOBUFS, -ENOMEM: no room now. */
int texts_add(struct texts *t, uint32_t number, const void *data, size_t len, struct error *err);

/* Takes it, with a NUL behind; the caller frees. NULL: none came. */
char *texts_take(struct texts *t, uint32_t number, size_t *ret_len);
