/*
 * Protobuf bombs: what a legal message may cost, and that the cap holds. The
 * messages are of our own channels; the effects are protobuf-c's.
 */
#include <malloc.h>

#include "ipc/alloc.h"
#include "ipc/common.pb-c.h"
#include "ipc/mountd.pb-c.h"
#include "ipc/persistd.pb-c.h"
#include "tests/lib/test.h"

#define BOMB (4U << 20)
#define CAP  (64U << 20)

/* unit, again and again, as long as it fits. The caller's. */
static uint8_t *repeat(const void *unit, size_t unit_len, size_t total, size_t *ret_len)
{
	uint8_t *data = malloc(total);
	size_t n = total / unit_len;

	CHECK(data);
	for (size_t i = 0; i < n; i++)
		memcpy(data + i * unit_len, unit, unit_len);
	*ret_len = n * unit_len;
	return data;
}

static size_t allocated(void)
{
#ifdef __SANITIZE_ADDRESS__
	return 0; /* LeakSanitizer looks */
#else
	struct mallinfo2 m = mallinfo2();

	return m.uordblks + m.hblkhd;
#endif
}

/* malloc keeps some small blocks at hand, which count as allocated. */
static bool none_left(size_t before)
{
	return allocated() <= before + 16384;
}

static bool unpacks(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t len,
	size_t max)
{
	ProtobufCMessage *m = capped_unpack(d, len, data, max);

	if (m)
		protobuf_c_message_free_unpacked(m, NULL);
	return m != NULL;
}

static void bomb(const ProtobufCMessageDescriptor *d, const char *unit, size_t unit_len)
{
	size_t len, before;
	uint8_t *data = repeat(unit, unit_len, BOMB, &len);

	before = allocated();
	CHECK(!unpacks(d, data, len, CAP));
	CHECK(!unpacks(d, data, len, 1));
	CHECK(none_left(before));
	/* What is refused is the size, not the form. */
	CHECK(unpacks(d, data, unit_len * 100, CAP));
	CHECK(none_left(before));
	free(data);
}

TEST(unknown_fields_60_times)
{
	/* field 15, varint 0 */
	bomb(&ipc__persistd_record__descriptor, "\x78\x00", 2);
}

TEST(empty_submessages_92_times)
{
	bomb(&ipc__mountd_add_container__descriptor, "\x1a\x00", 2);
}

TEST(empty_repeated_strings_52_times)
{
	bomb(&ipc__mountd_add_container__mount__descriptor, "\x1a\x00", 2);
}

TEST(bombs_inside_a_submessage)
{
	/* One rootfs entry with 4 MiB of empty options. */
	size_t inner, len;
	uint8_t *options = repeat("\x1a\x00", 2, BOMB - 64, &inner);
	uint8_t *data = malloc(inner + 16);
	size_t before = allocated();

	CHECK(data);
	len = 0;
	data[len++] = 0x1a;
	for (size_t v = inner; v; v >>= 7)
		data[len++] = (uint8_t)((v & 0x7f) | (v >= 0x80 ? 0x80 : 0));
	memcpy(data + len, options, inner);
	CHECK(!unpacks(&ipc__mountd_add_container__descriptor, data, len + inner, CAP));
	CHECK(none_left(before));
	free(data);
	free(options);
}

/* 32 times, if the text were long: each one is freed again, the budget is not given back. */
TEST(one_string_again_and_again)
{
	char unit[2 + 100] = "\x0a\x64";

	memset(unit + 2, 'x', 100);
	size_t len, before;
	uint8_t *data = repeat(unit, sizeof(unit), 1U << 20, &len);

	before = allocated();
	CHECK(!unpacks(&ipc__mountd_add_container__mount__descriptor, data, len, 1U << 20));
	CHECK(none_left(before));
	free(data);
}

TEST(every_budget_is_refused_cleanly)
{
	/* Running out at every allocation there is, one after the other. */
	static const uint8_t data[] = { 0x08, 1, 0x12, 1, 'b', 0x1a, 9, 0x0a, 1, 't', 0x12, 1, 's',
		0x1a, 1, 'o', 0x1a, 2, 0x1a, 0, 0x78, 0, 0x7a, 1, 'u' };
	const ProtobufCMessageDescriptor *d = &ipc__mountd_add_container__descriptor;
	size_t before = allocated(), good = 0;

	for (size_t max = 0; max < 2000; max++) {
		bool ok = unpacks(d, data, 20, max);

		CHECK(ok || !good); /* more never hurts */
		good += ok;
		unpacks(d, data, sizeof(data), max);
		CHECK(none_left(before));
	}
	CHECK(good > 0);
}

TEST(what_is_no_message)
{
	static const struct {
		const char *data;
		size_t len;
	} bad[] = {
		{ "\x80", 1 },					    /* half a tag */
		{ "\x08", 1 },					    /* no value */
		{ "\x08\x80", 2 },				    /* half a varint */
		{ "\x12\x05" "abc", 5 },			    /* longer than the rest */
		{ "\x12\xff\xff\xff\xff\x0f", 6 },		    /* 4 GiB */
		{ "\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11 },
		{ "\x00\x00", 2 },				    /* field 0 */
		{ "\x7b\x7c", 2 },				    /* groups */
		{ "\x7d\x00\x00", 3 },				    /* half a fixed32 */
		{ "\x79\x00\x00\x00\x00", 5 },			    /* half a fixed64 */
		{ "\x1a\x01\x80", 3 },				    /* a bad submessage */
	};
	size_t before = allocated();

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (unpacks(&ipc__mountd_add_container__descriptor, (const uint8_t *)bad[i].data,
			    bad[i].len, CAP))
			test_fail(__FILE__, __LINE__, "number %zu was taken", i);
	CHECK(none_left(before));
}

TEST(nested_groups_do_not_recurse)
{
	size_t len;
	uint8_t *data = repeat("\x7b", 1, 1U << 20, &len);

	CHECK(!unpacks(&ipc__mountd_add_container__descriptor, data, len, CAP));
	free(data);
}

static bool unknown(const ProtobufCMessageDescriptor *d, const char *data, size_t len)
{
	ProtobufCMessage *m = capped_unpack(d, len, (const uint8_t *)data, CAP);
	bool r;

	CHECK(m);
	r = message_has_unknown_fields(m);
	protobuf_c_message_free_unpacked(m, NULL);
	return r;
}

TEST(unknown_fields_are_seen)
{
	const ProtobufCMessageDescriptor *d = &ipc__mountd_add_container__descriptor;

	CHECK(!unknown(d, "", 0));
	CHECK(!unknown(d, "\x08\x01", 2));
	CHECK(!unknown(d, "\x1a\x00\x1a\x03\x0a\x01t", 7));
	CHECK(unknown(d, "\x78\x00", 2));
	CHECK(unknown(d, "\x1a\x02\x78\x00", 4));	      /* inside the first */
	CHECK(unknown(d, "\x1a\x00\x1a\x02\x78\x00", 6));     /* inside the second */
	CHECK(unknown(&ipc__empty__descriptor, "\x08\x00", 2));
}
