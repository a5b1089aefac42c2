#include "agentd/console.h"

#include <errno.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "agentd/text.h"
#include "common/fd.h"
#include "common/log.h"

#define READ_SIZE   4096
#define DRAIN_READS 64

static void put(struct console *c, char byte)
{
	c->ring[c->len++ % CONSOLE_RING] = byte;
	if (byte != '\n') {
		if (c->line_len < sizeof(c->line) - 1)
			c->line[c->line_len++] = byte;
		return;
	}
	c->line[c->line_len] = '\0';
	c->line_len = 0;
	if (c->line[0])
		log_debug("console: %s", c->line);
}

void console_feed(struct console *c, const char *data, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		char byte = data[i];

		if (byte == '\n') { /* also ends a sequence that nobody finished */
			c->escape = CONSOLE_TEXT;
			put(c, byte);
		} else if (c->escape == CONSOLE_ESC) {
			c->escape = byte == '[' ? CONSOLE_CSI : CONSOLE_TEXT;
		} else if (c->escape == CONSOLE_CSI) {
			if (byte >= 0x40 && byte <= 0x7e)
				c->escape = CONSOLE_TEXT;
		} else if (byte == 0x1b) {
			c->escape = CONSOLE_ESC;
		} else if (byte == '\t') {
			put(c, ' ');
		} else if (byte < 0 || byte == 0x7f) {
			put(c, '?');
		} else if (byte >= ' ') {
			put(c, byte);
		}
	}
}

static char at(const struct console *c, size_t i)
{
	return c->ring[i % CONSOLE_RING];
}

void console_last_line(const struct console *c, char *out, size_t size)
{
	size_t oldest = c->len > CONSOLE_RING ? c->len - CONSOLE_RING : 0;
	char line[CONSOLE_LINE_MAX];
	size_t end = c->len, start, n = 0;

	while (end > oldest && (at(c, end - 1) == '\n' || at(c, end - 1) == ' '))
		end--;
	for (start = end; start > oldest && at(c, start - 1) != '\n';)
		start--;
	while (start < end && n < sizeof(line))
		line[n++] = at(c, start++);
	text_clean(out, size, line, n);
}

/* false: nothing more for now, or for ever. */
static bool read_once(struct console *c)
{
	char buf[READ_SIZE];
	struct iovec iov = { .iov_base = buf, .iov_len = sizeof(buf) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (c->fd < 0)
		return false;
	n = recvmsg(c->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n > 0)
		console_feed(c, buf, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		console_done(c);
	return n > 0;
}

static void on_readable(evutil_socket_t fd, short events, void *arg)
{
	(void)fd;
	(void)events;
	read_once(arg);
}

void console_drain(struct console *c)
{
	for (int i = 0; i < DRAIN_READS && read_once(c); i++)
		;
}

void console_open(struct console *c, struct event_base *base, int fd_consume)
{
	console_done(c);
	c->fd = fd_consume;
	event_assign(&c->readable, base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
	event_add(&c->readable, NULL);
}

void console_done(struct console *c)
{
	if (c->fd < 0)
		return;
	event_del(&c->readable);
	fd_close(&c->fd);
}
