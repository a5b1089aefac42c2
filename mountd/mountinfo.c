#include "mountd/mountinfo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"
#include "mountd/paths.h"

#define MOUNTINFO_MAX ((size_t)4 << 20)

/* A file of procfs, which has no size. The text, or NULL with err. */
static char *read_all(int fd, struct error *err)
{
	char *text = malloc(MOUNTINFO_MAX);
	size_t len = 0;
	ssize_t n = 1;

	while (text && n > 0 && len < MOUNTINFO_MAX - 1) {
		n = read(fd, text + len, MOUNTINFO_MAX - 1 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	if (text && n == 0) {
		text[len] = '\0';
		return text;
	}
	error_set(err, EIO, "mountinfo cannot be read to its end");
	free(text);
	return NULL;
}

char *mountinfo_read(int proc, struct error *err)
{
	_cleanup_close_ int fd = path_open(proc, "self/mountinfo", O_RDONLY, 0);

	if (fd >= 0)
		return read_all(fd, err);
	error_errno(err, -fd, "look for what is mounted");
	return NULL;
}

/* "\040" is a space: what mountinfo does to blanks and backslashes. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++)
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	*to = '\0';
}

/* False: not readable. */
static bool read_line(char *line, struct mountinfo *ret)
{
	char *field[] = { NULL, NULL, NULL, NULL, NULL }; /* id, its parent's, device, root, point */
	char *type = strstr(line, " - ");

	for (size_t i = 0; i < ARRAY_SIZE(field); i++) {
		char *end = type ? strchr(line, ' ') : NULL;

		if (!end || end > type)
			return false;
		*end = '\0';
		field[i] = line;
		line = end + 1;
	}
	ret->id = strtoull(field[0], NULL, 10);
	ret->device = field[2];
	ret->root = field[3];
	ret->point = field[4];
	unescape(ret->point);
	ret->type = type + 3;
	ret->type[strcspn(ret->type, " ")] = '\0';
	return true;
}

int mountinfo_parse(char *line, struct mountinfo *ret, struct error *err)
{
	if (!read_line(line, ret))
		return error_set(err, EIO, "a line of mountinfo that cannot be read");
	return 0;
}
