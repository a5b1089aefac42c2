#include "common/filter.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>

#define P(name) extern const struct sock_filter filter_##name[], filter_##name##_end[];
#include "seccomp-profiles/policies.list"
#undef P

static const struct {
	const char *name;
	const struct sock_filter *begin, *end;
} filters[] = {
#define P(name) { #name, filter_##name, filter_##name##_end },
#include "seccomp-profiles/policies.list"
#undef P
};

const struct sock_filter *filter_program(const char *name, size_t *ret_len)
{
	for (size_t i = 0; i < ARRAY_SIZE(filters); i++)
		if (strcmp(filters[i].name, name) == 0) {
			*ret_len = (size_t)(filters[i].end - filters[i].begin);
			return filters[i].begin;
		}
	return NULL;
}

int filter_load(const char *name, struct error *err)
{
	size_t n;
	const struct sock_filter *program = filter_program(name, &n);
	const struct sock_fprog fprog = {
		.len = (unsigned short)n,
		.filter = (struct sock_filter *)program,
	};

	if (!program)
		return error_set(err, ENOENT, "there is no filter '%s'", name);
	if (n == 0 || n > BPF_MAXINSNS)
		return error_set(err, EINVAL, "filter %s has %zu instructions", name, n);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return error_errno(err, errno, "set no_new_privs");
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &fprog, 0, 0) < 0)
		return error_errno(err, errno, "load filter %s", name);
	return 0;
}
