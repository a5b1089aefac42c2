/*
 * Ownership in locals: a variable declared with one of these attributes is
 * released when it goes out of scope; steal() moves it on, visibly.
 */
#pragma once

#include <stdlib.h>

#define CLEANUP(fn)   __attribute__((cleanup(fn)))
#define PRINTF(f, a)  __attribute__((format(printf, f, a)))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

#define _cleanup_free_ CLEANUP(cleanup_free)

/* The pointer's value; the variable is NULL afterwards. */
#define steal(p)                                                                                   \
	__extension__({                                                                            \
		__typeof__(p) *_p = &(p);                                                          \
		__typeof__(p) _v = *_p;                                                            \
		*_p = NULL;                                                                        \
		_v;                                                                                \
	})
