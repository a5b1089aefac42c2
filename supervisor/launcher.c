/*
 * containerd-shim-bulkhead-v2: what containerd runs. Root, and over in
 * milliseconds; it parses nothing but its command line, its environment and
 * its configuration.
 *
 * containerd reads stdout and stderr of `start` as one text: on success there
 * is the address and nothing else, on failure one sentence on stderr.
 */
#include "supervisor/launcher.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/log.h"
#include "supervisor/shim.pb-c.h"

static int print_version(struct error *err)
{
	static const char text[] = "containerd-shim-bulkhead-v2 (io.containerd.bulkhead.v2) "
				   "version " BULKHEAD_VERSION "\n";
	int r = write_full(STDOUT_FILENO, text, sizeof(text) - 1);

	return r < 0 ? error_errno(err, -r, "print the version") : 0;
}

static int print_info(struct error *err)
{
	Shim__RuntimeInfo msg = SHIM__RUNTIME_INFO__INIT;
	Shim__RuntimeVersion version = SHIM__RUNTIME_VERSION__INIT;
	uint8_t buf[256];
	int r;

	version.version = (char *)BULKHEAD_VERSION;
	msg.name = (char *)"io.containerd.bulkhead.v2";
	msg.version = &version;
	r = write_full(STDOUT_FILENO, buf, shim__runtime_info__pack(&msg, buf));
	return r < 0 ? error_errno(err, -r, "print the information") : 0;
}

static int run(const struct args *a, struct error *err)
{
	static struct config c;
	int r;

	if (a->action == ACTION_VERSION)
		return print_version(err);
	if (a->action == ACTION_INFO)
		return print_info(err);
	if (geteuid() != 0)
		return error_set(err, EPERM, "only root can run a shim");
	r = config_load(&c, err);
	if (a->action == ACTION_DELETE) {
		/* The janitor works with whatever can be known. */
		if (r < 0)
			log_warn("%s", err->msg);
		return launcher_delete(&c, a, err);
	}
	if (r == 0)
		r = config_resolve(&c, err);
	return r < 0 ? r : launcher_start(&c, a, err);
}

int main(int argc, char **argv)
{
	struct error err = ERROR_INIT;
	struct args args;

	signal(SIGPIPE, SIG_IGN);
	if (args_parse(argc, argv, &args, &err) < 0 || run(&args, &err) < 0) {
		dprintf(STDERR_FILENO, "bulkhead: %s\n", err.msg);
		return 1;
	}
	return 0;
}
