/*
 * config.json to the guest's Spec (agentd/oci.c). The first byte is the
 * container's index. Of the host nothing is left in what is accepted, and it
 * survives the way to the guest.
 */
#include <string.h>

#include "agentd/devices.h"
#include "agentd/oci.h"
#include "tests/fuzz/lib/input.h"
#include "tests/fuzz/lib/sim.h"

static void check_mounts(const Grpc__Spec *spec)
{
	for (size_t i = 0; i < spec->n_mounts; i++) {
		const Grpc__Mount *m = spec->mounts[i];

		SIM_CHECK(m->destination[0] == '/');
		/* nothing of the host's but what mountd puts there */
		SIM_CHECK(strcmp(m->type, "bind") != 0 || strcmp(m->source, GUEST_SHM) == 0 ||
			  strncmp(m->source, GUEST_SHARE "c", strlen(GUEST_SHARE "c")) == 0);
	}
}

static void check_linux(const Grpc__Linux *l)
{
	for (size_t i = 0; i < l->n_namespaces; i++) {
		SIM_CHECK(!l->namespaces[i]->path[0]);
		SIM_CHECK(strcmp(l->namespaces[i]->type, "network") != 0);
	}
	/* There is no disk in the VM. */
	for (size_t i = 0; i < l->n_devices; i++)
		SIM_CHECK(strcmp(l->devices[i]->type, "b") != 0);
	for (size_t i = 0; l->resources && i < l->resources->n_devices; i++) {
		const Grpc__LinuxDeviceCgroup *r = l->resources->devices[i];

		SIM_CHECK(r->type[0] && r->access[0]);
		SIM_CHECK(!r->allow || strcmp(r->type, "b") != 0 || (r->major < 0 && r->minor < 0));
	}
}

static void check_travels(const Grpc__Spec *spec)
{
	size_t len = grpc__spec__get_packed_size(spec);
	uint8_t *bytes = malloc(len);
	Grpc__Spec *again;

	SIM_CHECK(bytes && grpc__spec__pack(spec, bytes) == len);
	again = grpc__spec__unpack(NULL, len, bytes);
	SIM_CHECK(again && grpc__spec__get_packed_size(again) == len);
	grpc__spec__free_unpacked(again, NULL);
	free(bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes in = { data, size };
	unsigned index = in_u8(&in);
	_cleanup_free_ char *text = malloc(in.left + 1);
	struct oci_spec s = OCI_SPEC_INIT;
	Ipc__Config config = IPC__CONFIG__INIT;
	struct error err = ERROR_INIT;
	int r;

	SIM_CHECK(text);
	memcpy(text, in.p, in.left);
	text[in.left] = '\0';
	r = oci_parse(text, in.left, index, &s, &err);
	SIM_CHECK((r < 0) == !!err.code && (r < 0) == !s.spec);
	if (r < 0)
		return 0;
	SIM_CHECK(s.spec->process->n_args > 0);
	SIM_CHECK(strncmp(s.spec->root->path, GUEST_SHARE, strlen(GUEST_SHARE)) == 0);
	config.index = index;
	config.host_devices = index & 1;
	if (devices_amend(&s, &config, &err) < 0) {
		SIM_CHECK(err.code);
		oci_spec_done(&s);
		return 0;
	}
	check_mounts(s.spec);
	check_linux(s.spec->linux);
	check_travels(s.spec);
	oci_spec_done(&s);
	return 0;
}
