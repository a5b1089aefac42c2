#include "supervisor/supervisor.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/test.h"

/* What one line of a role becomes in the log. */
static void relay_text(const char *text, size_t len, char *out, size_t size)
{
	struct relay r = { .second = 0 };
	int socket[2], log[2];
	ssize_t n;

	CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM, 0, socket), 0);
	CHECK_INT(pipe(log), 0);
	CHECK_INT(send(socket[1], text, len, 0), len);
	relay_drain(&r, socket[0], log[1], "agentd", "c1");
	close(log[1]);
	n = read(log[0], out, size - 1);
	out[n > 0 ? n : 0] = '\0';
	close(log[0]);
	close(socket[0]);
	close(socket[1]);
}

TEST(level_role_and_id)
{
	char out[4096];

	relay_text("<4>disk is slow\n", 16, out, sizeof(out));
	CHECK_CONTAINS(out, " level=warning msg=\"disk is slow\" role=agentd id=c1\n");
	relay_text("plain", 5, out, sizeof(out));
	CHECK_CONTAINS(out, " level=info msg=\"plain\" ");
}

TEST(a_line_cannot_forge_another)
{
	static const char text[] = "<6>a\" role=supervisor\nlevel=error \x1b[2J\\";
	char out[4096];

	relay_text(text, sizeof(text) - 1, out, sizeof(out));
	CHECK_CONTAINS(out, "msg=\"a\\\" role=supervisor level=error  [2J\\\\\" role=agentd");
	CHECK(strchr(out, '\n') == out + strlen(out) - 1);
}

TEST(two_hundred_lines_a_second)
{
	struct relay r = { .second = 0 };
	int socket[2], log[2], lines = 0;
	char buf[65536];
	ssize_t n;

	CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM, 0, socket), 0);
	CHECK_INT(pipe2(log, O_NONBLOCK), 0);
	for (int i = 0; i < 1000; i++) {
		CHECK_INT(send(socket[1], "<6>x", 4, 0), 4);
		relay_drain(&r, socket[0], log[1], "a", "c");
	}
	while ((n = read(log[0], buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++)
			lines += buf[i] == '\n';
	/* A second may have turned once on the way. */
	CHECK(lines >= 200 && lines <= 402);
	CHECK(r.dropped > 0);
	close(log[0]);
	close(log[1]);
	close(socket[0]);
	close(socket[1]);
}
