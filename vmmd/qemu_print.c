/*
 * From objects to strings. No fd is touched and nothing is read but the
 * objects: the same objects give the same bytes.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmmd/qemu_object.h"

void qemu_argv_done(struct qemu_argv *argv)
{
	while (argv->n > 0)
		free(argv->arg[--argv->n]);
}

/* Takes word, also on failure. */
static int push_consume(struct qemu_argv *argv, char *word)
{
	if (!word)
		return -ENOMEM;
	if (argv->n == QEMU_ARGS_MAX) {
		free(word);
		return -E2BIG;
	}
	argv->arg[argv->n++] = word;
	return 0;
}

static int push_switch(struct qemu_argv *argv, const char *name)
{
	char *word;

	return push_consume(argv, asprintf(&word, "-%s", name) < 0 ? NULL : word);
}

/* ---- values ---- */

static const char *text_of(const struct qemu_object *o, const struct qemu_field *f)
{
	return (const char *)o + f->offset;
}

static uint64_t number_of(const struct qemu_object *o, const struct qemu_field *f)
{
	uint64_t v;

	memcpy(&v, text_of(o, f), sizeof(v));
	return v;
}

static const char *word_of(const struct qemu_object *o, const struct qemu_field *f)
{
	unsigned v;

	memcpy(&v, text_of(o, f), sizeof(v));
	return f->words[v];
}

static bool bool_of(const struct qemu_object *o, const struct qemu_field *f)
{
	return *(const bool *)text_of(o, f);
}

static bool is_absent(const struct qemu_object *o, const struct qemu_field *f)
{
	if (f->only && !(f->only & (1U << o->transport)))
		return true;
	return f->optional && qemu_field_is_unset(o, f);
}

/* "virtio-rng" and the transport: "virtio-rng-pci" */
static int type_of(const struct qemu_object *o, char *ret, size_t size)
{
	bool transport = o->class->has_transport;

	return snprintf(ret, size, "%s%s%s", o->class->type, transport ? "-" : "",
		transport ? qemu_transports[o->transport] : "");
}

static void put_size(FILE *f, uint64_t bytes)
{
	static const struct {
		unsigned shift;
		const char *unit;
	} units[] = { { 30, "G" }, { 20, "M" }, { 0, "" } };
	size_t i = 0;

	while (bytes & ((UINT64_C(1) << units[i].shift) - 1))
		i++;
	fprintf(f, "%llu%s", (unsigned long long)(bytes >> units[i].shift), units[i].unit);
}

static void put_fd(FILE *out, const struct qemu_fd *fd, enum qemu_form form)
{
	if (form == QEMU_FORM_QMP && *fd->name)
		fputs(fd->name, out);
	else
		fprintf(out, "%u", fd->number);
}

static void put_fds(FILE *out, const struct qemu_fds *fds, enum qemu_form form)
{
	for (size_t i = 0; i < fds->n; i++) {
		fputs(i ? ":" : "", out);
		put_fd(out, &fds->fd[i], form);
	}
}

static void put_mac(FILE *out, const uint8_t mac[6])
{
	fprintf(out, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
		mac[5]);
}

/* A value as text, nothing quoted. */
static void put_value(FILE *out, const struct qemu_object *o, const struct qemu_field *f,
	enum qemu_form form)
{
	const void *value = text_of(o, f);

	switch (f->type) {
	case QEMU_FIELD_ID:
	case QEMU_FIELD_TEXT:
		fputs(value, out);
		break;
	case QEMU_FIELD_ENUM:
		fputs(word_of(o, f), out);
		break;
	case QEMU_FIELD_NUMBER:
		fprintf(out, "%llu", (unsigned long long)number_of(o, f));
		break;
	case QEMU_FIELD_SIZE:
		put_size(out, number_of(o, f));
		break;
	case QEMU_FIELD_BOOL:
		fputs(bool_of(o, f) ? "on" : "off", out);
		break;
	case QEMU_FIELD_FD:
		put_fd(out, value, form);
		break;
	case QEMU_FIELD_FDS:
		put_fds(out, value, form);
		break;
	case QEMU_FIELD_MAC:
		put_mac(out, value);
		break;
	case QEMU_FIELD_SLOT:
		fprintf(out, "%02llx", (unsigned long long)number_of(o, f));
		break;
	case QEMU_FIELD_DEVNO:
		fprintf(out, "fe.0.%04llx", (unsigned long long)number_of(o, f));
		break;
	case QEMU_FIELD_FIXED:
		fputs(f->fixed, out);
		break;
	}
}

/* The caller's; NULL: out of memory. */
static char *value_text(const struct qemu_object *o, const struct qemu_field *f,
	enum qemu_form form)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		return NULL;
	put_value(out, o, f, form);
	return fclose(out) == 0 ? steal(text) : NULL;
}

/* ---- key=value ---- */

/* The one place where a value becomes part of a key=value list: commas are doubled. */
static void put_quoted(FILE *f, const char *text)
{
	for (; *text; text++) {
		if (*text == ',')
			fputc(',', f);
		fputc(*text, f);
	}
}

static int put_pair(FILE *out, const struct qemu_object *o, const struct qemu_field *f)
{
	_cleanup_free_ char *value = value_text(o, f, QEMU_FORM_ARGV);

	if (!value)
		return -ENOMEM;
	if (!f->implicit)
		fprintf(out, "%s=", f->key);
	put_quoted(out, value);
	return 0;
}

static int put_keyval(FILE *out, const struct qemu_object *o)
{
	const char *comma = "";
	char type[QEMU_ID_SIZE];
	int r = 0;

	if (o->class->type) {
		type_of(o, type, sizeof(type));
		put_quoted(out, type);
		comma = ",";
	}
	for (const struct qemu_field *f = o->class->fields; f->key && r == 0; f++) {
		if (is_absent(o, f))
			continue;
		fputs(comma, out);
		r = put_pair(out, o, f);
		comma = ",";
	}
	return r;
}

/* The caller's; NULL: out of memory. */
static char *keyval(const struct qemu_object *o)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int r;

	if (!out)
		return NULL;
	r = put_keyval(out, o);
	return fclose(out) == 0 && r == 0 ? steal(text) : NULL;
}

static int print_keyval(const struct qemu_object *o, struct qemu_argv *argv)
{
	int r = push_switch(argv, o->class->name);

	return r < 0 ? r : push_consume(argv, keyval(o));
}

/* ---- JSON ---- */

static struct json_object *json_value(const struct qemu_object *o, const struct qemu_field *f,
	enum qemu_form form)
{
	_cleanup_free_ char *text = NULL;

	if (f->type == QEMU_FIELD_NUMBER || f->type == QEMU_FIELD_SIZE)
		return json_object_new_uint64(number_of(o, f));
	if (f->type == QEMU_FIELD_BOOL)
		return json_object_new_boolean(bool_of(o, f));
	text = value_text(o, f, form);
	return text ? json_object_new_string(text) : NULL;
}

/* The object `name` in `in`, made if it is not there. NULL: out of memory. */
static struct json_object *json_inner(struct json_object *in, const char *name)
{
	struct json_object *inner = json_object_object_get(in, name);

	if (inner)
		return inner;
	inner = json_object_new_object();
	if (!inner || json_object_object_add(in, name, inner) == 0)
		return inner;
	json_object_put(inner);
	return NULL;
}

static int json_add_consume(struct json_object *to, const char *key, struct json_object *value)
{
	const char *dot = strchr(key, '.');
	char outer[QEMU_ID_SIZE];

	if (dot) {
		snprintf(outer, sizeof(outer), "%.*s", (int)(dot - key), key);
		to = json_inner(to, outer);
		key = dot + 1;
	}
	if (to && value && json_object_object_add(to, key, value) == 0)
		return 0;
	json_object_put(value);
	return -ENOMEM;
}

struct json_object *qemu_object_json(const struct qemu_object *o, enum qemu_form form)
{
	struct json_object *json = json_object_new_object();
	char type[QEMU_ID_SIZE];
	int r = json ? 0 : -ENOMEM;

	if (r == 0 && o->class->type) {
		type_of(o, type, sizeof(type));
		r = json_add_consume(json, o->class->type_key, json_object_new_string(type));
	}
	for (const struct qemu_field *f = o->class->fields; f->key && r == 0; f++)
		if (!is_absent(o, f))
			r = json_add_consume(json, f->key, json_value(o, f, form));
	if (r == 0)
		return json;
	json_object_put(json);
	return NULL;
}

static int print_json(const struct qemu_object *o, struct qemu_argv *argv)
{
	struct json_object *json = qemu_object_json(o, QEMU_FORM_ARGV);
	const char *text = NULL;
	int r = push_switch(argv, o->class->name);

	if (json)
		text = json_object_to_json_string_ext(json,
			JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	if (r == 0)
		r = push_consume(argv, text ? strdup(text) : NULL);
	json_object_put(json);
	return r;
}

/* ---- a switch for each field ---- */

static int print_switch(const struct qemu_object *o, const struct qemu_field *f,
	struct qemu_argv *argv)
{
	int r;

	if (f->type == QEMU_FIELD_BOOL)
		return bool_of(o, f) ? push_switch(argv, f->key) : 0;
	if (is_absent(o, f))
		return 0;
	r = push_switch(argv, f->key);
	if (r < 0)
		return r;
	/* Not a list: QEMU takes the word as it is. */
	return push_consume(argv, value_text(o, f, QEMU_FORM_ARGV));
}

int qemu_object_print(const struct qemu_object *o, enum qemu_form form, struct qemu_argv *argv)
{
	int r = 0;

	if (o->class->style == QEMU_STYLE_JSON && form == QEMU_FORM_ARGV)
		return print_json(o, argv);
	if (o->class->style != QEMU_STYLE_SWITCHES)
		return print_keyval(o, argv);
	for (const struct qemu_field *f = o->class->fields; f->key && r == 0; f++)
		r = print_switch(o, f, argv);
	return r;
}
