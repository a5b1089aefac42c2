#include "shim-frontend/disks.h"

#include <errno.h>

#include "common/log.h"
#include "ipc/vmmd.pb-c.h"
#include "shim-frontend/frontend.h"

#define OPEN_MS	  5000
#define PLUG_MS	  15000
#define UNPLUG_MS 15000

static struct disk *get(struct frontend *fe, uint32_t index)
{
	struct disks *d = &fe->disks;

	for (size_t i = 0; i < ARRAY_SIZE(d->item); i++)
		if (d->item[i].index == index)
			return &d->item[i];
	return NULL;
}

/* ---- one at a time ---- */

enum step_result disks_step_begin(struct frontend *fe, struct flow *f)
{
	fe->disks.adding = true;
	if (fe->disks.leaving == 0)
		return STEP_DONE;
	fe->disks.waits = f;
	return STEP_WAIT;
}

void disks_end(struct frontend *fe)
{
	struct disks *d = &fe->disks;

	d->adding = false;
	while (d->first) {
		struct container *c = d->first;

		d->first = c->disks.next;
		/* What its step waited for is there: it begins. */
		if (disks_step_unplug(fe, c, c->disks.flow) == STEP_DONE)
			flow_resume(c->disks.flow, NULL);
	}
}

void disks_gone(struct frontend *fe, struct container *c)
{
	struct disks *d = &fe->disks;
	struct flow *f = d->waits;

	if (!c->disks.leaving)
		return;
	c->disks.leaving = false;
	if (--d->leaving > 0 || !f)
		return;
	d->waits = NULL;
	flow_resume(f, NULL);
}

/* ---- which there are ---- */

static int take(struct frontend *fe, struct container *c,
	const Ipc__MountdAddContainerReply__Disk *from, struct error *err)
{
	struct disk *disk = from->index ? get(fe, from->index) : NULL;

	if (from->index && !disk)
		disk = get(fe, 0);
	if (!disk || c->disks.n == DISKS_MAX)
		return error_set(err, EPIPE,
			"mountd is lost: add_container: a disk that there cannot be");
	disk->index = from->index;
	disk->read_only = from->read_only;
	disk->users++;
	c->disks.index[c->disks.n++] = disk->index;
	return 0;
}

int disks_take(struct frontend *fe, struct container *c,
	const Ipc__MountdAddContainerReply *reply, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < reply->n_disks; i++)
		r = take(fe, c, reply->disks[i], err);
	return r;
}

/* Once, whatever becomes of them. */
static void release(struct frontend *fe, struct container *c)
{
	for (unsigned i = 0; !c->disks.released && i < c->disks.n; i++)
		get(fe, c->disks.index[i])->users--;
	c->disks.released = true;
}

/* ---- into the VM ---- */

static void plug_next(struct container *c);

static int ask(struct container *c, struct peer *peer, uint16_t type,
	const ProtobufCMessage *request, int timeout_ms, call_fn fn, struct error *err)
{
	return call_start(peer, type, request, frontend_ms(c->disks.fe, timeout_ms), fn, c, err);
}

static void plugged(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *failure)
{
	struct container *c = ctx;
	struct disk *disk = get(c->disks.fe, c->disks.index[c->disks.at]);

	(void)reply, (void)fds;
	/* Without an answer it may have come all the same. */
	if (failure && failure->code != ETIMEDOUT)
		disk->plugged = false;
	if (failure) {
		flow_resume(c->disks.flow, failure);
		return;
	}
	c->disks.at++;
	plug_next(c);
}

/* vmmd has been sent its fd. */
static void opened(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *failure)
{
	Ipc__VmmdAddBlock request = IPC__VMMD_ADD_BLOCK__INIT;
	struct container *c = ctx;
	struct disk *disk = get(c->disks.fe, c->disks.index[c->disks.at]);
	struct error err = ERROR_INIT;

	(void)reply, (void)fds;
	if (failure) {
		flow_resume(c->disks.flow, failure);
		return;
	}
	request.index = disk->index;
	request.read_only = disk->read_only;
	disk->plugged = true;
	if (ask(c, &c->disks.fe->vmmd, VMMD_ADD_BLOCK, &request.base, PLUG_MS, plugged, &err) == 0)
		return;
	disk->plugged = false;
	flow_resume(c->disks.flow, &err);
}

/* 1: asked; 0: there is none left; -errno with err. */
static int open_next(struct container *c, struct error *err)
{
	struct frontend *fe = c->disks.fe;
	Ipc__MountdAddBlock request = IPC__MOUNTD_ADD_BLOCK__INIT;
	int r;

	while (c->disks.at < c->disks.n && get(fe, c->disks.index[c->disks.at])->plugged)
		c->disks.at++;
	if (c->disks.at == c->disks.n)
		return 0;
	request.index = c->disks.index[c->disks.at];
	r = ask(c, &fe->mountd, MOUNTD_ADD_BLOCK, &request.base, OPEN_MS, opened, err);
	return r < 0 ? r : 1;
}

static void plug_next(struct container *c)
{
	struct error err = ERROR_INIT;
	int r = open_next(c, &err);

	if (r <= 0)
		flow_resume(c->disks.flow, r < 0 ? &err : NULL);
}

enum step_result disks_step_plug(struct frontend *fe, struct container *c, struct flow *f)
{
	int r;

	c->disks.at = 0;
	c->disks.fe = fe;
	c->disks.flow = f;
	r = open_next(c, &f->err);
	if (r < 0)
		return STEP_FAIL;
	return r > 0 ? STEP_WAIT : STEP_DONE;
}

/* ---- out of the VM ---- */

static int unplug_next(struct container *c);

static void unplugged(void *ctx, const ProtobufCMessage *reply, struct fdlist *fds,
	const struct error *failure)
{
	struct container *c = ctx;
	struct disk *disk = get(c->disks.fe, c->disks.index[c->disks.at]);

	(void)reply, (void)fds;
	if (failure && failure->code != ENOENT)
		log_warn("disk %u stays in the VM: %s", disk->index, failure->msg);
	else
		disk->plugged = false;
	c->disks.at++;
	if (!unplug_next(c))
		flow_resume(c->disks.flow, NULL);
}

/* 1: asked; 0: none is left. */
static int unplug_next(struct container *c)
{
	struct frontend *fe = c->disks.fe;
	Ipc__VmmdRemove request = IPC__VMMD_REMOVE__INIT;

	request.kind = IPC__VMMD_REMOVE__KIND__BLOCK;
	for (; fe->vm.state == VM_UP && c->disks.at < c->disks.n; c->disks.at++) {
		const struct disk *disk = get(fe, c->disks.index[c->disks.at]);
		struct error err = ERROR_INIT;

		if (!disk->plugged || disk->users > 0)
			continue;
		request.index = disk->index;
		if (ask(c, &fe->vmmd, VMMD_REMOVE, &request.base, UNPLUG_MS, unplugged, &err) == 0)
			return 1;
		log_warn("disk %u stays in the VM: %s", disk->index, err.msg);
	}
	return 0;
}

enum step_result disks_step_unplug(struct frontend *fe, struct container *c, struct flow *f)
{
	if (c->disks.n == 0)
		return STEP_DONE;
	c->disks.at = 0;
	c->disks.fe = fe;
	c->disks.flow = f;
	/* The Create that asks may be this container's own: then it has had its answer. */
	if (fe->disks.adding) {
		c->disks.next = fe->disks.first;
		fe->disks.first = c;
		return STEP_WAIT;
	}
	release(fe, c);
	c->disks.leaving = true;
	fe->disks.leaving++;
	return unplug_next(c) ? STEP_WAIT : STEP_DONE;
}

void disks_forget(struct frontend *fe, struct container *c, Ipc__MountdRemoveContainer *request,
	struct disks_list *list)
{
	size_t n = 0;

	release(fe, c);
	for (unsigned i = 0; i < c->disks.n; i++) {
		struct disk *disk = get(fe, c->disks.index[i]);

		if (!disk || disk->users > 0 || (disk->plugged && fe->vm.state == VM_UP))
			continue;
		ipc__mountd_remove_container__disk__init(&list->item[n]);
		list->item[n].index = disk->index;
		list->at[n] = &list->item[n];
		n++;
		*disk = (struct disk){ .index = 0 };
	}
	c->disks.n = 0;
	request->disks = list->at;
	request->n_disks = n;
}
