/* The sentence about links, and a scan of a namespace of the test's own. */
#include <errno.h>
#include <sched.h>
#include <unistd.h>

#include "netd/link.h"
#include "tests/lib/test.h"

static void described(size_t n, const char *name, const char *kind, size_t size, const char *want)
{
	struct links links = { .n = n };
	char text[512];

	for (size_t i = 0; i < LINKS_MAX; i++) {
		snprintf(links.first[i].name, LINK_NAME_MAX, "%s", name);
		snprintf(links.first[i].kind, LINK_KIND_MAX, "%s", kind);
	}
	memset(text, '#', sizeof(text));
	link_describe(&links, text, size);
	CHECK(strlen(text) < size);
	CHECK_STR(text, want);
}

TEST(sentences)
{
	described(1, "eth0", "veth", 512, "the link eth0 (veth)");
	described(1, "eth0", "", 512, "the link eth0 (a plain device)");
	described(2, "e", "v", 512, "the links e (v) and e (v)");
	described(3, "e", "v", 512, "the links e (v), e (v) and e (v)");
	described(8, "e", "v", 512,
		"the links e (v), e (v), e (v), e (v), e (v), e (v), e (v) and e (v)");
	described(1000, "e", "v", 512,
		"the links e (v), e (v), e (v), e (v), e (v), e (v), e (v), e (v) and 992 more");
}

TEST(sentences_are_cut)
{
	static const char full[] = "the links e (v) and e (v)";
	struct links links = { .n = 2 };
	char text[64];

	for (size_t i = 0; i < 2; i++) {
		strcpy(links.first[i].name, "e");
		strcpy(links.first[i].kind, "v");
	}
	for (size_t size = 1; size < sizeof(text); size++) {
		memset(text, '#', sizeof(text));
		link_describe(&links, text, size);
		CHECK(strlen(text) < size && strncmp(text, full, strlen(text)) == 0);
	}
}

TEST(a_scan_in_an_empty_namespace)
{
	struct error err = ERROR_INIT;
	struct links links;
	struct nl_sock *sk;

	if (geteuid() != 0 || unshare(CLONE_NEWNET) < 0)
		test_skip("needs root");
	sk = link_socket_open(&err);
	CHECK(sk);
	/* It goes on speaking to the namespace it was opened in. */
	for (int i = 0; i < 3; i++) {
		CHECK_INT(link_scan(sk, &links, &err), 0);
		CHECK_INT(links.n, 0);
		CHECK(unshare(CLONE_NEWNET) == 0);
		CHECK(system("ip link add v0 type veth peer name v1") == 0);
	}
	nl_socket_free(sk);
	sk = link_socket_open(&err);
	CHECK_INT(link_scan(sk, &links, &err), 0);
	CHECK_INT(links.n, 2);
	CHECK_STR(links.first[0].kind, "veth");
	CHECK(links.first[0].ifindex > 0);
	nl_socket_free(sk);
}
