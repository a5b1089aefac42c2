#include "agentd/ephemeral.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/tables.h"

/* Text of our own, which protobuf-c frees. */
static char *text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static char *text(const char *fmt, ...)
{
	char buffer[96];
	va_list args;

	va_start(args, fmt);
	vsnprintf(buffer, sizeof(buffer), fmt, args);
	va_end(args);
	return strdup(buffer);
}

/* False: a text or the array is missing. */
static bool add_options(Grpc__Storage *to, const Ipc__Config__Memory *m)
{
	to->options = calloc(5, sizeof(*to->options));
	if (!to->options)
		return false;
	to->n_options = 5;
	to->options[0] = text("nodev");
	to->options[1] = text("size=%" PRIu64, m->size); /* 0 is tmpfs's word for no limit, too */
	to->options[2] = text("mode=%o", m->mode);
	to->options[3] = text("uid=%u", m->uid);
	to->options[4] = text("gid=%u", m->gid);
	for (size_t i = 0; i < to->n_options; i++)
		if (!to->options[i])
			return false;
	return true;
}

static bool fill(Grpc__Storage *to, const Ipc__Config__Memory *m)
{
	to->driver = text("ephemeral");
	to->source = text("tmpfs");
	to->fstype = text("tmpfs");
	to->mount_point = text(GUEST_EPHEMERAL "%" PRIu64, m->id);
	return to->driver && to->source && to->fstype && to->mount_point && add_options(to, m);
}

static Grpc__Storage *storage_of(const Ipc__Config__Memory *m)
{
	Grpc__Storage *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	grpc__storage__init(s);
	if (fill(s, m))
		return s;
	grpc__storage__free_unpacked(s, NULL);
	return NULL;
}

/* The mount whose source is the volume's place in the share. */
static Grpc__Mount *mount_of(const Grpc__Spec *spec, unsigned index, unsigned volume)
{
	char path[sizeof(GUEST_SHARE SHARE_VOLUME_FMT) + 16];

	snprintf(path, sizeof(path), GUEST_SHARE SHARE_VOLUME_FMT, index, volume);
	for (size_t i = 0; i < spec->n_mounts; i++)
		if (strcmp(spec->mounts[i]->source, path) == 0)
			return spec->mounts[i];
	return NULL;
}

static int amend_one(struct oci_spec *s, unsigned index, const Ipc__Config__Memory *m,
	struct error *err)
{
	Grpc__Mount *mount = mount_of(s->spec, index, m->volume);
	Grpc__Storage *storage;
	char *source;

	if (!mount)
		return error_set(err, EINVAL, "config.json: no volume %u", m->volume);
	storage = storage_of(m);
	source = storage ? strdup(storage->mount_point) : NULL;
	if (!source) {
		if (storage)
			grpc__storage__free_unpacked(storage, NULL);
		return error_errno(err, ENOMEM, "volume %u", m->volume);
	}
	s->storages[s->n_storages++] = storage;
	free(mount->source); /* mount_of() has compared it: it is not protobuf-c's own */
	mount->source = source;
	return 0;
}

int ephemeral_amend(struct oci_spec *s, const Ipc__Config *config, struct error *err)
{
	int r = 0;

	if (config->n_memory == 0)
		return 0;
	s->storages = calloc(config->n_memory, sizeof(*s->storages));
	if (!s->storages)
		return error_errno(err, ENOMEM, "volumes");
	for (size_t i = 0; i < config->n_memory && r == 0; i++)
		r = amend_one(s, config->index, config->memory[i], err);
	return r;
}
