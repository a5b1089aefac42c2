/* The fuzzer's bytes, taken from the front. Behind the end come zeros: no harness has to ask. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
	const uint8_t *p;
	size_t left;
};

static inline uint8_t in_u8(struct bytes *in)
{
	if (in->left == 0)
		return 0;
	in->left--;
	return *in->p++;
}

/* Little endian. */
static inline uint16_t in_u16(struct bytes *in)
{
	uint16_t low = in_u8(in);

	return (uint16_t)(low | in_u8(in) << 8);
}

/*
 * What happens next, one of n things. *ret_at_once: the role does not get to see it before what
 * follows has happened too (bit 7).
 */
static inline unsigned in_what(struct bytes *in, unsigned n, bool *ret_at_once)
{
	uint8_t what = in_u8(in);

	*ret_at_once = what & 0x80 && in->left > 0;
	return (what & 0x7f) % n;
}

/* At most max bytes: a length of two bytes, then what is there of them. */
static inline const uint8_t *in_bytes(struct bytes *in, size_t max, size_t *ret_len)
{
	size_t len = in_u16(in);
	const uint8_t *p;

	if (len > max)
		len = max;
	if (len > in->left)
		len = in->left;
	p = in->p;
	in->p += len;
	in->left -= len;
	*ret_len = len;
	return p;
}

/* The same as a text: its own copy, up to the first NUL. */
static inline void in_text(struct bytes *in, char *out, size_t size)
{
	size_t len;
	const uint8_t *p = in_bytes(in, size - 1, &len);

	memcpy(out, p, len);
	out[len] = '\0';
}
