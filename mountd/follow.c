#include "mountd/follow.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/log.h"
#include "mountd/mountd.h"
#include "mountd/mountinfo.h"
#include "mountd/paths.h"
#include "mountd/tree.h"
#include "mountd/volume.h"

/* Mounts in one volume. */
#define BENEATH_MAX 256

/* -- in a worker: the volume becomes like its stage */

struct sync_job {
	const struct mountd *m;
	const struct follow *follow;
	int stage, volume; /* their roots */
	struct sync_note {
		char kept_out[512]; /* the last sentence about what cannot be in the volume; "": all can */
	} note;
};

/* What is mounted in a mount: of each place the topmost, by its path from there. */
struct beneath {
	size_t n;
	struct mountinfo at[BENEATH_MAX];
};

struct view {
	char *text;
	struct beneath stage, volume;
};

static void view_done(struct view *v)
{
	free(v->text);
	v->text = NULL;
}

/* The id that mountinfo has of the mount that fd is in; 0: it cannot be told. */
static uint64_t mount_id(int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0 || !(st.stx_mask & STATX_MNT_ID))
		return 0;
	return st.stx_mnt_id;
}

static struct mountinfo *find(struct beneath *b, const char *point)
{
	for (size_t i = 0; i < b->n; i++)
		if (strcmp(b->at[i].point, point) == 0)
			return &b->at[i];
	return NULL;
}

/* The copy that was made of it counts as the same. */
static bool is_there(struct beneath *b, const struct mountinfo *m)
{
	const struct mountinfo *there = find(b, m->point);

	return there && strcmp(there->device, m->device) == 0 && strcmp(there->root, m->root) == 0;
}

/* What is later in the list lies on top. */
static int add(struct beneath *to, const struct mountinfo *m, const char *behind, struct error *err)
{
	struct mountinfo *at = find(to, behind);

	if (!at && to->n == BENEATH_MAX)
		return error_set(err, E2BIG, "more than %d mounts in it", BENEATH_MAX);
	if (!at)
		at = &to->at[to->n++];
	*at = *m;
	at->point = (char *)behind;
	return 0;
}

/* The paths of both roots. mountinfo names a mount before what is mounted in it. */
static int sort(struct view *v, const struct mountinfo *m, uint64_t ids[2], const char *paths[2],
	struct error *err)
{
	struct beneath *to[] = { &v->stage, &v->volume };

	for (int i = 0; i < 2; i++) {
		const char *behind = paths[i] ? path_behind(m->point, paths[i]) : NULL;
		int r;

		if (m->id == ids[i])
			paths[i] = m->point;
		if (!behind || !*behind)
			continue;
		r = add(to[i], m, behind, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int look(const struct sync_job *job, struct view *ret, struct error *err)
{
	uint64_t ids[] = { mount_id(job->stage), mount_id(job->volume) };
	const char *paths[] = { NULL, NULL };
	struct mountinfo m;
	char *save = NULL;
	int r = 0;

	view_done(ret);
	*ret = (struct view){ .text = mountinfo_read(job->m->proc, err) };
	if (!ret->text)
		return -err->code;
	for (char *line = strtok_r(ret->text, "\n", &save); line && r == 0;
		line = strtok_r(NULL, "\n", &save)) {
		r = mountinfo_parse(line, &m, err);
		if (r == 0)
			r = sort(ret, &m, ids, paths, err);
	}
	if (r == 0 && (!paths[0] || !paths[1]))
		return error_set(err, ENOENT, "it is not in mountinfo");
	return r;
}

/* The guest may have put anything in the place of a directory on the way: nothing is followed there. */
static int unmount(int volume, const char *point)
{
	char parent[PATH_MAX];
	_cleanup_close_ int dir = -1;
	char *name;

	if (snprintf(parent, sizeof(parent), "./%s", point) >= (int)sizeof(parent))
		return -ENAMETOOLONG;
	name = strrchr(parent, '/');
	*name++ = '\0';
	dir = path_open(volume, parent, O_PATH | O_DIRECTORY, PATH_BENEATH);
	if (dir < 0)
		return dir;
	if (fchdir(dir) < 0 || umount2(name, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
		return -errno;
	return 0;
}

/* Whether there was any. What lay in one has gone with it, which is no failure. */
static bool take_away(const struct sync_job *job, struct view *v)
{
	bool any = false;

	for (size_t i = 0; i < v->volume.n; i++)
		if (!is_there(&v->stage, &v->volume.at[i]))
			any |= unmount(job->volume, v->volume.at[i].point) == 0;
	return any;
}

/* A copy as of a volume, in the same place. */
static int attach(const struct sync_job *job, const char *point, int source, struct error *err)
{
	_cleanup_close_ int tree = -1, place = -1;
	int r = volume_check(source, point, err);

	if (r < 0)
		return r;
	tree = tree_bind(source, false, err);
	if (tree < 0)
		return tree;
	if (job->follow->readonly && tree_make_readonly(tree, false, err) < 0)
		return -err->code;
	place = path_open(job->volume, point, O_PATH | O_NOFOLLOW, PATH_BENEATH);
	if (place < 0)
		return error_errno(err, -place, "its place " PATH_FMT, point);
	if (move_mount(tree, "", place, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
		return error_errno(err, errno, "mount it on " PATH_FMT, point);
	return 0;
}

static void bring(struct sync_job *job, struct view *v)
{
	for (size_t i = 0; i < v->stage.n; i++) {
		const struct mountinfo *m = &v->stage.at[i];
		_cleanup_close_ int source = -1;
		struct error err = ERROR_INIT;

		if (is_there(&v->volume, m))
			continue;
		source = path_open(job->stage, m->point, O_PATH | O_NOFOLLOW, PATH_BENEATH);
		/* Gone again, or hidden by another one. */
		if (source < 0 || mount_id(source) != m->id)
			continue;
		if (attach(job, m->point, source, &err) < 0)
			snprintf(job->note.kept_out, sizeof(job->note.kept_out), "%s", err.msg);
	}
}

static int sync_work(void *ctx, struct fdlist *ret_fds, struct error *err)
{
	struct sync_job *job = ctx;
	const struct share *share = &job->m->share;
	CLEANUP(view_done) struct view v = { .text = NULL };
	_cleanup_close_ int stage = share_stage_open(share, job->follow->index, job->follow->number);
	_cleanup_close_ int volume =
		share_volume_open(share, job->follow->index, job->follow->number);
	int r;

	(void)ret_fds;
	if (stage < 0 || volume < 0)
		return error_errno(err, stage < 0 ? -stage : -volume, "open it");
	job->stage = stage;
	job->volume = volume;
	r = look(job, &v, err);
	if (r == 0 && take_away(job, &v))
		r = look(job, &v, err);
	if (r == 0)
		bring(job, &v);
	return r;
}

/* -- in mountd */

/* 0, or -errno: then it is over with this one. */
static int sync_one(struct mountd *m, struct follow *f)
{
	CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;
	struct sync_job job = { .m = m, .follow = f };
	struct error err = ERROR_INIT;
	int r = worker_run(&m->workers, "following the host's mounts", sync_work, &job,
		WORKER_NOTE(&job.note), &fds, &err);

	if (r < 0) {
		log_warn("volume %s: from now on no mount of the host arrives in it: %s", f->name,
			err.msg);
		return r;
	}
	if (*job.note.kept_out && !f->told)
		log_warn("volume %s: a mount of the host does not arrive in it: %s", f->name,
			job.note.kept_out);
	f->told |= *job.note.kept_out != '\0';
	return 0;
}

static void drop(struct mountd *m, size_t i)
{
	struct follows *all = &m->follows;

	share_stage_remove(&m->share, all->item[i].index, all->item[i].number);
	all->item[i] = all->item[--all->n];
}

struct drop_job {
	struct share *share;
	const struct follow *follow;
};

static int drop_work(void *ctx, struct fdlist *ret_fds, struct error *err)
{
	const struct drop_job *job = ctx;

	(void)ret_fds;
	return share_stage_unmount(job->share, job->follow->index, job->follow->number, err);
}

static void give_up(struct mountd *m, size_t i)
{
	struct drop_job job = { &m->share, &m->follows.item[i] };
	CLEANUP(fdlist_done) struct fdlist fds = FDLIST_INIT;
	struct error ignored = ERROR_INIT;

	(void)worker_run(&m->workers, "unmounting a stage", drop_work, &job, WORKER_NOTHING, &fds,
		&ignored);
	drop(m, i);
}

static int on_mounts(struct helper *h, struct helper_source *source, short revents,
	struct error *err)
{
	(void)source;
	(void)revents;
	(void)err;
	follow_all(h);
	return 0;
}

/* mountinfo is open as long as there is something to follow: the host's mounts wake nobody else. */
static int watch(struct helper *h, struct error *err)
{
	const struct mountd *m = h->ctx;
	struct helper_source *s = &h->sources[FOLLOW_SOURCE];

	if (!s->ready)
		*s = (struct helper_source){ .fd = -1, .events = POLLPRI, .ready = on_mounts };
	if (m->follows.n == 0)
		fd_close(&s->fd);
	else if (s->fd < 0)
		s->fd = path_open(m->proc, "self/mountinfo", O_RDONLY, 0);
	if (m->follows.n > 0 && s->fd < 0)
		return error_errno(err, -s->fd, "watch the host's mounts");
	return 0;
}

int follow_add(struct helper *h, const struct follow *what, int stage, struct error *err)
{
	struct mountd *m = h->ctx;
	struct follows *all = &m->follows;
	int r;

	if (all->n == FOLLOWS_MAX)
		return error_set(err, E2BIG,
			"volume %s: more than %d volumes with mount propagation in a sandbox",
			what->name, FOLLOWS_MAX);
	all->item[all->n++] = *what;
	/* First: of what changes from here on it tells. */
	r = watch(h, err);
	if (r == 0)
		r = share_stage_make(&m->share, what->index, what->number, stage, err);
	return r;
}

void follow_all(struct helper *h)
{
	struct mountd *m = h->ctx;
	struct error ignored = ERROR_INIT;

	for (size_t i = m->follows.n; i-- > 0;)
		if (sync_one(m, &m->follows.item[i]) < 0)
			give_up(m, i);
	(void)watch(h, &ignored);
}

int follow_unmount(struct helper *h, unsigned index, struct error *err)
{
	struct mountd *m = h->ctx;
	int r = 0;

	for (size_t i = 0; i < m->follows.n && r == 0; i++)
		if (m->follows.item[i].index == index)
			r = share_stage_unmount(&m->share, index, m->follows.item[i].number, err);
	return r;
}

void follow_forget(struct helper *h, unsigned index)
{
	struct mountd *m = h->ctx;
	struct error ignored = ERROR_INIT;

	for (size_t i = m->follows.n; i-- > 0;)
		if (m->follows.item[i].index == index)
			drop(m, i);
	(void)watch(h, &ignored);
}
