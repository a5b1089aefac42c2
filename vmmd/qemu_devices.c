#include "vmmd/qemu_devices.h"

#include <errno.h>
#include <stdio.h>

#include "common/fd.h"
#include "vmmd/qemu_fields.h"

#define CHASSIS_MAX 255

static const struct qemu_field global_fields[] = {
	FIELD(global, driver, "driver", ID),
	FIELD(global, property, "property", ID),
	WORD(global, value, "value", on_off_auto),
	{ 0 },
};
static CLASS(global, .name = "global", .style = QEMU_STYLE_KEYVAL);

static const struct qemu_field bios_fields[] = {
	TEXT(bios, bios, "bios"),
	{ 0 },
};
static CLASS(bios, .name = "bios", .style = QEMU_STYLE_SWITCHES);

static const struct qemu_field object_iothread_fields[] = {
	FIELD(object_iothread, id, "id", ID),
	{ 0 },
};
static CLASS(object_iothread, OBJECT("iothread"));

static const struct qemu_field device_virtio_scsi_fields[] = {
	FIELD(device_virtio_scsi, id, "id", ID),
	FIELD(device_virtio_scsi, iothread, "iothread", ID, OPTIONAL, NOT_MMIO),
	{ 0 },
};
static CLASS(device_virtio_scsi, DEVICE("virtio-scsi"), .has_transport = true);

static const struct qemu_field device_pcie_root_port_fields[] = {
	FIELD(device_pcie_root_port, id, "id", ID),
	FIELD(device_pcie_root_port, bus, "bus", ID),
	FIELD(device_pcie_root_port, chassis, "chassis", NUMBER, RANGE(1, CHASSIS_MAX)),
	FIELD(device_pcie_root_port, slot, "slot", NUMBER, RANGE(0, 0x1fff)),
	{ 0 },
};
static CLASS(device_pcie_root_port, DEVICE("pcie-root-port"));

static const struct qemu_field device_pci_bridge_fields[] = {
	FIELD(device_pci_bridge, id, "id", ID),
	FIELD(device_pci_bridge, bus, "bus", ID),
	FIELD(device_pci_bridge, chassis_nr, "chassis_nr", NUMBER, RANGE(1, CHASSIS_MAX)),
	FIELD(device_pci_bridge, shpc, "shpc", BOOL),
	FIELD(device_pci_bridge, addr, "addr", SLOT, OPTIONAL, RANGE(1, 31)),
	{ 0 },
};
static CLASS(device_pci_bridge, DEVICE("pci-bridge"));

static const struct qemu_field device_virtio_balloon_fields[] = {
	FIELD(device_virtio_balloon, id, "id", ID),
	FIELD(device_virtio_balloon, free_page_reporting, "free-page-reporting", BOOL),
	FIELD(device_virtio_balloon, deflate_on_oom, "deflate-on-oom", BOOL),
	{ 0 },
};
static CLASS(device_virtio_balloon, DEVICE("virtio-balloon"), .has_transport = true);

/* CIDs 0 to 2 are the hypervisor's, the loopback's and the host's. */
static const struct qemu_field device_vhost_vsock_fields[] = {
	FIELD(device_vhost_vsock, id, "id", ID),
	FIELD(device_vhost_vsock, vhostfd, "vhostfd", FD),
	FIELD(device_vhost_vsock, guest_cid, "guest-cid", NUMBER, RANGE(3, UINT32_MAX - 1)),
	{ 0 },
};
static CLASS(device_vhost_vsock, DEVICE("vhost-vsock"), .has_transport = true);

static const struct qemu_field device_intel_iommu_fields[] = {
	FIELD(device_intel_iommu, id, "id", ID),
	WORD(device_intel_iommu, intremap, "intremap", on_off_auto),
	FIELD(device_intel_iommu, device_iotlb, "device-iotlb", BOOL),
	FIELD(device_intel_iommu, caching_mode, "caching-mode", BOOL),
	{ 0 },
};
static CLASS(device_intel_iommu, DEVICE("intel-iommu"));

/* ---- what makes them ---- */

int qemu_cmdline_add_global(struct qemu_cmdline *c, const char *driver, const char *property,
	enum on_off_auto value, struct error *err)
{
	struct global *o = qemu_cmdline_new(c, &global_class, err);
	int r;

	if (!o)
		return -ENOMEM;
	o->value = value;
	r = qemu_set_id(o->driver, "", driver, err);
	if (r == 0)
		r = qemu_set_id(o->property, "", property, err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}

int qemu_cmdline_add_bios(struct qemu_cmdline *c, const char *path, struct error *err)
{
	struct bios *o = qemu_cmdline_new(c, &bios_class, err);
	int r = o ? qemu_set_text(o->bios, sizeof(o->bios), path, err) : -ENOMEM;

	return r < 0 ? r : qemu_object_check(&o->base, err);
}

int qemu_cmdline_add_iothread(struct qemu_cmdline *c, const char *id, struct error *err)
{
	struct object_iothread *o = qemu_cmdline_new(c, &object_iothread_class, err);
	int r = o ? qemu_set_id(o->id, "", id, err) : -ENOMEM;

	return r < 0 ? r : qemu_object_check(&o->base, err);
}

int qemu_cmdline_add_scsi(struct qemu_cmdline *c, const char *iothread, struct error *err)
{
	struct device_virtio_scsi *o = qemu_cmdline_new(c, &device_virtio_scsi_class, err);
	int r = o ? qemu_set_id(o->id, "", "scsi0", err) : -ENOMEM;

	if (r == 0 && iothread)
		r = qemu_set_id(o->iothread, "", iothread, err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}

/* Those of a bus that has PCI. */
static int need_pci(const struct qemu_cmdline *c, const char *what, struct error *err)
{
	if (c->transport == QEMU_TRANSPORT_PCI)
		return 0;
	return error_set(err, EINVAL, "-device %s: machine '%s' has no PCI", what,
		machine_types[c->machine.type]);
}

static int add_root_port(struct qemu_cmdline *c, unsigned i, struct error *err)
{
	struct device_pcie_root_port *o = qemu_cmdline_new(c, &device_pcie_root_port_class, err);
	int r;

	if (!o)
		return -ENOMEM;
	o->chassis = i + 1;
	snprintf(o->id, sizeof(o->id), "rp%u", i);
	r = qemu_set_id(o->bus, "", "pcie.0", err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}

int qemu_cmdline_add_root_ports(struct qemu_cmdline *c, unsigned n, struct error *err)
{
	int r = need_pci(c, "pcie-root-port", err);

	if (r == 0 && n > QEMU_ROOT_PORTS_MAX)
		return error_set(err, EINVAL, "-device pcie-root-port: %u ports, at most %d fit", n,
			QEMU_ROOT_PORTS_MAX);
	for (unsigned i = 0; i < n && r == 0; i++)
		r = add_root_port(c, i, err);
	return r;
}

static int add_pci_bridge(struct qemu_cmdline *c, uint64_t chassis, uint64_t addr,
	struct error *err)
{
	struct device_pci_bridge *o = qemu_cmdline_new(c, &device_pci_bridge_class, err);
	int r;

	if (!o)
		return -ENOMEM;
	o->chassis_nr = chassis;
	o->addr = addr;
	snprintf(o->id, sizeof(o->id), "pci-bridge-%u", (unsigned)chassis);
	r = qemu_set_id(o->bus, "", "pcie.0", err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}

int qemu_cmdline_add_pci_bridge(struct qemu_cmdline *c, unsigned chassis, unsigned addr,
	struct error *err)
{
	int r = need_pci(c, "pci-bridge", err);

	return r < 0 ? r : add_pci_bridge(c, chassis, addr, err);
}

int qemu_cmdline_add_balloon(struct qemu_cmdline *c, bool free_page_reporting, struct error *err)
{
	struct device_virtio_balloon *o = qemu_cmdline_new(c, &device_virtio_balloon_class, err);
	int r = o ? qemu_set_id(o->id, "", "balloon0", err) : -ENOMEM;

	if (r < 0)
		return r;
	o->free_page_reporting = free_page_reporting;
	o->deflate_on_oom = true; /* a guest short of memory takes back what it gave */
	return qemu_object_check(&o->base, err);
}

int qemu_cmdline_add_vsock_consume(struct qemu_cmdline *c, int fd, uint64_t cid, struct error *err)
{
	struct device_vhost_vsock *o = qemu_cmdline_new(c, &device_vhost_vsock_class, err);
	int r;

	if (!o) {
		fd_close(&fd);
		return -ENOMEM;
	}
	o->vhostfd.fd = fd;
	o->guest_cid = cid;
	r = qemu_set_id(o->id, "", "vsock0", err);
	return r < 0 ? r : qemu_cmdline_finish(c, &o->base, err);
}

int qemu_cmdline_add_iommu(struct qemu_cmdline *c, struct error *err)
{
	struct device_intel_iommu *o;
	int r;

	if (c->machine.type != MACHINE_Q35)
		return error_set(err, EINVAL, "-device intel-iommu: machine '%s' has none",
			machine_types[c->machine.type]);
	o = qemu_cmdline_new(c, &device_intel_iommu_class, err);
	if (!o)
		return -ENOMEM;
	/* Interrupts are remapped in QEMU, so the chip that takes them must be there too. */
	if (c->accel.type == ACCEL_KVM)
		c->machine.kernel_irqchip = KERNEL_IRQCHIP_SPLIT;
	o->intremap = ON_OFF_AUTO_ON;
	o->device_iotlb = o->caching_mode = true;
	r = qemu_set_id(o->id, "", "iommu0", err);
	return r < 0 ? r : qemu_object_check(&o->base, err);
}
