/* Ids and namespaces as containerd gives them (containerd, pkg/identifiers): they become file names. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define ID_MAX 76

/* ASCII: a letter or digit, then letters, digits, '.', '_', '-'; at most ID_MAX bytes. */
bool id_is_valid(const char *id);

/* The same for a text of len bytes that has no NUL at its end; one inside it is refused. */
bool id_is_valid_n(const char *text, size_t len);
