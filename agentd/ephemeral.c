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
	size_t n = 0;

	to->options = calloc(6, sizeof(*to->options));
	if (!to->options)
		return false;
	to->options[n++] = text("nodev");
	/* 0 is no limit, for which tmpfs has the same word and hugetlbfs none. */
	if (m->size || !m->page_size)
		to->options[n++] = text("size=%" PRIu64, m->size);
	to->options[n++] = text("mode=%o", m->mode);
	to->options[n++] = text("uid=%u", m->uid);
	to->options[n++] = text("gid=%u", m->gid);
	if (m->page_size)
		to->options[n++] = text("pagesize=%" PRIu64, m->page_size);
	to->n_options = n;
	for (size_t i = 0; i < to->n_options; i++)
		if (!to->options[i])
			return false;
	return true;
}

static bool fill(Grpc__Storage *to, const Ipc__Config__Memory *m)
{
	to->driver = text("ephemeral");
	to->source = text(m->page_size ? "nodev" : "tmpfs");
	to->fstype = text(m->page_size ? "hugetlbfs" : "tmpfs");
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

/* -- huge pages: how many the guest is to have */

/* As OCI has it: "2MB". */
static char *page_size_name(uint64_t bytes)
{
	uint64_t kib = bytes >> 10, mib = bytes >> 20, gib = bytes >> 30;

	if (gib << 30 == bytes)
		return text("%" PRIu64 "GB", gib);
	return mib << 20 == bytes ? text("%" PRIu64 "MB", mib) : text("%" PRIu64 "KB", kib);
}

/* From the first-th on. */
static Grpc__LinuxHugepageLimit *find_limit(const Grpc__LinuxResources *r, size_t first,
	const char *page_size)
{
	for (size_t i = first; i < r->n_hugepagelimits; i++)
		if (strcmp(r->hugepagelimits[i]->pagesize, page_size) == 0)
			return r->hugepagelimits[i];
	return NULL;
}

/* Takes page_size. NULL: no memory. */
static Grpc__LinuxHugepageLimit *add_limit(Grpc__LinuxResources *r, char *page_size)
{
	size_t n = r->n_hugepagelimits;
	Grpc__LinuxHugepageLimit *limit = calloc(1, sizeof(*limit));
	Grpc__LinuxHugepageLimit **longer =
		limit ? realloc(r->hugepagelimits, (n + 1) * sizeof(*longer)) : NULL;

	if (longer)
		r->hugepagelimits = longer;
	if (!longer || !page_size) {
		free(limit);
		free(page_size);
		return NULL;
	}
	grpc__linux_hugepage_limit__init(limit);
	limit->pagesize = page_size;
	longer[n] = limit;
	r->n_hugepagelimits = n + 1;
	return limit;
}

static Grpc__LinuxResources *resources_of(Grpc__Spec *spec)
{
	if (!spec->linux->resources) {
		spec->linux->resources = calloc(1, sizeof(*spec->linux->resources));
		if (spec->linux->resources)
			grpc__linux_resources__init(spec->linux->resources);
	}
	return spec->linux->resources;
}

/*
 * Limits decide, also one of 0: who has that may not use what others of the pod have. Where none is
 * said (containerd's CRI plugin passes none on unless disable_hugetlb_controller is false) the
 * container gets as much as its volumes of that size can hold. False: no memory.
 */
static bool ensure_limit(Grpc__Spec *spec, size_t n_said, const Ipc__Config__Memory *m)
{
	Grpc__LinuxResources *r = resources_of(spec);
	char *name = page_size_name(m->page_size);
	Grpc__LinuxHugepageLimit *limit = r && name ? find_limit(r, 0, name) : NULL;

	if (limit && limit == find_limit(r, n_said, name)) {
		limit->limit += m->size;
	} else if (!limit) {
		limit = r && name ? add_limit(r, strdup(name)) : NULL;
		if (limit)
			limit->limit = m->size;
	}
	free(name);
	return limit;
}

static int amend_one(struct oci_spec *s, unsigned index, size_t n_said,
	const Ipc__Config__Memory *m, struct error *err)
{
	Grpc__Mount *mount = mount_of(s->spec, index, m->volume);
	Grpc__Storage *storage;
	char *source;

	if (!mount)
		return error_set(err, EINVAL, "config.json: no volume %u", m->volume);
	if (m->page_size && m->size && !ensure_limit(s->spec, n_said, m))
		return error_errno(err, ENOMEM, "volume %u", m->volume);
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
	const Grpc__LinuxResources *resources = s->spec->linux->resources;
	size_t n_said = resources ? resources->n_hugepagelimits : 0;
	int r = 0;

	if (config->n_memory == 0)
		return 0;
	s->storages = calloc(config->n_memory, sizeof(*s->storages));
	if (!s->storages)
		return error_errno(err, ENOMEM, "volumes");
	for (size_t i = 0; i < config->n_memory && r == 0; i++)
		r = amend_one(s, config->index, n_said, config->memory[i], err);
	return r;
}
