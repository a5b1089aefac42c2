#include "vmmd/qemu_object.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/fd.h"

const char *const qemu_transports[] = {
	[QEMU_TRANSPORT_PCI] = "pci",
	[QEMU_TRANSPORT_DEVICE] = "device",
	[QEMU_TRANSPORT_CCW] = "ccw",
};

const char *const on_off_auto[] = { "auto", "on", "off", NULL };

static const void *value_of(const struct qemu_object *o, const struct qemu_field *f)
{
	return (const char *)o + f->offset;
}

static struct qemu_fd *fd_of(const struct qemu_object *o, const struct qemu_field *f)
{
	return (struct qemu_fd *)((char *)o + f->offset);
}

static struct qemu_fds *fds_of(const struct qemu_object *o, const struct qemu_field *f)
{
	return (struct qemu_fds *)((char *)o + f->offset);
}

void qemu_object_init(struct qemu_object *o, const struct qemu_class *class)
{
	memset(o, 0, class->size);
	o->class = class;
	for (const struct qemu_field *f = class->fields; f->key; f++)
		if (f->type == QEMU_FIELD_FD)
			fd_of(o, f)->fd = -1;
}

static int each_fd_of_field(const struct qemu_object *o, const struct qemu_field *f, qemu_fd_fn fn,
	void *ctx, struct error *err)
{
	struct qemu_fds *fds;
	int r = 0;

	if (f->type == QEMU_FIELD_FD)
		return fn(ctx, fd_of(o, f), err);
	if (f->type != QEMU_FIELD_FDS)
		return 0;
	fds = fds_of(o, f);
	for (size_t i = 0; i < fds->n && r == 0; i++)
		r = fn(ctx, &fds->fd[i], err);
	return r;
}

int qemu_object_each_fd(const struct qemu_object *o, qemu_fd_fn fn, void *ctx, struct error *err)
{
	int r = 0;

	for (const struct qemu_field *f = o->class->fields; f->key && r == 0; f++)
		r = each_fd_of_field(o, f, fn, ctx, err);
	return r;
}

static int close_one(void *ctx, struct qemu_fd *fd, struct error *err)
{
	(void)ctx, (void)err;
	fd_close(&fd->fd);
	return 0;
}

void qemu_object_done(struct qemu_object *o)
{
	qemu_object_each_fd(o, close_one, NULL, NULL);
	qemu_object_init(o, o->class);
}

bool qemu_field_is_unset(const struct qemu_object *o, const struct qemu_field *f)
{
	uint64_t number;
	unsigned word;

	switch (f->type) {
	case QEMU_FIELD_ID:
	case QEMU_FIELD_TEXT:
		return !*(const char *)value_of(o, f);
	case QEMU_FIELD_NUMBER:
	case QEMU_FIELD_SIZE:
	case QEMU_FIELD_SLOT:
	case QEMU_FIELD_DEVNO:
		memcpy(&number, value_of(o, f), sizeof(number));
		return number == 0;
	case QEMU_FIELD_ENUM:
		memcpy(&word, value_of(o, f), sizeof(word));
		return word == 0;
	case QEMU_FIELD_BOOL:
		return !*(const bool *)value_of(o, f);
	case QEMU_FIELD_FDS:
		return fds_of(o, f)->n == 0;
	case QEMU_FIELD_FD:
	case QEMU_FIELD_MAC:
	case QEMU_FIELD_FIXED:
		break;
	}
	return false;
}

static int refuse(const struct qemu_object *o, const struct qemu_field *f, struct error *err,
	const char *why)
{
	return error_set(err, EINVAL, "-%s%s%s: %s %s", o->class->name, o->class->type ? " " : "",
		o->class->type ? o->class->type : "", f->key, why);
}

static bool is_letter(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* QEMU's id_wellformed() */
static bool is_id(const char *text)
{
	if (!is_letter(*text))
		return false;
	while (*++text)
		if (!is_letter(*text) && !(*text >= '0' && *text <= '9') && !strchr("-._", *text))
			return false;
	return true;
}

/* The character at *text, which is moved behind it; -1: not UTF-8. */
static int32_t next_char(const unsigned char **text)
{
	static const int32_t least[] = { 0, 0x80, 0x800, 0x10000 };
	const unsigned char *p = *text;
	int more = *p < 0x80 ? 0 : *p >> 5 == 6 ? 1 : *p >> 4 == 14 ? 2 : *p >> 3 == 30 ? 3 : -1;
	int32_t c = more < 1 ? *p : *p & (0x3f >> more);

	if (more < 0)
		return -1;
	for (int i = 0; i < more; i++) {
		if (*++p >> 6 != 2)
			return -1;
		c = c << 6 | (*p & 0x3f);
	}
	*text = p + 1;
	return c < least[more] ? -1 : c;
}

/* UTF-8 that QEMU's JSON takes (no surrogates, no noncharacters), without control characters. */
static bool is_text(const char *text)
{
	const unsigned char *p = (const unsigned char *)text;

	while (*p) {
		int32_t c = next_char(&p);

		if (c < ' ' || (c >= 0x7f && c < 0xa0) || (c >= 0xd800 && c < 0xe000) ||
			(c >= 0xfdd0 && c < 0xfdf0) || (c & 0xfffe) == 0xfffe || c > 0x10ffff)
			return false;
	}
	return true;
}

static int check_text(const struct qemu_object *o, const struct qemu_field *f, struct error *err)
{
	bool id = f->type == QEMU_FIELD_ID;
	size_t size = f->size ? f->size : QEMU_ID_SIZE;
	const char *text = value_of(o, f);

	if (strnlen(text, size) == size)
		return refuse(o, f, err, "is too long");
	if (!*text)
		return f->optional ? 0 : refuse(o, f, err, "is missing");
	if (id && !is_id(text))
		return refuse(o, f, err,
			"is not an identifier: a letter, then letters, digits, '-', '.', '_'");
	if (!is_text(text))
		return refuse(o, f, err, "has characters that are not printable");
	return 0;
}

static int check_number(const struct qemu_object *o, const struct qemu_field *f, struct error *err)
{
	char why[96];
	uint64_t v;

	memcpy(&v, value_of(o, f), sizeof(v));
	if (f->optional && v == 0)
		return 0;
	if (v >= f->min && v <= f->max)
		return 0;
	snprintf(why, sizeof(why), "is %llu, allowed are %llu to %llu", (unsigned long long)v,
		(unsigned long long)f->min, (unsigned long long)f->max);
	return refuse(o, f, err, why);
}

static int check_enum(const struct qemu_object *o, const struct qemu_field *f, struct error *err)
{
	unsigned v, n = 0;

	memcpy(&v, value_of(o, f), sizeof(v));
	while (f->words[n])
		n++;
	return v < n ? 0 : refuse(o, f, err, "is a word that is not in its list");
}

static int check_fds(const struct qemu_object *o, const struct qemu_field *f, struct error *err)
{
	const struct qemu_fds *fds = fds_of(o, f);

	if (fds->n == 0 && !f->optional)
		return refuse(o, f, err, "is missing");
	for (size_t i = 0; i < fds->n; i++)
		if (fds->fd[i].fd < 0)
			return refuse(o, f, err, "is not open");
	return 0;
}

static int check_mac(const struct qemu_object *o, const struct qemu_field *f, struct error *err)
{
	static const uint8_t zero[6];
	const uint8_t *mac = value_of(o, f);

	if ((mac[0] & 1) || memcmp(mac, zero, sizeof(zero)) == 0)
		return refuse(o, f, err, "is not the address of one station");
	return 0;
}

static int check_value(const struct qemu_object *o, const struct qemu_field *f, struct error *err)
{
	switch (f->type) {
	case QEMU_FIELD_ID:
	case QEMU_FIELD_TEXT:
		return check_text(o, f, err);
	case QEMU_FIELD_NUMBER:
	case QEMU_FIELD_SIZE:
	case QEMU_FIELD_SLOT:
	case QEMU_FIELD_DEVNO:
		return check_number(o, f, err);
	case QEMU_FIELD_ENUM:
		return check_enum(o, f, err);
	case QEMU_FIELD_FD:
		return fd_of(o, f)->fd >= 0 ? 0 : refuse(o, f, err, "is not open");
	case QEMU_FIELD_FDS:
		return check_fds(o, f, err);
	case QEMU_FIELD_MAC:
		return check_mac(o, f, err);
	case QEMU_FIELD_BOOL:
	case QEMU_FIELD_FIXED:
		break;
	}
	return 0;
}

static int check_field(const struct qemu_object *o, const struct qemu_field *f, struct error *err)
{
	char why[64];

	if (!f->only || (f->only & (1U << o->transport)))
		return check_value(o, f, err);
	if (f->type == QEMU_FIELD_FIXED || qemu_field_is_unset(o, f))
		return 0;
	snprintf(why, sizeof(why), "is unknown with transport '%s'", qemu_transports[o->transport]);
	return refuse(o, f, err, why);
}

int qemu_object_check(const struct qemu_object *o, struct error *err)
{
	for (const struct qemu_field *f = o->class->fields; f->key; f++) {
		int r = check_field(o, f, err);

		if (r < 0)
			return r;
	}
	return 0;
}

int qemu_set_text(char *field, size_t size, const char *text, struct error *err)
{
	size_t len = strlen(text);

	if (len >= size)
		return error_set(err, EINVAL, "'%.32s...' is %zu bytes long, the limit is %zu",
			text, len, size - 1);
	memcpy(field, text, len + 1);
	return 0;
}

int qemu_set_id(char field[QEMU_ID_SIZE], const char *prefix, const char *text, struct error *err)
{
	size_t before = strlen(prefix), len = strlen(text);

	if (before + len >= QEMU_ID_SIZE)
		return error_set(err, EINVAL,
			"the identifier '%s%.32s...' is %zu bytes long, the limit is %d", prefix,
			text, before + len, QEMU_ID_SIZE - 1);
	memcpy(field, prefix, before);
	memcpy(field + before, text, len + 1);
	return 0;
}

int qemu_word(const char *const *words, const char *what, const char *text, struct error *err)
{
	char list[128] = "";

	for (int i = 0; words[i]; i++) {
		size_t used = strlen(list);

		if (strcmp(words[i], text) == 0)
			return i;
		snprintf(list + used, sizeof(list) - used, "%s%s", i ? ", " : "", words[i]);
	}
	return error_set(err, EINVAL, "%s '%.32s' is not one of: %s", what, text, list);
}
