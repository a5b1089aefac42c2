#include "mountd/plan.h"

#include <errno.h>
#include <string.h>

#include "mountd/paths.h"

/*
 * Options of overlayfs that may be passed on. Not among them: what would let
 * a layer's own attributes decide where files come from (redirect_dir=on,
 * metacopy=on, userxattr), and index=on, with which a root that is mounted
 * again while the guest still holds it fails.
 */
static const char *const overlay_flags[] = {
	"index=off", "metacopy=off", "nfs_export=off", "redirect_dir=off", "redirect_dir=nofollow",
	"volatile", "xino=auto", "xino=off", "xino=on",
};

/* Those of a file system that the guest mounts, which mean it and not the host's mount. */
static const char *const block_flags[] = {
	"async", "discard", "noatime", "nodiratime", "nodiscard", "noload", "norecovery", "nouuid",
	"relatime", "sync",
};

static const char *const block_types[] = { "erofs", "ext4", "xfs" };

static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

void layer_name(unsigned i, char ret[LAYER_NAME_MAX])
{
	const unsigned n = sizeof(letters) - 1;

	if (i >= n)
		*ret++ = letters[10 + (i - n) / n];
	*ret++ = letters[i % n];
	*ret = '\0';
}

void rootfs_plan_done(struct rootfs_plan *plan)
{
	for (unsigned i = 0; i < plan->n_layers; i++)
		free(plan->layers[i]);
	free(plan->upper);
	free(plan->work);
	*plan = (struct rootfs_plan)ROOTFS_PLAN_INIT;
}

static int add_layer(struct rootfs_plan *plan, const char *path, struct error *err)
{
	if (!*path)
		return error_set(err, EINVAL, "an empty path in lowerdir");
	if (plan->n_layers == LAYERS_MAX)
		return error_set(err, E2BIG,
			"more than %d layers; rebuild the image with fewer (squash it)",
			LAYERS_MAX);
	plan->layers[plan->n_layers] = strdup(path);
	if (!plan->layers[plan->n_layers])
		return error_errno(err, ENOMEM, "lowerdir");
	plan->n_layers++;
	return 0;
}

/* "a:b\:c" as overlayfs reads it: colons separate, a backslash protects what follows it. */
static int split_lowerdir(struct rootfs_plan *plan, const char *text, struct error *err)
{
	_cleanup_free_ char *copy = strdup(text);
	char *start = copy, *to = copy;
	int r;

	if (!copy)
		return error_errno(err, ENOMEM, "lowerdir");
	if (plan->n_layers)
		return error_set(err, EINVAL, "lowerdir occurs twice");
	for (const char *from = text; *from; from++) {
		if (*from == '\\' && from[1]) {
			*to++ = *++from;
		} else if (*from == ':') {
			*to++ = '\0';
			r = add_layer(plan, start, err);
			if (r < 0)
				return r;
			start = to;
		} else {
			*to++ = *from;
		}
	}
	*to = '\0';
	return add_layer(plan, start, err);
}

static int set_once(char **to, const char *key, const char *value, struct error *err)
{
	if (*to)
		return error_set(err, EINVAL, "%s occurs twice", key);
	*to = strdup(value);
	return *to ? 0 : error_errno(err, ENOMEM, "%s", key);
}

static int add_flag(struct rootfs_plan *plan, const char *const *known, size_t n,
	const char *option, struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		if (strcmp(known[i], option) != 0)
			continue;
		if (plan->n_flags == ROOTFS_FLAGS_MAX)
			return error_set(err, E2BIG, "more than %d options", ROOTFS_FLAGS_MAX);
		plan->flags[plan->n_flags++] = known[i];
		return 0;
	}
	return error_set(err, EINVAL,
		"option " PATH_FMT
		" is not supported; take it out of the snapshotter's mount options",
		option);
}

/* ro and rw mean the same for every type. */
static bool common_option(struct rootfs_plan *plan, const char *option)
{
	bool ro = strcmp(option, "ro") == 0;

	if (!ro && strcmp(option, "rw") != 0)
		return false;
	plan->readonly = ro;
	return true;
}

static int overlay_option(struct rootfs_plan *plan, const char *option, struct error *err)
{
	if (common_option(plan, option))
		return 0;
	if (strncmp(option, "lowerdir=", 9) == 0)
		return split_lowerdir(plan, option + 9, err);
	if (strncmp(option, "upperdir=", 9) == 0)
		return set_once(&plan->upper, "upperdir", option + 9, err);
	if (strncmp(option, "workdir=", 8) == 0)
		return set_once(&plan->work, "workdir", option + 8, err);
	return add_flag(plan, overlay_flags, ARRAY_SIZE(overlay_flags), option, err);
}

static int read_overlay(struct rootfs_plan *plan, const struct rootfs_mount *m, struct error *err)
{
	int r;

	for (size_t i = 0; i < m->n_options; i++) {
		r = overlay_option(plan, m->options[i], err);
		if (r < 0)
			return r;
	}
	if (plan->n_layers == 0)
		return error_set(err, EINVAL, "no lowerdir");
	if (!plan->upper != !plan->work)
		return error_set(err, EINVAL, "upperdir and workdir belong together");
	/* A view of several layers: it cannot be written, whatever the options say. */
	if (!plan->upper)
		plan->readonly = true;
	return 0;
}

static int read_bind(struct rootfs_plan *plan, const struct rootfs_mount *m, struct error *err)
{
	plan->source = m->source;
	for (size_t i = 0; i < m->n_options; i++) {
		const char *option = m->options[i];

		if (common_option(plan, option) || strcmp(option, "bind") == 0)
			continue;
		if (strcmp(option, "rbind") != 0)
			return error_set(err, EINVAL, "option " PATH_FMT " is not supported",
				option);
		plan->recursive = true;
	}
	return 0;
}

static const char *block_type(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(block_types); i++)
		if (strcmp(block_types[i], type) == 0)
			return block_types[i];
	return NULL;
}

/* "loop" is how a host would mount an image; here it becomes a disk in any case. */
static int read_block(struct rootfs_plan *plan, const struct rootfs_mount *m, struct error *err)
{
	plan->source = m->source;
	for (size_t i = 0; i < m->n_options; i++) {
		const char *option = m->options[i];
		int r;

		if (common_option(plan, option) || strcmp(option, "loop") == 0)
			continue;
		r = add_flag(plan, block_flags, ARRAY_SIZE(block_flags), option, err);
		if (r < 0)
			return r;
	}
	if (strcmp(plan->fstype, "erofs") == 0)
		plan->readonly = true;
	return 0;
}

int rootfs_plan_read(struct rootfs_plan *plan, const struct rootfs_mount *mounts, size_t n,
	struct error *err)
{
	int r;

	*plan = (struct rootfs_plan)ROOTFS_PLAN_INIT;
	if (n == 0)
		return 0;
	if (n > 1)
		return error_set(err, EOPNOTSUPP,
			"rootfs of %zu mounts; use the overlayfs or the native snapshotter",
			n);
	if (strcmp(mounts->type, "overlay") == 0) {
		plan->kind = ROOTFS_OVERLAY;
		r = read_overlay(plan, mounts, err);
	} else if (strcmp(mounts->type, "bind") == 0 || strcmp(mounts->type, "rbind") == 0) {
		plan->kind = ROOTFS_BIND;
		plan->recursive = mounts->type[0] == 'r';
		r = read_bind(plan, mounts, err);
	} else if (block_type(mounts->type)) {
		plan->kind = ROOTFS_BLOCK;
		plan->fstype = block_type(mounts->type);
		r = read_block(plan, mounts, err);
	} else {
		return error_set(err, EOPNOTSUPP,
			"rootfs mount of type " PATH_FMT
			" is not supported; use the overlayfs or the native snapshotter",
			mounts->type);
	}
	if (r < 0) {
		rootfs_plan_done(plan);
		return error_wrap(err, "rootfs mount of type %s", mounts->type);
	}
	return 0;
}
