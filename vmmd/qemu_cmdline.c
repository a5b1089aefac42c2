#include "vmmd/qemu_fields.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/fd.h"

/* ---- the tables: everything about a switch but its values ---- */

const char *const machine_types[] = {
	[MACHINE_Q35] = "q35",
	[MACHINE_MICROVM] = "microvm",
	[MACHINE_VIRT] = "virt",
	[MACHINE_S390] = "s390-ccw-virtio",
	NULL,
};
static const enum qemu_transport machine_transports[] = {
	[MACHINE_Q35] = QEMU_TRANSPORT_PCI,
	[MACHINE_MICROVM] = QEMU_TRANSPORT_DEVICE,
	[MACHINE_VIRT] = QEMU_TRANSPORT_PCI,
	[MACHINE_S390] = QEMU_TRANSPORT_CCW,
};
static const char *const confidentials[] = { [CONFIDENTIAL_SEV] = "sev-guest",
	[CONFIDENTIAL_SEV_SNP] = "sev-snp-guest", [CONFIDENTIAL_TDX] = "tdx-guest",
	[CONFIDENTIAL_S390_PV] = "s390-pv-guest" };
static const char *const irqchips[] = { "default", "on", "split", NULL };
const char *const accels[] = { [ACCEL_TCG] = "tcg", [ACCEL_KVM] = "kvm", NULL };

/* What a guest may see of a CPU: all that TCG knows; all that the host has. */
static const char *const cpu_models[] = { [ACCEL_TCG] = "max", [ACCEL_KVM] = "host", NULL };

static const char *const words_utc[] = { "utc", NULL };
static const char *const words_host[] = { "host", NULL };
static const char *const words_slew[] = { "slew", NULL };
static const char *const words_deny[] = { "deny", NULL };
static const char *const words_none[] = { "none", NULL };
static const char *const words_control[] = { "control", NULL };

static const struct qemu_field name_fields[] = {
	TEXT(name, guest, "guest"), /* with its key: a "=" in the text would end one */
	{ 0 },
};
static CLASS(name, .name = "name", .style = QEMU_STYLE_KEYVAL);

static const struct qemu_field kernel_fields[] = {
	TEXT(kernel, kernel, "kernel"),
	TEXT(kernel, initrd, "initrd"),
	TEXT(kernel, append, "append", .optional = true),
	{ 0 },
};
static CLASS(kernel, .name = "kernel", .style = QEMU_STYLE_SWITCHES);

static const struct qemu_field smp_fields[] = {
	FIELD(smp, cpus, "cpus", NUMBER, .implicit = true, RANGE(1, VCPUS_MAX)),
	FIELD(smp, maxcpus, "maxcpus", NUMBER, OPTIONAL, RANGE(1, VCPUS_MAX)),
	{ 0 },
};
static CLASS(smp, .name = "smp", .style = QEMU_STYLE_KEYVAL);

#define MACHINE_CLASS(m)                                                                           \
	static const struct qemu_class machine_##m##_class = { .fields = machine_##m##_fields,     \
		.size = sizeof(struct machine), .name = "machine", .style = QEMU_STYLE_KEYVAL }
#define MACHINE_START WORD(machine, type, "type", machine_types, .implicit = true)
#define MACHINE_END FIELD(machine, memory_backend, "memory-backend", ID), { 0 }

static const struct qemu_field machine_q35_fields[] = {
	MACHINE_START,
	WORD(machine, kernel_irqchip, "kernel-irqchip", irqchips, OPTIONAL),
	FIELD(machine, sata, "sata", BOOL),
	FIELD(machine, smbus, "smbus", BOOL),
	FIELD(machine, vmport, "vmport", BOOL),
	WORD(machine, nvdimm, "nvdimm", on_off_auto, OPTIONAL),
	MACHINE_END,
};
MACHINE_CLASS(q35);

/* Without rtc, pit and pic a guest under TCG finds no clock to calibrate by. */
static const struct qemu_field machine_microvm_fields[] = {
	MACHINE_START,
	WORD(machine, rtc, "rtc", on_off_auto),
	WORD(machine, pit, "pit", on_off_auto),
	WORD(machine, pic, "pic", on_off_auto),
	FIELD(machine, isa_serial, "isa-serial", BOOL),
	MACHINE_END,
};
MACHINE_CLASS(microvm);

static const struct qemu_field machine_virt_fields[] = {
	MACHINE_START,
	WORD(machine, nvdimm, "nvdimm", on_off_auto, OPTIONAL),
	MACHINE_END,
};
MACHINE_CLASS(virt);

static const struct qemu_field machine_s390_fields[] = {
	MACHINE_START,
	MACHINE_END,
};
MACHINE_CLASS(s390);

static const struct qemu_class *const machine_classes[] = {
	[MACHINE_Q35] = &machine_q35_class,
	[MACHINE_MICROVM] = &machine_microvm_class,
	[MACHINE_VIRT] = &machine_virt_class,
	[MACHINE_S390] = &machine_s390_class,
};

static const struct qemu_field accel_fields[] = {
	WORD(accel, type, "accel", accels, .implicit = true),
	FIELD(accel, tb_size, "tb-size", NUMBER, OPTIONAL, RANGE(1, 1024)),
	{ 0 },
};
static CLASS(accel, .name = "accel", .style = QEMU_STYLE_KEYVAL);

static const struct qemu_field cpu_fields[] = {
	WORD(cpu, model, "model", cpu_models, .implicit = true),
	WORD(cpu, pmu, "pmu", on_off_auto, OPTIONAL),
	{ 0 },
};
static CLASS(cpu, .name = "cpu", .style = QEMU_STYLE_KEYVAL);

static const struct qemu_field memory_fields[] = {
	FIELD(memory, size, "size", SIZE, .implicit = true, RANGE(MEMORY_MIN, MEMORY_MAX)),
	FIELD(memory, slots, "slots", NUMBER, OPTIONAL, RANGE(1, 256)),
	FIELD(memory, maxmem, "maxmem", SIZE, OPTIONAL, RANGE(MEMORY_MIN, MEMORY_MAX)),
	{ 0 },
};
static CLASS(memory, .name = "m", .style = QEMU_STYLE_KEYVAL);

static const struct qemu_field rtc_fields[] = {
	WORD(rtc, base_time, "base", words_utc),
	WORD(rtc, clock, "clock", words_host),
	WORD(rtc, driftfix, "driftfix", words_slew),
	{ 0 },
};
static CLASS(rtc, .name = "rtc", .style = QEMU_STYLE_KEYVAL);

static const struct qemu_field sandbox_fields[] = {
	FIELD(sandbox, enable, "enable", BOOL, .implicit = true),
	WORD(sandbox, obsolete, "obsolete", words_deny),
	WORD(sandbox, elevateprivileges, "elevateprivileges", words_deny),
	WORD(sandbox, spawn, "spawn", words_deny),
	WORD(sandbox, resourcecontrol, "resourcecontrol", words_deny),
	{ 0 },
};
static CLASS(sandbox, .name = "sandbox", .style = QEMU_STYLE_KEYVAL);

static const struct qemu_field knobs_fields[] = {
	FIELD(knobs, nodefaults, "nodefaults", BOOL),
	FIELD(knobs, no_user_config, "no-user-config", BOOL),
	WORD(knobs, display, "display", words_none),
	FIELD(knobs, no_reboot, "no-reboot", BOOL),
	FIELD(knobs, S, "S", BOOL),
	{ 0 },
};
static CLASS(knobs, .name = "knobs", .style = QEMU_STYLE_SWITCHES);

static const struct qemu_field chardev_socket_fields[] = {
	FIELD(chardev_socket, id, "id", ID),
	FIELD(chardev_socket, fd, "fd", FD),
	{ 0 },
};
static CLASS(chardev_socket, .name = "chardev", .style = QEMU_STYLE_KEYVAL, .type = "socket");

static const struct qemu_field mon_fields[] = {
	FIELD(mon, chardev, "chardev", ID),
	WORD(mon, mode, "mode", words_control),
	{ 0 },
};
static CLASS(mon, .name = "mon", .style = QEMU_STYLE_KEYVAL);

static const struct qemu_field object_rng_builtin_fields[] = {
	FIELD(object_rng_builtin, id, "id", ID),
	{ 0 },
};
static CLASS(object_rng_builtin, OBJECT("rng-builtin"));

static const struct qemu_field device_virtio_rng_fields[] = {
	FIELD(device_virtio_rng, id, "id", ID),
	FIELD(device_virtio_rng, rng, "rng", ID),
	{ 0 },
};
static CLASS(device_virtio_rng, DEVICE("virtio-rng"), .has_transport = true);

static const struct qemu_field device_virtio_serial_fields[] = {
	FIELD(device_virtio_serial, id, "id", ID),
	{ 0 },
};
static CLASS(device_virtio_serial, DEVICE("virtio-serial"), .has_transport = true);

static const struct qemu_field device_virtserialport_fields[] = {
	FIELD(device_virtserialport, id, "id", ID),
	FIELD(device_virtserialport, bus, "bus", ID),
	FIELD(device_virtserialport, chardev, "chardev", ID),
	FIELD(device_virtserialport, name, "name", ID),
	{ 0 },
};
static CLASS(device_virtserialport, DEVICE("virtserialport"));

static const struct qemu_field device_virtconsole_fields[] = {
	FIELD(device_virtconsole, id, "id", ID),
	FIELD(device_virtconsole, bus, "bus", ID),
	FIELD(device_virtconsole, chardev, "chardev", ID),
	{ 0 },
};
static CLASS(device_virtconsole, DEVICE("virtconsole"));

static const struct qemu_field device_vhost_user_fs_fields[] = {
	FIELD(device_vhost_user_fs, id, "id", ID),
	FIELD(device_vhost_user_fs, chardev, "chardev", ID),
	TEXT(device_vhost_user_fs, tag, "tag"),
	FIELD(device_vhost_user_fs, queue_size, "queue-size", NUMBER, RANGE(1, 1024)),
	{ 0 },
};
static CLASS(device_vhost_user_fs, DEVICE("vhost-user-fs"), .has_transport = true);

/* ---- objects of a line ---- */

#define MEMORY_ID  "mem"
#define RNG_ID     "rng0"
#define SERIAL_ID  "serial0"
#define SERIAL_BUS SERIAL_ID ".0"

void *qemu_cmdline_new(struct qemu_cmdline *c, const struct qemu_class *class, struct error *err)
{
	struct qemu_object *o = malloc(class->size);

	if (!o) {
		error_errno(err, ENOMEM, "-%s", class->name);
		return NULL;
	}
	qemu_object_init(o, class);
	o->transport = c->transport;
	*c->tail = o;
	c->tail = &o->next;
	return o;
}

static int give_number(void *ctx, struct qemu_fd *fd, struct error *err)
{
	struct qemu_cmdline *c = ctx;

	if (c->next_fd > QEMU_LAST_FD)
		return error_set(err, ENOSPC, "QEMU would get more than %d fds",
			QEMU_LAST_FD - QEMU_FIRST_FD + 1);
	fd->number = c->next_fd++;
	return 0;
}

int qemu_cmdline_finish(struct qemu_cmdline *c, struct qemu_object *o, struct error *err)
{
	int r = qemu_object_check(o, err);

	return r < 0 ? r : qemu_object_each_fd(o, give_number, c, err);
}

static int add_chardev_consume(struct qemu_cmdline *c, const char *id, int fd, struct error *err)
{
	struct chardev_socket *chardev = qemu_cmdline_new(c, &chardev_socket_class, err);
	int r;

	if (!chardev) {
		fd_close(&fd);
		return -ENOMEM;
	}
	chardev->fd.fd = fd;
	r = qemu_set_id(chardev->id, "", id, err);
	return r < 0 ? r : qemu_cmdline_finish(c, &chardev->base, err);
}

int qemu_cmdline_add_monitor_consume(struct qemu_cmdline *c, int fd, struct error *err)
{
	int r = add_chardev_consume(c, "qmp", fd, err);
	struct mon *mon = r < 0 ? NULL : qemu_cmdline_new(c, &mon_class, err);

	if (!mon)
		return r < 0 ? r : -ENOMEM;
	r = qemu_set_id(mon->chardev, "", "qmp", err);
	return r < 0 ? r : qemu_object_check(&mon->base, err);
}

int qemu_cmdline_add_port_consume(struct qemu_cmdline *c, const char *id, const char *name, int fd,
	struct error *err)
{
	int r = add_chardev_consume(c, id, fd, err);
	struct device_virtserialport *port =
		r < 0 ? NULL : qemu_cmdline_new(c, &device_virtserialport_class, err);

	if (!port)
		return r < 0 ? r : -ENOMEM;
	snprintf(port->id, sizeof(port->id), "port-%.32s", id);
	r = qemu_set_id(port->chardev, "", id, err);
	if (r == 0)
		r = qemu_set_id(port->bus, "", SERIAL_BUS, err);
	if (r == 0)
		r = qemu_set_id(port->name, "", name, err);
	return r < 0 ? r : qemu_object_check(&port->base, err);
}

int qemu_cmdline_add_console_consume(struct qemu_cmdline *c, int fd, struct error *err)
{
	int r = add_chardev_consume(c, "console", fd, err);
	struct device_virtconsole *console = r < 0 ? NULL : qemu_cmdline_new(c, &device_virtconsole_class, err);

	if (!console)
		return r < 0 ? r : -ENOMEM;
	r = qemu_set_id(console->id, "", "console0", err);
	if (r == 0)
		r = qemu_set_id(console->chardev, "", "console", err);
	if (r == 0)
		r = qemu_set_id(console->bus, "", SERIAL_BUS, err);
	return r < 0 ? r : qemu_object_check(&console->base, err);
}

static int refuse_share_consume(int fd, struct error *err)
{
	fd_close(&fd);
	return error_set(err, EINVAL,
		"-device vhost-user-fs: virtiofsd cannot map memory of kind 'ram'");
}

int qemu_cmdline_add_share_consume(struct qemu_cmdline *c, const char *tag, int fd,
	struct error *err)
{
	int r = c->memory_kind != MEMORY_RAM ? add_chardev_consume(c, "virtiofs", fd, err)
					     : refuse_share_consume(fd, err);
	struct device_vhost_user_fs *fs = r < 0 ? NULL : qemu_cmdline_new(c, &device_vhost_user_fs_class, err);

	if (!fs)
		return r < 0 ? r : -ENOMEM;
	fs->queue_size = 1024;
	r = qemu_set_id(fs->id, "", "fs0", err);
	if (r == 0)
		r = qemu_set_id(fs->chardev, "", "virtiofs", err);
	if (r == 0)
		r = qemu_set_text(fs->tag, sizeof(fs->tag), tag, err);
	return r < 0 ? r : qemu_object_check(&fs->base, err);
}

static int add_memory(struct qemu_cmdline *c, const struct qemu_config *config, struct error *err)
{
	const struct memory_backend_config backend = {
		.id = MEMORY_ID,
		.kind = config->memory,
		.size = c->memory.size,
		.share = config->memory != MEMORY_RAM, /* virtiofsd maps it */
		.prealloc = config->memory_prealloc,
		.hugepages = config->memory_hugepages,
		.path = config->memory_path,
	};

	c->memory_kind = config->memory;
	return qemu_cmdline_add_memory_backend(c, &backend, err);
}

static int add_rng(struct qemu_cmdline *c, struct error *err)
{
	struct object_rng_builtin *rng = qemu_cmdline_new(c, &object_rng_builtin_class, err);
	struct device_virtio_rng *device = rng ? qemu_cmdline_new(c, &device_virtio_rng_class, err) : NULL;
	int r;

	if (!device)
		return -ENOMEM;
	r = qemu_set_id(rng->id, "", RNG_ID, err);
	if (r == 0)
		r = qemu_set_id(device->rng, "", RNG_ID, err);
	if (r == 0)
		r = qemu_set_id(device->id, "", "virtio-" RNG_ID, err);
	if (r == 0)
		r = qemu_object_check(&rng->base, err);
	return r < 0 ? r : qemu_object_check(&device->base, err);
}

static int add_serial(struct qemu_cmdline *c, struct error *err)
{
	struct device_virtio_serial *serial = qemu_cmdline_new(c, &device_virtio_serial_class, err);
	int r;

	if (!serial)
		return -ENOMEM;
	r = qemu_set_id(serial->id, "", SERIAL_ID, err);
	return r < 0 ? r : qemu_object_check(&serial->base, err);
}

/* ---- the line ---- */

/*
 * What TCG may keep of translated code. QEMU's own default, 1 GiB, fills in hours, beside the
 * guest's memory; a guest that boots and runs containers works in less than this.
 */
#define TB_SIZE_MIB 128

#define SINGLES 10

/* In the order they are printed; `objects` come before the last two. */
static void singles(const struct qemu_cmdline *c, const struct qemu_object *ret[SINGLES])
{
	const struct qemu_object *all[SINGLES] = {
		&c->name.base,
		&c->kernel.base,
		&c->smp.base,
		&c->machine.base,
		&c->accel.base,
		&c->cpu.base,
		&c->memory.base,
		&c->rtc.base,
		&c->sandbox.base,
		&c->knobs.base,
	};

	memcpy(ret, all, sizeof(all));
}

static void init_objects(struct qemu_cmdline *c)
{
	memset(c, 0, sizeof(*c));
	c->tail = &c->objects;
	c->next_fd = QEMU_FIRST_FD;
	qemu_object_init(&c->name.base, &name_class);
	qemu_object_init(&c->kernel.base, &kernel_class);
	qemu_object_init(&c->smp.base, &smp_class);
	qemu_object_init(&c->machine.base, machine_classes[MACHINE_Q35]);
	qemu_object_init(&c->accel.base, &accel_class);
	qemu_object_init(&c->cpu.base, &cpu_class);
	qemu_object_init(&c->memory.base, &memory_class);
	qemu_object_init(&c->rtc.base, &rtc_class);
	qemu_object_init(&c->sandbox.base, &sandbox_class);
	qemu_object_init(&c->knobs.base, &knobs_class);
	c->sandbox.enable = true;
	c->knobs.nodefaults = c->knobs.no_user_config = c->knobs.no_reboot = c->knobs.S = true;
}

static int set_machine(struct qemu_cmdline *c, const struct qemu_config *config, struct error *err)
{
	struct machine *m = &c->machine;

	if ((unsigned)config->machine >= ARRAY_SIZE(machine_classes))
		return error_set(err, EINVAL, "-machine: type is a word that is not in its list");
	qemu_object_init(&m->base, machine_classes[config->machine]);
	c->transport = machine_transports[config->machine];
	m->type = config->machine;
	c->accel.type = c->cpu.model = config->accel;
	c->accel.tb_size = config->accel == ACCEL_TCG ? TB_SIZE_MIB : 0;
	m->rtc = m->pit = m->pic = ON_OFF_AUTO_ON;
	c->cpu.pmu = config->no_pmu ? ON_OFF_AUTO_OFF : ON_OFF_AUTO_AUTO;
	return qemu_set_id(m->memory_backend, "", MEMORY_ID, err);
}

static int set_sizes(struct qemu_cmdline *c, const struct qemu_config *config, struct error *err)
{
	c->smp.cpus = config->vcpus;
	c->smp.maxcpus = config->max_vcpus;
	c->memory.size = (uint64_t)config->memory_mib << 20;
	c->memory.slots = config->memory_slots;
	c->memory.maxmem = (uint64_t)config->memory_max_mib << 20;
	if (config->max_vcpus && config->max_vcpus < config->vcpus)
		return error_set(err, EINVAL, "-smp: maxcpus is %u, less than cpus, %u",
			config->max_vcpus, config->vcpus);
	if (!config->memory_slots != !config->memory_max_mib)
		return error_set(err, EINVAL, "-m: slots and maxmem go together");
	if (config->memory_slots && config->memory_max_mib <= config->memory_mib)
		return error_set(err, EINVAL, "-m: maxmem is not above size");
	return 0;
}

static int set_texts(struct qemu_cmdline *c, const struct qemu_config *config, struct error *err)
{
	struct kernel *k = &c->kernel;
	int r = qemu_set_text(c->name.guest, sizeof(c->name.guest), config->name, err);

	if (r == 0)
		r = qemu_set_text(k->kernel, sizeof(k->kernel), config->kernel, err);
	if (r == 0)
		r = qemu_set_text(k->initrd, sizeof(k->initrd), config->initrd, err);
	if (r == 0)
		r = qemu_set_text(k->append, sizeof(k->append), config->append, err);
	return r;
}

static int refuse_confidential(enum confidential kind, struct error *err)
{
	if (kind == CONFIDENTIAL_NONE)
		return 0;
	return error_set(err, ENOTSUP, "-object %s: confidential guests are not available",
		(unsigned)kind < ARRAY_SIZE(confidentials) ? confidentials[kind] : "?");
}

int qemu_cmdline_init(struct qemu_cmdline *c, const struct qemu_config *config, struct error *err)
{
	const struct qemu_object *single[SINGLES];
	int r;

	init_objects(c);
	r = refuse_confidential(config->confidential, err);
	if (r == 0)
		r = set_machine(c, config, err);
	if (r == 0)
		r = set_texts(c, config, err);
	if (r == 0)
		r = set_sizes(c, config, err);
	singles(c, single);
	for (size_t i = 0; i < SINGLES && r == 0; i++)
		r = qemu_object_check(single[i], err);
	if (r == 0)
		r = add_memory(c, config, err);
	/* virtiofsd and a guest of today know the modern half of virtio alone. */
	if (r == 0 && c->transport == QEMU_TRANSPORT_DEVICE)
		r = qemu_cmdline_add_global(c, "virtio-mmio", "force-legacy", ON_OFF_AUTO_OFF, err);
	if (r == 0)
		r = add_rng(c, err);
	if (r == 0)
		r = add_serial(c, err);
	return r;
}

void qemu_cmdline_done(struct qemu_cmdline *c)
{
	struct qemu_object *next;

	for (struct qemu_object *o = c->objects; o; o = next) {
		next = o->next;
		qemu_object_done(o);
		free(o);
	}
	c->objects = NULL;
	c->tail = &c->objects;
}

int qemu_cmdline_print(const struct qemu_cmdline *c, enum qemu_form form, struct qemu_argv *argv,
	struct error *err)
{
	const struct qemu_object *single[SINGLES];
	int r = 0;

	singles(c, single);
	for (size_t i = 0; i < SINGLES - 2 && r == 0; i++)
		r = qemu_object_print(single[i], form, argv);
	for (const struct qemu_object *o = c->objects; o && r == 0; o = o->next)
		r = qemu_object_print(o, form, argv);
	for (size_t i = SINGLES - 2; i < SINGLES && r == 0; i++)
		r = qemu_object_print(single[i], form, argv);
	return r < 0 ? error_errno(err, -r, "QEMU's command line") : 0;
}

int qemu_cmdline_each_fd(const struct qemu_cmdline *c, qemu_fd_fn fn, void *ctx, struct error *err)
{
	for (const struct qemu_object *o = c->objects; o; o = o->next) {
		int r = qemu_object_each_fd(o, fn, ctx, err);

		if (r != 0)
			return r;
	}
	return 0;
}
