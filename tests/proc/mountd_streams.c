/* The real bulkhead-mountd: FIFOs, and containerd's events socket. */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/proc/mountd_world.h"

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
		{ "/mnt/stdio/dev", EINVAL, "is a device, not a FIFO" },
		{ "/mnt/stdio/link", EINVAL, "is a symbolic link, not a FIFO" },
		{ "/mnt/stdio/up/in", ELOOP, "symbolic link" },
		{ "/mnt/stdio/none", ENOENT, "does not exist" },
		{ "/mnt/stdio/../stdio/in", EINVAL, "without '.', '..' and '//'" },
		{ "/mnt/secret/fifo", EPERM, "beneath none of the directories of stdio_prefixes" },
		{ "stdio/in", EINVAL, "is not an absolute path" },
		{ "binary:///usr/bin/logger?id=1", EOPNOTSUPP, "'binary://' are not supported" },
		{ "file:///mnt/stdio/in", EOPNOTSUPP, "'file://' are not supported" },
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
	CHECK(opened > 0 && refused > 0);
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
