/* What mountd's worker reads of a config.json (mountd/spec.c). */
#include <string.h>

#include "mountd/spec.h"
#include "tests/fuzz/lib/input.h"
#include "tests/fuzz/lib/sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = malloc(size + 1);
	struct spec s = SPEC_INIT;
	struct error err = ERROR_INIT;
	int r;

	SIM_CHECK(text);
	memcpy(text, data, size);
	text[size] = '\0';
	r = spec_parse(text, size, &s, &err);
	SIM_CHECK((r < 0) == !!err.code && (r < 0) == !s.json);
	if (r < 0)
		return 0;
	SIM_CHECK(s.root_path[0]);
	for (size_t i = 0; i < spec_n_mounts(&s); i++) {
		struct spec_mount m;

		SIM_CHECK(spec_mount(&s, i, &m) == !!m.destination);
	}
	spec_done(&s);
	return 0;
}
