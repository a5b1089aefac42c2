/* The text of bulkhead.conf. */
#include <string.h>

#include "supervisor/config.h"
#include "tests/fuzz/lib/input.h"
#include "tests/fuzz/lib/sim.h"

static void check_list(const struct config_list *list)
{
	SIM_CHECK(list->n <= CONFIG_LIST_MAX);
	for (unsigned i = 0; i < list->n; i++)
		SIM_CHECK(memchr(list->item[i], '\0', CONFIG_PATH_MAX));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct config c;
	_cleanup_free_ char *text = malloc(size + 1);
	struct error err = ERROR_INIT;
	int r;

	memset(&c, 0, sizeof(c));
	c.vcpus = 1;
	SIM_CHECK(text);
	memcpy(text, data, size);
	text[size] = '\0';
	r = config_parse(&c, "bulkhead.conf", text, &err);
	SIM_CHECK((r < 0) == !!err.code);
	check_list(&c.rootfs_prefix);
	check_list(&c.stdio_prefix);
	check_list(&c.log_prefix);
	SIM_CHECK(memchr(c.cmdline, '\0', sizeof(c.cmdline)));
	SIM_CHECK(memchr(c.accel, '\0', sizeof(c.accel)));
	SIM_CHECK(c.vcpus >= 1 && c.vcpus <= 240);
	if (r == 0)
		config_resolve(&c, &err);
	return 0;
}
