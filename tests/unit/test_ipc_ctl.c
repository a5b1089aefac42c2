/* Control messages: one fixed size, and nothing else is one. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/ctl.h"
#include "tests/lib/test.h"

TEST(there_and_back)
{
	struct ctl_msg got;
	int pair[2];

	test_pair(pair);
	for (int role = 0; role < ROLE_COUNT; role++) {
		CHECK_INT(ctl_send(pair[0], CTL_CHILD_EXIT, (enum role)role, 137, "why"), 0);
		CHECK_INT(ctl_recv(pair[1], 0, &got), 1);
		CHECK_INT(got.type, CTL_CHILD_EXIT);
		CHECK_INT(got.role, role);
		CHECK_INT(got.status, 137);
		CHECK_STR(got.text, "why");
		CHECK(strcmp(role_name((enum role)role), "unknown") != 0);
	}
	CHECK_STR(role_name(ROLE_COUNT), "unknown");
	CHECK_INT(ctl_send(pair[0], CTL_STOP, ROLE_FRONTEND, 0, NULL), 0);
	CHECK_INT(ctl_recv(pair[1], MSG_DONTWAIT, &got), 1);
	CHECK_STR(got.text, "");
	CHECK_INT(ctl_recv(pair[1], MSG_DONTWAIT, &got), -EAGAIN);
	close(pair[0]);
	CHECK_INT(ctl_recv(pair[1], 0, &got), 0);
	CHECK_INT(ctl_send(pair[1], CTL_READY, ROLE_NETD, 0, NULL), -EPIPE);
	close(pair[1]);
}

TEST(a_long_text_is_cut)
{
	struct ctl_msg got;
	char text[1000];
	int pair[2];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	test_pair(pair);
	CHECK_INT(ctl_send(pair[0], CTL_FAILED, ROLE_NETD, 0, text), 0);
	CHECK_INT(ctl_recv(pair[1], 0, &got), 1);
	CHECK_INT(strlen(got.text), sizeof(got.text) - 1);
	close(pair[0]);
	close(pair[1]);
}

/* Every other size is refused, and nothing is written to *ret. */
static void refused(int pair[2], const void *data, size_t len)
{
	struct ctl_msg got = { .type = 77 };

	CHECK_INT(send(pair[0], data, len, 0), (long long)len);
	CHECK_INT(ctl_recv(pair[1], 0, &got), -EPROTO);
	CHECK_INT(got.type, 77);
}

TEST(wrong_sizes)
{
	static char data[70000];
	int pair[2];

	test_pair(pair);
	for (size_t len = 0; len < 1100; len++)
		if (len != sizeof(struct ctl_msg))
			refused(pair, data, len);
	refused(pair, data, sizeof(data));
	close(pair[0]);
	close(pair[1]);
}

TEST(wrong_content)
{
	struct ctl_msg m = { .type = CTL_READY, .role = ROLE_COUNT };
	int pair[2];

	test_pair(pair);
	refused(pair, &m, sizeof(m));
	m.role = UINT16_MAX;
	refused(pair, &m, sizeof(m));
	m.role = ROLE_NETD;
	m.text[sizeof(m.text) - 1] = 'x'; /* not terminated */
	refused(pair, &m, sizeof(m));
	close(pair[0]);
	close(pair[1]);
}

TEST(fds_never_arrive)
{
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(2 * sizeof(int))];
	} control = { .buf = { 0 } };
	struct ctl_msg m = { .type = CTL_READY, .role = ROLE_NETD }, got;
	struct iovec iov = { .iov_base = &m, .iov_len = sizeof(m) };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
		.msg_controllen = CMSG_SPACE(2 * sizeof(int)) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&mh);
	int pair[2], fds[2] = { 0, 2 }, before;

	test_pair(pair);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(c), fds, sizeof(fds));
	before = test_count_fds();
	CHECK_INT(sendmsg(pair[0], &mh, 0), sizeof(m));
	CHECK_INT(ctl_recv(pair[1], 0, &got), -EPROTO);
	CHECK_INT(test_count_fds(), before);
	close(pair[0]);
	close(pair[1]);
}

TEST(the_last_words_of_a_role_are_heard)
{
	struct ctl_msg got;
	int pair[2];

	test_pair(pair);
	/* It fails, and dies without having read LOCK. */
	CHECK_INT(ctl_send(pair[0], CTL_LOCK, ROLE_SUPERVISOR, 0, NULL), 0);
	CHECK_INT(ctl_send(pair[1], CTL_FAILED, ROLE_NETD, 0, "why"), 0);
	close(pair[1]);
	CHECK_INT(ctl_recv(pair[0], MSG_DONTWAIT, &got), 1);
	CHECK_STR(got.text, "why");
	CHECK_INT(ctl_recv(pair[0], MSG_DONTWAIT, &got), 0);
	close(pair[0]);
}

TEST(a_supervisor_that_does_not_read_blocks_nobody)
{
	int pair[2], r = 0, n = 0;

	test_pair(pair);
	while (n < 100000 && (r = ctl_send(pair[0], CTL_KILL_VM, ROLE_VMMD, 0, NULL)) == 0)
		n++;
	CHECK_INT(r, -EAGAIN);
	CHECK(n < 1000);
	close(pair[0]);
	close(pair[1]);
}
