#include "mountd/disks.h"

#include <errno.h>
#include <stddef.h>

#include "common/fd.h"

static bool is_same(const struct disk_id *a, const struct disk_id *b)
{
	return a->device == b->device && a->dev == b->dev && a->ino == b->ino;
}

const struct disk *disks_find(const struct disks *d, const struct disk_id *id)
{
	for (size_t i = 0; i < ARRAY_SIZE(d->item); i++)
		if (d->item[i].index && is_same(&d->item[i].id, id))
			return &d->item[i];
	return NULL;
}

static struct disk *get(struct disks *d, uint32_t index)
{
	for (size_t i = 0; i < ARRAY_SIZE(d->item); i++)
		if (d->item[i].index == index)
			return &d->item[i];
	return NULL;
}

const struct disk *disks_add_consume(struct disks *d, const struct disk *from, struct error *err)
{
	struct disk *disk = get(d, 0);
	int fd = from->fd;

	if (!disk) {
		fd_close(&fd);
		error_set(err, ENOSPC, "the VM has %d disks, that is all there may be", DISKS_MAX);
		return NULL;
	}
	*disk = *from;
	disk->index = ++d->last;
	return disk;
}

int disks_take_fd(struct disks *d, uint32_t index)
{
	struct disk *disk = index ? get(d, index) : NULL;

	return disk ? fd_steal(&disk->fd) : -1;
}

void disks_forget(struct disks *d, uint32_t index)
{
	struct disk *disk = index ? get(d, index) : NULL;

	if (!disk)
		return;
	fd_close(&disk->fd);
	disk->index = 0;
}

void disks_drop_unsent(struct disks *d, unsigned container)
{
	for (size_t i = 0; i < ARRAY_SIZE(d->item); i++)
		if (d->item[i].index && d->item[i].fd >= 0 && d->item[i].container == container)
			disks_forget(d, d->item[i].index);
}
