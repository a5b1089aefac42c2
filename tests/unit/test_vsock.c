/* The launcher's part of vsock: which CID a sandbox gets, the device played by the test. */
#include <errno.h>
#include <linux/vhost.h>
#include <unistd.h>

#include "supervisor/vsock.h"
#include "tests/lib/test.h"

static unsigned asked, taken; /* the first so many CIDs are others' */
static uint64_t first;
static int failure;

int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	__builtin_va_list ap;
	const uint64_t *cid;

	__builtin_va_start(ap, request);
	cid = __builtin_va_arg(ap, const uint64_t *);
	__builtin_va_end(ap);
	CHECK_INT(fd, 100);
	CHECK_INT(request, VHOST_VSOCK_SET_GUEST_CID);
	CHECK_INT(*cid, first + asked);
	errno = failure ? failure : EADDRINUSE;
	return failure || asked++ < taken ? -1 : 0;
}

static int take(unsigned others, struct error *err)
{
	unsigned cid = 0;
	int r;

	first = 2000000016;
	asked = 0;
	taken = others;
	r = vsock_take_cid(100, first, 8, &cid, err);
	CHECK_INT(cid, r == 0 ? first + others : 0);
	return r;
}

TEST(the_first_that_is_free)
{
	struct error err = ERROR_INIT;

	for (unsigned others = 0; others < 8; others++) {
		CHECK_INT(take(others, &err), 0);
		CHECK_INT(asked, others + 1);
	}
}

TEST(all_are_taken)
{
	struct error err = ERROR_INIT;

	CHECK_INT(take(8, &err), -EADDRINUSE);
	CHECK_INT(asked, 8);
	CHECK_STR(err.msg,
		"agent_transport=vsock: other guests of this host have all CIDs from 2000000016 to 2000000023");
}

TEST(what_is_no_such_device)
{
	struct error err = ERROR_INIT;

	failure = ENOTTY;
	CHECK_INT(take(0, &err), -ENOTTY);
	CHECK_STR(err.msg,
		"agent_transport=vsock: take CID 2000000016: Inappropriate ioctl for device");
}

TEST(both_or_neither)
{
	struct error err = ERROR_INIT;
	int vhost = -1, sock = -1, r = vsock_open(&vhost, &sock, &err);

	CHECK_INT(r == 0, access("/dev/vhost-vsock", R_OK | W_OK) == 0);
	CHECK_INT(vhost >= 0, r == 0);
	CHECK_INT(sock >= 0, r == 0);
	if (r < 0)
		CHECK_CONTAINS(err.msg,
			"agent_transport=vsock: /dev/vhost-vsock (load the module vhost_vsock, or set "
			"agent_transport=serial): ");
	if (r == 0) {
		close(vhost);
		close(sock);
	}
}
