#include "vmmd/lines.h"

#include <string.h>

void lines_end(struct lines *lines, line_fn fn)
{
	if (lines->len == 0)
		return;
	lines->part[lines->len] = '\0';
	memcpy(lines->last, lines->part, lines->len + 1);
	lines->len = 0;
	fn(lines->last);
}

void lines_feed(struct lines *lines, const char *data, size_t len, line_fn fn)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)data[i];

		if (c == '\n')
			lines_end(lines, fn);
		else if (c != '\r' && lines->len < sizeof(lines->part) - 1)
			lines->part[lines->len++] = c < ' ' || c == 0x7f ? '?' : (char)c;
	}
}
