/* persistd's file, as `delete` reads it: what is accepted is what exits_format() writes. */
#include <errno.h>
#include <string.h>

#include "ipc/exits.h"
#include "tests/fuzz/lib/input.h"
#include "tests/fuzz/lib/sim.h"

static void check(struct exits *e, const char *text, size_t size)
{
	static char again[EXITS_FILE_MAX + 1];
	struct exit_record first;

	SIM_CHECK(e->n <= EXITS_MAX);
	SIM_CHECK(exits_format(e, again, sizeof(again)) == (int)size);
	SIM_CHECK(memcmp(again, text, size) == 0);
	if (e->n == 0)
		return;
	/* Each is found by its id, once; taken out and put back it is the last. */
	first = e->record[0];
	SIM_CHECK(exits_find(e, first.id) == &e->record[0]);
	SIM_CHECK(exits_remove(e, first.id) == 1 && !exits_find(e, first.id));
	SIM_CHECK(exits_set(e, first.id, first.status, first.exited_at_ns, NULL) == 0);
	SIM_CHECK(exits_find(e, first.id) == &e->record[e->n - 1]);
	/* A line more or fewer than room. */
	SIM_CHECK(exits_format(e, again, size) == -ENOSPC);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct exits e;
	struct error err = ERROR_INIT;
	int r = exits_parse((const char *)data, size, &e, &err);

	SIM_CHECK((r < 0) == !!err.code);
	if (r == 0)
		check(&e, (const char *)data, size);
	return 0;
}
