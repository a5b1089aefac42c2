/*
 * What all objects of QEMU's command line have in common. An object is one
 * switch, its struct is named as QEMU names it, and one table of fields
 * (struct qemu_class) says everything about it that is not its values: from
 * the table it is checked, printed and released.
 *
 * -device, -object, -netdev and -blockdev are printed as JSON (QEMU >= 7.2):
 * the same bytes QMP's device_add, object-add... take, so that an object means
 * the same at start and at hot-plug. Other switches are key=value.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct json_object;

#define QEMU_ID_SIZE 64

/*
 * An fd that QEMU gets. Owned by the object it is in, until qemu_object_done()
 * closes it. QEMU knows it by `number` when it was there at exec (the command
 * line gives the number), and by `name` when QMP's getfd has brought it.
 */
struct qemu_fd {
	int fd;
	unsigned number;
	char name[QEMU_ID_SIZE];
};

/* The queues of one device: at most as many as netd hands over. */
#define QEMU_FDS_MAX 16

struct qemu_fds {
	size_t n;
	struct qemu_fd fd[QEMU_FDS_MAX];
};

enum qemu_field_type {
	QEMU_FIELD_ID,     /* char[QEMU_ID_SIZE]: a letter, then letters, digits, "-", ".", "_" */
	QEMU_FIELD_TEXT,   /* char[size]: UTF-8 without control characters */
	QEMU_FIELD_ENUM,   /* unsigned: an index into words */
	QEMU_FIELD_NUMBER, /* uint64_t, min to max */
	QEMU_FIELD_SIZE,   /* uint64_t in bytes, min to max */
	QEMU_FIELD_BOOL,
	QEMU_FIELD_FD,	  /* struct qemu_fd */
	QEMU_FIELD_FDS,	  /* struct qemu_fds: joined by ":" */
	QEMU_FIELD_MAC,	  /* uint8_t[6]: of one station, not zero */
	QEMU_FIELD_SLOT,  /* uint64_t: a slot of a PCI bus, in hexadecimal */
	QEMU_FIELD_DEVNO, /* uint64_t: a device number of s390's channel subsystem */
	QEMU_FIELD_FIXED, /* no value of the object's: `fixed` */
};

struct qemu_field {
	const char *key; /* JSON: "a.b" is b in an object a */
	enum qemu_field_type type;
	size_t offset;
	bool implicit; /* key=value: printed without its key; only the first field */
	bool optional; /* "", 0, false, no fds and the first word are not printed */
	size_t size; /* of a text; of an identifier, where its limit is shorter */
	const char *const *words; /* ends with NULL; optional: the first stands for "not printed" */
	const char *fixed;
	unsigned only; /* a mask of 1 << enum qemu_transport: no other has it; 0: all have */
	uint64_t min, max;
};

enum qemu_style {
	QEMU_STYLE_JSON,     /* -switch '{"key":"value"}' */
	QEMU_STYLE_KEYVAL,   /* -switch value,key=value */
	QEMU_STYLE_SWITCHES, /* each field is a switch: -key value; -key for a bool */
};

struct qemu_class {
	const char *name; /* the switch, without its dash */
	enum qemu_style style;
	const char *type_key; /* of JSON: "driver", "qom-type"; the word is first in key=value */
	const char *type;     /* NULL: none */
	bool has_transport;   /* "-<transport>" follows the type */
	const struct qemu_field *fields; /* ends with a row without key */
	size_t size;                     /* of the struct */
};

enum qemu_transport { QEMU_TRANSPORT_PCI, QEMU_TRANSPORT_DEVICE, QEMU_TRANSPORT_CCW };

/* The first member of every object. */
struct qemu_object {
	const struct qemu_class *class;
	enum qemu_transport transport;
	struct qemu_object *next;
};

extern const char *const qemu_transports[];

/* QEMU's OnOffAuto, for an optional field: not printed, or one of two. */
enum on_off_auto { ON_OFF_AUTO_AUTO, ON_OFF_AUTO_ON, ON_OFF_AUTO_OFF };
extern const char *const on_off_auto[];

/* For objects that are a member of something. All values zero, no fds. */
void qemu_object_init(struct qemu_object *o, const struct qemu_class *class);

/* Closes its fds. The object is as after qemu_object_init(). */
void qemu_object_done(struct qemu_object *o);

/* Whether the field's value is "", 0, false, no fds or the first word. */
bool qemu_field_is_unset(const struct qemu_object *o, const struct qemu_field *f);

/* Whether QEMU would take each value for what it is meant to be. 0, or -EINVAL with err. */
int qemu_object_check(const struct qemu_object *o, struct error *err);

/* Calls fn for each fd. Stops at the first non-zero result and returns it. */
typedef int (*qemu_fd_fn)(void *ctx, struct qemu_fd *fd, struct error *err);
int qemu_object_each_fd(const struct qemu_object *o, qemu_fd_fn fn, void *ctx, struct error *err);

/* Sets a text; one that does not fit is refused. */
int qemu_set_text(char *field, size_t size, const char *text, struct error *err);

/* Sets an identifier: prefix and text. */
int qemu_set_id(char field[QEMU_ID_SIZE], const char *prefix, const char *text, struct error *err);

/* The index of text in words, or -EINVAL with err: "machine 'x' is unknown: q35". */
int qemu_word(const char *const *words, const char *what, const char *text, struct error *err);

/* ---- printing: objects in, strings out (qemu_print.c) ---- */

#define QEMU_ARGS_MAX 512

struct qemu_argv {
	size_t n;
	char *arg[QEMU_ARGS_MAX];
};

#define QEMU_ARGV_INIT { .n = 0 }

void qemu_argv_done(struct qemu_argv *argv);

enum qemu_form {
	QEMU_FORM_ARGV,    /* what QEMU gets */
	QEMU_FORM_CLASSIC, /* JSON objects as key=value too: for people */
	QEMU_FORM_QMP,	   /* as argv, but fds by name: what getfd has brought */
};

/* Appends the object's words. 0, -ENOMEM or -E2BIG. */
int qemu_object_print(const struct qemu_object *o, enum qemu_form form, struct qemu_argv *argv);

/*
 * The object of a JSON style switch: with QEMU_FORM_ARGV as the command line
 * has it, with QEMU_FORM_QMP as the arguments of netdev_add, device_add,
 * object-add, blockdev-add. The caller's; NULL: out of memory.
 */
struct json_object *qemu_object_json(const struct qemu_object *o, enum qemu_form form);
