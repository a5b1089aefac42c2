#include "persistd/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/io.h"

#define TEMP_FILE EXITS_FILE ".new"

/* These flags and this mode, exactly, are what persistd.policy lets through. */
static int open_temp(const struct store *s)
{
	return openat(s->dirfd, TEMP_FILE, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
		0600);
}

static int write_temp(struct store *s, size_t len, struct error *err)
{
	_cleanup_close_ int fd = open_temp(s);
	int r;

	/* Left by a process that was killed before its rename. */
	if (fd < 0 && errno == EEXIST && unlinkat(s->dirfd, TEMP_FILE, 0) == 0)
		fd = open_temp(s);
	if (fd < 0)
		return error_errno(err, errno, "create %s", TEMP_FILE);
	r = write_full(fd, s->text, len);
	if (r < 0)
		return error_errno(err, -r, "write %s", TEMP_FILE);
	/* Else a crash of the machine could leave the new name with no content. */
	if (fdatasync(fd) < 0)
		return error_errno(err, errno, "sync %s", TEMP_FILE);
	return 0;
}

static int save(struct store *s, struct error *err)
{
	int len = exits_format(&s->next, s->text, sizeof(s->text));
	int r;

	if (len < 0)
		return error_errno(err, -len, "format %s", EXITS_FILE);
	r = write_temp(s, (size_t)len, err);
	if (r == 0 && renameat(s->dirfd, TEMP_FILE, s->dirfd, EXITS_FILE) < 0)
		r = error_errno(err, errno, "rename %s to %s", TEMP_FILE, EXITS_FILE);
	if (r < 0) {
		unlinkat(s->dirfd, TEMP_FILE, 0);
		return r;
	}
	/* From here on the file says it, so memory does too. */
	s->exits = s->next;
	if (fsync(s->dirfd) < 0)
		return error_errno(err, errno, "sync the directory of %s", EXITS_FILE);
	return 0;
}

int store_record(struct store *s, const char *id, uint32_t status, int64_t exited_at_ns,
	struct error *err)
{
	int r;

	s->next = s->exits;
	r = exits_set(&s->next, id, status, exited_at_ns, err);
	return r < 0 ? r : save(s, err);
}

int store_forget(struct store *s, const char *id, struct error *err)
{
	if (!id_is_valid(id))
		return error_set(err, EINVAL, "a container id that is none");
	s->next = s->exits;
	return exits_remove(&s->next, id) ? save(s, err) : 0;
}
