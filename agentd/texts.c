#include "agentd/texts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ipc/tables.h"

struct text {
	struct text *next;
	uint32_t number;
	char *data;
	size_t len;
};

static struct text **find(struct texts *t, uint32_t number)
{
	struct text **at = &t->first;

	while (*at && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

static int add_new(struct texts *t, uint32_t number, struct text **ret, struct error *err)
{
	struct text *text;

	if (t->n == TEXTS_MAX)
		return error_set(err, EPROTO, "%d texts that nobody asked for", TEXTS_MAX);
	text = calloc(1, sizeof(*text));
	if (!text)
		return error_errno(err, ENOMEM, "text %u", number);
	text->number = number;
	text->next = t->first;
	t->first = text;
	t->n++;
	*ret = text;
	return 0;
}

int texts_add(struct texts *t, uint32_t number, const void *data, size_t len, struct error *err)
{
	struct text *text = *find(t, number);
	char *longer;
	int r;

	if (len > AGENTD_TEXT_MAX - (text ? text->len : 0))
		return error_set(err, EPROTO, "text %u is longer than %zu bytes", number,
			AGENTD_TEXT_MAX);
	if (len > TEXTS_BYTES_MAX - t->bytes)
		return error_set(err, ENOBUFS, "too many bytes of texts wait");
	if (!text) {
		r = add_new(t, number, &text, err);
		if (r < 0)
			return r;
	}
	longer = realloc(text->data, text->len + len + 1);
	if (!longer)
		return error_errno(err, ENOMEM, "text %u", number);
	text->data = longer;
	if (len > 0)
		memcpy(longer + text->len, data, len);
	text->len += len;
	longer[text->len] = '\0';
	t->bytes += len;
	return 0;
}

char *texts_take(struct texts *t, uint32_t number, size_t *ret_len)
{
	struct text **at = find(t, number), *text = *at;
	char *data;

	if (!text)
		return NULL;
	*at = text->next;
	t->n--;
	t->bytes -= text->len;
	data = text->data;
	if (ret_len)
		*ret_len = text->len;
	free(text);
	return data;
}

void texts_done(struct texts *t)
{
	while (t->first)
		free(texts_take(t, t->first->number, NULL));
}
