#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "util.h"

static void module_load(const char *name)
{
	_cleanup_free_ char *path = xasprintf("/lib/modules/%s", name);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
		log_line("module %s: %s", name, strerror(errno));
}

void modules_load(const char *list)
{
	char text[4096];
	char *save = NULL;
	ssize_t len = file_read(list, text, sizeof(text));

	if (len < 0)
		die("%s: %s", list, strerror((int)-len));
	for (char *name = strtok_r(text, "\n", &save); name; name = strtok_r(NULL, "\n", &save))
		module_load(name);
}

void modules_need(const char *name)
{
	_cleanup_free_ char *list = xasprintf("/lib/modules/need-%s", name);

	if (access(list, F_OK) == 0)
		modules_load(list);
}
