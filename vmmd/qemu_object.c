#include "vmmd/qemu_object.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "common/fd.h"

static const void *value_of(const struct qemu_object *o, const struct qemu_field *f)
{
	return (const char *)o + f->offset;
}

static struct qemu_fd *fd_of(const struct qemu_object *o, const struct qemu_field *f)
{
	return (struct qemu_fd *)((char *)o + f->offset);
}

void qemu_object_init(struct qemu_object *o, const struct qemu_class *class)
{
	memset(o, 0, class->size);
	o->class = class;
	for (const struct qemu_field *f = class->fields; f->key; f++)
		if (f->type == QEMU_FIELD_FD)
			fd_of(o, f)->fd = -1;
}

int qemu_object_each_fd(const struct qemu_object *o, qemu_fd_fn fn, void *ctx, struct error *err)
{
	for (const struct qemu_field *f = o->class->fields; f->key; f++) {
		int r = f->type == QEMU_FIELD_FD ? fn(ctx, fd_of(o, f), err) : 0;

		if (r != 0)
			return r;
	}
	return 0;
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

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			return false;
	return true;
}

static int check_text(const struct qemu_object *o, const struct qemu_field *f, struct error *err)
{
	bool id = f->type == QEMU_FIELD_ID;
	const char *text = value_of(o, f);

	if (strnlen(text, id ? QEMU_ID_SIZE : f->size) == (id ? QEMU_ID_SIZE : f->size))
		return refuse(o, f, err, "is too long");
	if (!*text)
		return f->optional ? 0 : refuse(o, f, err, "is missing");
	if (id && !is_id(text))
		return refuse(o, f, err,
			"is not an identifier: a letter, then letters, digits, '-', '.', '_'");
	if (!is_printable(text))
		return refuse(o, f, err, "has characters that are not printable ASCII");
	return 0;
}

static int check_number(const struct qemu_object *o, const struct qemu_field *f, struct error *err)
{
	uint64_t v;

	memcpy(&v, value_of(o, f), sizeof(v));
	if (f->optional && v == 0)
		return 0;
	if (v < f->min || v > f->max)
		return error_set(err, EINVAL, "-%s: %s is %llu, allowed are %llu to %llu",
			o->class->name, f->key, (unsigned long long)v, (unsigned long long)f->min,
			(unsigned long long)f->max);
	return 0;
}

static int check_enum(const struct qemu_object *o, const struct qemu_field *f, struct error *err)
{
	unsigned v, n = 0;

	memcpy(&v, value_of(o, f), sizeof(v));
	while (f->words[n])
		n++;
	return v < n ? 0 : refuse(o, f, err, "is a word that is not in its list");
}

static int check_field(const struct qemu_object *o, const struct qemu_field *f, struct error *err)
{
	switch (f->type) {
	case QEMU_FIELD_ID:
	case QEMU_FIELD_TEXT:
		return check_text(o, f, err);
	case QEMU_FIELD_NUMBER:
	case QEMU_FIELD_SIZE:
		return check_number(o, f, err);
	case QEMU_FIELD_ENUM:
		return check_enum(o, f, err);
	case QEMU_FIELD_FD:
		return fd_of(o, f)->fd >= 0 ? 0 : refuse(o, f, err, "is not open");
	case QEMU_FIELD_BOOL:
		break;
	}
	return 0;
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
