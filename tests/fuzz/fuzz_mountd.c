/*
 * mountd behind its isolation: what the frontend asks, and what virtiofsd's
 * slot answers. Its handlers, plans, paths, bundles and FIFOs are the real
 * ones, beneath a directory of the harness; instead of mounting, each path of
 * a plan is opened as rootfs.c opens it, and a worker's work is done here.
 *
 *	u8 what	0, 3: a packet of the frontend	1: one of the slot	2: the slot runs it
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ipc/fds.h"
#include "ipc/tables.h"
#include "mountd/mountd.h"
#include "mountd/rootfs.h"
#include "tests/fuzz/lib/dir.h"
#include "tests/fuzz/lib/packet.h"
#include "tests/fuzz/lib/sim.h"

static struct run {
	struct bytes in;
	struct peer_end frontend, slot, agentd, vmmd;
	struct mountd mountd;
	int bundle; /* the first one, a directory */
	int events; /* containerd's socket for events */
	int cwd;
} run;

/* ---- instead of worker.c, rootfs.c and share.c ---- */

int worker_run(struct workers *w, const char *what, worker_fn fn, void *ctx,
	struct worker_note note, struct fdlist *ret_fds, struct error *err)
{
	int r = fn(ctx, ret_fds, err);

	(void)w;
	SIM_CHECK(note.size <= WORKER_NOTE_MAX);
	(void)what;
	SIM_CHECK(r < 0 || !err->code);
	if (r < 0)
		fdlist_done(ret_fds);
	return r;
}

/* Whatever the path says, what was opened lies beneath the prefix. */
static void check_beneath(int fd, const char *prefix)
{
	char name[64], path[512] = "";

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	SIM_CHECK(readlink(name, path, sizeof(path) - 1) > 0);
	SIM_CHECK(strncmp(path, own_dir(), strlen(own_dir())) == 0);
	SIM_CHECK(strncmp(path + strlen(own_dir()), prefix, strlen(prefix)) == 0);
}

static int open_one(const struct prefixes *prefixes, const char *path, struct error *err)
{
	_cleanup_close_ int fd =
		prefixes_open_path(prefixes, "lowerdir", path, O_PATH | O_DIRECTORY, err);

	if (fd >= 0)
		check_beneath(fd, "/allowed/");
	return fd < 0 ? fd : 0;
}

int rootfs_make(const struct rootfs_place *place, const struct rootfs_plan *plan,
	const struct spec *spec, struct error *err)
{
	char name[LAYER_NAME_MAX];
	int r = 0;

	SIM_CHECK(plan->n_layers <= LAYERS_MAX && plan->n_flags <= ROOTFS_FLAGS_MAX);
	SIM_CHECK(spec->root_path && spec->root_path[0]);
	for (unsigned i = 0; r == 0 && i < plan->n_layers; i++) {
		layer_name(i, name);
		SIM_CHECK(memchr(name, '\0', sizeof(name)));
		r = open_one(place->prefixes, plan->layers[i], err);
	}
	if (r == 0 && plan->upper)
		r = open_one(place->prefixes, plan->upper, err);
	if (r == 0 && plan->work)
		r = open_one(place->prefixes, plan->work, err);
	if (r == 0 && plan->kind == ROOTFS_BIND)
		r = open_one(place->prefixes, plan->source, err);
	return r < 0 ? r : fcntl(place->bundle, F_DUPFD_CLOEXEC, 0);
}

int share_scratch_make(struct share *s, struct scratch *ret, struct error *err)
{
	(void)s;
	(void)err;
	*ret = (struct scratch)SCRATCH_INIT;
	return 0;
}

void share_scratch_done(struct share *s, struct scratch *scratch)
{
	(void)s;
	(void)scratch;
}

int share_leave(struct share *s, unsigned index, struct error *err)
{
	(void)s;
	return index % 8 == 7 ? error_set(err, EEXIST, "index %u", index) : 0;
}

int share_attach(struct share *s, unsigned index, int mount, struct error *err)
{
	(void)s;
	SIM_CHECK(mount >= 0);
	return index % 8 == 7 ? error_set(err, EEXIST, "index %u", index) : 0;
}

int share_attach_volume(struct share *s, unsigned index, unsigned number, int mount,
	struct error *err)
{
	(void)s;
	(void)index;
	(void)err;
	SIM_CHECK(mount >= 0 && number < SHARE_VOLUMES_MAX);
	return 0;
}

int share_leave_volume(struct share *s, unsigned index, unsigned number, struct error *err)
{
	(void)s;
	(void)index;
	(void)number;
	(void)err;
	return 0;
}

int share_stage_make(struct share *s, unsigned index, unsigned number, int mount,
	struct error *err)
{
	(void)s;
	(void)index;
	(void)number;
	(void)mount;
	(void)err;
	return 0;
}

int share_stage_unmount(struct share *s, unsigned index, unsigned number, struct error *err)
{
	return share_stage_make(s, index, number, -1, err);
}

void share_stage_remove(struct share *s, unsigned index, unsigned number)
{
	(void)s;
	(void)index;
	(void)number;
}

/* So none is followed for long. */
int share_stage_open(const struct share *s, unsigned index, unsigned number)
{
	(void)s;
	(void)index;
	(void)number;
	return -ENOENT;
}

int share_volume_open(const struct share *s, unsigned index, unsigned number)
{
	return share_stage_open(s, index, number);
}

int share_unmount(struct share *s, unsigned index, struct error *err)
{
	(void)s;
	(void)index;
	(void)err;
	return 0;
}

int share_remove(struct share *s, unsigned index, struct error *err)
{
	(void)s;
	(void)index;
	(void)err;
	return 0;
}

/* ---- a run ---- */

static void make_files(void)
{
	static const char config[] = "{\"root\":{\"path\":\"rootfs\"},\"annotations\":"
				     "{\"io.kubernetes.cri.sandbox-id\":\"s1\"}}";

	char sector[513];

	memset(sector, 'x', sizeof(sector));
	sector[512] = '\0';
	own_mkdir("bundles");
	own_mkdir("bundles/s1");
	own_file("bundles/s1/config.json", config);
	own_mkdir("bundles/c2");
	own_file("bundles/c2/config.json", config);
	own_mkdir("bundles/foreign");
	own_file("bundles/foreign/config.json", "{\"root\":{\"path\":\"r\"}}");
	own_mkdir("bundles/link");
	own_link("bundles/link/config.json", "/etc/passwd");
	own_mkdir("allowed");
	own_mkdir("allowed/a");
	own_mkdir("allowed/a/b");
	own_file("allowed/file", "");
	own_file("allowed/disk", sector);
	own_link("allowed/out", "/etc");
	own_fifo("allowed/in");
	own_fifo("allowed/a/o");
	own_mkdir("logs");
	own_mkdir("private");
}

/* Anew for each input: mountd makes files there. */
static void make_logs(void)
{
	own_clear("logs");
	own_mkdir("logs/d");
	own_file("logs/file", "");
	own_fifo("logs/fifo");
	own_link("logs/out", "/etc");
	own_link("logs/d/link", "../file");
}

static const char *listen_in_dir(int *ret_fd)
{
	static struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s/events", own_dir());
	SIM_CHECK(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0);
	SIM_CHECK(listen(fd, 4096) == 0);
	*ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, SIM_FD_OURS + 100);
	close(fd);
	return addr.sun_path;
}

static void prepare(void)
{
	struct mountd *m = &run.mountd;
	struct error err = ERROR_INIT;

	make_files();
	*m = (struct mountd){ .share = SHARE_INIT, .bundle = "s1", .sandbox = "s1",
		.workers = WORKERS_INIT(MOUNTD_TIMEOUT_MS) };
	m->share.private = own_open("private", O_RDONLY | O_DIRECTORY);
	m->bundles = own_open("bundles", O_PATH | O_DIRECTORY);
	run.bundle = own_open("bundles/s1", O_RDONLY | O_DIRECTORY);
	/* By a name that the input can know. One more does not exist. */
	m->rootfs = (struct prefixes){ "rootfs_prefix", 2,
		{ { "/allowed", own_open("allowed", O_PATH | O_DIRECTORY) }, { "/away", -1 } } };
	m->stdio.fifos = m->rootfs;
	m->stdio.logs = (struct prefixes){ "log_prefix", 1,
		{ { "/logs", own_open("logs", O_PATH | O_DIRECTORY) } } };
	m->events = listen_in_dir(&run.events);
	m->proc = fcntl(open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC), F_DUPFD_CLOEXEC,
		SIM_FD_OURS + 100);
	SIM_CHECK(virtiofsd_args("/usr/lib/qemu/virtiofsd", "auto", &m->virtiofsd_args, &err) == 0);
	run.cwd = fcntl(open(".", O_PATH | O_CLOEXEC), F_DUPFD_CLOEXEC, SIM_FD_OURS + 100);
}

static void happen(unsigned what)
{
	switch (what) {
	case 1:
		peer_send(&run.slot, &run.in);
		break;
	case 2:
		peer_close(&run.slot);
		break;
	default:
		peer_send(&run.frontend, &run.in);
	}
}

static bool next(void *ctx)
{
	bool at_once;

	(void)ctx;
	if (run.frontend.fd < 0)
		return false;
	if (run.in.left == 0) {
		peer_read(&run.agentd);
		peer_read(&run.vmmd);
		peer_close(&run.slot);
		peer_close(&run.frontend);
		return true;
	}
	do
		happen(in_what(&run.in, 4, &at_once));
	while (at_once);
	return true;
}

static int role(void *ctx)
{
	struct helper h = {
		.channel = &ipc_frontend_mountd,
		.fd = MOUNTD_FD_FRONTEND,
		.requests = mountd_requests,
		.n_requests = mountd_n_requests,
		.state = MOUNTD_STATE_READY,
		.ctx = &run.mountd,
	};
	struct error err = ERROR_INIT;

	(void)ctx;
	return helper_serve(&h, &err);
}

/* What agentd and vmmd are sent is what their tables say. */
static void fds_came(void *ctx, const struct ipc_header *hdr, const uint8_t *payload,
	struct fdlist *fds)
{
	bool file = hdr->type == MOUNTD_AGENTD_STDOUT_FILE || hdr->type == MOUNTD_AGENTD_STDERR_FILE;
	struct stat st;

	(void)ctx;
	(void)payload;
	if (hdr->type == MOUNTD_AGENTD_CONFIG)
		return;
	for (size_t i = 0; i < fds->n; i++) {
		SIM_CHECK(fstat(fds->fd[i], &st) == 0);
		SIM_CHECK(file ? S_ISREG(st.st_mode) && st.st_nlink == 1 : S_ISFIFO(st.st_mode));
		check_beneath(fds->fd[i], file ? "/logs/" : "/allowed/");
	}
}

/* And a disk is an image that the frontend may name. */
static void disk_came(void *ctx, const struct ipc_header *hdr, const uint8_t *payload,
	struct fdlist *fds)
{
	struct stat st;

	(void)ctx;
	(void)payload;
	if (hdr->type != MOUNTD_VMMD_BLOCK)
		return;
	SIM_CHECK(fds->n == 1 && fstat(fds->fd[0], &st) == 0 && S_ISREG(st.st_mode));
	check_beneath(fds->fd[0], "/allowed/");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool prepared;
	int fd;
	struct sim sim = { .next = next, .role = role, .closes_fds = true };

	if (!prepared)
		prepare();
	prepared = true;
	make_logs();
	run.in = (struct bytes){ data, size };
	run.mountd.peer_lost = false;
	for (uint32_t disk = 1; disk <= run.mountd.disks.last; disk++)
		disks_forget(&run.mountd.disks, disk);
	memset(&run.mountd.known, 0, sizeof(run.mountd.known));
	run.mountd.disks = (struct disks)DISKS_INIT;
	peer_open(&run.frontend, &ipc_frontend_mountd, MOUNTD_FD_FRONTEND);
	peer_open(&run.slot, &ipc_slot, MOUNTD_FD_SLOT);
	peer_open(&run.agentd, &ipc_mountd_agentd, MOUNTD_FD_AGENTD);
	peer_open(&run.vmmd, &ipc_mountd_vmmd, MOUNTD_FD_VMMD);
	run.agentd.fds_came = fds_came;
	run.vmmd.fds_came = disk_came;
	sim_theirs(fcntl(run.bundle, F_DUPFD_CLOEXEC, 0), MOUNTD_FD_BUNDLE);
	sim_run(&sim);
	while ((fd = accept4(run.events, NULL, NULL, SOCK_CLOEXEC)) >= 0)
		close(fd);
	/* virtiofsd's socket was bound in another directory; corpora have relative names. */
	SIM_CHECK(fchdir(run.cwd) == 0);
	return 0;
}
