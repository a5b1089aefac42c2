/*
 * For the files that define objects: the rows of a table of fields, and what
 * a qemu_cmdline_add_...() is made of.
 */
#pragma once

#include "vmmd/qemu_cmdline.h"

#define FIELD(s, m, k, t, ...)                                                                     \
	{ .key = (k), .type = QEMU_FIELD_##t, .offset = offsetof(struct s, m), __VA_ARGS__ }
#define TEXT(s, m, k, ...)    FIELD(s, m, k, TEXT, .size = sizeof(((struct s *)0)->m), __VA_ARGS__)
#define WORD(s, m, k, w, ...) FIELD(s, m, k, ENUM, .words = (w), __VA_ARGS__)
#define FIXED(k, text, ...)   { .key = (k), .type = QEMU_FIELD_FIXED, .fixed = (text), __VA_ARGS__ }
#define RANGE(lo, hi)         .min = (lo), .max = (hi)
#define OPTIONAL              .optional = true
#define ONLY_PCI              .only = 1U << QEMU_TRANSPORT_PCI
/* virtio-mmio has no ioeventfd but with KVM, and QEMU refuses a thread without. */
#define NOT_MMIO              .only = 1U << QEMU_TRANSPORT_PCI | 1U << QEMU_TRANSPORT_CCW
#define ONLY_CCW              .only = 1U << QEMU_TRANSPORT_CCW

#define CLASS(s, ...)                                                                              \
	const struct qemu_class s##_class = { .fields = s##_fields, .size = sizeof(struct s),      \
		__VA_ARGS__ }
#define OBJECT(t) .name = "object", .style = QEMU_STYLE_JSON, .type_key = "qom-type", .type = (t)
#define DEVICE(t) .name = "device", .style = QEMU_STYLE_JSON, .type_key = "driver", .type = (t)

/* An object at the end of the line; it is c's. NULL: out of memory. */
void *qemu_cmdline_new(struct qemu_cmdline *c, const struct qemu_class *class, struct error *err);

/* Gives the object's fds the next numbers and checks all its values. */
int qemu_cmdline_finish(struct qemu_cmdline *c, struct qemu_object *o, struct error *err);
