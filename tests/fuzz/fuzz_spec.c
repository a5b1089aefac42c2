/* What the launcher reads of a config.json (supervisor/spec.c). */
#include <string.h>

#include "supervisor/spec.h"
#include "tests/fuzz/lib/input.h"
#include "tests/fuzz/lib/sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct spec s;
	_cleanup_free_ char *text = malloc(size + 1);
	struct error err = ERROR_INIT;
	int r;

	SIM_CHECK(text);
	memcpy(text, data, size);
	text[size] = '\0';
	r = spec_parse(text, size, &s, &err);
	SIM_CHECK((r < 0) == !!err.code);
	SIM_CHECK(s.kind <= CONTAINER_POD);
	SIM_CHECK(memchr(s.sandbox_id, '\0', sizeof(s.sandbox_id)));
	SIM_CHECK(memchr(s.cgroups_path, '\0', sizeof(s.cgroups_path)));
	SIM_CHECK(memchr(s.netns_path, '\0', sizeof(s.netns_path)));
	SIM_CHECK(s.oom_score_adj >= -1000 && s.oom_score_adj <= 1000);
	return 0;
}
