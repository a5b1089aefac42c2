/* Payloads: protobuf that our own side would not write, and texts and numbers that mean trouble. */
#include "tests/proc/hostile.h"

#define WIRE_VARINT 0
#define WIRE_64	    1
#define WIRE_BYTES  2
#define WIRE_32	    5

#define FIELDS_MAX 16

/* A field of a payload, outermost level. All tags of ours are one byte. */
struct record {
	size_t at, len;
	unsigned field, wire;
};

static size_t varint(const uint8_t *p, size_t *ret)
{
	size_t n = 0, v = 0;

	do
		v |= (size_t)(p[n] & 0x7f) << (7 * n);
	while (p[n++] & 0x80);
	*ret = v;
	return n;
}

static size_t records(const struct hostile_packet *p, struct record *ret)
{
	const uint8_t *data = p->bytes + sizeof(p->hdr);
	size_t n = 0, at = 0, v;

	while (at < p->hdr.len) {
		struct record r = { .at = at, .field = data[at] >> 3, .wire = data[at] & 7 };

		CHECK(n < FIELDS_MAX && data[at] < 0x80);
		at += 1 + varint(data + at + 1, &v);
		if (r.wire == WIRE_BYTES)
			at += v;
		else
			CHECK_INT(r.wire, WIRE_VARINT);
		r.len = at - r.at;
		ret[n++] = r;
	}
	return n;
}

/* Puts these bytes in the place of a part of the payload. */
static void put(struct hostile_packet *p, size_t at, size_t len, const void *with, size_t with_len)
{
	uint8_t out[IPC_PACKET_MAX + 1024];
	const uint8_t *data = p->bytes + sizeof(p->hdr);
	size_t rest = p->hdr.len - at - len;

	CHECK(at + with_len + rest <= sizeof(out));
	memcpy(out, data, at);
	memcpy(out + at, with, with_len);
	memcpy(out + at + with_len, data + at + len, rest);
	hostile_set_payload(p, out, at + with_len + rest);
}

/* ---- forms that any payload can take ---- */

struct bytes {
	const char *data;
	size_t len;
};

#define SPOIL(name)                                                                         \
	static bool spoil_##name(struct hostile_packet *p, const struct ipc_message *row, \
		const void *arg)

SPOIL(append)
{
	const struct bytes *b = arg;

	(void)row;
	put(p, p->hdr.len, 0, b->data, b->len);
	return true;
}

SPOIL(prepend)
{
	const struct bytes *b = arg;

	(void)row;
	put(p, 0, 0, b->data, b->len);
	return true;
}

SPOIL(cut_one)
{
	(void)row, (void)arg;
	if (p->hdr.len == 0)
		return false;
	put(p, p->hdr.len - 1, 1, "", 0);
	return true;
}

/* All that fits of it, behind what is there. */
SPOIL(bomb)
{
	const struct bytes *b = arg;

	(void)row;
	while (p->hdr.len + b->len <= IPC_PAYLOAD_MAX)
		put(p, p->hdr.len, 0, b->data, b->len);
	return true;
}

SPOIL(empty)
{
	(void)row, (void)arg;
	if (p->hdr.len == 0)
		return false;
	hostile_set_payload(p, "", 0);
	return true;
}

/* The last field first. */
SPOIL(order)
{
	struct record r, all[FIELDS_MAX];
	uint8_t last[256];
	size_t n = records(p, all);

	(void)row, (void)arg;
	if (n < 2)
		return false;
	r = all[n - 1];
	CHECK(r.len <= sizeof(last));
	memcpy(last, p->bytes + sizeof(p->hdr) + r.at, r.len);
	put(p, r.at, r.len, "", 0);
	put(p, 0, 0, last, r.len);
	return true;
}

#define BYTES(text) &(const struct bytes){ text, sizeof(text) - 1 }

#define UNKNOWN	   "with unknown fields"
#define NO_MESSAGE "that is not a"
#define NOT_OURS   "in another encoding than ours"
#define UNDECODED  UNKNOWN "|" NO_MESSAGE "|" NOT_OURS

/* The decoder is called for every row... */
static const struct hostile_case every_row[] = {
	{ "payload", "fields in another order", NOT_OURS, HOSTILE_LOST, spoil_order, NULL, NULL },
	{ "C6", "nothing is set", NULL, HOSTILE_EITHER, spoil_empty, NULL, NULL },
	{ "C6", "a tag without an end", NO_MESSAGE, HOSTILE_LOST, spoil_append, BYTES("\xff"), NULL },
	{ "payload", "unknown varint", UNKNOWN, HOSTILE_LOST, spoil_append, BYTES("\x78\x01"), NULL },
};

/* ... and is the same for all. */
static const struct hostile_case any_row[] = {
	{ "payload", "unknown text", UNKNOWN, HOSTILE_LOST, spoil_append, BYTES("\x7a\x01x"), NULL },
	{ "payload", "unknown 32 bits", UNKNOWN, HOSTILE_LOST, spoil_append, BYTES("\x7d\1\2\3\4"),
		NULL },
	{ "payload", "unknown 64 bits", UNKNOWN, HOSTILE_LOST, spoil_append,
		BYTES("\x79\1\2\3\4\5\6\7\x8"), NULL },
	{ "payload", "the last field number", UNKNOWN, HOSTILE_LOST, spoil_append,
		BYTES("\xf8\xff\xff\xff\x0f\x01"), NULL },
	{ "payload", "unknown, first", UNKNOWN, HOSTILE_LOST, spoil_prepend, BYTES("\x78\x01"),
		NULL },
	{ "C4", "a group", UNDECODED, HOSTILE_LOST, spoil_append, BYTES("\x7b\x7c"), NULL },
	{ "C4", "wire type 6", UNDECODED, HOSTILE_LOST, spoil_append, BYTES("\x7e\x01"), NULL },
	{ "C4", "wire type 7", UNDECODED, HOSTILE_LOST, spoil_append, BYTES("\x7f\x01"), NULL },
	{ "C6", "tag 0", UNDECODED, HOSTILE_LOST, spoil_append, BYTES("\x00\x01"), NULL },
	{ "C6", "a varint of 11 bytes", UNDECODED, HOSTILE_LOST, spoil_append,
		BYTES("\x78\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), NULL },
	{ "C6", "a text longer than the rest", NO_MESSAGE, HOSTILE_LOST, spoil_append,
		BYTES("\x7a\x7fx"), NULL },
	{ "C6", "a text of 4 GiB", NO_MESSAGE, HOSTILE_LOST, spoil_append,
		BYTES("\x7a\xff\xff\xff\xff\x0fx"), NULL },
	{ "C6", "cut short", NO_MESSAGE, HOSTILE_LOST, spoil_cut_one, NULL, NULL },
	{ "C2", "unknown fields, all that fit", UNDECODED, HOSTILE_LOST, spoil_bomb,
		BYTES("\x78\x01"), NULL },
	{ "C2", "empty unknown texts, all that fit", UNDECODED, HOSTILE_LOST, spoil_bomb,
		BYTES("\x7a\x00"), NULL },
	{ "C4", "groups in groups, all that fit", UNDECODED, HOSTILE_LOST, spoil_bomb, BYTES("\x7b"),
		NULL },
};

/* ---- forms of one field ---- */

struct at {
	size_t i; /* of the record */
	const char *text;
};

static bool get_record(const struct hostile_packet *p, const void *arg, struct record *ret)
{
	struct record all[FIELDS_MAX];
	const struct at *at = arg;

	if (at->i >= records(p, all))
		return false;
	*ret = all[at->i];
	return true;
}

/* Another wire type than the field's, with a value that fits the wire type. */
SPOIL(wire)
{
	uint8_t with[] = { 0, 1, 0, 0, 0, 0, 0, 0, 0 };
	struct record r;
	(void)row;

	if (!get_record(p, arg, &r))
		return false;
	with[0] = (uint8_t)(r.field << 3 | WIRE_64);
	put(p, r.at, r.len, with, sizeof(with));
	return true;
}

SPOIL(wire_swapped)
{
	uint8_t with[] = { 0, 1, 'x' };
	struct record r;
	(void)row;

	if (!get_record(p, arg, &r))
		return false;
	with[0] = (uint8_t)(r.field << 3 | (r.wire == WIRE_BYTES ? WIRE_VARINT : WIRE_BYTES));
	put(p, r.at, r.len, with, r.wire == WIRE_BYTES ? 2 : 3);
	return true;
}

SPOIL(twice)
{
	struct record r;
	(void)row;

	if (!get_record(p, arg, &r))
		return false;
	put(p, r.at, 0, p->bytes + sizeof(p->hdr) + r.at, r.len);
	return true;
}

/* The tag in two bytes where one is enough. */
SPOIL(long_tag)
{
	uint8_t with[2];
	struct record r;
	(void)row;

	if (!get_record(p, arg, &r))
		return false;
	with[0] = (uint8_t)(r.field << 3 | r.wire | 0x80);
	with[1] = 0;
	put(p, r.at, 1, with, 2);
	return true;
}

/* The number, or the length, in two bytes. */
SPOIL(long_varint)
{
	uint8_t with[2] = { 0, 0 };
	struct record r;
	(void)row;

	if (!get_record(p, arg, &r))
		return false;
	with[0] = p->bytes[sizeof(p->hdr) + r.at + 1] | 0x80;
	CHECK(!(p->bytes[sizeof(p->hdr) + r.at + 1] & 0x80));
	put(p, r.at + 1, 1, with, 2);
	return true;
}

/* 0 or "", which nobody writes. */
static const ProtobufCFieldDescriptor *field_of(const struct hostile_packet *p,
	const struct ipc_message *row, unsigned number)
{
	const ProtobufCMessageDescriptor *d = p->hdr.kind == IPC_REQUEST ? row->request
		: p->hdr.kind == IPC_REPLY ? row->reply
					   : row->event;

	return protobuf_c_message_descriptor_get_field(d, number);
}

SPOIL(default_value)
{
	struct record r;
	uint8_t with[2] = { 0, 0 };

	/* A message without fields is still one that is there. */
	if (!get_record(p, arg, &r) ||
		field_of(p, row, r.field)->type == PROTOBUF_C_TYPE_MESSAGE)
		return false;
	with[0] = (uint8_t)(r.field << 3 | r.wire);
	put(p, r.at, r.len, with, 2);
	return true;
}

static bool is_repeated(const struct hostile_packet *p, const struct ipc_message *row, unsigned field)
{
	return field_of(p, row, field)->label == PROTOBUF_C_LABEL_REPEATED;
}

static bool is_of(const struct hostile_packet *p, const struct ipc_message *row,
	const struct record *r, ProtobufCType type)
{
	return field_of(p, row, r->field)->type == type;
}

/* A text with `insert` behind its first byte. */
SPOIL(text)
{
	const struct at *at = arg;
	size_t more = at->text ? strlen(at->text) : 1; /* NULL: a NUL */
	struct record r;
	uint8_t *len;

	if (!get_record(p, arg, &r) || !is_of(p, row, &r, PROTOBUF_C_TYPE_STRING))
		return false;
	put(p, r.at + r.len, 0, at->text ? at->text : "", more);
	len = p->bytes + sizeof(p->hdr) + r.at + 1;
	CHECK(*len + more < 0x80);
	*len = (uint8_t)(*len + more);
	return true;
}

/* The text fills the packet to its last byte. */
SPOIL(longest_text)
{
	static char xs[IPC_PACKET_MAX];
	struct record r;
	uint8_t head[4];
	size_t room;

	if (!get_record(p, arg, &r) || !is_of(p, row, &r, PROTOBUF_C_TYPE_STRING))
		return false;
	memset(xs, 'x', sizeof(xs));
	room = IPC_PAYLOAD_MAX - (p->hdr.len - r.len) - sizeof(head);
	head[0] = (uint8_t)(r.field << 3 | WIRE_BYTES);
	head[1] = (uint8_t)(room | 0x80);
	head[2] = (uint8_t)(room >> 7 | 0x80);
	head[3] = (uint8_t)(room >> 14);
	/* 16,384 is the first number that takes three bytes: else one byte less */
	if (room < 1 << 14) {
		head[2] &= 0x7f;
		room++;
		head[1] = (uint8_t)(room | 0x80);
		head[2] = (uint8_t)(room >> 7);
		put(p, r.at, r.len, head, 3);
		put(p, r.at + 3, 0, xs, room);
	} else {
		put(p, r.at, r.len, head, 4);
		put(p, r.at + 4, 0, xs, room);
	}
	CHECK_INT(p->len, IPC_PACKET_MAX);
	return true;
}

/* The largest number, negative for those that have a sign. */
SPOIL(largest)
{
	static const uint8_t max32[] = { 0xff, 0xff, 0xff, 0xff, 0x0f };
	static const uint8_t minus[] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1 };
	struct record r;
	bool wide;

	if (!get_record(p, arg, &r) || r.wire != WIRE_VARINT ||
		is_of(p, row, &r, PROTOBUF_C_TYPE_BOOL))
		return false;
	wide = !is_of(p, row, &r, PROTOBUF_C_TYPE_UINT32);
	put(p, r.at + 1, r.len - 1, wide ? minus : max32, wide ? sizeof(minus) : sizeof(max32));
	return true;
}

/* A uint32 of 2^32 + 1: cut by the decoder, so not what our side would write. */
SPOIL(too_wide)
{
	static const uint8_t with[] = { 0x81, 0x80, 0x80, 0x80, 0x10 };
	struct record r;

	if (!get_record(p, arg, &r) || !is_of(p, row, &r, PROTOBUF_C_TYPE_UINT32))
		return false;
	put(p, r.at + 1, r.len - 1, with, sizeof(with));
	return true;
}

SPOIL(bool_of_two)
{
	struct record r;
	(void)row;

	if (!get_record(p, arg, &r) || !is_of(p, row, &r, PROTOBUF_C_TYPE_BOOL))
		return false;
	put(p, r.at + 1, r.len - 1, "\x02", 1);
	return true;
}

/* An unknown field one level down. */
SPOIL(inner_unknown)
{
	struct record r;
	uint8_t *len;

	if (!get_record(p, arg, &r) || !is_of(p, row, &r, PROTOBUF_C_TYPE_MESSAGE))
		return false;
	put(p, r.at + r.len, 0, "\x78\x01", 2);
	len = p->bytes + sizeof(p->hdr) + r.at + 1;
	CHECK(*len + 2 < 0x80);
	*len = (uint8_t)(*len + 2);
	return true;
}

/* Empty ones, all that fit: 16 KiB that would be a hundred times as much. */
SPOIL(many)
{
	uint8_t with[2] = { 0, 0 };
	const struct bytes b = { (const char *)with, 2 };
	struct record r;

	if (!get_record(p, arg, &r) || r.wire != WIRE_BYTES || !is_repeated(p, row, r.field))
		return false;
	with[0] = (uint8_t)(r.field << 3 | WIRE_BYTES);
	return spoil_bomb(p, row, &b);
}

static const struct field_form {
	const char *attack, *what, *why;
	enum hostile_outcome want;
	bool (*spoil)(struct hostile_packet *p, const struct ipc_message *row, const void *arg);
	const char *text;
	bool not_repeated; /* of a repeated field it is valid */
} decoder_forms[] = {
	{ "payload", "64 bits", UNDECODED, HOSTILE_LOST, spoil_wire, NULL, false },
	{ "payload", "number and text changed", UNDECODED, HOSTILE_LOST, spoil_wire_swapped, NULL,
		false },
	{ "payload", "twice", NOT_OURS, HOSTILE_LOST, spoil_twice, NULL, true },
	{ "payload", "a long tag", NOT_OURS, HOSTILE_LOST, spoil_long_tag, NULL, false },
	{ "payload", "a long number", NOT_OURS, HOSTILE_LOST, spoil_long_varint, NULL, false },
	{ "payload", "written though it is not set", NOT_OURS, HOSTILE_LOST, spoil_default_value,
		NULL, true },
	{ "payload", "a bool of 2", NOT_OURS, HOSTILE_LOST, spoil_bool_of_two, NULL, false },
	{ "payload", "too wide", NOT_OURS, HOSTILE_LOST, spoil_too_wide, NULL, false },
	{ "payload", "unknown, one level down", UNKNOWN, HOSTILE_LOST, spoil_inner_unknown, NULL,
		false },
}, field_forms[] = {
	{ "C3", "empty ones, all that fit", NULL, HOSTILE_EITHER, spoil_many, NULL, false },
	{ "A8", "a NUL at its end", NOT_OURS, HOSTILE_LOST, spoil_text, NULL, false },
	{ "A8", "no UTF-8", NULL, HOSTILE_EITHER, spoil_text, "\xff\xc0\x80\xed\xa0\x80", false },
	{ "A8", "escapes and newlines", NULL, HOSTILE_EITHER, spoil_text, "\n<3>\x1b[31m\r", false },
	{ "A8", "..", NULL, HOSTILE_EITHER, spoil_text, "/../../../../etc", false },
	{ "A8", "all that fits", NULL, HOSTILE_EITHER, spoil_longest_text, NULL, false },
	{ "A9", "the largest number", NULL, HOSTILE_EITHER, spoil_largest, NULL, false },
};

/* 1: the case has run. */
static unsigned one_form(const struct hostile_target *t, const struct ipc_message *row,
	const struct hostile_packet *good, const struct record *r, size_t i,
	const struct field_form *f)
{
	const struct at at = { i, f->text };
	char what[128];
	const struct hostile_case c = { f->attack, what, f->why, f->want, f->spoil, &at, NULL };

	if (f->not_repeated && is_repeated(good, row, r->field))
		return 0;
	snprintf(what, sizeof(what), "%s: %s", field_of(good, row, r->field)->name, f->what);
	return (unsigned)hostile_case(t, row, &c);
}

/* What the decoder refuses, once for each row, in a field that can have it; the rest for each field. */
static unsigned fields(const struct hostile_target *t, const struct ipc_message *row)
{
	static struct hostile_packet good;
	struct record all[FIELDS_MAX];
	size_t n, at = 0;
	unsigned ran = 0;

	hostile_good(t, row, 1, &good);
	hostile_packet_done(&good);
	n = records(&good, all);
	for (size_t k = 0; k < ARRAY_SIZE(decoder_forms); k++) {
		unsigned one = 0;

		for (size_t i = 0; i < n && !one; i++, at = (at + 1) % n)
			one = one_form(t, row, &good, &all[at], at, &decoder_forms[k]);
		ran += one;
	}
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(field_forms); k++)
			ran += one_form(t, row, &good, &all[i], i, &field_forms[k]);
	return ran;
}

void hostile_payloads(const struct hostile_target *t)
{
	unsigned n = hostile_in_turn(t, any_row, ARRAY_SIZE(any_row), NULL);

	size_t end = t->end_row ? t->end_row : t->channel->n_messages;

	for (size_t i = t->first_row; i < end; i++) {
		const struct ipc_message *row = &t->channel->messages[i];

		if (!hostile_may_send(t, row))
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(every_row); k++)
			n += (unsigned)hostile_case(t, row, &every_row[k]);
		n += fields(t, row);
	}
	printf("         %s: %u cases of payloads\n", t->name, n);
	CHECK(n > 0);
}
