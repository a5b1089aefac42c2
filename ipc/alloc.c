#include "ipc/alloc.h"

#include <stdlib.h>

struct budget {
	size_t left;
};

static void *capped_alloc(void *data, size_t size)
{
	struct budget *b = data;

	/* What malloc adds counts too: the bombs are made of empty things. */
	size += 16;
	if (size > b->left)
		return NULL;
	b->left -= size;
	return malloc(size - 16);
}

static void capped_free(void *data, void *p)
{
	(void)data;
	free(p);
}

ProtobufCMessage *capped_unpack(const ProtobufCMessageDescriptor *d, size_t len,
	const uint8_t *data, size_t max)
{
	struct budget b = { .left = max };
	ProtobufCAllocator a = {
		.alloc = capped_alloc,
		.free = capped_free,
		.allocator_data = &b,
	};

	return protobuf_c_message_unpack(d, &a, len, data);
}

static bool field_has_unknown(const ProtobufCMessage *msg, const ProtobufCFieldDescriptor *f)
{
	const char *member = (const char *)msg + f->offset;
	ProtobufCMessage *const *one;
	size_t n;

	if (f->type != PROTOBUF_C_TYPE_MESSAGE)
		return false;
	if (f->label != PROTOBUF_C_LABEL_REPEATED) {
		/* A member of a oneof shares its place with the others. */
		if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) &&
			*(const int *)((const char *)msg + f->quantifier_offset) != (int)f->id)
			return false;
		one = (ProtobufCMessage *const *)member;
		return *one && message_has_unknown_fields(*one);
	}
	n = *(const size_t *)((const char *)msg + f->quantifier_offset);
	one = *(ProtobufCMessage *const *const *)member;
	for (size_t i = 0; i < n; i++)
		if (message_has_unknown_fields(one[i]))
			return true;
	return false;
}

bool message_has_unknown_fields(const ProtobufCMessage *msg)
{
	if (msg->n_unknown_fields > 0)
		return true;
	for (unsigned i = 0; i < msg->descriptor->n_fields; i++)
		if (field_has_unknown(msg, &msg->descriptor->fields[i]))
			return true;
	return false;
}
