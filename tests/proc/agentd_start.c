/* The real agentd: how it stands, CONNECT, and specs that are wrong. */
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/proc/agentd_scripted.h"

/* -- isolation */

TEST(shut_in)
{
	static const char *const kinds[] = { "mnt", "net", "ipc", "uts" };
	int fds;

	need_root();
	rig_up(&rig);
	check_shut_in(rig.s.pid, TEST_UID, 0);
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++)
		CHECK(!same_namespace(rig.s.pid, getpid(), kinds[i]));
	/* 0 to 2, control, three channels; libevent's epoll and the two ends of its pipe */
	fds = rig_fds_of_agentd(&rig);
	CHECK_INT(fds, 3 + 4 + 3);
	rig_done(&rig);
}

TEST(supervisor_gone)
{
	need_root();
	rig_up(&rig);
	fd_close(&rig.s.ctl);
	rig_expect_exit(&rig, 0);
	rig_done(&rig);
}

TEST(frontend_gone)
{
	need_root();
	rig_up(&rig);
	fd_close(&rig.s.channel);
	rig_expect_exit(&rig, 0);
	rig_done(&rig);
}

TEST(control_packet)
{
	need_root();
	rig_up(&rig);
	CHECK_INT(ctl_send(rig.s.ctl, CTL_LOCK, ROLE_SUPERVISOR, 0, NULL), 0);
	rig_expect_exit(&rig, 70);
	role_log_contains(&rig.s, "control message 3, which is not for agentd");
	rig_done(&rig);
}

/* -- CONNECT */

TEST(hello_before_connect)
{
	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	guest_hello(rig.agent);
	usleep(50000);
	rig_expect_reply(&rig, AGENTD_CONNECT, rig_connect(&rig, 1000));
	rig_done(&rig);
}

TEST(hello_after_connect)
{
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	seq = rig_connect(&rig, 5000);
	rig_expect_silence(&rig, 50);
	guest_hello(rig.agent);
	rig_expect_reply(&rig, AGENTD_CONNECT, seq);
	rig_done(&rig);
}

TEST(hello_never)
{
	static const char text[] = "\x1b[1mbooting\x1b[0m\r\nKernel panic - not syncing: VFS\r\n\n";
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	CHECK(send(rig.console, text, strlen(text), 0) > 0);
	seq = rig_connect(&rig, 300);
	CHECK_STR(rig_expect_error(&rig, AGENTD_CONNECT, seq, ETIMEDOUT),
		"the guest's agent did not say hello within 300 ms; the console's last line: "
		"Kernel panic - not syncing: VFS");
	/* Too late; and the failure has been told. */
	guest_hello(rig.agent);
	rig_expect_silence(&rig, 100);
	fd_close(&rig.s.channel);
	rig_expect_exit(&rig, 0);
	rig_done(&rig);
}

/* data NULL: the end of the stream */
static void wrong_hello(uint8_t type, uint32_t stream, uint32_t declared, const void *data,
	int code, const char *want)
{
	uint32_t seq;

	rig_up(&rig);
	rig_stream(&rig);
	seq = rig_connect(&rig, 10000);
	if (data)
		guest_frame(rig.agent, declared, stream, type, 0, data, strlen(data));
	else
		fd_close(&rig.agent);
	CHECK_CONTAINS(rig_expect_error(&rig, AGENTD_CONNECT, seq, code), want);
	rig_expect_silence(&rig, 50);
	rig_done(&rig);
}

TEST(hello_wrong)
{
	need_root();
	wrong_hello(TTRPC_HELLO, 0, 16, "bulkhead-agent/2", EPROTO,
		"did not say hello: the guest's agent says hello as \"bulkhead-agent/2\"");
	wrong_hello(TTRPC_HELLO, 0, 4, "\x1b]0;", EPROTO, "says hello as \"]0;\"");
	wrong_hello(TTRPC_HELLO, 2, 16, "bulkhead-agent/1", EPROTO, "instead of a hello");
	wrong_hello(TTRPC_RESPONSE, 1, 0, "", EPROTO, "instead of a hello");
	wrong_hello(TTRPC_HELLO, 0, 1 << 20, "x", EPROTO, "a hello of 1048576 bytes");
	wrong_hello('G', 0, 0x47455420, "GET / HTTP/1.1\r\n\r\n", EPROTO, "the limit is 4194304");
	wrong_hello(0, 0, 0, NULL, ECONNRESET,
		"the guest's agent did not say hello: its stream ended; its console is empty");
}

/* QEMU dies: what the console says last comes at the same time. */
TEST(hello_dies_with_console)
{
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	seq = rig_connect(&rig, 10000);
	fd_close(&rig.agent);
	CHECK(send(rig.console, "out of memory", 13, 0) > 0);
	fd_close(&rig.console);
	CHECK_CONTAINS(rig_expect_error(&rig, AGENTD_CONNECT, seq, ECONNRESET),
		"did not say hello: its stream ended");
	rig_done(&rig);
}

TEST(console_is_always_read)
{
	static char flood[1 << 16];

	need_root();
	rig_up(&rig);
	rig_stream(&rig);
	memset(flood, 0x07, sizeof(flood));
	/* A guest stands still while its console is full. */
	for (int i = 0; i < 256; i++)
		for (size_t sent = 0; sent < sizeof(flood);) {
			struct pollfd pfd = { .fd = rig.console, .events = POLLOUT };
			ssize_t n;

			CHECK_INT(poll(&pfd, 1, 5000), 1);
			n = send(rig.console, flood + sent, sizeof(flood) - sent, MSG_DONTWAIT);
			if (n > 0)
				sent += (size_t)n;
		}
	rig_expect_silence(&rig, 1);
	rig_done(&rig);
}

/* -- mistakes of the spec */

TEST(wrong_config)
{
	static const struct {
		const char *text;
		int code;
		const char *sentence;
	} cases[] = {
		{ "", EINVAL, "config.json: it ends in the middle" },
		{ "{\"ociVersion\":1}", EINVAL,
			"config.json: ociVersion: expected a string, got int" },
		{ "{\"ociVersion\":\"1\",\"root\":{\"path\":\"r\"},\"linux\":{},"
		  "\"process\":{\"args\":[\"a\"],\"cwd\":\"/\"},\"mounts\":"
		  "[{\"destination\":\"/x\",\"type\":\"nfs\",\"source\":\"/x\"}]}",
			ENOTSUP,
			"config.json: mounts[0]: /x is of type 'nfs', which the guest does not mount" },
	};
	int before;

	need_root();
	rig_up(&rig);
	rig_sandbox(&rig);
	before = rig_fds_of_agentd(&rig);
	for (uint32_t i = 0; i < 3; i++) {
		int out = rig_output(&rig, i + 10, MOUNTD_AGENTD_STDOUT);

		rig_config(&rig, i + 1, cases[i].text);
		CHECK_STR(rig_expect_error(&rig, AGENTD_CREATE_CONTAINER,
				  rig_create(&rig, i + 1, i + 10, false, true, false), cases[i].code),
			cases[i].sentence);
		CHECK_INT(rig_fds_of_agentd(&rig), before);
		close(out);
	}
	rig_done(&rig);
}

TEST(agent_refuses)
{
	struct guest_request r;
	uint32_t seq;
	int before, out;

	need_root();
	rig_up(&rig);
	rig_sandbox(&rig);
	before = rig_fds_of_agentd(&rig);
	out = rig_output(&rig, 1, MOUNTD_AGENTD_STDOUT);
	seq = rig_create(&rig, 0, 1, false, true, false);
	guest_expect(rig.agent, "CreateContainer", &r);
	guest_fail(rig.agent, r.stream, 13, "crun: exec: \"nope\": not found in $PATH");
	guest_request_done(&r);
	CHECK_STR(rig_expect_error(&rig, AGENTD_CREATE_CONTAINER, seq, EIO),
		"the guest's agent, CreateContainer: crun: exec: \"nope\": not found in $PATH");
	CHECK_INT(rig_fds_of_agentd(&rig), before);
	rig_expect_reply(&rig, AGENTD_REMOVE, rig_remove(&rig, 0));
	close(out);
	rig_done(&rig);
}

/* A volume that mountd calls memory is a tmpfs of the guest's; the others come from the share. */
TEST(volume_in_memory)
{
	static const char text[] =
		"{\"ociVersion\":\"1\",\"root\":{\"path\":\"r\"},\"linux\":{},\"process\":{\"cwd\":\"/\","
		"\"args\":[\"x\"]},\"mounts\":[{\"destination\":\"/a\",\"type\":\"bind\",\"source\":\"/h/a\"},"
		"{\"destination\":\"/b\",\"type\":\"bind\",\"source\":\"/h/b\"}]}";
	static const char *const options[] = { "nodev", "size=8388608", "mode=2770", "uid=7", "gid=4000" };
	Ipc__Config__Memory memory = IPC__CONFIG__MEMORY__INIT;
	struct guest_request r;
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_sandbox(&rig);
	memory.volume = 1;
	memory.id = 77;
	memory.size = 8 << 20;
	memory.mode = 02770;
	memory.uid = 7;
	memory.gid = 4000;
	rig_config_memory(&rig, 1, text, &memory);
	seq = rig_create(&rig, 1, 1, false, false, false);
	guest_expect(rig.agent, "CreateContainer", &r);
	const Grpc__CreateContainerRequest *c = (void *)r.message;
	CHECK_INT(c->n_storages, 1);
	CHECK_STR(c->storages[0]->driver, "ephemeral");
	CHECK_STR(c->storages[0]->fstype, "tmpfs");
	CHECK_STR(c->storages[0]->mount_point, "/run/kata-containers/sandbox/ephemeral/77");
	CHECK_INT(c->storages[0]->n_options, ARRAY_SIZE(options));
	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		CHECK_STR(c->storages[0]->options[i], options[i]);
	CHECK_STR(c->oci->mounts[0]->source, "/run/kata-containers/shared/containers/c1/v0");
	CHECK_STR(c->oci->mounts[1]->source, c->storages[0]->mount_point);
	guest_reply(rig.agent, r.stream, NULL);
	guest_request_done(&r);
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER, seq);

	/* One that config.json does not have is refused, and the next request is served. */
	memory.volume = 2;
	rig_config_memory(&rig, 2, text, &memory);
	CHECK_STR(rig_expect_error(&rig, AGENTD_CREATE_CONTAINER, rig_create(&rig, 2, 2, false, false, false), EINVAL),
		"config.json: no volume 2");
	rig_config(&rig, 3, NULL);
	seq = rig_create(&rig, 3, 3, false, false, false);
	guest_expect(rig.agent, "CreateContainer", &r);
	CHECK_INT(((Grpc__CreateContainerRequest *)(void *)r.message)->n_storages, 0);
	guest_reply(rig.agent, r.stream, NULL);
	guest_request_done(&r);
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER, seq);
	rig_done(&rig);
}

#define HUGE_CONFIG(resources)                                                                       \
	"{\"ociVersion\":\"1\",\"root\":{\"path\":\"r\"},\"linux\":{" resources "},\"process\":{\"cwd\":\"/\"," \
	"\"args\":[\"x\"]},\"mounts\":[{\"destination\":\"/h\",\"type\":\"bind\",\"source\":\"/h\"}]}"

static void check_limits(const Grpc__LinuxResources *r, size_t n, const char *name, uint64_t limit)
{
	CHECK_INT(r ? r->n_hugepagelimits : 0, n);
	if (n == 0)
		return;
	CHECK_STR(r->hugepagelimits[n - 1]->pagesize, name);
	CHECK_INT(r->hugepagelimits[n - 1]->limit, limit);
}

/* The limits that are said hold; else there is one, as large as the file system. */
TEST(volume_of_huge_pages)
{
	static const struct {
		const char *config;
		uint64_t page_size, size;
		size_t n;	   /* limits */
		const char *name;  /* of the last one */
		uint64_t limit;
	} cases[] = {
		{ HUGE_CONFIG(""), 2 << 20, 64 << 20, 1, "2MB", 64 << 20 },
		{ HUGE_CONFIG("\"resources\":{\"hugepageLimits\":[{\"pageSize\":\"1GB\",\"limit\":0}]}"), 2 << 20, 64 << 20,
			2, "2MB", 64 << 20 },
		{ HUGE_CONFIG("\"resources\":{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":4194304}]}"), 2 << 20, 0,
			1, "2MB", 4 << 20 },
		{ HUGE_CONFIG("\"resources\":{\"hugepageLimits\":[{\"pageSize\":\"2MB\",\"limit\":0}]}"), 2 << 20, 64 << 20,
			1, "2MB", 0 },
		{ HUGE_CONFIG("\"resources\":{}"), 1 << 30, 2ULL << 30, 1, "1GB", 2ULL << 30 },
		{ HUGE_CONFIG(""), 64 << 10, 1 << 20, 1, "64KB", 1 << 20 },
		{ HUGE_CONFIG(""), 2 << 20, 0, 0, NULL, 0 },
	};
	char options[64] = "";
	struct guest_request r;
	uint32_t seq;

	need_root();
	rig_up(&rig);
	rig_sandbox(&rig);
	for (uint32_t i = 0; i < ARRAY_SIZE(cases); i++) {
		Ipc__Config__Memory memory = IPC__CONFIG__MEMORY__INIT;

		memory.id = 77;
		memory.page_size = cases[i].page_size;
		memory.size = cases[i].size;
		rig_config_memory(&rig, i + 1, cases[i].config, &memory);
		seq = rig_create(&rig, i + 1, i + 1, false, false, false);
		guest_expect(rig.agent, "CreateContainer", &r);
		const Grpc__CreateContainerRequest *c = (void *)r.message;
		CHECK_STR(c->storages[0]->fstype, "hugetlbfs");
		snprintf(options, sizeof(options), "pagesize=%llu", (unsigned long long)cases[i].page_size);
		CHECK_STR(c->storages[0]->options[c->storages[0]->n_options - 1], options);
		CHECK_INT(c->storages[0]->n_options, cases[i].size ? 6 : 5);
		CHECK_STR(c->oci->mounts[0]->source, c->storages[0]->mount_point);
		check_limits(c->oci->linux->resources, cases[i].n, cases[i].name, cases[i].limit);
		guest_reply(rig.agent, r.stream, NULL);
		guest_request_done(&r);
		rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER, seq);
	}
	rig_done(&rig);
}

/* 3 MiB to an agent that takes its time; and more than a frame can hold. */
TEST(large_config)
{
	static const char head[] = "{\"ociVersion\":\"1\",\"root\":{\"path\":\"r\"},\"linux\":{},"
				   "\"process\":{\"cwd\":\"/\",\"args\":[\"";
	struct guest_request r;
	size_t len = 3 << 20;
	uint32_t seq, seq2;
	char *text = malloc(5 << 20), *at = stpcpy(text, head);

	need_root();
	memset(at, 'x', len);
	strcpy(at + len, "\"]}}");
	rig_up(&rig);
	rig_sandbox(&rig);
	rig_config(&rig, 1, text);
	seq = rig_create(&rig, 1, 1, false, false, false);
	/* It answers others meanwhile. */
	rig_expect_error(&rig, AGENTD_SIGNAL, rig_signal(&rig, 9, 9, 9, false), ESRCH);
	usleep(100000);
	guest_expect(rig.agent, "CreateContainer", &r);
	CHECK_INT(strlen(((Grpc__CreateContainerRequest *)(void *)r.message)->oci->process->args[0]),
		len);
	guest_reply(rig.agent, r.stream, NULL);
	guest_request_done(&r);
	rig_expect_reply(&rig, AGENTD_CREATE_CONTAINER, seq);

	/* As text it is just small enough, with its envelope it is not. */
	at = stpcpy(text, head);
	memset(at, 'x', (4 << 20) - 120);
	strcpy(at + (4 << 20) - 120, "\"]}}");
	CHECK(strlen(text) <= 4 << 20);
	rig_config(&rig, 2, text);
	seq2 = rig_create(&rig, 2, 2, false, false, false);
	CHECK_CONTAINS(rig_expect_error(&rig, AGENTD_CREATE_CONTAINER, seq2, EMSGSIZE),
		"bytes for the guest's agent, the limit is 4194304");
	free(text);
	rig_done(&rig);
}
