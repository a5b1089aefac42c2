#include "ipc/exits.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct exit_record *exits_find(struct exits *e, const char *id)
{
	for (size_t i = 0; i < e->n; i++)
		if (strcmp(e->record[i].id, id) == 0)
			return &e->record[i];
	return NULL;
}

int exits_set(struct exits *e, const char *id, uint32_t status, int64_t exited_at_ns,
	struct error *err)
{
	struct exit_record *r;

	if (!id_is_valid(id))
		return error_set(err, EINVAL, "a container id that is none");
	if (status > UINT8_MAX || exited_at_ns < 0)
		return error_set(err, EINVAL, "%s: status %u at %lld ns is not an exit", id, status,
			(long long)exited_at_ns);
	r = exits_find(e, id);
	if (!r) {
		if (e->n == EXITS_MAX)
			return error_set(err, ENOSPC, "%s: %d exits are recorded, no more fit", id,
				EXITS_MAX);
		r = &e->record[e->n++];
		strcpy(r->id, id);
	}
	r->status = (uint8_t)status;
	r->exited_at_ns = exited_at_ns;
	return 0;
}

int exits_remove(struct exits *e, const char *id)
{
	struct exit_record *r = exits_find(e, id);
	size_t at;

	if (!r)
		return 0;
	at = (size_t)(r - e->record);
	e->n--;
	memmove(r, r + 1, (e->n - at) * sizeof(*r));
	return 1;
}

/* Decimal, no sign, no leading zero, at most max. */
static int parse_number(const char *text, size_t len, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;

	if (len == 0 || (len > 1 && text[0] == '0'))
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		unsigned digit = (unsigned)(text[i] - '0');

		if (digit > 9 || value > (max - digit) / 10)
			return -EINVAL;
		value = value * 10 + digit;
	}
	*ret = value;
	return 0;
}

/* One line without its end: three words with one space between them. */
static int parse_line(const char *line, size_t len, struct exit_record *ret)
{
	const char *end = line + len;
	const char *status = memchr(line, ' ', len), *time;
	uint64_t number;

	if (!status || !id_is_valid_n(line, (size_t)(status - line)))
		return -EINVAL;
	memcpy(ret->id, line, (size_t)(status - line));
	ret->id[status - line] = '\0';

	status++;
	time = memchr(status, ' ', (size_t)(end - status));
	if (!time || parse_number(status, (size_t)(time - status), UINT8_MAX, &number) < 0)
		return -EINVAL;
	ret->status = (uint8_t)number;

	time++;
	if (parse_number(time, (size_t)(end - time), INT64_MAX, &number) < 0)
		return -EINVAL;
	ret->exited_at_ns = (int64_t)number;
	return 0;
}

static int parse_text(const char *text, size_t len, struct exits *e, struct error *err)
{
	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		struct exit_record *r = &e->record[e->n];

		if (e->n == EXITS_MAX)
			return error_set(err, EFBIG, "%s: more than %d lines", EXITS_FILE,
				EXITS_MAX);
		if (!end || parse_line(text, (size_t)(end - text), r) < 0)
			return error_set(err, EINVAL, "%s:%zu: not a recorded exit", EXITS_FILE,
				e->n + 1);
		/* The new one is not counted yet: this finds only an earlier one. */
		if (exits_find(e, r->id))
			return error_set(err, EINVAL, "%s:%zu: '%s' is there twice", EXITS_FILE,
				e->n + 1, r->id);
		e->n++;
		len -= (size_t)(end + 1 - text);
		text = end + 1;
	}
	return 0;
}

int exits_parse(const char *text, size_t len, struct exits *ret, struct error *err)
{
	_cleanup_free_ struct exits *e = NULL;
	int r;

	if (len > EXITS_FILE_MAX)
		return error_set(err, EFBIG, "%s: %zu bytes, the limit is %u", EXITS_FILE, len,
			EXITS_FILE_MAX);
	e = calloc(1, sizeof(*e));
	if (!e)
		return error_errno(err, ENOMEM, "%s", EXITS_FILE);
	r = parse_text(text, len, e, err);
	if (r == 0)
		*ret = *e;
	return r;
}

int exits_format(const struct exits *e, char *text, size_t size)
{
	size_t len = 0;

	if (size == 0)
		return -ENOSPC;
	text[0] = '\0';
	for (size_t i = 0; i < e->n; i++) {
		const struct exit_record *r = &e->record[i];
		int n = snprintf(text + len, size - len, "%s %u %lld\n", r->id, r->status,
			(long long)r->exited_at_ns);

		if (n < 0 || (size_t)n >= size - len)
			return -ENOSPC;
		len += (size_t)n;
	}
	return (int)len;
}
