#include "common/id.h"

#include <string.h>

/* Not isalnum(): that asks the locale. */
static bool is_letter_or_digit(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool id_is_valid_n(const char *text, size_t len)
{
	if (len == 0 || len > ID_MAX || !is_letter_or_digit(text[0]))
		return false;
	for (size_t i = 0; i < len; i++)
		if (!is_letter_or_digit(text[i]) && !memchr("._-", text[i], 3))
			return false;
	return true;
}

bool id_is_valid(const char *id)
{
	return id_is_valid_n(id, strnlen(id, ID_MAX + 1));
}
