/* A network device: two objects from one config, in three forms, and who has its fds. */
#include <fcntl.h>
#include <json-c/json.h>
#include <unistd.h>

#include "tests/lib/test.h"
#include "vmmd/device_virtio_net.h"
#include "vmmd/qemu_cmdline.h"

static const struct qemu_config machine = {
	.name = "sandbox",
	.machine = MACHINE_Q35,
	.accel = ACCEL_TCG,
	.vcpus = 1,
	.memory_mib = 256,
	.kernel = "/kernel",
	.initrd = "/initrd",
	.append = "console=hvc0",
};

static int queue_fds[17], vhost_fds[17];

/* A config with new fds. */
static struct network_device_config config(unsigned queues, bool vhost)
{
	for (unsigned i = 0; i < queues; i++) {
		queue_fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
		vhost_fds[i] = vhost ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;
	}
	return (struct network_device_config){
		.id = "eth0",
		.mac = { 0x02, 0x00, 0xca, 0xfe, 0x00, 0x01 },
		.queues = queues,
		.queue_fds = queue_fds,
		.vhost_fds = vhost ? vhost_fds : NULL,
	};
}

static void expect_json(const struct qemu_object *o, enum qemu_form form, const char *want)
{
	struct json_object *json = qemu_object_json(o, form);

	CHECK_STR(json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN), want);
	json_object_put(json);
}

TEST (numbers_at_start_names_at_hotplug) {
	struct network_device_config cfg = config(2, true);
	struct netdev netdev;

	CHECK_INT(netdev_init_consume(&netdev, &cfg, NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		netdev.fds.fd[i].number = 20 + i;
		netdev.vhostfds.fd[i].number = 30 + i;
	}
	expect_json(&netdev.base, QEMU_FORM_ARGV,
		"{\"type\":\"tap\",\"id\":\"eth0\",\"fds\":\"20:21\",\"vhost\":true,"
		"\"vhostfds\":\"30:31\"}");
	expect_json(&netdev.base, QEMU_FORM_QMP,
		"{\"type\":\"tap\",\"id\":\"eth0\",\"fds\":\"eth0-queue0:eth0-queue1\","
		"\"vhost\":true,\"vhostfds\":\"eth0-vhost0:eth0-vhost1\"}");
	netdev_done(&netdev);
	netdev_done(&netdev);
}

TEST (vectors_and_mq) {
	static const struct {
		unsigned queues;
		const char *text;
	} cases[] = { { 1, "\"vectors\":4" }, { 2, "\"mq\":true,\"vectors\":6" },
		{ 16, "\"mq\":true,\"vectors\":34" } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct network_device_config cfg = { .id = "n", .mac = { 2 },
			.queues = cases[i].queues };
		struct device_virtio_net device;
		char want[256];

		CHECK_INT(device_virtio_net_init(&device, QEMU_TRANSPORT_PCI, &cfg, NULL), 0);
		snprintf(want, sizeof(want),
			"{\"driver\":\"virtio-net-pci\",\"id\":\"virtio-n\",\"netdev\":\"n\","
			"\"mac\":\"02:00:00:00:00:00\",%s,\"romfile\":\"\"}",
			cases[i].text);
		expect_json(&device.base, QEMU_FORM_QMP, want);
		expect_json(&device.base, QEMU_FORM_ARGV, want);
	}
}

TEST (what_only_pci_has) {
	struct network_device_config cfg = { .id = "n", .mac = { 2 }, .queues = 4 };
	struct device_virtio_net device;
	struct error err = ERROR_INIT;

	CHECK_INT(device_virtio_net_init(&device, QEMU_TRANSPORT_DEVICE, &cfg, NULL), 0);
	expect_json(&device.base, QEMU_FORM_ARGV,
		"{\"driver\":\"virtio-net-device\",\"id\":\"virtio-n\",\"netdev\":\"n\","
		"\"mac\":\"02:00:00:00:00:00\",\"mq\":true}");
	CHECK_INT(device_virtio_net_init(&device, QEMU_TRANSPORT_CCW, &cfg, NULL), 0);
	device.devno = 0x12;
	CHECK_INT(qemu_object_check(&device.base, &err), 0);
	expect_json(&device.base, QEMU_FORM_ARGV,
		"{\"driver\":\"virtio-net-ccw\",\"id\":\"virtio-n\",\"netdev\":\"n\","
		"\"mac\":\"02:00:00:00:00:00\",\"mq\":true,\"devno\":\"fe.0.0012\"}");
	device.addr = 3;
	CHECK(qemu_object_check(&device.base, &err) < 0);
	CHECK_STR(err.msg, "-device virtio-net: addr is unknown with transport 'ccw'");

	cfg.disable_modern = true;
	CHECK(device_virtio_net_init(&device, QEMU_TRANSPORT_DEVICE, &cfg, &err) < 0);
	CHECK_STR(err.msg, "-device virtio-net: disable-modern is unknown with transport 'device'");
}

TEST (place_on_a_bus) {
	struct network_device_config cfg = { .id = "n", .mac = { 2 }, .queues = 1, .host_mtu = 1500,
		.iommu_platform = true };
	struct device_virtio_net device;
	struct error err = ERROR_INIT;

	CHECK_INT(device_virtio_net_init(&device, QEMU_TRANSPORT_PCI, &cfg, NULL), 0);
	CHECK_INT(qemu_set_id(device.bus, "", "rp0", NULL), 0);
	device.addr = 31;
	CHECK_INT(qemu_object_check(&device.base, NULL), 0);
	expect_json(&device.base, QEMU_FORM_QMP,
		"{\"driver\":\"virtio-net-pci\",\"id\":\"virtio-n\",\"netdev\":\"n\","
		"\"mac\":\"02:00:00:00:00:00\",\"vectors\":4,\"disable-legacy\":\"on\","
		"\"iommu_platform\":true,\"host_mtu\":1500,\"bus\":\"rp0\",\"addr\":\"1f\","
		"\"romfile\":\"\"}");
	device.addr = 32;
	CHECK(qemu_object_check(&device.base, &err) < 0);
	CHECK_STR(err.msg, "-device virtio-net: addr is 32, allowed are 1 to 31");
}

static void expect_refused(const struct network_device_config *cfg, const char *sentence)
{
	struct error err = ERROR_INIT;
	struct qemu_cmdline c;

	CHECK_INT(qemu_cmdline_init(&c, &machine, NULL), 0);
	CHECK(qemu_cmdline_add_network_device_consume(&c, cfg, &err) < 0);
	CHECK_STR(err.msg, sentence);
	qemu_cmdline_done(&c);
}

TEST (values_outside_their_grammar) {
	int before = test_count_fds();
	struct network_device_config cfg = config(2, true);

	cfg.mac[0] = 0x01;
	expect_refused(&cfg, "-device virtio-net: mac is not the address of one station");
	cfg = config(2, true);
	memset(cfg.mac, 0, sizeof(cfg.mac));
	expect_refused(&cfg, "-device virtio-net: mac is not the address of one station");
	cfg = config(2, true);
	cfg.id = "eth0,x=y";
	expect_refused(&cfg,
		"-netdev tap: id is not an identifier: a letter, then letters, digits, '-', '.', '_'");
	cfg = config(2, true);
	cfg.id = "a234567890123456789012345678901234567890123456789012345678901234";
	expect_refused(&cfg,
		"the identifier 'a2345678901234567890123456789012...' is 64 bytes long, the limit is 63");
	cfg = config(2, false);
	cfg.host_mtu = 67;
	expect_refused(&cfg, "-device virtio-net: host_mtu is 67, allowed are 68 to 65535");
	cfg = config(17, false);
	expect_refused(&cfg, "-netdev tap: 17 queues, allowed are 1 to 16");
	cfg = config(0, false);
	expect_refused(&cfg, "-netdev tap: 0 queues, allowed are 1 to 16");
	cfg = config(2, true);
	cfg.iommu_platform = cfg.disable_modern = true;
	expect_refused(&cfg,
		"-device virtio-net: iommu_platform needs what disable-modern takes away");
	cfg = config(1, false);
	close(queue_fds[0]);
	queue_fds[0] = -1;
	expect_refused(&cfg, "-netdev tap: fds is not open");
	CHECK_INT(test_count_fds(), before);
}

TEST (the_line_owns_every_queue) {
	int before = test_count_fds();
	struct network_device_config cfg = config(4, true);
	struct qemu_cmdline c;

	CHECK_INT(qemu_cmdline_init(&c, &machine, NULL), 0);
	CHECK_INT(qemu_cmdline_add_network_device_consume(&c, &cfg, NULL), 0);
	CHECK_INT(test_count_fds(), before + 8);
	qemu_cmdline_done(&c);
	CHECK_INT(test_count_fds(), before);
	qemu_cmdline_done(&c);
}
