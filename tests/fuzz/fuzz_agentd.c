/* agentd, and nobody it speaks to can be trusted: agentd_rig.h has the input. */
#include "tests/fuzz/agentd_rig.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	agentd_fuzz(data, size, 0);
	return 0;
}
