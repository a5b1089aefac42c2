#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/fdio.h"
#include "common/log.h"
#include "supervisor/supervisor.h"

#define LINES_PER_SECOND 200
#define LINES_PER_DRAIN	 64 /* then the others get their turn */

static const char *level_name(int level)
{
	if (level <= LOG_LEVEL_ERROR)
		return "error";
	if (level == LOG_LEVEL_WARN)
		return "warning";
	return level == LOG_LEVEL_DEBUG ? "debug" : "info";
}

/* The text of a role may be what a guest made it say: nothing but printable bytes, quotes escaped. */
static size_t escape(const char *in, size_t len, char *out, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < len && n + 2 < size; i++) {
		unsigned char c = (unsigned char)in[i];

		if (c == '"' || c == '\\')
			out[n++] = '\\';
		out[n++] = c < 0x20 || c == 0x7f ? ' ' : (char)c;
	}
	return n;
}

static void write_line(int log, const char *role, const char *id, const char *text, size_t len)
{
	char line[64 + 2 * LOG_LINE_MAX + 160], msg[2 * LOG_LINE_MAX + 1], when[32];
	int level = LOG_LEVEL_INFO, n;
	struct timespec ts;
	struct tm tm;

	if (len >= 3 && text[0] == '<' && text[1] >= '0' && text[1] <= '7' && text[2] == '>') {
		level = text[1] - '0';
		text += 3;
		len -= 3;
	}
	while (len > 0 && text[len - 1] == '\n')
		len--;
	if (len == 0)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	msg[escape(text, len, msg, sizeof(msg))] = '\0';
	n = snprintf(line, sizeof(line), "time=\"%s.%09ldZ\" level=%s msg=\"%s\" role=%s id=%s\n",
		when, ts.tv_nsec, level_name(level), msg, role, id);
	if (n >= (int)sizeof(line))
		n = (int)sizeof(line) - 1;
	/* Non-blocking: a log that nobody reads must not stop the sandbox. */
	if (write(log, line, (size_t)n) < 0)
		return;
}

void relay_drain(struct relay *r, int socket, int log, const char *role, const char *id)
{
	char text[LOG_LINE_MAX];

	for (int i = 0; i < LINES_PER_DRAIN; i++) {
		ssize_t n = fd_recv(socket, text, sizeof(text));
		struct timespec now;

		if (n <= 0)
			return;
		clock_gettime(CLOCK_MONOTONIC, &now);
		if (now.tv_sec != r->second) {
			char note[64];
			int len = snprintf(note, sizeof(note), "<4>%u lines were dropped",
				r->dropped);

			if (r->dropped)
				write_line(log, role, id, note, (size_t)len);
			*r = (struct relay){ .second = now.tv_sec };
		}
		if (r->lines++ < LINES_PER_SECOND)
			write_line(log, role, id, text, (size_t)n);
		else
			r->dropped++;
	}
}
