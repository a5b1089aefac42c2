/* The guest alone, against an agentd for which a container runs: agentd_rig.h has the input. */
#include "tests/fuzz/agentd_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	agentd_fuzz(data, size, 1);
	return 0;
}
