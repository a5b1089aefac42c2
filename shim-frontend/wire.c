#include "shim-frontend/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fdio.h"

/* Of all inbufs, beyond INBUF_MIN each. */
static size_t inbuf_total;

void outbuf_done(struct outbuf *b)
{
	free(b->data);
	*b = (struct outbuf){ 0 };
}

static uint8_t *outbuf_room(struct outbuf *b, size_t n)
{
	if (b->off == b->len)
		b->off = b->len = 0;
	if (b->cap - b->len < n && b->off > 0) {
		memmove(b->data, b->data + b->off, b->len - b->off);
		b->len -= b->off;
		b->off = 0;
	}
	if (b->cap - b->len < n) {
		size_t cap = b->cap ? b->cap * 2 : 512;

		while (cap - b->len < n)
			cap *= 2;
		b->data = realloc(b->data, cap);
		if (!b->data)
			abort();
		b->cap = cap;
	}
	return b->data + b->len;
}

void outbuf_frame(struct outbuf *b, enum ttrpc_type type, uint32_t stream,
	const ProtobufCMessage *msg)
{
	size_t len = msg ? protobuf_c_message_get_packed_size(msg) : 0;
	const struct ttrpc_header h = {
		.length = (uint32_t)len,
		.stream = stream,
		.type = (uint8_t)type,
	};
	uint8_t *p = outbuf_room(b, TTRPC_HEADER_LEN + len);

	ttrpc_header_write(&h, p);
	if (msg)
		protobuf_c_message_pack(msg, p + TTRPC_HEADER_LEN);
	b->len += TTRPC_HEADER_LEN + len;
}

int outbuf_flush(struct outbuf *b, int fd)
{
	while (b->off < b->len) {
		ssize_t n = fd_send(fd, b->data + b->off, b->len - b->off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		b->off += (size_t)n;
	}
	/* A burst (1,000 waiters) does not stay in memory. */
	if (b->cap > 16384)
		outbuf_done(b);
	return 0;
}

static size_t beyond_min(size_t cap)
{
	return cap > INBUF_MIN ? cap - INBUF_MIN : 0;
}

void inbuf_done(struct inbuf *b)
{
	inbuf_total -= beyond_min(b->cap);
	free(b->data);
	*b = (struct inbuf){ 0 };
}

static bool inbuf_grow(struct inbuf *b, size_t cap)
{
	if (inbuf_total + beyond_min(cap) - beyond_min(b->cap) > INBUF_TOTAL_MAX)
		return false;
	inbuf_total += beyond_min(cap) - beyond_min(b->cap);
	b->data = realloc(b->data, cap);
	if (!b->data)
		abort();
	b->cap = cap;
	return true;
}

int inbuf_fill(struct inbuf *b, int fd)
{
	struct iovec iov;
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (b->off == b->len) {
		uint64_t skip = b->skip;

		if (b->cap > INBUF_MIN)
			inbuf_done(b);
		b->off = b->len = 0;
		b->skip = skip;
	}
	if (!b->data)
		inbuf_grow(b, INBUF_MIN);
	if (b->off > 0) {
		memmove(b->data, b->data + b->off, b->len - b->off);
		b->len -= b->off;
		b->off = 0;
	}
	iov.iov_base = b->data + b->len;
	iov.iov_len = b->cap - b->len;
	do
		n = recvmsg(fd, &mh, MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	b->len += (size_t)n;
	return (int)n;
}

/* The header at off is consumed, its data will be as it comes. */
static int refuse(struct inbuf *b, const struct ttrpc_header *h, int code)
{
	b->skip = h->length;
	b->off += TTRPC_HEADER_LEN;
	return code;
}

int inbuf_frame(struct inbuf *b, size_t max, struct ttrpc_header *h, const uint8_t **data)
{
	size_t have = b->len - b->off, need;

	if (b->skip > 0) {
		size_t n = have < b->skip ? have : (size_t)b->skip;

		b->off += n;
		b->skip -= n;
		have -= n;
	}
	if (have < TTRPC_HEADER_LEN)
		return 0;
	*h = ttrpc_header_read(b->data + b->off);
	if (h->length > max)
		return refuse(b, h, -EMSGSIZE);
	need = TTRPC_HEADER_LEN + h->length;
	if (have < need) {
		size_t cap = 2 * b->cap < need ? 2 * b->cap : need;

		if (have == b->cap && !inbuf_grow(b, cap))
			return refuse(b, h, -ENOBUFS);
		return 0;
	}
	*data = b->data + b->off + TTRPC_HEADER_LEN;
	b->off += need;
	return 1;
}

bool inbuf_partial(const struct inbuf *b)
{
	return b->skip > 0 || b->len > b->off;
}

/* The length of the UTF-8 sequence at p, 0 when it is none, or a NUL. */
static size_t utf8_length(const uint8_t *p, size_t left)
{
	static const uint32_t least[] = { 0, 1, 0x80, 0x800, 0x10000 };
	size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	uint32_t c;

	if (n == 0 || n > left || p[0] > 0xf4)
		return 0;
	c = n == 1 ? p[0] : p[0] & (0xffU >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return 0;
	return n;
}

static bool text_ok(const uint8_t *p, size_t len)
{
	while (len > 0) {
		size_t n = utf8_length(p, len);

		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

static bool varint(const uint8_t **p, const uint8_t *end, uint64_t *ret)
{
	uint64_t v = 0;

	for (unsigned shift = 0; shift < 64 && *p < end; shift += 7) {
		uint8_t byte = *(*p)++;

		v |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80)) {
			*ret = v;
			return true;
		}
	}
	return false;
}

/* The depth is bounded by the schema: no message of ours contains itself. */
bool wire_strings_ok(const ProtobufCMessageDescriptor *d, const uint8_t *data, size_t len)
{
	/* An empty message may have no address, and nothing may be added to that. */
	const uint8_t *p = data, *end = len > 0 ? data + len : data;

	while (p < end) {
		const ProtobufCFieldDescriptor *f;
		uint64_t tag, n = 0;

		if (!varint(&p, end, &tag))
			return false;
		switch (tag & 7) {
		case PROTOBUF_C_WIRE_TYPE_VARINT:
			if (!varint(&p, end, &n))
				return false;
			continue;
		case PROTOBUF_C_WIRE_TYPE_64BIT:
			n = 8;
			break;
		case PROTOBUF_C_WIRE_TYPE_32BIT:
			n = 4;
			break;
		case PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED:
			if (!varint(&p, end, &n))
				return false;
			break;
		default:
			return false;
		}
		if (n > (uint64_t)(end - p))
			return false;
		f = tag >> 3 > UINT32_MAX
			? NULL
			: protobuf_c_message_descriptor_get_field(d, (unsigned)(tag >> 3));
		if (f && f->type == PROTOBUF_C_TYPE_STRING && !text_ok(p, (size_t)n))
			return false;
		if (f && f->type == PROTOBUF_C_TYPE_MESSAGE &&
			!wire_strings_ok(f->descriptor, p, (size_t)n))
			return false;
		p += n;
	}
	return true;
}

void wire_clean(char *text)
{
	for (; *text; text++)
		if (*text < 0x20 || *text > 0x7e)
			*text = '?';
}
