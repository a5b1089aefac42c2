#include "tests/proc/mountd_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT(buf, fmt)                              \
	do {                                          \
		va_list ap;                           \
		va_start(ap, fmt);                    \
		vsnprintf(buf, sizeof(buf), fmt, ap); \
		va_end(ap);                           \
	} while (0)

void make_dir(const char *fmt, ...)
{
	char path[512];

	FORMAT(path, fmt);
	for (char *p = path + 1;; p++) {
		char was = *p;

		if (was != '/' && was != '\0')
			continue;
		*p = '\0';
		if (mkdir(path, 0755) < 0 && errno != EEXIST)
			test_fail(__FILE__, __LINE__, "mkdir %s: %s", path, strerror(errno));
		*p = was;
		if (!was)
			return;
	}
}

void make_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		test_fail(__FILE__, __LINE__, "create %s: %s", path, strerror(errno));
	CHECK_INT(write(fd, text, strlen(text)), (long long)strlen(text));
	close(fd);
}

const char *text_of_file(const char *fmt, ...)
{
	static char text[8192];
	char path[512];
	ssize_t n;
	int fd;

	FORMAT(path, fmt);
	text[0] = '\0';
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return text;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return text;
}

void make_snapshot(unsigned n)
{
	char path[64], text[16];

	make_dir("/mnt/snap/%u/fs", n);
	make_dir("/mnt/snap/%u/work", n);
	snprintf(path, sizeof(path), "/mnt/snap/%u/fs/l%u", n, n);
	snprintf(text, sizeof(text), "layer %u", n);
	make_file(path, text);
}

void make_bundle(const char *name, const char *sandbox, const char *root)
{
	char path[128], text[512];

	make_dir("/mnt/bundles/%s/rootfs", name);
	snprintf(path, sizeof(path), "/mnt/bundles/%s/config.json", name);
	snprintf(text, sizeof(text),
		"{\"root\":{%s},\"annotations\":{\"io.kubernetes.cri.sandbox-id\":\"%s\"}}", root,
		sandbox);
	make_file(path, text);
}

void world_make(void)
{
	umask(022);
	need_root();
	CHECK_INT(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	CHECK_INT(mount("world", "/mnt", "tmpfs", 0, "mode=0755"), 0);
	CHECK_INT(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL), 0);
	make_dir("/mnt/share");
	make_dir("/mnt/snap");
	make_dir("/mnt/stdio");
	make_dir("/mnt/log");
	make_dir("/mnt/secret");
	make_file("/mnt/secret/marker", "secret");
	make_bundle("first", SANDBOX, "\"path\":\"rootfs\"");
}

const char *rig_virtiofsd = RIG_VIRTIOFSD_C;

void rig_installed_virtiofsd(void)
{
	if (access("/usr/libexec/virtiofsd", X_OK) == 0)
		rig_virtiofsd = "/usr/libexec/virtiofsd";
}

struct rig rig_start(const char *const *more)
{
	char virtiofsd[64];
	const char *args[16] = { "uid=0", "share=/mnt/share", "bundle=/mnt/bundles/first",
		"sandbox=" SANDBOX, "rootfs_prefix=/mnt/snap", "rootfs_prefix=/mnt/none",
		"stdio_prefix=/mnt/stdio", "log_prefix=/mnt/log", "log_prefix=/mnt/logs/none",
		virtiofsd, "virtio_fs_cache=auto" };
	int ctl[2], log[2], frontend[2], agentd[2], vmmd[2], slot[2];
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int bundle = open("/mnt/bundles/first", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct rig r = { .nothing = void_start() };
	size_t n = 11;

	snprintf(virtiofsd, sizeof(virtiofsd), "virtiofsd=%s", rig_virtiofsd);
	while (more && *more)
		args[n++] = *more++;
	test_pair(ctl);
	test_pair(frontend);
	test_pair(agentd);
	test_pair(vmmd);
	test_pair(slot);
	CHECK_INT(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, log), 0);

	struct test_fd fds[] = {
		{ 0, null },
		{ 1, null },
		{ 2, log[1] },
		{ FD_CTL, ctl[1] },
		{ MOUNTD_FD_FRONTEND, frontend[1] },
		{ MOUNTD_FD_VMMD, vmmd[1] },
		{ MOUNTD_FD_AGENTD, agentd[1] },
		{ MOUNTD_FD_SLOT, slot[1] },
		{ MOUNTD_FD_BUNDLE, bundle },
		{ MOUNTD_FD_VOID, r.nothing },
		{ -1, -1 },
	};
	r.role = (struct started){
		.pid = test_spawn("bulkhead-mountd", args, fds),
		.ctl = ctl[0],
		.log = log[0],
		.channel = frontend[0],
	};
	r.agentd = agentd[0];
	r.vmmd = vmmd[0];
	r.slot = slot[0];
	for (size_t i = 0; fds[i].target >= 0; i++)
		if (fds[i].fd != null && fds[i].fd != r.nothing)
			close(fds[i].fd);
	close(null);
	return r;
}

struct rig rig_up(void)
{
	struct rig r = rig_start(NULL);

	role_lock(&r.role);
	return r;
}

void rig_close(struct rig *r)
{
	role_close(&r->role);
	fd_close(&r->agentd);
	fd_close(&r->vmmd);
	fd_close(&r->slot);
	fd_close(&r->nothing);
}

const char *in_m(const struct rig *r, const char *fmt, ...)
{
	static char text[640];
	char path[512];

	FORMAT(path, fmt);
	snprintf(text, sizeof(text), "/proc/%d/root%s", r->role.pid, path);
	return text;
}

bool next_packet(int fd, const struct ipc_channel *def, struct ipc_packet *p)
{
	struct error err = ERROR_INIT;
	int r = channel_recv(fd, def, MSG_DONTWAIT, p, &err);

	if (r == -EPROTO)
		test_fail(__FILE__, __LINE__, "%s", err.msg);
	return r == 1;
}

static void check_config(struct rig *r, unsigned index)
{
	struct ipc_packet p = { .fds = FDLIST_INIT };
	Ipc__Config *msg;

	CHECK(next_packet(r->agentd, &ipc_mountd_agentd, &p));
	CHECK_INT(p.hdr.type, MOUNTD_AGENTD_CONFIG);
	msg = (Ipc__Config *)ipc_decode(&p, NULL);
	CHECK(msg);
	CHECK_INT(msg->index, index);
	r->n_memory = msg->n_memory;
	if (msg->n_memory)
		r->memory = *msg->memory[0];
	r->host_devices = msg->host_devices;
	r->n_uses = msg->n_disks;
	for (size_t i = 0; i < msg->n_disks && i < ARRAY_SIZE(r->uses); i++) {
		r->uses[i] = *msg->disks[i];
		snprintf(r->fstype, sizeof(r->fstype), "%s", msg->disks[i]->fstype);
	}
	ipc_free(&msg->base);
	ipc_packet_done(&p);
}

static void take_answer(struct rig *r, Ipc__MountdAddContainerReply *answer)
{
	CHECK(answer && answer->n_disks <= DISKS_MAX);
	r->pod = answer->pod;
	r->n_disks = answer->n_disks;
	for (size_t i = 0; i < answer->n_disks; i++) {
		r->disks[i] = answer->disks[i]->index;
		r->read_only[i] = answer->disks[i]->read_only;
	}
	ipc_free(&answer->base);
}

int add(struct rig *r, unsigned index, const char *bundle, const char *type, const char *source,
	const char *const *options, struct error *err)
{
	Ipc__MountdAddContainer__Mount mount = IPC__MOUNTD_ADD_CONTAINER__MOUNT__INIT;
	Ipc__MountdAddContainer__Mount *mounts[] = { &mount };
	Ipc__MountdAddContainer req = IPC__MOUNTD_ADD_CONTAINER__INIT;
	Ipc__MountdAddContainerReply *answer = NULL;
	int code;

	req.index = index;
	req.bundle = (char *)bundle;
	if (type) {
		mount.type = (char *)type;
		mount.source = (char *)source;
		mount.options = (char **)options;
		while (options && options[mount.n_options])
			mount.n_options++;
		req.rootfs = mounts;
		req.n_rootfs = 1;
	}
	code = role_ask_for(&r->role, &ipc_frontend_mountd, MOUNTD_ADD_CONTAINER, &req.base,
		(ProtobufCMessage **)&answer, err);
	if (code == 0) {
		take_answer(r, answer);
		check_config(r, index);
	}
	return code;
}

int add_overlay(
	struct rig *r, unsigned index, unsigned top, const unsigned *below, struct error *err)
{
	char upper[64], work[64], lower[8192] = "lowerdir=";
	const char *options[] = { "index=off", work, upper, lower, NULL };

	snprintf(upper, sizeof(upper), "upperdir=/mnt/snap/%u/fs", top);
	snprintf(work, sizeof(work), "workdir=/mnt/snap/%u/work", top);
	for (size_t i = 0; below[i]; i++)
		snprintf(lower + strlen(lower), sizeof(lower) - strlen(lower), "%s/mnt/snap/%u/fs",
			i ? ":" : "", below[i]);
	return add(r, index, "", "overlay", "overlay", options, err);
}

int del(struct rig *r, unsigned index, struct error *err)
{
	Ipc__MountdRemoveContainer req = IPC__MOUNTD_REMOVE_CONTAINER__INIT;

	req.index = index;
	return role_ask(&r->role, &ipc_frontend_mountd, MOUNTD_REMOVE_CONTAINER, &req.base, err);
}

int del_with_disks(struct rig *r, unsigned index, struct error *err)
{
	Ipc__MountdRemoveContainer req = IPC__MOUNTD_REMOVE_CONTAINER__INIT;
	Ipc__MountdRemoveContainer__Disk disks[DISKS_MAX], *list[DISKS_MAX];

	req.index = index;
	req.disks = list;
	for (; req.n_disks < r->n_disks; req.n_disks++) {
		list[req.n_disks] = &disks[req.n_disks];
		ipc__mountd_remove_container__disk__init(&disks[req.n_disks]);
		disks[req.n_disks].index = r->disks[req.n_disks];
	}
	return role_ask(&r->role, &ipc_frontend_mountd, MOUNTD_REMOVE_CONTAINER, &req.base, err);
}

int ask_stdio(struct rig *r, uint32_t process, const char *in, const char *out, const char *errors,
	struct error *err)
{
	Ipc__MountdOpenStdio req = IPC__MOUNTD_OPEN_STDIO__INIT;

	req.process = process;
	req.stdin = (char *)in;
	req.stdout = (char *)out;
	req.stderr = (char *)errors;
	return role_ask(&r->role, &ipc_frontend_mountd, MOUNTD_OPEN_STDIO, &req.base, err);
}
