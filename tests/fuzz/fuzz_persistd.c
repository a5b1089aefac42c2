/* persistd behind its isolation: its one channel, its one file. */
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/io.h"
#include "ipc/fds.h"
#include "ipc/tables.h"
#include "persistd/handlers.h"
#include "tests/fuzz/lib/dir.h"
#include "tests/fuzz/lib/packet.h"
#include "tests/fuzz/lib/sim.h"

/*
 * What lies in the directory already, by the input's last byte; any other: nothing. All but the first
 * are in the way: a record is refused, and neither the file nor memory says it.
 */
enum {
	OLD_TEMPORARY = 0xf1,	 /* of a persistd that was killed before its rename */
	TEMPORARY_DIR = 0xf2,
	RECORDS_DIR = 0xf3,
	NO_DIRECTORY = 0xf4,
};

#define TEMP_FILE EXITS_FILE ".new"

static struct run {
	struct bytes in;
	struct peer_end frontend;
	struct store store;
} run;

static bool next(void *ctx)
{
	(void)ctx;
	if (run.frontend.fd < 0)
		return false;
	if (run.in.left > 0)
		peer_send(&run.frontend, &run.in);
	else
		peer_close(&run.frontend);
	return true;
}

static int role(void *ctx)
{
	struct helper h = persistd_helper(PERSISTD_FD_FRONTEND, &run.store);
	struct error err = ERROR_INIT;

	(void)ctx;
	return helper_serve(&h, &err);
}

/* The file says what memory says, to the reader that `delete` has. */
static void check_file(int dir)
{
	static struct exits e;
	struct error err = ERROR_INIT;
	_cleanup_close_ int fd = openat(dir, EXITS_FILE, O_RDONLY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;
	size_t len;

	SIM_CHECK(faccessat(dir, TEMP_FILE, F_OK, 0) < 0);
	if (fd < 0) {
		SIM_CHECK(run.store.exits.n == 0);
		return;
	}
	text = read_file_fd(fd, EXITS_FILE_MAX, &len, &err);
	SIM_CHECK(text && exits_parse(text, len, &e, &err) == 0);
	SIM_CHECK(e.n == run.store.exits.n);
	for (size_t i = 0; i < e.n; i++) {
		const struct exit_record *a = &e.record[i], *b = &run.store.exits.record[i];

		SIM_CHECK(strcmp(a->id, b->id) == 0 && a->status == b->status &&
			a->exited_at_ns == b->exited_at_ns);
	}
}

static void lay_out(int dir, int what)
{
	int fd;

	if (what == OLD_TEMPORARY) {
		fd = openat(dir, TEMP_FILE, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		SIM_CHECK(fd >= 0 && close(fd) == 0);
	} else if (what == TEMPORARY_DIR || what == RECORDS_DIR) {
		SIM_CHECK(mkdirat(dir, what == RECORDS_DIR ? EXITS_FILE : TEMP_FILE, 0700) == 0);
	} else if (what == NO_DIRECTORY) {
		run.store.dirfd = -1;
	}
}

/* true: it was in the way, and what lay there is all that there is. */
static bool check_refused(int dir, int what)
{
	if (what < TEMPORARY_DIR || what > NO_DIRECTORY)
		return false;
	SIM_CHECK(run.store.exits.n == 0);
	if (what != NO_DIRECTORY)
		SIM_CHECK(unlinkat(dir, what == RECORDS_DIR ? EXITS_FILE : TEMP_FILE, AT_REMOVEDIR) == 0);
	SIM_CHECK(faccessat(dir, EXITS_FILE, F_OK, 0) < 0);
	SIM_CHECK(faccessat(dir, TEMP_FILE, F_OK, 0) < 0);
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int dir = -1;
	struct sim sim = { .next = next, .role = role, .closes_fds = true };
	int what = size > 0 ? data[size - 1] : 0;

	if (dir < 0)
		dir = own_open("", O_RDONLY | O_DIRECTORY);
	unlinkat(dir, EXITS_FILE, 0);
	unlinkat(dir, TEMP_FILE, 0); /* when nothing was recorded it is where it was */
	run.in = (struct bytes){ data, size };
	run.store.exits.n = 0;
	run.store.dirfd = dir;
	lay_out(dir, what);
	peer_open(&run.frontend, &ipc_frontend_persistd, PERSISTD_FD_FRONTEND);
	sim_run(&sim);
	if (what == OLD_TEMPORARY && run.store.exits.n == 0)
		unlinkat(dir, TEMP_FILE, 0);
	if (!check_refused(dir, what))
		check_file(dir);
	return 0;
}
