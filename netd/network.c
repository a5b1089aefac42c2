#include "netd/network.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What snprintf() has added at most fills the rest. */
static size_t added(size_t len, size_t size, int n)
{
	if (n < 0)
		return len;
	return len + (size_t)n < size ? len + (size_t)n : size - 1;
}

static const char *kind_of(const struct link *l)
{
	return l->kind[0] ? l->kind : "a plain device";
}

void network_describe(const struct network *n, char *text, size_t size)
{
	size_t shown = n->n_links < NETWORK_LINKS_MAX ? n->n_links : NETWORK_LINKS_MAX;
	size_t len = added(0, size, snprintf(text, size, "the link%s", n->n_links == 1 ? "" : "s"));

	for (size_t i = 0; i < shown; i++) {
		const char *before = i == 0 ? " " : i + 1 < n->n_links ? ", " : " and ";

		len = added(len, size,
			snprintf(text + len, size - len, "%s%s (%s)", before, n->links[i].name,
				kind_of(&n->links[i])));
	}
	if (n->n_links > shown)
		snprintf(text + len, size - len, " and %zu more", n->n_links - shown);
}

/* Those for which a frame that is redirected at the ingress is all there is to it. */
static bool is_attachable_kind(const char *kind)
{
	static const char *const kinds[] = { "", "veth", "vlan", "ipvlan", "macvlan", "tun" };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (strcmp(kind, kinds[i]) == 0)
			return true;
	return false;
}

bool network_is_tap(const char *name)
{
	char tap[LINK_NAME_MAX];

	for (unsigned i = 0; i < NETWORK_LINKS_MAX; i++) {
		snprintf(tap, sizeof(tap), NETWORK_TAP_FMT, i);
		if (strcmp(name, tap) == 0)
			return true;
	}
	return false;
}

static int check_link(const struct link *l, struct error *err)
{
	if (network_is_tap(l->name))
		return error_set(err, EBUSY,
			"the link %s (%s) belongs to a VM that has this network namespace already",
			l->name, kind_of(l));
	if (!is_attachable_kind(l->kind))
		return error_set(err, EOPNOTSUPP,
			"the link %s (%s) cannot be given to a VM: links of this kind are not supported",
			l->name, kind_of(l));
	if (!l->ethernet)
		return error_set(err, EOPNOTSUPP,
			"the link %s (%s) cannot be given to a VM: it carries no Ethernet frames",
			l->name, kind_of(l));
	if (l->odd_name)
		return error_set(err, EOPNOTSUPP,
			"the link %s (%s) cannot be given to a VM: its name has unprintable characters",
			l->name, kind_of(l));
	return 0;
}

int network_check(const struct network *n, struct error *err)
{
	char text[400];
	int r = 0;

	if (n->n_links > NETWORK_LINKS_MAX) {
		network_describe(n, text, sizeof(text));
		return error_set(err, EOPNOTSUPP, "%s are more than the %d a VM can have", text,
			NETWORK_LINKS_MAX);
	}
	for (size_t i = 0; r == 0 && i < n->n_links; i++)
		r = check_link(&n->links[i], err);
	return r;
}
