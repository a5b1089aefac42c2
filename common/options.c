#include "common/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAX_OPTIONS 64

static int parse_number(const char *key, const char *text, uint64_t *ret, struct error *err)
{
	unsigned long long value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)text[0]) || *end || errno)
		return error_set(err, EINVAL, "%s=%s is not a number", key, text);
	*ret = value;
	return 0;
}

static int set_value(const struct option *o, const char *text, bool seen, struct error *err)
{
	if (o->type == OPTION_LIST) {
		struct option_list *list = o->value;

		if (list->n == OPTION_LIST_MAX)
			return error_set(err, E2BIG, "more than %d times %s", OPTION_LIST_MAX,
				o->key);
		list->item[list->n++] = text;
		return 0;
	}
	if (seen)
		return error_set(err, EINVAL, "%s is given twice", o->key);
	if (o->type == OPTION_NUMBER)
		return parse_number(o->key, text, o->value, err);
	*(const char **)o->value = text;
	return 0;
}

int options_parse(const struct option *table, int argc, char **argv, struct error *err)
{
	bool seen[MAX_OPTIONS] = { false };
	size_t n = 0;

	while (table[n].key)
		n++;
	if (n > MAX_OPTIONS)
		return error_set(err, EINVAL, "the option table has more than %d rows",
			MAX_OPTIONS);

	for (int i = 1; i < argc; i++) {
		const char *eq = strchr(argv[i], '=');
		size_t len = eq ? (size_t)(eq - argv[i]) : 0;
		size_t k;
		int r;

		for (k = 0; k < n; k++)
			if (eq && strlen(table[k].key) == len &&
				memcmp(table[k].key, argv[i], len) == 0)
				break;
		if (k == n)
			return error_set(err, EINVAL, "unknown option '%s'", argv[i]);
		r = set_value(&table[k], eq + 1, seen[k], err);
		if (r < 0)
			return r;
		seen[k] = true;
	}

	for (size_t k = 0; k < n; k++)
		if (!seen[k] && !table[k].optional)
			return error_set(err, EINVAL, "option '%s' is missing", table[k].key);
	return 0;
}
