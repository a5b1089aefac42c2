/*
 * The guest's console: what the kernel and the agent print. It is read always
 * and at once, because a guest whose console is full stands still; the last
 * 16 KiB stay, for the sentence that says why a guest did not come up.
 */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stddef.h>

#define CONSOLE_RING	 16384
#define CONSOLE_LINE_MAX 200

enum console_escape {
	CONSOLE_TEXT,
	CONSOLE_ESC, /* after ESC */
	CONSOLE_CSI, /* after ESC [ */
};

struct console {
	int fd;
	struct event readable;
	enum console_escape escape;
	size_t len; /* ever put in: the next byte goes to ring[len % CONSOLE_RING] */
	char ring[CONSOLE_RING];
	size_t line_len; /* of the line that is not finished, for the debug log */
	char line[CONSOLE_LINE_MAX];
};

#define CONSOLE_INIT { .fd = -1 }

/* Reads from the fd, which it takes, whenever something is there. */
void console_open(struct console *c, struct event_base *base, int fd_consume);
void console_done(struct console *c);

/* Puts bytes in, without control characters and terminal sequences. */
void console_feed(struct console *c, const char *data, size_t len);

/* Reads what is there now. */
void console_drain(struct console *c);

/* The last line that is not blank, finished or not, cut to what fits. "" if there is none. */
void console_last_line(const struct console *c, char *out, size_t size);
