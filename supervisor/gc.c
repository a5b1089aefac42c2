#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/fd.h"
#include "common/io.h"
#include "common/log.h"
#include "supervisor/launcher.h"
#include "supervisor/process.h"

#define NAME_FILE_MAX (16 << 10)
#define EMPTY_FOR_S   60

/* A sandbox's four lines: address, namespace, id, bundle. Cuts the text into them. */
static int read_name(int run_dir, const char *entry, char **text, char *line[4])
{
	_cleanup_close_ int dir = openat(run_dir, entry,
		O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_close_ int file = dir < 0 ? -1 : openat(dir, "name", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct error err;
	size_t len;
	char *p;

	if (file < 0)
		return -ENOENT;
	*text = read_file_fd(file, NAME_FILE_MAX, &len, &err);
	if (!*text)
		return -err.code;
	p = *text;
	for (int i = 0; i < 4; i++) {
		line[i] = p;
		p = strchr(p, '\n');
		if (!p)
			return -EINVAL;
		*p++ = '\0';
	}
	return 0;
}

/* What a `start` or `delete` that failed at its very last step left. Not one that is being made. */
static void remove_empty(int run_dir, const char *entry)
{
	struct stat st;

	if (fstatat(run_dir, entry, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		time(NULL) - st.st_mtime > EMPTY_FOR_S)
		unlinkat(run_dir, entry, AT_REMOVEDIR);
}

/* Nobody will ask for it again: its supervisor is dead, and containerd has removed the bundle. */
static bool is_forgotten(const struct sandbox *s, const char *bundle)
{
	struct error err;
	_cleanup_close_ int pidfd = process_open(s, &err);

	/* Any other error than ESRCH says nothing about the supervisor. */
	return pidfd == -ESRCH && access(bundle, F_OK) < 0 && errno == ENOENT;
}

static void look_at(const struct config *c, int run_dir, const char *entry)
{
	_cleanup_free_ char *text = NULL;
	char *line[4];
	struct sandbox s;
	struct error err = ERROR_INIT;

	if (read_name(run_dir, entry, &text, line) < 0) {
		remove_empty(run_dir, entry); /* else being made, or not ours */
		return;
	}

	const struct args a = { .address = line[0], .namespace = line[1], .id = line[2] };

	if (sandbox_init(&s, c, &a, line[2], &err) < 0 ||
		strcmp(strrchr(s.dir, '/') + 1, entry) != 0)
		return;
	s.dir_fd = open(s.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	/* Locked: a start or a delete is at work on it. */
	if (s.dir_fd >= 0 && flock(s.dir_fd, LOCK_EX | LOCK_NB) == 0 && is_forgotten(&s, line[3])) {
		sandbox_done(&s);
		if (sandbox_open(&s, &err) == 0)
			launcher_teardown(&s, c);
	}
	sandbox_done(&s);
}

void launcher_gc(const struct config *c)
{
	DIR *d = opendir(c->run_dir);
	struct dirent *e;

	if (!d)
		return;
	while ((e = readdir(d)))
		if (strlen(e->d_name) == 16 && strspn(e->d_name, "0123456789abcdef") == 16)
			look_at(c, dirfd(d), e->d_name);
	closedir(d);
}

void launcher_gc_in_background(const struct config *c)
{
	pid_t pid = fork();
	int null;

	if (pid != 0)
		return; /* also when there can be no child: the next start tries again */
	/* containerd waits for the end of stdout and stderr. */
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0)
		_exit(1);
	close_range(3, ~0U, 0);
	setsid();
	launcher_gc(c);
	_exit(0);
}
