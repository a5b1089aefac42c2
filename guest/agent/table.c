#include "table.h"

#include <string.h>
#include <sys/wait.h>

#include "container.h"
#include "oom.h"
#include "rpc.h"
#include "storage.h"

struct container *containers;

bool id_valid(const char *id)
{
	size_t len = strlen(id);

	return len > 0 && len <= ID_MAX && id[0] != '.' && id[0] != '-' &&
	        strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._+-") ==
	        len;
}

struct container *container_find(const char *id)
{
	struct container *c = containers;

	while (c && strcmp(c->id, id) != 0)
		c = c->next;
	return c;
}

unsigned int container_count(void)
{
	unsigned int n = 0;

	for (struct container *c = containers; c; c = c->next)
		n++;
	return n;
}

/* Its volumes are where its root is: what is bound from elsewhere is the guest's own. */
static bool beside_root(const Grpc__Spec *spec, const char *path)
{
	const char *slash = strrchr(spec->root->path, '/');

	return strncmp(path, spec->root->path, (size_t)(slash + 1 - spec->root->path)) == 0;
}

static void note_held(struct container *c, const Grpc__CreateContainerRequest *request)
{
	const Grpc__Spec *spec = request->oci;

	c->held = xcalloc(spec->n_mounts + request->n_storages + 1, sizeof(*c->held));
	c->held[c->n_held++] = xstrdup(spec->root->path);
	for (size_t i = 0; i < request->n_storages; i++)
		if (storage_of_container(request->storages[i]) &&
		        strcmp(request->storages[i]->mount_point, spec->root->path) != 0)
			c->held[c->n_held++] = xstrdup(request->storages[i]->mount_point);
	for (size_t i = 0; i < spec->n_mounts; i++)
		if (beside_root(spec, spec->mounts[i]->source))
			c->held[c->n_held++] = xstrdup(spec->mounts[i]->source);
}

struct container *container_add(
        const Grpc__CreateContainerRequest *request, struct process *init)
{
	struct container **tail = &containers;
	struct container *c = xcalloc(1, sizeof(*c));

	c->id = xstrdup(request->container_id);
	note_held(c, request);
	c->processes = init;
	c->memory_events.fd = -1;
	while (*tail)
		tail = &(*tail)->next;
	*tail = c;
	return c;
}

void container_free(struct container *c)
{
	struct container **at = &containers;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	while (c->processes) {
		struct process *next = c->processes->next;

		process_free(c->processes);
		c->processes = next;
	}
	watch_close(&c->memory_events);
	free(c->id);
	for (size_t i = 0; i < c->n_held; i++)
		free(c->held[i]);
	free(c->held);
	free(c);
}

struct container *container_get(uint32_t stream, const char *id)
{
	struct container *c = container_find(id);

	if (!c)
		rpc_fail(stream, CODE_INVALID_ARGUMENT, "container %.*s is unknown", ID_MAX, id);
	return c;
}

struct container *container_get_idle(uint32_t stream, const char *id)
{
	struct container *c = container_get(stream, id);

	if (!c || !c->job)
		return c;
	rpc_fail(stream, CODE_FAILED_PRECONDITION, "container %s is busy with another request", id);
	return NULL;
}

struct process *process_find(const struct container *c, const char *exec_id)
{
	struct process *p = c->processes;

	if (!*exec_id || strcmp(exec_id, c->id) == 0)
		return p;
	while (p && strcmp(p->exec_id, exec_id) != 0)
		p = p->next;
	return p;
}

struct process *process_get(uint32_t stream, const char *id, const char *exec_id)
{
	struct container *c = container_get(stream, id);
	struct process *p = c ? process_find(c, exec_id) : NULL;

	if (c && !p)
		rpc_fail(stream, CODE_NOT_FOUND, "container %s has no process %.*s", id, ID_MAX,
		        exec_id);
	return p;
}

void process_remove(struct container *c, struct process *p)
{
	struct process **at = &c->processes;

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	process_free(p);
}

/* -- ends of processes */

static void container_reaped(struct container *c, struct process *p, int wait_status)
{
	/* An out-of-memory kill is told before the exit it caused. */
	oom_check(c);
	p->held = oom_untold(c);
	process_exited(p, wait_status);
}

/* Ask for each process we know. With a pid, collect only that one. */
static bool reap_known(pid_t pid, int wait_status)
{
	for (struct container *c = containers; c; c = c->next) {
		for (struct process *p = c->processes; p; p = p->next) {
			if (!p->pid || p->exited)
				continue;
			if (pid == p->pid)
				container_reaped(c, p, wait_status);
			else if (!pid && waitpid(p->pid, &wait_status, WNOHANG) == p->pid)
				container_reaped(c, p, wait_status);
			else
				continue;
			if (pid)
				return true;
		}
	}
	return false;
}

void containers_reap(void)
{
	int status;
	pid_t pid;

	/* A child we do not know may be one that a job is about to report: it stays. */
	if (jobs_running()) {
		(void)reap_known(0, 0);
		return;
	}
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		(void)reap_known(pid, status);
}

void container_reap(struct container *c)
{
	int status;

	for (struct process *p = c->processes; p; p = p->next)
		if (p->pid && !p->exited && waitpid(p->pid, &status, 0) == p->pid)
			container_reaped(c, p, status);
}

void containers_resume(void)
{
	for (struct container *c = containers; c; c = c->next)
		for (struct process *p = c->processes; p; p = p->next)
			process_resume(p);
}
