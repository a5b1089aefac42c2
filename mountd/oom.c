#include "mountd/oom.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "common/fd.h"
#include "common/fdio.h"
#include "mountd/paths.h"

static struct bundle *free_place(struct bundles *b)
{
	for (size_t i = 0; i < BUNDLES_MAX; i++)
		if (!*b->item[i].name)
			return &b->item[i];
	return NULL;
}

int bundles_room(struct bundles *b, struct error *err)
{
	return free_place(b) ? 0 : error_set(err, E2BIG, "more than %d containers", BUNDLES_MAX);
}

void bundles_add(struct bundles *b, const struct bundle *bundle)
{
	*free_place(b) = *bundle;
}

struct bundle *bundles_find(struct bundles *b, unsigned index)
{
	for (size_t i = 0; i < BUNDLES_MAX; i++)
		if (*b->item[i].name && b->item[i].index == index)
			return &b->item[i];
	return NULL;
}

void bundles_forget(struct bundles *b, unsigned index)
{
	struct bundle *at = bundles_find(b, index);

	if (at)
		at->name[0] = '\0';
}

/* The directory that it was when the container was added, which nobody but root can write to. */
static int open_bundle(int dir, const struct bundle *bundle, struct error *err)
{
	_cleanup_close_ int fd =
		path_open(dir, bundle->name, O_PATH | O_DIRECTORY, PATH_BENEATH);
	struct stat st;

	if (fd < 0)
		return error_errno(err, -fd, "open bundle " PATH_FMT, bundle->name);
	if (fd_stat(fd, &st) < 0)
		return error_errno(err, errno, "look at bundle " PATH_FMT, bundle->name);
	if (st.st_dev != bundle->dev || st.st_ino != bundle->ino)
		return error_set(err, ESTALE, "bundle " PATH_FMT " was replaced", bundle->name);
	if (st.st_uid != 0 || (st.st_mode & 022))
		return error_set(err, EPERM, "bundle " PATH_FMT " can be written by others than root",
			bundle->name);
	return fd_steal(&fd);
}

int oom_mark(int dir, const struct bundle *bundle, struct error *err)
{
	_cleanup_close_ int at = open_bundle(dir, bundle, err), file = -1;

	if (at < 0)
		return at;
	file = path_create(at, "oom", 0600);
	if (file < 0 && file != -EEXIST)
		return error_errno(err, -file, "make 'oom' in bundle " PATH_FMT, bundle->name);
	return 0;
}
