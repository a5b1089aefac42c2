#include "mountd/add.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "common/fdio.h"
#include "ipc/fds.h"
#include "ipc/tables.h"
#include "mountd/mountd.h"
#include "mountd/plan.h"
#include "mountd/rootfs.h"
#include "mountd/spec.h"
#include "mountd/tree.h"
#include "mountd/volume.h"

struct add_job {
	const struct mountd *m;
	const char *bundle; /* "": the first one */
	const struct rootfs_plan *plan;
	int scratch;
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
	/* Of the first one, the directory that the launcher opened: no name can change it. */
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

/* Returns config.json and the mount. */
static int add_work(void *ctx, struct fdlist *ret_fds, struct error *err)
{
	const struct add_job *job = ctx;
	CLEANUP(spec_done) struct spec spec = SPEC_INIT;
	_cleanup_close_ int bundle = -1, config = -1, mnt = -1;
	struct rootfs_place place = {
		.scratch = job->scratch,
		.proc = job->m->proc,
		.prefixes = &job->m->rootfs,
	};
	int r = open_bundle(job, &bundle, &config, &spec, err);

	if (r < 0)
		return r;
	place.bundle = bundle;
	mnt = rootfs_make(&place, job->plan, &spec, err);
	/* -EPROTO means something here, and a file system may answer with any number. */
	if (mnt < 0)
		return mnt == -EPROTO ? -EIO : mnt;
	r = fdlist_add_consume(ret_fds, fd_steal(&config));
	return r < 0 ? r : fdlist_add_consume(ret_fds, fd_steal(&mnt));
}

/* The worker and its place for layers, which goes whatever happens. */
static int make_container(struct mountd *m, const char *bundle, const struct rootfs_plan *plan,
	struct fdlist *ret_fds, struct error *err)
{
	struct scratch scratch = SCRATCH_INIT;
	struct add_job job = { .m = m, .bundle = bundle, .plan = plan };
	int r = 0;

	if (plan->kind == ROOTFS_OVERLAY)
		r = share_scratch_make(&m->share, &scratch, err);
	if (r < 0)
		return r;
	job.scratch = scratch.fd;
	r = worker_run(&m->workers, "mounting the rootfs", add_work, &job, ret_fds, err);
	share_scratch_done(&m->share, &scratch);
	return r;
}

struct volume_job {
	const struct mountd *m;
	int config;
	unsigned number;
};

/*
 * Returns the mount, and for an emptyDir in memory a copy of it too: that is a tmpfs, which
 * answers whoever asks it. Nothing when there is no volume of this number.
 */
static int volume_work(void *ctx, struct fdlist *ret_fds, struct error *err)
{
	const struct volume_job *job = ctx;
	CLEANUP(spec_done) struct spec spec = SPEC_INIT;
	struct spec_mount volume;
	int is_memory, r = spec_read(job->config, &spec, err);

	if (r < 0 || !spec_volume(&spec, job->number, &volume))
		return r;
	if (job->number == SHARE_VOLUMES_MAX)
		return error_set(err, E2BIG, "more than %d volumes", SHARE_VOLUMES_MAX);
	is_memory = volume_is_memory(&volume, err);
	r = is_memory < 0 ? is_memory : volume_make(job->m->proc, &volume, err);
	if (r < 0)
		return r == -EPROTO ? -EIO : r;
	r = fdlist_add_consume(ret_fds, r);
	if (r < 0 || !is_memory)
		return r;
	r = tree_clone(ret_fds->fd[0], false);
	return r < 0 ? error_errno(err, errno, "bind") : fdlist_add_consume(ret_fds, r);
}

struct memories {
	Ipc__Config__Memory item[SHARE_VOLUMES_MAX], *at[SHARE_VOLUMES_MAX];
	size_t n;
};

/* The guest's tmpfs will be what the host's is. */
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
	m->size = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
	m->mode = st.st_mode & 07777;
	m->uid = st.st_uid;
	m->gid = st.st_gid;
	to->at[to->n++] = m;
	return 0;
}

static int place_volume(struct mountd *m, unsigned index, unsigned number, const struct fdlist *fds,
	struct memories *memories, struct error *err)
{
	int r;

	if (fds->n == 1)
		return share_attach_volume(&m->share, index, number, fds->fd[0], err);
	r = describe_memory(fds->fd[0], number, memories, err);
	return r < 0 ? r : share_leave_volume(&m->share, index, number, err);
}

/* One worker for each: whichever hangs, it is one, and its name is in the sentence. */
static int add_volumes(struct mountd *m, unsigned index, int config, struct memories *memories,
	struct error *err)
{
	struct volume_job job = { .m = m, .config = config };

	for (;; job.number++) {
		CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;
		char what[32];
		int r;

		snprintf(what, sizeof(what), "mounting volume %u", job.number);
		r = worker_run(&m->workers, what, volume_work, &job, &fds, err);
		if (r < 0 || fds.n == 0)
			return r;
		r = place_volume(m, index, job.number, &fds, memories, err);
		if (r < 0)
			return r;
	}
}

/* The rootfs in the share, then the volumes beside it: all of them or nothing. */
static int attach(struct mountd *m, unsigned index, const struct fdlist *fds,
	struct memories *memories, struct error *err)
{
	struct error ignored = ERROR_INIT;
	int r = share_attach(&m->share, index, fds->fd[1], err);

	if (r < 0)
		return r;
	r = add_volumes(m, index, fds->fd[0], memories, err);
	if (r < 0 && share_unmount(&m->share, index, &ignored) == 0)
		share_remove(&m->share, index, &ignored);
	return r;
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

int add_container(struct helper *h, const Ipc__MountdAddContainer *req, struct error *err)
{
	struct mountd *m = h->ctx;
	CLEANUP(rootfs_plan_done) struct rootfs_plan plan = ROOTFS_PLAN_INIT;
	CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;
	struct memories memories = { .n = 0 };
	Ipc__Config msg = IPC__CONFIG__INIT;
	int r = read_plan(req, &plan, err);

	if (r == 0)
		r = make_container(m, req->bundle, &plan, &fds, err);
	if (r < 0)
		return r;
	if (fds.n != 2)
		return error_set(err, EIO, "the worker returned %zu fds", fds.n);
	r = attach(m, req->index, &fds, &memories, err);
	if (r < 0)
		return r;
	msg.index = req->index;
	msg.memory = memories.at;
	msg.n_memory = memories.n;
	return mountd_push(h, MOUNTD_FD_AGENTD, &ipc_mountd_agentd, MOUNTD_AGENTD_CONFIG, &msg.base,
		&fds.fd[0], 1, err);
}
