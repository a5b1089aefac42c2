/*
 * One error type for the whole project: a number and a sentence, by value on
 * the caller's stack, so there is nothing to free.
 *
 * Functions return 0 or a negative errno. Those whose failure a person will
 * read take a struct error as their last argument and leave it untouched on
 * success. Context is put in front on the way up:
 *
 *	create c1: attach eth0: tap tap0 is in use
 *
 * err may be NULL where the caller only wants the number.
 */
#pragma once

#include "common/mem.h"

struct error {
	int code; /* a positive errno */
	char msg[512];
};

#define ERROR_INIT { .code = 0 }

/* Sets number and sentence. Returns -code. */
int error_set(struct error *err, int code, const char *fmt, ...) PRINTF(3, 4);

/* The same, with ": " and strerror(code) behind the sentence. */
int error_errno(struct error *err, int code, const char *fmt, ...) PRINTF(3, 4);

/* Puts "context: " in front of what is there. Returns -err->code. */
int error_wrap(struct error *err, const char *fmt, ...) PRINTF(2, 3);
