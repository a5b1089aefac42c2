#include "vmmd/hotplug.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmmd/json.h"
#include "vmmd/plugged.h"

/* ---- ports ---- */

int ports_take(struct hotplug *h, struct error *err)
{
	for (unsigned i = 0; i < h->n_ports; i++)
		if (!(h->ports_taken & (1U << i))) {
			h->ports_taken |= 1U << i;
			return (int)i;
		}
	return error_set(err, ENOSPC, "no port is free for a device: the VM has %u", h->n_ports);
}

void ports_give(struct hotplug *h, int port)
{
	if (port >= 0)
		h->ports_taken &= ~(1U << port);
}

int take_port(struct plugged *p, char bus[QEMU_ID_SIZE], struct error *err)
{
	p->port = ports_take(&p->vm->hotplug, err);
	if (p->port < 0)
		return p->port;
	snprintf(bus, QEMU_ID_SIZE, "rp%u", (unsigned)p->port);
	return 0;
}

int give_port(void *ctx, struct error *err)
{
	struct plugged *p = ctx;

	(void)err;
	ports_give(&p->vm->hotplug, p->port);
	p->port = -1;
	return 0;
}

/* ---- commands ---- */

int call_add(struct vm *vm, const char *command, const struct qemu_object *o, struct error *err)
{
	const struct vm_call c = {
		.command = command,
		.arguments = qemu_object_json(o, QEMU_FORM_QMP),
		.fd = -1,
	};

	if (!c.arguments)
		return error_errno(err, ENOMEM, "%s", command);
	return vm_call_consume(vm, &c, NULL, err);
}

int call_text(struct vm *vm, const char *command, const char *key, const char *text, int fd,
	struct error *err)
{
	const struct vm_call c = {
		.command = command,
		.arguments = json_object_new_object(),
		.fd = fd,
	};

	if (json_set_text(c.arguments, key, text) < 0) {
		json_object_put(c.arguments);
		return error_errno(err, ENOMEM, "%s", command);
	}
	return vm_call_consume(vm, &c, NULL, err);
}

/* ---- the list ---- */

static struct plugged **find(struct hotplug *h, enum hotplug_kind kind, uint32_t index)
{
	struct plugged **at = &h->first;

	while (*at && ((*at)->kind != kind || (*at)->index != index))
		at = &(*at)->next;
	return at;
}

static void plugged_free(struct plugged *p)
{
	if (p->done)
		p->done(p);
	free(p);
}

static const char *const kinds[] = {
	[HOTPLUG_NIC] = "NIC",
	[HOTPLUG_BLOCK] = "disk",
	[HOTPLUG_MEMORY] = "memory",
	[HOTPLUG_CPU] = "CPU",
};

void *plugged_new(struct vm *vm, size_t size, enum hotplug_kind kind, uint32_t index,
	const struct step *steps, size_t n_steps, struct error *err)
{
	struct plugged *p;

	if (*find(&vm->hotplug, kind, index)) {
		error_set(err, EEXIST, "%s %u is there already", kinds[kind], index);
		return NULL;
	}
	if (vm->hotplug.n == HOTPLUG_MAX) {
		error_set(err, ENOSPC, "%d things are plugged, that is all there may be",
			HOTPLUG_MAX);
		return NULL;
	}
	p = calloc(1, size);
	if (!p) {
		error_errno(err, ENOMEM, "%s %u", kinds[kind], index);
		return NULL;
	}
	p->vm = vm;
	p->kind = kind;
	p->index = index;
	p->number = vm->hotplug.next++;
	p->port = -1;
	p->steps = steps;
	p->n_steps = n_steps;
	return p;
}

int plugged_add_consume(struct plugged *p, struct error *err)
{
	struct hotplug *h = &p->vm->hotplug;
	int r = steps_take(p->steps, p->n_steps, p, err);

	if (r < 0) {
		error_wrap(err, "%s %u", kinds[p->kind], p->index);
		plugged_free(p);
		return r;
	}
	p->next = h->first;
	h->first = p;
	h->n++;
	return 0;
}

int hotplug_remove(struct vm *vm, enum hotplug_kind kind, uint32_t index, struct error *err)
{
	struct plugged **at = find(&vm->hotplug, kind, index), *p = *at;
	int r;

	if (!p)
		return error_set(err, ENOENT, "there is no %s %u", kinds[kind], index);
	r = steps_undo(p->steps, p->n_steps, p, err);
	if (r < 0) {
		error_wrap(err, "%s %u", kinds[kind], index);
		return r;
	}
	*at = p->next;
	vm->hotplug.n--;
	plugged_free(p);
	return 0;
}

void hotplug_done(struct hotplug *h)
{
	struct plugged *p;

	while ((p = h->first)) {
		h->first = p->next;
		plugged_free(p);
	}
	*h = (struct hotplug)HOTPLUG_INIT;
}
