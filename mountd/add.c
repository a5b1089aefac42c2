#include "mountd/add.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common/fdio.h"
#include "common/log.h"
#include "ipc/fds.h"
#include "ipc/tables.h"
#include "mountd/block.h"
#include "mountd/mountd.h"
#include "mountd/plan.h"
#include "mountd/rootfs.h"
#include "mountd/spec.h"
#include "mountd/volume.h"

/* Devices and block devices that are bound; a root is one more. */
#define USES_MAX 64

/* What CONFIG says of volumes in memory and of disks. */
struct memories {
	Ipc__Config__Memory item[SHARE_VOLUMES_MAX], *at[SHARE_VOLUMES_MAX];
	size_t n;
};

struct uses {
	Ipc__Config__Disk item[USES_MAX], *at[USES_MAX];
	size_t n;
};

/* A container on its way. */
struct adding {
	struct helper *h;
	struct mountd *m;
	unsigned index;
	const char *bundle; /* "": the first one */
	const struct rootfs_plan *plan;
	int config; /* its config.json */
	bool host_devices, devices;
	struct bundle known; /* to be */
	struct memories memories;
	struct uses uses;
	struct container_reply *reply;
};

static struct block_place block_place(const struct mountd *m)
{
	return (struct block_place){ .proc = m->proc, .disks = &m->disks };
}

/* -- disks */

/* In the answer each of them once. */
static void reply_disk(struct container_reply *reply, const struct disk *disk)
{
	Ipc__MountdAddContainerReply__Disk *to = &reply->item[reply->msg.n_disks];

	for (size_t i = 0; i < reply->msg.n_disks; i++)
		if (reply->item[i].index == disk->index)
			return;
	ipc__mountd_add_container_reply__disk__init(to);
	to->index = disk->index;
	to->read_only = disk->read_only;
	reply->at[reply->msg.n_disks++] = to;
	reply->msg.disks = reply->at;
}

/* What a worker has found becomes a disk, unless it is one already. */
static const struct disk *take_disk(struct adding *a, const struct block *b, struct fdlist *fds,
	size_t at, struct error *err)
{
	struct disks *disks = &a->m->disks;
	const struct disk *disk = disks_find(disks, &b->id);
	int fd = fdlist_steal(fds, at);

	if (!disk && fd >= 0)
		return disks_add_consume(disks,
			&(struct disk){ .id = b->id, .read_only = b->read_only, .fd = fd,
				.container = a->index },
			err);
	fd_close(&fd);
	if (!disk)
		error_set(err, EIO, "the worker returned no disk");
	return disk;
}

/* NULL with err. The caller says what it is for. */
static Ipc__Config__Disk *use_disk(struct adding *a, const struct block *b, struct fdlist *fds,
	size_t at, struct error *err)
{
	Ipc__Config__Disk *use = &a->uses.item[a->uses.n];
	const struct disk *disk;

	if (a->uses.n == USES_MAX) {
		error_set(err, E2BIG, "more than %d block devices in one container", USES_MAX);
		return NULL;
	}
	disk = take_disk(a, b, fds, at, err);
	if (!disk)
		return NULL;
	reply_disk(a->reply, disk);
	ipc__config__disk__init(use);
	use->disk = disk->index;
	use->read_only = b->read_only;
	a->uses.at[a->uses.n++] = use;
	return use;
}

/* -- config.json and the rootfs */

struct add_job {
	const struct mountd *m;
	const char *bundle;
	const struct rootfs_plan *plan;
	int scratch;
	struct root {
		bool pod;
		bool host_devices; /* linux.devices are all of the host: nothing is opened */
		bool devices;	   /* there are block devices among them */
		dev_t bundle_dev;
		ino_t bundle_ino;
		struct block block;
	} root;
};

/*
 * Only a bundle of this sandbox: else a frontend that was taken over could
 * have the node's other pods' secrets mounted by naming their bundles.
 */
static int check_sandbox(const struct add_job *job, const struct spec *spec, struct error *err)
{
	if (!*job->bundle)
		return 0; /* the launcher named it */
	if (!spec->sandbox_id || strcmp(spec->sandbox_id, job->m->sandbox) != 0)
		return error_set(err, EPROTO,
			"bundle " PATH_FMT " belongs to sandbox '%.80s', not to this one",
			job->bundle, spec->sandbox_id ? spec->sandbox_id : "");
	return 0;
}

/* What the name leads to now is what the launcher opened. */
static int check_first(int bundle, struct error *err)
{
	struct stat now, then;

	if (fd_stat(bundle, &now) < 0 || fd_stat(MOUNTD_FD_BUNDLE, &then) < 0)
		return error_errno(err, errno, "look at the bundle");
	if (now.st_dev != then.st_dev || now.st_ino != then.st_ino)
		return error_set(err, ESTALE, "the bundle was replaced after the sandbox was started");
	return 0;
}

/* The bundle as a directory in M, and its config.json. */
static int open_bundle(const struct add_job *job, int *ret_bundle, int *ret_config,
	struct spec *ret_spec, struct error *err)
{
	bool first = !*job->bundle;
	const char *name = first ? job->m->bundle : job->bundle;
	_cleanup_close_ int bundle =
		path_open(job->m->bundles, name, O_PATH | O_DIRECTORY, PATH_BENEATH);
	_cleanup_close_ int config = -1;
	int r;

	if (bundle < 0)
		return error_errno(err, -bundle, "open bundle " PATH_FMT, name);
	if (first && check_first(bundle, err) < 0)
		return -err->code;
	/* Of the first one, in the directory that the launcher opened: no name can change it. */
	config = spec_open(first ? MOUNTD_FD_BUNDLE : bundle, err);
	if (config == -EPERM && !first)
		return -EPROTO; /* somebody else's file */
	if (config < 0)
		return config;
	r = spec_read(config, ret_spec, err);
	if (r < 0)
		return r;
	*ret_bundle = fd_steal(&bundle);
	*ret_config = fd_steal(&config);
	return check_sandbox(job, ret_spec, err);
}

static int make_root(struct add_job *job, int bundle, const struct spec *spec,
	struct fdlist *ret_fds, struct error *err)
{
	struct rootfs_place place = {
		.bundle = bundle,
		.scratch = job->scratch,
		.proc = job->m->proc,
		.prefixes = &job->m->rootfs,
	};
	struct block_place disks = block_place(job->m);
	int r;

	if (job->plan->kind != ROOTFS_BLOCK) {
		r = rootfs_make(&place, job->plan, spec, err);
		return r < 0 ? r : fdlist_add_consume(ret_fds, r);
	}
	r = block_open_source(&disks, &job->m->rootfs, job->plan->source, job->plan->readonly,
		&job->root.block, ret_fds, err);
	return r < 0 ? error_wrap(err, "rootfs mount of type %s", job->plan->fstype) : 0;
}

/* Returns config.json, and the mount or the disk. */
static int add_work(void *ctx, struct fdlist *ret_fds, struct error *err)
{
	struct add_job *job = ctx;
	CLEANUP(spec_done) struct spec spec = SPEC_INIT;
	_cleanup_close_ int bundle = -1, config = -1;
	struct spec_device device;
	struct stat st;
	int r = open_bundle(job, &bundle, &config, &spec, err);

	if (r < 0)
		return r;
	if (fd_stat(bundle, &st) < 0)
		return error_errno(err, errno, "look at the bundle");
	job->root.bundle_dev = st.st_dev;
	job->root.bundle_ino = st.st_ino;
	job->root.pod = spec.sandbox_id;
	job->root.host_devices = spec_has_host_devices(&spec);
	job->root.devices = !job->root.host_devices && spec_device(&spec, 0, &device);
	r = fdlist_add_consume(ret_fds, fd_steal(&config));
	if (r == 0)
		r = make_root(job, bundle, &spec, ret_fds, err);
	/* It means something here, and a file system may answer with any number. */
	return r == -EPROTO ? -EIO : r;
}

/* The worker and its place for layers, which goes whatever happens. */
static int run_add_work(const struct adding *a, struct root *ret, struct fdlist *ret_fds,
	struct error *err)
{
	struct scratch scratch = SCRATCH_INIT;
	struct add_job job = { .m = a->m, .bundle = a->bundle, .plan = a->plan };
	int r = 0;

	if (a->plan->kind == ROOTFS_OVERLAY)
		r = share_scratch_make(&a->m->share, &scratch, err);
	if (r < 0)
		return r;
	job.scratch = scratch.fd;
	r = worker_run(&a->m->workers, "mounting the rootfs", add_work, &job, WORKER_NOTE(&job.root),
		ret_fds, err);
	share_scratch_done(&a->m->share, &scratch);
	*ret = job.root;
	return r;
}

static int use_root(struct adding *a, const struct block *b, struct fdlist *fds, struct error *err)
{
	Ipc__Config__Disk *use = use_disk(a, b, fds, 1, err);

	if (!use)
		return -err->code;
	use->use = IPC__CONFIG__DISK__USE__ROOTFS;
	use->fstype = (char *)a->plan->fstype;
	use->options = (char **)a->plan->flags;
	use->n_options = a->plan->n_flags;
	return share_leave(&a->m->share, a->index, err);
}

/* c<index> with its rootfs, or nothing; and the config. */
static int add_rootfs(struct adding *a, struct error *err)
{
	CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;
	struct root root;
	int r = run_add_work(a, &root, &fds, err);

	if (r < 0)
		return r;
	if (fds.n < 1 || (!root.block.found && fds.n != 2))
		return error_set(err, EIO, "the worker returned %zu fds", fds.n);
	a->config = fdlist_steal(&fds, 0);
	a->reply->msg.pod = root.pod;
	a->host_devices = root.host_devices;
	a->devices = root.devices;
	a->known.dev = root.bundle_dev;
	a->known.ino = root.bundle_ino;
	if (root.block.found)
		return use_root(a, &root.block, &fds, err);
	return share_attach(&a->m->share, a->index, fds.fd[1], err);
}

/* -- volumes */

enum volume_kind {
	VOLUME_NONE,   /* there is no volume of this number */
	VOLUME_SHARED, /* a mount */
	VOLUME_MEMORY, /* a mount too: of a tmpfs or hugetlbfs, which answers whoever asks it */
	VOLUME_DISK,
};

struct volume_job {
	const struct mountd *m;
	int config;
	unsigned number;
	struct volume {
		enum volume_kind kind;
		struct block block;
		char name[FOLLOW_NAME_MAX];
		bool readonly; /* all the way down */
		bool shared;   /* says that what the container mounts goes to the host */
	} volume;
};

static int volume_work(void *ctx, struct fdlist *ret_fds, struct error *err)
{
	struct volume_job *job = ctx;
	struct block_place place = block_place(job->m);
	CLEANUP(spec_done) struct spec spec = SPEC_INIT;
	struct spec_mount volume;
	int is_memory, r = spec_read(job->config, &spec, err);

	if (r < 0 || !spec_volume(&spec, job->number, &volume))
		return r;
	if (job->number == SHARE_VOLUMES_MAX)
		return error_set(err, E2BIG, "more than %d volumes", SHARE_VOLUMES_MAX);
	is_memory = volume_is_memory(&volume, err);
	r = is_memory < 0 ? is_memory :
			    volume_make(&place, &volume, &job->volume.block, ret_fds, err);
	if (r < 0)
		return r == -EPROTO ? -EIO : r;
	job->volume.kind = job->volume.block.found ? VOLUME_DISK :
			   is_memory		   ? VOLUME_MEMORY :
						     VOLUME_SHARED;
	snprintf(job->volume.name, sizeof(job->volume.name), "%s", volume.destination);
	job->volume.readonly = volume.readonly_recursive;
	job->volume.shared = volume.shared;
	return 0;
}

/* The guest's tmpfs, or hugetlbfs, will be what the host's is. */
static int describe_memory(int mount, unsigned number, struct memories *to, struct error *err)
{
	Ipc__Config__Memory *m = &to->item[to->n];
	struct statfs fs;
	struct stat st;

	if (fstatfs(mount, &fs) < 0 || fd_stat(mount, &st) < 0)
		return error_errno(err, errno, "look at volume %u", number);
	ipc__config__memory__init(m);
	m->volume = number;
	m->id = st.st_dev;
	/* A hugetlbfs may say that it has -1. */
	if ((uint64_t)fs.f_blocks <= UINT64_MAX / (uint64_t)fs.f_bsize)
		m->size = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
	m->mode = st.st_mode & 07777;
	m->uid = st.st_uid;
	m->gid = st.st_gid;
	m->page_size = fs.f_type == HUGETLBFS_MAGIC ? (uint64_t)fs.f_bsize : 0;
	to->at[to->n++] = m;
	return 0;
}

static int use_volume(struct adding *a, unsigned number, const struct block *b,
	struct fdlist *fds, struct error *err)
{
	Ipc__Config__Disk *use = use_disk(a, b, fds, 0, err);

	if (!use)
		return -err->code;
	use->use = IPC__CONFIG__DISK__USE__VOLUME;
	use->number = number;
	use->major = b->major;
	use->minor = b->minor;
	use->mode = b->mode;
	use->uid = b->uid;
	use->gid = b->gid;
	return 0;
}

/* Two fds: its stage is the second. */
static int attach_volume(struct adding *a, const struct volume_job *job, const struct fdlist *fds,
	struct error *err)
{
	struct follow what = { .index = a->index, .number = job->number,
		.readonly = job->volume.readonly };
	int r = share_attach_volume(&a->m->share, a->index, job->number, fds->fd[0], err);

	memcpy(what.name, job->volume.name, sizeof(what.name));
	return r < 0 || fds->n < 2 ? r : follow_add(a->h, &what, fds->fd[1], err);
}

static int place_volume(struct adding *a, const struct volume_job *job, struct fdlist *fds,
	struct error *err)
{
	struct share *share = &a->m->share;
	int r;

	if (job->volume.kind != VOLUME_DISK && fds->n != 1 && fds->n != 2)
		return error_set(err, EIO, "the worker returned %zu fds", fds->n);
	if (job->volume.shared)
		log_warn("volume %s: what is mounted there in the container does not appear on the "
			 "host: 'shared' is as 'slave'",
			job->volume.name);
	if (job->volume.kind == VOLUME_SHARED)
		return attach_volume(a, job, fds, err);
	if (job->volume.kind == VOLUME_MEMORY)
		r = describe_memory(fds->fd[0], job->number, &a->memories, err);
	else
		r = use_volume(a, job->number, &job->volume.block, fds, err);
	return r < 0 ? r : share_leave_volume(share, a->index, job->number, err);
}

/* One worker for each: whichever hangs, it is one, and its name is in the sentence. */
static int add_volumes(struct adding *a, struct error *err)
{
	struct volume_job job = { .m = a->m, .config = a->config };

	for (;; job.number++) {
		CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;
		char what[32];
		int r;

		job.volume = (struct volume){ .kind = VOLUME_NONE };
		snprintf(what, sizeof(what), "mounting volume %u", job.number);
		r = worker_run(&a->m->workers, what, volume_work, &job, WORKER_NOTE(&job.volume),
			&fds, err);
		if (r < 0 || job.volume.kind == VOLUME_NONE)
			return r;
		r = place_volume(a, &job, &fds, err);
		if (r < 0)
			return r;
	}
}

/* -- devices */

struct device_job {
	const struct mountd *m;
	int config;
	unsigned number; /* among the block devices */
	struct device {
		uint32_t place; /* in linux.devices */
		struct block block;
	} device;
};

static int device_work(void *ctx, struct fdlist *ret_fds, struct error *err)
{
	struct device_job *job = ctx;
	struct block_place place = block_place(job->m);
	CLEANUP(spec_done) struct spec spec = SPEC_INIT;
	struct spec_device d;
	int r = spec_read(job->config, &spec, err);

	if (r < 0)
		return r;
	if (!spec_device(&spec, job->number, &d))
		return 0;
	job->device.place = (uint32_t)d.place;
	r = block_open_number(&place, d.major, d.minor, d.readonly, &job->device.block, ret_fds, err);
	if (r < 0)
		error_wrap(err, "linux.devices[%zu]: %.80s", d.place, d.path ? d.path : "");
	return r == -EPROTO ? -EIO : r;
}

static int add_devices(struct adding *a, struct error *err)
{
	struct device_job job = { .m = a->m, .config = a->config };

	for (; a->devices; job.number++) {
		CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;
		Ipc__Config__Disk *use;
		char what[40];
		int r;

		job.device = (struct device){ .place = 0 };
		snprintf(what, sizeof(what), "opening block device %u", job.number);
		r = worker_run(&a->m->workers, what, device_work, &job, WORKER_NOTE(&job.device),
			&fds, err);
		if (r < 0 || !job.device.block.found)
			return r;
		use = use_disk(a, &job.device.block, &fds, 0, err);
		if (!use)
			return -err->code;
		use->use = IPC__CONFIG__DISK__USE__DEVICE;
		use->number = job.device.place;
	}
	return 0;
}

/* -- all of it */

/* The rootfs in the share, then the volumes beside it, and the disks: all of them or nothing. */
static int attach(struct adding *a, struct error *err)
{
	struct error ignored = ERROR_INIT;
	int r = add_rootfs(a, err);

	if (r < 0)
		return r;
	r = add_volumes(a, err);
	if (r == 0)
		r = add_devices(a, err);
	if (r == 0)
		follow_all(a->h);
	if (r < 0 && follow_unmount(a->h, a->index, &ignored) == 0 &&
		share_unmount(&a->m->share, a->index, &ignored) == 0)
		share_remove(&a->m->share, a->index, &ignored);
	if (r < 0)
		follow_forget(a->h, a->index);
	return r;
}

static int send_config(struct helper *h, struct adding *a, struct error *err)
{
	Ipc__Config msg = IPC__CONFIG__INIT;

	msg.index = a->index;
	msg.memory = a->memories.at;
	msg.n_memory = a->memories.n;
	msg.disks = a->uses.at;
	msg.n_disks = a->uses.n;
	msg.host_devices = a->host_devices;
	return mountd_push(h, MOUNTD_FD_AGENTD, &ipc_mountd_agentd, MOUNTD_AGENTD_CONFIG, &msg.base,
		&a->config, 1, err);
}

static int read_plan(const Ipc__MountdAddContainer *req, struct rootfs_plan *ret, struct error *err)
{
	struct rootfs_mount mount = { 0 };

	if (*req->bundle && !path_is_name(req->bundle))
		return error_set(err, EPROTO, "bundle " PATH_FMT " is not a name", req->bundle);
	if (req->n_rootfs > 0)
		mount = (struct rootfs_mount){
			.type = req->rootfs[0]->type,
			.source = req->rootfs[0]->source,
			.options = req->rootfs[0]->options,
			.n_options = req->rootfs[0]->n_options,
		};
	return rootfs_plan_read(ret, &mount, req->n_rootfs, err);
}

int add_container(struct helper *h, const Ipc__MountdAddContainer *req,
	struct container_reply *ret, struct error *err)
{
	CLEANUP(rootfs_plan_done) struct rootfs_plan plan = ROOTFS_PLAN_INIT;
	struct mountd *m = h->ctx;
	struct adding a = { .h = h, .m = m, .index = req->index, .bundle = req->bundle, .plan = &plan,
		.config = -1, .reply = ret, .known.index = req->index };
	int r = read_plan(req, &plan, err);

	ipc__mountd_add_container_reply__init(&ret->msg);
	snprintf(a.known.name, sizeof(a.known.name), "%s", *a.bundle ? a.bundle : m->bundle);
	if (r == 0)
		r = bundles_room(&m->known, err);
	if (r == 0)
		r = attach(&a, err);
	if (r == 0)
		r = send_config(h, &a, err);
	fd_close(&a.config);
	if (r < 0)
		disks_drop_unsent(&m->disks, a.index);
	else
		bundles_add(&m->known, &a.known);
	return r;
}
