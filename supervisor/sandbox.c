#include "supervisor/sandbox.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sha2.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/fd.h"
#include "common/io.h"
#include "common/log.h"
#include "ipc/ctl.h"

#define NAME	     "name"
#define RELEASED     "released"
#define FILE_MAX     (16 << 10)
#define LOCK_WAIT_MS 3000

int sandbox_init(struct sandbox *s, const struct config *c, const struct args *a, const char *id,
	struct error *err)
{
	char text[PATH_MAX + 2 * (ID_MAX + 1)];
	char hex[SHA256_DIGEST_STRING_LENGTH];
	int n;

	*s = (struct sandbox){ .dir_fd = -1, .lease = -1 };
	n = snprintf(text, sizeof(text), "%s%c%s%c%s", a->address, 0, a->namespace, 0, id);
	if (n < 0 || (size_t)n >= sizeof(text))
		return error_set(err, ENAMETOOLONG, "-address is too long");
	SHA256Data((const uint8_t *)text, (size_t)n, hex);
	snprintf(s->dir, sizeof(s->dir), "%s/%.16s", c->run_dir, hex);
	snprintf(s->uids, sizeof(s->uids), "%s/uids", c->run_dir);
	snprintf(s->socket, sizeof(s->socket), "%s/%s", SOCKET_DIR, hex);
	snprintf(s->address, sizeof(s->address), "unix://%s", s->socket);
	return 0;
}

void sandbox_done(struct sandbox *s)
{
	fd_close(&s->dir_fd);
}

/* A directory of ours: made 0700, or there already, root's, and nobody else's to write. */
static int own_dir(const char *path, struct error *err)
{
	struct stat st;

	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return error_errno(err, errno, "make %s", path);
	if (lstat(path, &st) < 0)
		return error_errno(err, errno, "%s", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != 0 || (st.st_mode & 022))
		return error_set(err, EPERM, "%s is not a directory that only root can write", path);
	return 0;
}

static int take_lease(struct sandbox *s, const struct config *c, struct error *err)
{
	_cleanup_close_ int dir = open(s->uids, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	char name[24];

	if (dir < 0)
		return error_errno(err, errno, "%s", s->uids);
	for (long n = 0; n < (long)c->max_sandboxes; n++) {
		snprintf(name, sizeof(name), "%ld", n);
		if (mkdirat(dir, name, 0700) == 0) {
			s->lease = n;
			return 0;
		}
		if (errno != EEXIST)
			return error_errno(err, errno, "lease uids in %s", s->uids);
	}
	return error_set(err, EUSERS, "all %llu uid blocks in %s are taken",
		(unsigned long long)c->max_sandboxes, s->uids);
}

static int lock_dir(struct sandbox *s, int64_t deadline, struct error *err)
{
	s->dir_fd = open(s->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (s->dir_fd < 0)
		return error_errno(err, errno, "%s", s->dir);
	/* Another start or delete of the same sandbox: wait for it, in small steps. */
	while (flock(s->dir_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK)
			return error_errno(err, errno, "lock %s", s->dir);
		if (clock_left_ms(deadline) == 0)
			return error_set(err, EBUSY, "%s is locked by another start or delete",
				s->dir);
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
	return 0;
}

static int fill_dir(struct sandbox *s, const struct config *c, const struct args *a, const char *id,
	const char *bundle, struct error *err)
{
	char text[2 * PATH_MAX + 2 * (ID_MAX + 2)];
	uid_t persistd;
	int r;

	r = take_lease(s, c, err);
	if (r < 0)
		return r;
	persistd = sandbox_uid_base(s, c) + ROLE_PERSISTD;
	snprintf(text, sizeof(text), "%ld\n", s->lease);
	r = sandbox_write(s, "lease", text, err);
	if (r < 0)
		return r;
	snprintf(text, sizeof(text), "%s\n%s\n%s\n%s\n", a->address, a->namespace, id, bundle);
	r = sandbox_write(s, NAME, text, err);
	if (r < 0)
		return r;
	if (mkdirat(s->dir_fd, "state", 0700) < 0 || mkdirat(s->dir_fd, "share", 0700) < 0 ||
		fchownat(s->dir_fd, "state", persistd, persistd, AT_SYMLINK_NOFOLLOW) < 0)
		return error_errno(err, errno, "make state and share in %s", s->dir);
	return 0;
}

int sandbox_create(struct sandbox *s, const struct config *c, const struct args *a, const char *id,
	const char *bundle, struct error *err)
{
	int r = own_dir(c->run_dir, err);

	if (r == 0)
		r = own_dir(s->uids, err);
	if (r < 0)
		return r;
	if (mkdir(s->dir, 0700) < 0) {
		if (errno == EEXIST)
			return error_set(err, EEXIST, "sandbox %s exists already (%s)", id, s->dir);
		return error_errno(err, errno, "make %s", s->dir);
	}
	r = lock_dir(s, clock_ms() + LOCK_WAIT_MS, err);
	if (r < 0) {
		rmdir(s->dir); /* nothing is in it yet */
		return r;
	}
	r = fill_dir(s, c, a, id, bundle, err);
	if (r < 0)
		sandbox_remove(s);
	return r;
}

int sandbox_open(struct sandbox *s, struct error *err)
{
	_cleanup_free_ char *text = NULL;
	char *end;
	int r = lock_dir(s, clock_ms() + LOCK_WAIT_MS, err);

	if (r < 0)
		return r;
	text = sandbox_read(s, "lease", err);
	if (text) {
		s->lease = strtol(text, &end, 10);
		if (end == text || *end != '\n' || s->lease < 0)
			s->lease = -1;
	}
	s->keep = !text && err->code != ENOENT;
	if (faccessat(s->dir_fd, RELEASED, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		s->lease = -1; /* given back already, and perhaps leased again */
	return 0;
}

int sandbox_write(const struct sandbox *s, const char *name, const char *text, struct error *err)
{
	_cleanup_close_ int fd = -1;
	char tmp[64];
	int r;

	snprintf(tmp, sizeof(tmp), ".%s", name);
	fd = openat(s->dir_fd, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_errno(err, errno, "write %s/%s", s->dir, name);
	r = write_full(fd, text, strlen(text));
	if (r == 0 && renameat(s->dir_fd, tmp, s->dir_fd, name) < 0)
		r = -errno;
	return r < 0 ? error_errno(err, -r, "write %s/%s", s->dir, name) : 0;
}

char *sandbox_read(const struct sandbox *s, const char *name, struct error *err)
{
	_cleanup_close_ int fd = openat(s->dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char *text;
	size_t len;

	if (fd < 0) {
		error_errno(err, errno, "read %s/%s", s->dir, name);
		return NULL;
	}
	text = read_file_fd(fd, FILE_MAX, &len, err);
	if (!text)
		error_wrap(err, "%s/%s", s->dir, name);
	return text;
}

/* What goes last of a sandbox's directory, in the order of remove_dir(). */
static bool goes_last(const char *name)
{
	return strcmp(name, RELEASED) == 0 || strcmp(name, NAME) == 0;
}

/* Plain files of one directory: ours, or persistd's in state/. Never follows anything. */
static int remove_files(int dir_fd, bool all)
{
	DIR *d = fdopendir(dir_fd);
	struct dirent *e;
	int r = 0;

	if (!d) {
		r = -errno;
		fd_close(&dir_fd);
		return r;
	}
	while ((e = readdir(d))) {
		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
			(!all && goes_last(e->d_name)))
			continue;
		if (unlinkat(dirfd(d), e->d_name, 0) < 0)
			r = -errno;
	}
	closedir(d);
	return r;
}

static void remove_failed(struct sandbox *s, const char *what)
{
	log_warn("remove %s of %s: %s", what, s->dir, strerrordesc_np(errno));
	s->keep = true;
}

static void remove_places(struct sandbox *s)
{
	static const char *const places[] = { "state", "share" };
	int state = openat(s->dir_fd, "state", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (state >= 0)
		remove_files(state, true);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (unlinkat(s->dir_fd, places[i], AT_REMOVEDIR) < 0 && errno != ENOENT)
			remove_failed(s, places[i]);
}

static void remove_socket(struct sandbox *s)
{
	struct stat st;

	if (lstat(s->socket, &st) < 0 ? errno != ENOENT : S_ISSOCK(st.st_mode) && unlink(s->socket) < 0)
		remove_failed(s, s->socket);
}

/*
 * Nobody else gets these uids until here. The lease becomes a directory of ours, in one step:
 * if we end at any point, the next delete or gc finds either a lease that is still ours or
 * RELEASED, and then the number in `lease` may be somebody else's by now.
 */
static void release(struct sandbox *s)
{
	char path[sizeof(s->uids) + 24];

	if (s->lease < 0)
		return;
	snprintf(path, sizeof(path), "%s/%ld", s->uids, s->lease);
	if (renameat(AT_FDCWD, path, s->dir_fd, RELEASED) < 0 && errno != ENOENT)
		remove_failed(s, path);
}

/* `name` is the last file: with it gc finds the directory. Without any it is empty, and gc's too. */
static void remove_dir(struct sandbox *s)
{
	if (remove_files(fcntl(s->dir_fd, F_DUPFD_CLOEXEC, 0), false) < 0 ||
		(unlinkat(s->dir_fd, RELEASED, AT_REMOVEDIR) < 0 && errno != ENOENT) ||
		(unlinkat(s->dir_fd, NAME, 0) < 0 && errno != ENOENT) ||
		(rmdir(s->dir) < 0 && errno != ENOENT))
		remove_failed(s, "the rest");
}

void sandbox_remove(struct sandbox *s)
{
	remove_socket(s);
	if (s->dir_fd >= 0) {
		remove_places(s);
		if (!s->keep)
			release(s);
		if (!s->keep)
			remove_dir(s);
	}
	if (s->keep)
		log_warn("%s stays, so that the next delete or start can go on", s->dir);
	s->lease = -1;
	fd_close(&s->dir_fd);
}
