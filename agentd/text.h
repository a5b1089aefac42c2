/* Making text from the guest fit for a log line or a sentence. */
#pragma once

#include <stddef.h>

/*
 * Copies len bytes of text into out[size]: only printable ASCII, runs of
 * anything else become one blank, none at the ends. A longer text ends in "...".
 */
void text_clean(char *out, size_t size, const char *text, size_t len);
