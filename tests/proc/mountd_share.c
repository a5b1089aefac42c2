/* The real bulkhead-mountd: the share, with the real virtiofsd and with slots that are none. */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/slot.pb-c.h"
#include "tests/proc/mountd_world.h"

/* ---------------------------------------------------------------------- the share */

/* virtiofsd's worker: the child of the one that waits. */
static int worker_of(int pid)
{
	for (int i = 0; i < 500; i++) {
		int child = atoi(text_of_file("/proc/%d/task/%d/children", pid, pid));
		char seccomp[16];

		if (child > 0) {
			proc_status(child, "Seccomp", seccomp, sizeof(seccomp));
			if (strcmp(seccomp, "2") == 0)
				return child;
		}
		usleep(10000);
	}
	test_fail(__FILE__, __LINE__, "virtiofsd has no worker with a filter");
}

/* Its end of the work done, the one that waits has given up what it had. */
static void wait_without_caps(int pid)
{
	char caps[32] = "";

	for (int i = 0; i < 500; i++) {
		proc_status(pid, "CapEff", caps, sizeof(caps));
		if (strtoull(caps, NULL, 16) == 0)
			return;
		usleep(10000);
	}
	test_fail(__FILE__, __LINE__, "virtiofsd's first process still has capabilities %s", caps);
}

static const char *in_proc(int pid, const char *path)
{
	static char text[256];

	snprintf(text, sizeof(text), "/proc/%d/root%s", pid, path);
	return text;
}

/* START_SHARE is not permitted a second time: mountd's exit status. */
static int ask_twice(struct rig *r)
{
	Ipc__MountdStartShare req = IPC__MOUNTD_START_SHARE__INIT;

	CHECK_INT(channel_send(r->role.channel, &ipc_frontend_mountd, IPC_REQUEST,
			  MOUNTD_START_SHARE, 99, &req.base, NULL, 0, 1000, NULL),
		0);
	return WEXITSTATUS(role_ends(&r->role, 5000));
}

/* Those that act on files; then those that it takes to build its own sandbox. */
#define FILE_CAPS                                                                     \
	(BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) | \
		BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETFCAP))
#define SLOT_CAPS (FILE_CAPS | BIT(CAP_SYS_ADMIN) | BIT(CAP_SETPCAP) | BIT(CAP_MKNOD))

/* virtiofsd gives up the rest last of all, some time after it has a filter of its own. */
static unsigned long long caps_left(int pid, unsigned long long allowed)
{
	unsigned long long caps = 0;
	char text[32];

	for (int i = 0; i < 500; i++) {
		proc_status(pid, "CapEff", text, sizeof(text));
		caps = strtoull(text, NULL, 16);
		if (!(caps & ~allowed))
			break;
		usleep(10000);
	}
	return caps;
}

static void check_jail(int pid, unsigned long long caps_allowed)
{
	char nnp[8];

	CHECK(!same_namespace(pid, getpid(), "user"));
	CHECK(!same_namespace(pid, getpid(), "mnt"));
	CHECK(!same_namespace(pid, getpid(), "net"));
	CHECK(!same_namespace(pid, getpid(), "ipc"));
	CHECK(!same_namespace(pid, getpid(), "uts"));
	CHECK_STR(text_of_file("/proc/%d/uid_map", pid), "         0          0 4294967295\n");
	CHECK_STR(text_of_file("/proc/%d/gid_map", pid), "         0          0 4294967295\n");
	proc_status(pid, "NoNewPrivs", nnp, sizeof(nnp));
	CHECK_STR(nnp, "1");
	CHECK_INT(caps_left(pid, caps_allowed) & ~caps_allowed, 0);
}

/* Nothing of the host but what its slot left in its root. */
static void check_root(int pid)
{
	CHECK_INT(access(in_proc(pid, "/usr/bin"), F_OK), 0);
	CHECK_INT(access(in_proc(pid, "/mnt"), F_OK), -1);
	CHECK_INT(access(in_proc(pid, "/etc/passwd"), F_OK), -1);
	CHECK_INT(access(in_proc(pid, "/dev"), F_OK), -1);
	CHECK_INT(mkdir(in_proc(pid, "/x"), 0700), -1);
	CHECK_INT(errno, EROFS);
	CHECK_INT(mkdir(in_proc(pid, "/usr/x"), 0700), -1);
	CHECK_INT(errno, EROFS);
}

TEST(share_with_the_real_virtiofsd)
{
	static const char *const ro[] = { "ro", NULL };
	struct started slot;
	int worker, share;
	struct rig r;

	rig_installed_virtiofsd();
	r = world_up(5);

	CHECK_OK(add_overlay(&r, 0, 3, two_layers, err)); /* before V exists */
	slot = slot_up(&r, rig_virtiofsd);
	check_root(slot.pid);
	check_jail(slot.pid, SLOT_CAPS);
	CHECK_OK(ask_share(&r, err));
	share = take_share(&r);
	worker = worker_of(slot.pid);
	wait_without_caps(slot.pid);
	check_jail(slot.pid, 0); /* only waits */
	check_jail(worker, FILE_CAPS);

	CHECK_STR(text_of_file("%s", in_proc(worker, "/c0/rootfs/l1")), "layer 1");
	CHECK_OK(add_overlay(&r, 1, 4, two_layers, err)); /* after */
	CHECK_STR(text_of_file("%s", in_proc(worker, "/c1/rootfs/l4")), "layer 4");
	make_file(in_proc(worker, "/c1/rootfs/new"), "new");
	CHECK_STR(text_of_file("/mnt/snap/4/fs/new"), "new");
	CHECK_OK(add(&r, 2, "", "bind", "/mnt/snap/5/fs", ro, err));
	CHECK_STR(text_of_file("%s", in_proc(worker, "/c2/rootfs/l5")), "layer 5");
	CHECK_INT(open(in_proc(worker, "/c2/rootfs/x"), O_CREAT | O_WRONLY, 0600), -1);
	CHECK_INT(errno, EROFS);

	/* The skeleton is read-only there. */
	CHECK_INT(mkdir(in_proc(worker, "/c9"), 0700), -1);
	CHECK_INT(errno, EROFS);
	CHECK_INT(mkdir(in_proc(worker, "/c0/x"), 0700), -1);
	CHECK_INT(errno, EROFS);

	CHECK_OK(del(&r, 1, err));
	CHECK_INT(access(in_proc(worker, "/c1"), F_OK), -1);
	CHECK(!in_use(4));
	CHECK(in_use(3));

	CHECK_INT(ask_twice(&r), 70);
	close(share); /* QEMU's end: virtiofsd ends with it */
	CHECK_INT(role_ends(&slot, 5000), 0);
	for (int i = 0; i < 100 && in_use(3); i++)
		usleep(20000);
	CHECK(!in_use(3));
	role_close(&slot);
	rig_close(&r);
}

TEST(a_slot_that_cannot_execute)
{
	struct rig r = world_up(0);
	struct started slot = slot_up(&r, "/etc/passwd");

	CHECK_REFUSED(ask_share(&r, err), EACCES, "start virtiofsd: execute " RIG_VIRTIOFSD_C);
	role_close(&slot);
	rig_close(&r);
}

TEST(a_slot_that_is_silent)
{
	static const char *const more[] = { "timeout_ms=300", NULL };
	struct rig r;

	world_make();
	r = rig_start(more);
	role_lock(&r.role);
	CHECK_REFUSED(ask_share(&r, err), ETIMEDOUT, "did not start it within 300 ms");
	rig_close(&r);
}

TEST(what_the_slot_is_told)
{
	struct rig r = world_up(0);
	Ipc__MountdStartShare req = IPC__MOUNTD_START_SHARE__INIT;
	struct ipc_packet p = { .fds = FDLIST_INIT };
	struct error err = ERROR_INIT;
	char all[1024] = "";
	int listener = -1, peer;

	CHECK_INT(channel_send(r.role.channel, &ipc_frontend_mountd, IPC_REQUEST,
			  MOUNTD_START_SHARE, 1, &req.base, NULL, 0, 1000, &err),
		0);
	do {
		ProtobufCMessage *msg;

		CHECK_INT(channel_recv(r.slot, &ipc_slot, 0, &p, &err), 1);
		msg = ipc_decode(&p, &err);
		if (p.hdr.type == SLOT_ARG) {
			strcat(all, ((Ipc__SlotArg *)msg)->part);
			strcat(all, " ");
			CHECK(((Ipc__SlotArg *)msg)->last);
		} else if (p.hdr.type == SLOT_FD) {
			CHECK_INT(((Ipc__SlotFd *)msg)->target, 3);
			CHECK_INT(fd_check_kind(p.fds.fd[0], FD_UNIX_LISTENER, &err), 0);
			listener = fdlist_steal(&p.fds, 0);
		}
		ipc_free(msg);
		ipc_packet_done(&p);
	} while (p.hdr.type != SLOT_EXEC);
	CHECK_CONTAINS(all, "--fd=3 -f -o source=/share -o sandbox=namespace ");
	/* No name of it is left: neither abstract nor in a directory. */
	CHECK(!strstr(text_of_file("/proc/net/unix"), "virtiofsd"));
	CHECK(!strstr(text_of_file("/proc/%d/net/unix", r.role.pid), "@"));
	fd_close(&r.slot); /* it runs */
	CHECK_INT(channel_recv(r.role.channel, &ipc_frontend_mountd, 0, &p, &err), 1);
	CHECK_INT(p.hdr.kind, IPC_REPLY);
	ipc_packet_done(&p);
	close(take_share(&r));
	peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	CHECK(peer >= 0);
	close(peer);
	close(listener);
	rig_close(&r);
}
