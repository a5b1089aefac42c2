/* The real bulkhead-mountd: FIFOs, and containerd's events socket. */
#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/proc/mountd_world.h"

TEST_PATIENCE(race_is_long() ? 1800 : TEST_TIMEOUT_S)

/* ------------------------------------------------------------------------ streams */

static void make_fifo(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "/mnt/stdio/%s", name);
	CHECK_INT(mkfifo(path, 0600), 0);
}

/* The next packet to agentd: this type, for this process. */
static struct ipc_packet stream(struct rig *r, uint16_t type, uint32_t process)
{
	struct ipc_packet p = { .fds = FDLIST_INIT };
	Ipc__Stdio *msg;

	CHECK(next_packet(r->agentd, &ipc_mountd_agentd, &p)); /* which checks the kinds */
	CHECK_INT(p.hdr.type, type);
	msg = (Ipc__Stdio *)ipc_decode(&p, NULL);
	CHECK(msg);
	CHECK_INT(msg->process, process);
	ipc_free(&msg->base);
	return p;
}

TEST(stdio)
{
	struct rig r = world_up(0);
	struct ipc_packet in, out, errors;
	char text[8];
	int fd;

	make_fifo("in");
	make_fifo("out");
	make_fifo("err");
	CHECK_OK(ask_stdio(&r, 7, "/mnt/stdio/in", "/mnt/stdio/out", "/mnt/stdio/err", err));
	in = stream(&r, MOUNTD_AGENTD_STDIN, 7);
	out = stream(&r, MOUNTD_AGENTD_STDOUT, 7);
	errors = stream(&r, MOUNTD_AGENTD_STDERR, 7);
	for (int i = 0; i < 2; i++)
		CHECK(fcntl(in.fds.fd[i], F_GETFL) & O_NONBLOCK);
	CHECK(fcntl(out.fds.fd[0], F_GETFL) & O_NONBLOCK);

	fd = open("/mnt/stdio/in", O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	CHECK_INT(write(fd, "hello", 5), 5);
	close(fd);
	CHECK_INT(read(in.fds.fd[0], text, sizeof(text)), 5);
	CHECK_INT(read(in.fds.fd[0], text, sizeof(text)),
		-1); /* the spare end: not the end of input */
	CHECK_INT(errno, EAGAIN);
	close(fdlist_steal(&in.fds, 1));
	CHECK_INT(read(in.fds.fd[0], text, sizeof(text)), 0);

	CHECK_INT(write(out.fds.fd[0], "bye", 3), 3);
	fd = open("/mnt/stdio/out", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	CHECK_INT(read(fd, text, sizeof(text)), 3);
	close(fd);
	ipc_packet_done(&in);
	ipc_packet_done(&out);
	ipc_packet_done(&errors);

	CHECK_OK(ask_stdio(&r, 8, "", "", "/mnt/stdio/err", err));
	errors = stream(&r, MOUNTD_AGENTD_STDERR, 8);
	ipc_packet_done(&errors);
	CHECK_OK(ask_stdio(&r, 9, "", "", "", err));
	CHECK(!next_packet(r.agentd, &ipc_mountd_agentd, &out));
	rig_close(&r);
}

TEST(refused_streams)
{
	static const struct {
		const char *path;
		int code;
		const char *says;
	} cases[] = {
		{ "/mnt/stdio/file", EINVAL,
			"stdout '/mnt/stdio/file' is a regular file, not a FIFO" },
		{ "/mnt/stdio/dir", EINVAL, "is a directory, not a FIFO" },
		{ "/mnt/stdio/dev", EINVAL, "is a character device, not a FIFO" },
		{ "/mnt/stdio/link", EINVAL, "is a symbolic link, not a FIFO" },
		{ "/mnt/stdio/up/in", ELOOP, "symbolic link" },
		{ "/mnt/stdio/none", ENOENT, "does not exist" },
		{ "/mnt/stdio/../stdio/in", EINVAL, "without '.', '..' and '//'" },
		{ "/mnt/secret/fifo", EPERM, "beneath none of the directories of stdio_prefixes" },
		{ "stdio/in", EINVAL, "is not an absolute path" },
		{ "FILE:///mnt/log/x", EINVAL, "'FILE://' is not supported" },
		{ "gopher://host/log", EINVAL, "'gopher://' is not supported" },
		{ "://", EINVAL, "'://' is not supported" },
	};
	struct rig r = world_up(0);
	struct ipc_packet p;

	make_fifo("in");
	make_file("/mnt/stdio/file", "");
	make_dir("/mnt/stdio/dir");
	CHECK_INT(mknod("/mnt/stdio/dev", S_IFCHR | 0600, makedev(1, 3)), 0);
	CHECK_INT(symlink("in", "/mnt/stdio/link"), 0);
	CHECK_INT(symlink("/mnt/stdio", "/mnt/stdio/up"), 0);
	CHECK_INT(mkfifo("/mnt/secret/fifo", 0600), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct error err = ERROR_INIT;
		/* A good stream before the bad one: agentd gets neither. */
		int code = ask_stdio(&r, 1, "/mnt/stdio/in", cases[i].path, "", &err);

		if (code != cases[i].code || !strstr(err.msg, cases[i].says))
			test_fail(__FILE__, __LINE__, "%s: %d, %s", cases[i].path, code, err.msg);
		CHECK(!next_packet(r.agentd, &ipc_mountd_agentd, &p));
	}
	rig_close(&r);
}

/* ------------------------------------------------------------------------- files */

/* The one fd that comes for this path of stdout, which is a file's; -1 and err when it is refused. */
static int log_of(struct rig *r, const char *uri, struct error *err)
{
	struct ipc_packet p;
	int fd;

	if (ask_stdio(r, 5, "", uri, "", err) != 0) {
		CHECK(!next_packet(r->agentd, &ipc_mountd_agentd, &p));
		return -1;
	}
	p = stream(r, MOUNTD_AGENTD_STDOUT_FILE, 5);
	fd = fdlist_steal(&p.fds, 0);
	ipc_packet_done(&p);
	return fd;
}

TEST(a_file_is_made_and_appended_to)
{
	struct rig r = world_up(0);
	struct ipc_packet out, errors;
	struct error why = ERROR_INIT;
	struct stat st;
	int again;

	make_fifo("in");
	CHECK_OK(ask_stdio(&r, 7, "/mnt/stdio/in", "file:///mnt/log/a", "file:///mnt/log/a", err));
	out = stream(&r, MOUNTD_AGENTD_STDIN, 7);
	ipc_packet_done(&out);
	out = stream(&r, MOUNTD_AGENTD_STDOUT_FILE, 7);
	errors = stream(&r, MOUNTD_AGENTD_STDERR_FILE, 7);
	CHECK_INT(fcntl(out.fds.fd[0], F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
	CHECK_INT(stat("/mnt/log/a", &st), 0);
	CHECK_INT(st.st_mode, S_IFREG | 0600);
	CHECK_INT(st.st_uid, 0);

	/* Each at the end of what all have written, also one that comes later. */
	CHECK_INT(write(out.fds.fd[0], "one ", 4), 4);
	CHECK_INT(write(errors.fds.fd[0], "two ", 4), 4);
	CHECK_INT(write(out.fds.fd[0], "three ", 6), 6);
	again = log_of(&r, "file:///mnt/log/a", &why);
	CHECK_INT(write(again, "four ", 5), 5);
	CHECK_INT(write(errors.fds.fd[0], "five", 4), 4);
	CHECK_STR(text_of_file("/mnt/log/a"), "one two three four five");
	close(again);
	ipc_packet_done(&out);
	ipc_packet_done(&errors);

	/* A file that is there keeps its mode and text; names are as containerd writes them. */
	make_dir("/mnt/log/deep/er");
	make_file("/mnt/log/deep/er/50% \xc3\xa9?#", "old ");
	CHECK_INT(chmod("/mnt/log/deep/er/50% \xc3\xa9?#", 0644), 0);
	again = log_of(&r, "file:///mnt/log/deep/er/50%25%20%C3%a9%3F%23", &why);
	CHECK_INT(write(again, "new", 3), 3);
	close(again);
	CHECK_STR(text_of_file("/mnt/log/deep/er/50%% \xc3\xa9?#"), "old new");
	CHECK_INT(stat("/mnt/log/deep/er/50% \xc3\xa9?#", &st), 0);
	CHECK_INT(st.st_mode, S_IFREG | 0644);
	rig_close(&r);
}

/* E18: whatever it is, it is a bad argument, the sentence says what, and nothing is made or changed. */
TEST(refused_files)
{
	static const struct {
		const char *uri, *says;
	} cases[] = {
		{ "file:///etc/cron.d/x", "beneath none of the directories of log_prefix" },
		{ "file:///mnt/secret/marker", "beneath none of the directories of log_prefix" },
		{ "file:///mnt/stdio/log", "beneath none of the directories of log_prefix" },
		{ "file:///mnt/log", "beneath none of the directories of log_prefix" },
		{ "file:///mnt/logs/x", "beneath none of the directories of log_prefix" },
		{ "file:///mnt/logs/none/x", "did not exist when the sandbox was started" },
		{ "file:///mnt/log/../secret/marker", "without '.', '..' and '//'" },
		{ "file:///mnt/log/%2e%2e/secret/marker", "without '.', '..' and '//'" },
		{ "file:///mnt/log/..%2fsecret/marker", "without '.', '..' and '//'" },
		{ "file:///mnt/log/./x", "without '.', '..' and '//'" },
		{ "file:///mnt/log//x", "without '.', '..' and '//'" },
		{ "file:///mnt/log/x/", "without '.', '..' and '//'" },
		{ "file://", "is not an absolute path" },
		{ "file:///", "is not an absolute path" },
		{ "file://host/mnt/log/x", "is not an absolute path" },
		{ "file:///mnt/log/x?a=b", "not of the form file:///PATH" },
		{ "file:///mnt/log/x#a", "not of the form file:///PATH" },
		{ "file:///mnt/log/x%", "not of the form file:///PATH" },
		{ "file:///mnt/log/x%4", "not of the form file:///PATH" },
		{ "file:///mnt/log/x%zz", "not of the form file:///PATH" },
		{ "file:///mnt/log/x%00y", "not of the form file:///PATH" },
		{ "file:///mnt/log/x%0ay", "not of the form file:///PATH" },
		{ "file:///mnt/log/link", "is a symbolic link, not a regular file" },
		{ "file:///mnt/log/dangling", "is a symbolic link, not a regular file" },
		{ "file:///mnt/log/up/marker", "symbolic link" },
		{ "file:///mnt/log/none/x", "the directory of stdout '/mnt/log/none/x' does not" },
		{ "file:///mnt/log/mine/x", "is not a directory" },
		{ "file:///mnt/log/dir", "is a directory, not a regular file" },
		{ "file:///mnt/log/fifo", "is a FIFO, not a regular file" },
		{ "file:///mnt/log/dev", "is a character device, not a regular file" },
		{ "file:///mnt/log/socket", "is a socket, not a regular file" },
		{ "file:///mnt/log/theirs", "belongs to uid 1000, not to root" },
		{ "file:///mnt/log/linked", "has 2 names; it must have one" },
		{ "file:///mnt/log/mounted", "cross-device link" },
	};
	struct rig r = world_up(0);
	struct stat st;

	make_file("/mnt/log/mine", "mine");
	make_file("/mnt/log/theirs", "theirs");
	CHECK_INT(chown("/mnt/log/theirs", 1000, 0), 0);
	make_file("/mnt/log/linked", "linked");
	CHECK_INT(link("/mnt/log/linked", "/mnt/secret/linked"), 0);
	make_file("/mnt/log/mounted", "");
	CHECK_INT(mount("/mnt/secret/marker", "/mnt/log/mounted", NULL, MS_BIND, NULL), 0);
	CHECK_INT(symlink("/mnt/secret/marker", "/mnt/log/link"), 0);
	CHECK_INT(symlink("/mnt/secret/none", "/mnt/log/dangling"), 0);
	CHECK_INT(symlink("/mnt/secret", "/mnt/log/up"), 0);
	make_dir("/mnt/log/dir");
	CHECK_INT(mkfifo("/mnt/log/fifo", 0600), 0);
	CHECK_INT(mknod("/mnt/log/dev", S_IFCHR | 0600, makedev(1, 3)), 0);
	CHECK_INT(mknod("/mnt/log/socket", S_IFSOCK | 0600, 0), 0);
	make_fifo("in");
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct error err = ERROR_INIT;

		if (log_of(&r, cases[i].uri, &err) >= 0 || err.code != EINVAL ||
			!strcasestr(err.msg, cases[i].says) || !strstr(err.msg, "stdout"))
			test_fail(__FILE__, __LINE__, "%s: %d, %s", cases[i].uri, err.code, err.msg);
	}
	CHECK_STR(text_of_file("/mnt/secret/marker"), "secret");
	CHECK_STR(text_of_file("/mnt/log/theirs"), "theirs");
	CHECK_STR(text_of_file("/mnt/log/linked"), "linked");
	CHECK(stat("/mnt/log/x", &st) < 0 && stat("/mnt/secret/none", &st) < 0);
	CHECK(stat("/mnt/stdio/log", &st) < 0 && stat("/etc/cron.d/x", &st) < 0);

	/* Input has no file, and after all that the good one is still served. */
	CHECK_REFUSED(ask_stdio(&r, 1, "file:///mnt/log/mine", "", "", err), EINVAL,
		"stdin 'file:///mnt/log/mine': 'file://' is not supported; use a FIFO");
	CHECK_REFUSED(ask_stdio(&r, 1, "/mnt/stdio/in", "file:///mnt/log/mine",
			      "file:///mnt/log/theirs", err),
		EINVAL, "stderr '/mnt/log/theirs' belongs to uid 1000");
	CHECK_STR(text_of_file("/mnt/log/mine"), "mine");
	rig_close(&r);
}

/* It may never answer, and agentd, which writes, would wait. */
TEST(no_file_of_a_servers)
{
	int fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	char options[96];
	struct rig r;
	struct error err = ERROR_INIT;

	if (fuse < 0)
		test_skip("no /dev/fuse");
	world_make();
	make_dir("/mnt/log/server");
	/* A user's: to others, root too, the kernel answers in the server's place. */
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=1000,group_id=1000", fuse);
	CHECK_INT(mount("server", "/mnt/log/server", "fuse", 0, options), 0);
	r = rig_start(NULL);
	role_lock(&r.role);
	CHECK_INT(log_of(&r, "file:///mnt/log/server/x", &err), -1);
	CHECK_INT(err.code, EINVAL);
	CHECK_CONTAINS(err.msg, "a file system of a server's, which may not answer");
	close(fuse);
	rig_close(&r);
}

/* E19: what it names would, run by anybody, leave a file. */
TEST(nothing_is_executed)
{
	static const char *const uris[] = { "binary:///mnt/log/logger?id=1",
		"binary:///bin/sh?-c=true", "BINARY:///mnt/log/logger", "exec:///mnt/log/logger" };
	struct rig r = world_up(0);
	struct ipc_packet p;
	struct stat st;

	make_file("/mnt/log/logger", "#!/bin/sh\necho > /mnt/log/executed\n");
	CHECK_INT(chmod("/mnt/log/logger", 0755), 0);
	for (size_t i = 0; i < sizeof(uris) / sizeof(*uris); i++) {
		CHECK_REFUSED(ask_stdio(&r, 1, "", uris[i], "", err), EINVAL, "is not supported");
		CHECK_REFUSED(ask_stdio(&r, 1, "", "", uris[i], err), EINVAL, "stderr");
		CHECK(!next_packet(r.agentd, &ipc_mountd_agentd, &p));
	}
	CHECK(stat("/mnt/log/executed", &st) < 0);
	rig_close(&r);
}

/* ------------------------------------------------------------------------- races */

TEST(a_fifo_swapped_with_a_file)
{
	struct rig r = world_up(0);
	unsigned opened = 0, refused = 0, i;
	pid_t pid;

	make_fifo("out");
	make_file("/mnt/stdio/file", "");
	pid = swapper("/mnt/stdio/out", "/mnt/stdio/file");
	for
		RACE(i, 3000)
		{
			struct error err = ERROR_INIT;
			struct ipc_packet p;

			if (ask_stdio(&r, i, "", "/mnt/stdio/out", "", &err) == 0) {
				p = stream(&r, MOUNTD_AGENTD_STDOUT, i);
				ipc_packet_done(&p);
				opened++;
			} else {
				CHECK_CONTAINS(err.msg, "is a regular file, not a FIFO");
				refused++;
			}
		}
	stop(pid);
	printf("         %u opened, %u refused\n", opened, refused);
	CHECK(opened > 0 && refused > 0);
	rig_close(&r);
}

TEST(a_file_swapped_with_a_link)
{
	struct rig r = world_up(0);
	unsigned opened = 0, refused = 0, i;
	struct stat log, st;
	pid_t pid;

	make_file("/mnt/log/a", "");
	CHECK_INT(stat("/mnt/log/a", &log), 0);
	CHECK_INT(symlink("/mnt/secret/marker", "/mnt/log/b"), 0);
	pid = swapper("/mnt/log/a", "/mnt/log/b");
	for
		RACE(i, 3000)
		{
			struct error err = ERROR_INIT;
			int fd = log_of(&r, "file:///mnt/log/a", &err);

			if (fd >= 0) {
				CHECK_INT(fstat(fd, &st), 0);
				CHECK(st.st_ino == log.st_ino && st.st_dev == log.st_dev);
				close(fd);
				opened++;
			} else {
				CHECK_CONTAINS(err.msg, "is a symbolic link, not a regular file");
				refused++;
			}
		}
	stop(pid);
	printf("         %u opened, %u refused\n", opened, refused);
	CHECK(opened > 0 && refused > 0);
	CHECK_STR(text_of_file("/mnt/secret/marker"), "secret");
	rig_close(&r);
}

/* ------------------------------------------------------------------------- events */

static int listen_at(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(addr.sun_path, path);
	CHECK_INT(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	CHECK_INT(listen(fd, 4), 0);
	return fd;
}

static int ask_events(struct rig *r, int *ret_fd, struct error *err)
{
	Ipc__MountdOpenEvents req = IPC__MOUNTD_OPEN_EVENTS__INIT;
	struct ipc_packet p;

	CHECK_INT(channel_send(r->role.channel, &ipc_frontend_mountd, IPC_REQUEST,
			  MOUNTD_OPEN_EVENTS, 77, &req.base, NULL, 0, 1000, err),
		0);
	CHECK_INT(channel_recv(r->role.channel, &ipc_frontend_mountd, 0, &p, err), 1);
	if (p.hdr.kind == IPC_ERROR) {
		CHECK_INT(ipc_decode_error(&p, err), 0);
		return err->code;
	}
	*ret_fd = fdlist_steal(&p.fds, 0);
	ipc_packet_done(&p);
	return 0;
}

TEST(events)
{
	static const char *const more[] = { "events=/mnt/containerd.ttrpc", NULL };
	struct ucred cred;
	socklen_t len = sizeof(cred);
	int listener, peer, fd = -1;
	struct rig r;

	world_make();
	r = rig_start(more);
	role_lock(&r.role);
	CHECK_REFUSED(ask_events(&r, &fd, err), ENOENT, "containerd's events socket");
	listener = listen_at("/mnt/containerd.ttrpc");
	CHECK_OK(ask_events(&r, &fd, err));
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK_INT(getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &cred, &len), 0);
	CHECK_INT(cred.uid, 0); /* containerd demands it */
	CHECK_INT(cred.gid, 0);
	close(listener);
	close(peer);
	close(fd);
	rig_close(&r);
}

TEST(no_events_socket)
{
	struct rig r = world_up(0);
	int fd = -1;

	CHECK_REFUSED(ask_events(&r, &fd, err), ENOENT, "named no events socket");
	rig_close(&r);
}
