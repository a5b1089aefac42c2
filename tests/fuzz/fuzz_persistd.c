/* persistd behind its isolation: its one channel, its one file. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "ipc/fds.h"
#include "ipc/tables.h"
#include "persistd/handlers.h"
#include "tests/fuzz/lib/dir.h"
#include "tests/fuzz/lib/packet.h"
#include "tests/fuzz/lib/sim.h"

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

	SIM_CHECK(faccessat(dir, EXITS_FILE ".new", F_OK, 0) < 0);
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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int dir = -1;
	struct sim sim = { .next = next, .role = role, .closes_fds = true };

	if (dir < 0)
		dir = own_open("", O_RDONLY | O_DIRECTORY);
	unlinkat(dir, EXITS_FILE, 0);
	run.in = (struct bytes){ data, size };
	run.store.exits.n = 0;
	run.store.dirfd = dir;
	peer_open(&run.frontend, &ipc_frontend_persistd, PERSISTD_FD_FRONTEND);
	sim_run(&sim);
	check_file(dir);
	return 0;
}
