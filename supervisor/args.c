#include "supervisor/args.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *name;
	size_t offset; /* of a const char * in struct args; NO_VALUE: a switch */
} flags[] = {
#define TEXT(flag, member) { flag, offsetof(struct args, member) }
#define NO_VALUE	   ((size_t)-1)
	TEXT("namespace", namespace),
	TEXT("id", id),
	TEXT("address", address),
	TEXT("bundle", bundle),
	{ "publish-binary", NO_VALUE - 1 }, /* accepted; events go through TTRPC_ADDRESS */
	{ "socket", NO_VALUE - 1 },
	{ "debug", NO_VALUE },
	{ "v", NO_VALUE },
	{ "version", NO_VALUE },
	{ "info", NO_VALUE },
};

static int set_switch(struct args *a, const char *name)
{
	if (strcmp(name, "debug") == 0)
		a->debug = true;
	else if (strcmp(name, "info") == 0)
		a->action = ACTION_INFO;
	else
		a->action = ACTION_VERSION;
	return 0;
}

/* One flag at argv[*i]; moves *i over a value of its own. */
static int parse_flag(int argc, char **argv, int *i, struct args *a, struct error *err)
{
	const char *word = argv[*i] + (argv[*i][1] == '-' ? 2 : 1);
	const char *eq = strchr(word, '=');
	size_t len = eq ? (size_t)(eq - word) : strlen(word);
	const char *value = eq ? eq + 1 : NULL;

	for (size_t k = 0; k < ARRAY_SIZE(flags); k++) {
		if (strlen(flags[k].name) != len || memcmp(flags[k].name, word, len) != 0)
			continue;
		if (flags[k].offset == NO_VALUE)
			return set_switch(a, flags[k].name);
		if (!value && *i + 1 >= argc)
			return error_set(err, EINVAL, "flag -%s needs a value", flags[k].name);
		if (!value)
			value = argv[++*i];
		if (flags[k].offset < sizeof(*a))
			*(const char **)((char *)a + flags[k].offset) = value;
		return 0;
	}
	return error_set(err, EINVAL, "unknown flag %s", argv[*i]);
}

static int parse_action(const char *word, struct args *a, struct error *err)
{
	if (strcmp(word, "start") == 0)
		a->action = ACTION_START;
	else if (strcmp(word, "delete") == 0)
		a->action = ACTION_DELETE;
	else
		return error_set(err, EINVAL, "unknown action '%s': start or delete", word);
	return 0;
}

int args_parse(int argc, char **argv, struct args *ret, struct error *err)
{
	struct args a = { .namespace = "", .id = "", .address = "", .bundle = "" };
	int r;

	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '-' && argv[i][1])
			r = parse_flag(argc, argv, &i, &a, err);
		else
			r = parse_action(argv[i], &a, err);
		if (r < 0)
			return r;
	}
	if (a.action == ACTION_NONE)
		return error_set(err, EINVAL,
			"this is a containerd shim: containerd runs it with start or delete");
	if (a.action == ACTION_START || a.action == ACTION_DELETE) {
		if (!id_is_valid(a.id))
			return error_set(err, EINVAL, "-id '%s' is not an id containerd gives",
				a.id);
		if (!id_is_valid(a.namespace))
			return error_set(err, EINVAL, "-namespace '%s' is not one containerd gives",
				a.namespace);
	}
	*ret = a;
	return 0;
}
