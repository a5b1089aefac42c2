#include "common/policy.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/netlink.h>
#include <linux/vhost.h>
#include <linux/wireless.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define MAX_INCLUDES 4
#define MAX_LINE     1024
#define MAX_VALUES   64

#include "common/policy_constants.h"

#define P(name) extern const char policy_##name[];
#include "seccomp-profiles/policies.list"
#undef P

static const struct {
	const char *name;
	const char *text;
} policies[] = {
#define P(name) { #name, policy_##name },
#include "seccomp-profiles/policies.list"
#undef P
};

const char *policy_text(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(policies); i++)
		if (strcmp(policies[i].name, name) == 0)
			return policies[i].text;
	return NULL;
}

/* A policy being read: where we are, for the sentence, and who gets the rules. */
struct walk {
	const char *file;
	unsigned line;
	unsigned depth;
	policy_rule_fn fn;
	void *ctx;
};

static int bad_line(const struct walk *w, struct error *err, const char *what, const char *word)
{
	return error_set(err, EINVAL, "%s.policy:%u: %s '%s'", w->file, w->line, what, word);
}

static int constant(const char *word, size_t len, uint64_t *ret)
{
	char text[64];
	char *end;

	if (len == 0 || len >= sizeof(text))
		return -EINVAL;
	memcpy(text, word, len);
	text[len] = '\0';
	if (isdigit((unsigned char)text[0])) {
		errno = 0;
		*ret = strtoull(text, &end, 0);
		return *end || errno ? -EINVAL : 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(constants); i++)
		if (strcmp(constants[i].name, text) == 0) {
			*ret = constants[i].value;
			return 0;
		}
	return -EINVAL;
}

/* NAME or NAME|NAME... */
static int value_of(const char *word, uint64_t *ret)
{
	uint64_t sum = 0, one;

	for (;;) {
		size_t len = strcspn(word, "|");

		if (constant(word, len, &one) < 0)
			return -EINVAL;
		sum |= one;
		if (!word[len])
			break;
		word += len + 1;
	}
	*ret = sum;
	return 0;
}

/* The conditions of one line; "in" leaves its values for the caller to expand. */
struct conditions {
	unsigned n;
	struct policy_arg args[POLICY_ARGS_MAX];
	unsigned n_values; /* of the last condition, when it is an "in" */
	uint64_t values[MAX_VALUES];
};

static int parse_condition(const struct walk *w, char *text, struct conditions *c,
	struct error *err)
{
	struct policy_arg *a;
	char *save = NULL, *word = strtok_r(text, " \t", &save);

	if (!word || strncmp(word, "arg", 3) != 0 || word[3] < '0' || word[3] > '5' || word[4])
		return bad_line(w, err, "expected arg0 to arg5, got", word ? word : "");
	if (c->n == POLICY_ARGS_MAX || c->n_values)
		return bad_line(w, err, "a condition too many:", word);
	a = &c->args[c->n++];
	a->arg = (unsigned)(word[3] - '0');
	a->mask = UINT64_MAX;

	word = strtok_r(NULL, " \t", &save);
	if (word && strcmp(word, "in") == 0) {
		while ((word = strtok_r(NULL, " \t", &save))) {
			if (c->n_values == MAX_VALUES ||
				value_of(word, &c->values[c->n_values++]) < 0)
				return bad_line(w, err, "unknown value", word);
		}
		return c->n_values ? 0 : bad_line(w, err, "no values after", "in");
	}
	if (word && strcmp(word, "&") == 0) {
		word = strtok_r(NULL, " \t", &save);
		if (!word || value_of(word, &a->mask) < 0)
			return bad_line(w, err, "unknown mask", word ? word : "");
		word = strtok_r(NULL, " \t", &save);
	}
	if (!word || strcmp(word, "==") != 0)
		return bad_line(w, err, "expected ==, got", word ? word : "");
	word = strtok_r(NULL, " \t", &save);
	if (!word || value_of(word, &a->value) < 0)
		return bad_line(w, err, "unknown value", word ? word : "");
	/* libseccomp would take the bits outside the mask for zero: another rule than written. */
	if (a->value & ~a->mask)
		return bad_line(w, err, "not within the mask:", word);
	word = strtok_r(NULL, " \t", &save);
	return word ? bad_line(w, err, "unexpected word", word) : 0;
}

static int emit(const struct walk *w, const char *name, int error, struct conditions *c,
	struct error *err)
{
	struct policy_rule rule = { .error = error, .n_args = c->n };
	unsigned n = c->n_values ? c->n_values : 1;
	int r;

	if (strlen(name) >= sizeof(rule.name))
		return bad_line(w, err, "name too long:", name);
	strcpy(rule.name, name);
	for (unsigned i = 0; i < n; i++) {
		if (c->n_values)
			c->args[c->n - 1].value = c->values[i];
		memcpy(rule.args, c->args, sizeof(rule.args));
		r = w->fn(w->ctx, &rule, err);
		if (r != 0)
			return r;
	}
	return 0;
}

static int walk_text(const char *name, struct walk *w, struct error *err);

static int parse_line(struct walk *w, char *line, struct error *err)
{
	struct conditions c = { .n = 0 };
	char *arrow, *name, *rest, *save = NULL;
	uint64_t error = 0;
	int r;

	line[strcspn(line, "#\n")] = '\0';
	arrow = strstr(line, "->");
	if (arrow) {
		char *word = strtok_r(arrow + 2, " \t", &save);

		if (!word || value_of(word, &error) < 0 || error == 0 || error > 4095)
			return bad_line(w, err, "unknown errno", word ? word : "");
		word = strtok_r(NULL, " \t", &save);
		if (word)
			return bad_line(w, err, "unexpected word", word);
		*arrow = '\0';
	}

	line += strspn(line, " \t");
	name = line;
	rest = line + strcspn(line, " \t");
	if (*rest)
		*rest++ = '\0';
	if (!*name)
		return 0;

	if (strcmp(name, "include") == 0) {
		struct walk inner = { .depth = w->depth + 1, .fn = w->fn, .ctx = w->ctx };
		char *word = strtok_r(rest, " \t", &save);

		if (arrow || strtok_r(NULL, " \t", &save))
			return bad_line(w, err, "unexpected word after", name);
		return walk_text(word ? word : "", &inner, err);
	}

	for (char *text = strtok_r(rest, ",", &save); text; text = strtok_r(NULL, ",", &save)) {
		if (!text[strspn(text, " \t")])
			continue;
		r = parse_condition(w, text, &c, err);
		if (r < 0)
			return r;
	}
	return emit(w, name, (int)error, &c, err);
}

static int walk_text(const char *name, struct walk *w, struct error *err)
{
	const char *text = policy_text(name);
	char line[MAX_LINE];

	if (!text)
		return error_set(err, ENOENT, "there is no policy '%s'", name);
	if (w->depth > MAX_INCLUDES)
		return error_set(err, ELOOP, "policy '%s' is included too deep", name);
	w->file = name;
	while (*text) {
		size_t len = strcspn(text, "\n");
		int r;

		w->line++;
		if (len >= sizeof(line))
			return bad_line(w, err, "line too long in", name);
		memcpy(line, text, len);
		line[len] = '\0';
		r = parse_line(w, line, err);
		if (r != 0)
			return r;
		text += len + (text[len] == '\n');
	}
	return 0;
}

int policy_walk(const char *name, policy_rule_fn fn, void *ctx, struct error *err)
{
	struct walk w = { .fn = fn, .ctx = ctx };

	return walk_text(name, &w, err);
}

static void release(scmp_filter_ctx *ctx)
{
	if (*ctx)
		seccomp_release(*ctx);
}

static int add_rule(void *data, const struct policy_rule *rule, struct error *err)
{
	scmp_filter_ctx ctx = data;
	struct scmp_arg_cmp cmp[POLICY_ARGS_MAX];
	int nr = seccomp_syscall_resolve_name(rule->name);
	uint32_t action = rule->error ? SCMP_ACT_ERRNO((uint32_t)rule->error) : SCMP_ACT_ALLOW;
	int r;

	if (nr == __NR_SCMP_ERROR)
		return error_set(err, EINVAL, "unknown system call '%s'", rule->name);
	for (unsigned i = 0; i < rule->n_args; i++)
		cmp[i] = (struct scmp_arg_cmp){
			.arg = rule->args[i].arg,
			.op = SCMP_CMP_MASKED_EQ,
			.datum_a = rule->args[i].mask,
			.datum_b = rule->args[i].value,
		};
	r = seccomp_rule_add_array(ctx, action, nr, rule->n_args, cmp);
	/* -EEXIST: an included policy says it too */
	if (r < 0 && r != -EEXIST)
		return error_errno(err, -r, "rule for '%s'", rule->name);
	return 0;
}

static scmp_filter_ctx build(const char *name, struct error *err)
{
	CLEANUP(release) scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_KILL_PROCESS);
	int r;

	if (!ctx) {
		error_errno(err, ENOMEM, "seccomp_init");
		return NULL;
	}
	r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	if (r < 0) {
		error_errno(err, -r, "seccomp_attr_set");
		return NULL;
	}
#if defined(__SANITIZE_ADDRESS__)
	/* Only in the dev build: what ASan and UBSan themselves need. First, because a call that
	 * is allowed whatever its arguments stays so. */
	if (policy_walk("sanitizer", add_rule, ctx, err) < 0)
		return NULL;
#endif
	if (policy_walk(name, add_rule, ctx, err) < 0)
		return NULL;
	return steal(ctx);
}

int policy_export(const char *name, int fd, struct error *err)
{
	CLEANUP(release) scmp_filter_ctx ctx = build(name, err);
	int r;

	if (!ctx)
		return error_wrap(err, "policy %s", name);
	r = seccomp_export_bpf(ctx, fd);
	if (r < 0)
		return error_errno(err, -r, "export policy %s", name);
	return 0;
}
