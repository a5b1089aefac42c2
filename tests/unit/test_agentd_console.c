/* The guest's console: what is kept of hostile bytes. */
#include "agentd/console.h"
#include "agentd/text.h"
#include "tests/lib/test.h"

static const char *last(const struct console *c)
{
	static char line[CONSOLE_LINE_MAX];

	console_last_line(c, line, sizeof(line));
	return line;
}

static void feed(struct console *c, const char *text)
{
	console_feed(c, text, strlen(text));
}

TEST(empty)
{
	static struct console c = CONSOLE_INIT;

	CHECK_STR(last(&c), "");
	feed(&c, "\r\n\n  \n\t\n");
	CHECK_STR(last(&c), "");
}

TEST(last_line)
{
	static struct console c = CONSOLE_INIT;

	feed(&c, "first\r\nKernel panic - not syncing\r\n\r\n   \n");
	CHECK_STR(last(&c), "Kernel panic - not syncing");
	feed(&c, "unfinished");
	CHECK_STR(last(&c), "unfinished");
}

TEST(control_characters)
{
	static struct console c = CONSOLE_INIT;

	feed(&c, "\x1b[31;1mred\x1b[0m \a\b\x7fx\x9b" "1m\x1b]y\n");
	CHECK_STR(last(&c), "red ?x?1my");
	feed(&c, "\x1b[12345");
	feed(&c, "\nnext\n");
	CHECK_STR(last(&c), "next");
}

TEST(wraps)
{
	static struct console c = CONSOLE_INIT;

	for (int i = 0; i < 5000; i++)
		feed(&c, "0123456789\n");
	feed(&c, "end\n");
	CHECK_STR(last(&c), "end");
	for (int i = 0; i < 3 * CONSOLE_RING; i++)
		feed(&c, "x");
	CHECK_INT(strlen(last(&c)), CONSOLE_LINE_MAX - 1);
	for (int i = 0; i < CONSOLE_RING; i++)
		feed(&c, "\n");
	CHECK_STR(last(&c), "");
}

TEST(text)
{
	char out[16];

	text_clean(out, sizeof(out), "  a\n\tb\x01 c  ", 11);
	CHECK_STR(out, "a b c");
	text_clean(out, sizeof(out), "0123456789abcdefgh", 18);
	CHECK_STR(out, "0123456789ab...");
	text_clean(out, sizeof(out), "0123456789abcde", 15);
	CHECK_STR(out, "0123456789abcde");
	text_clean(out, sizeof(out), "\0\0", 2);
	CHECK_STR(out, "");
}
