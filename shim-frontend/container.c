#include "shim-frontend/container.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

int id_check(const char *id, struct error *err)
{
	size_t len = strnlen(id, ID_MAX + 1);

	if (len == 0)
		return error_set(err, EINVAL, "the id is empty");
	if (len > ID_MAX)
		return error_set(err, EINVAL, "the id is longer than %d characters", ID_MAX);
	if (!id_is_valid(id))
		return error_set(err, EINVAL,
			"the id '%s' is not of the form [A-Za-z0-9][A-Za-z0-9._-]*", id);
	return 0;
}

struct container *container_new(struct table *t, const Containerd__CreateTaskRequest *request)
{
	const struct process_stdio stdio = { request->stdin, request->stdout, request->stderr,
		request->terminal };
	struct container *c = calloc(1, sizeof(*c));

	if (!c)
		abort();
	assert(strlen(request->id) <= ID_MAX);
	strcpy(c->id, request->id);
	c->bundle = strdup(request->bundle);
	if (!c->bundle)
		abort();
	c->index = ++t->last_index;
	process_init(&c->init, c, "", ++t->last_process, &stdio);
	c->next = t->first;
	t->first = c;
	t->n++;
	return c;
}

struct process *exec_new(struct table *t, struct container *c,
	const Containerd__ExecProcessRequest *request)
{
	const struct process_stdio stdio = { request->stdin, request->stdout, request->stderr,
		request->terminal };
	struct process *p = calloc(1, sizeof(*p));

	if (!p)
		abort();
	process_init(p, c, request->exec_id, ++t->last_process, &stdio);
	p->next = c->execs;
	c->execs = p;
	c->n_execs++;
	return p;
}

void exec_free(struct process *p)
{
	struct process **at = &p->container->execs;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	p->container->n_execs--;
	process_done(p);
	free(p);
}

void container_free(struct table *t, struct container *c)
{
	for (struct container **p = &t->first; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			t->n--;
			break;
		}
	while (c->execs)
		exec_free(c->execs);
	process_done(&c->init);
	free(c->bundle);
	free(c);
}

struct container *table_find(struct table *t, const char *id)
{
	for (struct container *c = t->first; c; c = c->next)
		if (!c->gone && strcmp(c->id, id) == 0)
			return c;
	return NULL;
}

struct container *table_find_index(struct table *t, uint32_t index)
{
	for (struct container *c = t->first; c; c = c->next)
		if (c->index == index)
			return c;
	return NULL;
}

struct process *table_find_process(struct table *t, uint32_t number)
{
	for (struct container *c = t->first; c; c = c->next) {
		if (c->init.number == number)
			return &c->init;
		for (struct process *p = c->execs; p; p = p->next)
			if (p->number == number)
				return p;
	}
	return NULL;
}

struct process *container_find_exec(struct container *c, const char *exec_id)
{
	for (struct process *p = c->execs; p; p = p->next)
		if (strcmp(p->exec_id, exec_id) == 0)
			return p;
	return NULL;
}
