#include "agentd/text.h"

#include <string.h>

void text_clean(char *out, size_t size, const char *text, size_t len)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = text[i] > ' ' && text[i] < 0x7f ? text[i] : ' ';

		if (c == ' ' && (n == 0 || out[n - 1] == ' '))
			continue;
		if (n == size - 1) {
			memcpy(out + size - 4, "...", 3);
			break;
		}
		out[n++] = c;
	}
	if (n > 0 && out[n - 1] == ' ')
		n--;
	out[n] = '\0';
}
