/* agentd/devices.c: what of config.json's devices and disks the guest is told. */
#include <stdio.h>
#include <string.h>

#include "agentd/devices.h"
#include "tests/lib/test.h"

static struct oci_spec spec;
static struct error err;

/* A spec with these mounts, devices and rules. */
static void read_spec(const char *mounts, const char *devices, const char *rules)
{
	char text[4096];
	int len = snprintf(text, sizeof(text),
		"{\"ociVersion\":\"1.0.2\",\"root\":{\"path\":\"r\"},\"process\":{\"args\":[\"a\"],"
		"\"cwd\":\"/\"},\"mounts\":[%s],\"linux\":{\"devices\":[%s],\"resources\":{\"devices\":[%s]}}}",
		mounts, devices, rules);

	err = (struct error)ERROR_INIT;
	spec = (struct oci_spec)OCI_SPEC_INIT;
	CHECK_INT(oci_parse(text, (size_t)len, 3, &spec, &err), 0);
}

static Ipc__Config__Disk disks[4], *list[4];

static Ipc__Config config_with(unsigned n)
{
	Ipc__Config config = IPC__CONFIG__INIT;

	for (unsigned i = 0; i < n; i++) {
		ipc__config__disk__init(&disks[i]);
		list[i] = &disks[i];
	}
	config.index = 3;
	config.disks = list;
	config.n_disks = n;
	return config;
}

static const char *rule_text(size_t i)
{
	static char text[64];
	const Grpc__LinuxDeviceCgroup *r = spec.spec->linux->resources->devices[i];

	snprintf(text, sizeof(text), "%s %s %d:%d %s", r->allow ? "allow" : "deny", r->type,
		(int)r->major, (int)r->minor, r->access);
	return text;
}

#define DEVICE(path, type, major, minor)                                                            \
	"{\"path\":\"" path "\",\"type\":\"" type "\",\"major\":" #major ",\"minor\":" #minor "}"
#define ALLOW(type, major, minor, access)                                                           \
	"{\"allow\":true,\"type\":\"" type "\",\"major\":" #major ",\"minor\":" #minor             \
	",\"access\":\"" access "\"}"
#define DENY_ALL "{\"allow\":false,\"access\":\"rwm\"}"

TEST(a_root_that_is_a_disk)
{
	char *options[] = { (char[]){ "noatime" }, (char[]){ "nouuid" } };
	Ipc__Config config = config_with(1);
	const Grpc__Storage *s;

	read_spec("", "", "");
	disks[0].use = IPC__CONFIG__DISK__USE__ROOTFS;
	disks[0].disk = 7;
	disks[0].read_only = true;
	disks[0].fstype = (char[]){ "xfs" };
	disks[0].options = options;
	disks[0].n_options = 2;
	CHECK_INT(devices_amend(&spec, &config, &err), 0);
	CHECK_INT(spec.n_storages, 1);
	s = spec.storages[0];
	CHECK_STR(s->driver, "blk");
	CHECK_STR(s->source, "disk-7");
	CHECK_STR(s->fstype, "xfs");
	CHECK_STR(s->mount_point, GUEST_SHARE "c3/rootfs");
	CHECK_STR(s->mount_point, spec.spec->root->path);
	CHECK_INT(s->n_options, 3);
	CHECK_STR(s->options[0], "noatime");
	CHECK_STR(s->options[1], "nouuid");
	CHECK_STR(s->options[2], "ro");
	CHECK_INT(spec.n_devices, 0);
	oci_spec_done(&spec);
}

TEST(block_devices_become_the_guests)
{
	Ipc__Config config = config_with(1);

	read_spec("",
		DEVICE("/dev/null", "c", 1, 3) "," DEVICE("/dev/x", "b", 7, 3) "," DEVICE("/dev/net/tun", "c", 10, 200),
		DENY_ALL "," ALLOW("c", 1, 3, "rwm") "," ALLOW("b", 7, 3, "rw") "," ALLOW("b", 8, 0, "rwm") ","
		ALLOW("c", 10, 232, "rwm") ",{\"allow\":true,\"type\":\"c\",\"access\":\"m\"},"
		"{\"allow\":true,\"type\":\"c\",\"major\":136,\"access\":\"rwm\"},"
		"{\"allow\":true,\"type\":\"b\",\"major\":8,\"access\":\"rwm\"},{\"allow\":false,\"type\":\"b\",\"major\":8,\"minor\":1}");
	disks[0].use = IPC__CONFIG__DISK__USE__DEVICE;
	disks[0].number = 1;
	disks[0].disk = 2;
	CHECK_INT(devices_amend(&spec, &config, &err), 0);
	CHECK_INT(spec.spec->linux->n_devices, 3);
	CHECK_INT(spec.n_devices, 1);
	CHECK_STR(spec.devices[0]->id, "disk-2");
	CHECK_STR(spec.devices[0]->type, "blk");
	CHECK_STR(spec.devices[0]->container_path, "/dev/x");
	/* What allows another number of the host's is gone. */
	CHECK_INT(spec.spec->linux->resources->n_devices, 6);
	CHECK_STR(rule_text(0), "deny a -1:-1 rwm");
	CHECK_STR(rule_text(1), "allow c 1:3 rwm");
	CHECK_STR(rule_text(2), "allow b 7:3 rw");
	CHECK_STR(rule_text(3), "allow c -1:-1 m");
	CHECK_STR(rule_text(4), "allow c 136:-1 rwm");
	CHECK_STR(rule_text(5), "deny b 8:1 rwm");
	oci_spec_done(&spec);
}

TEST(a_block_device_that_is_bound)
{
	Ipc__Config config = config_with(2);
	const Grpc__LinuxDevice *d;

	read_spec("{\"destination\":\"/proc\",\"type\":\"proc\"},"
		  "{\"destination\":\"/data\",\"type\":\"bind\",\"source\":\"/somewhere\"},"
		  "{\"destination\":\"/dev/xx\",\"type\":\"bind\",\"source\":\"/dev/loop0\"},"
		  "{\"destination\":\"/dev/yy\",\"type\":\"bind\",\"source\":\"/dev/loop1\"}",
		"", DENY_ALL);
	for (unsigned i = 0; i < 2; i++) {
		disks[i].use = IPC__CONFIG__DISK__USE__VOLUME;
		disks[i].number = i + 1;
		disks[i].disk = i + 4;
		disks[i].major = 7;
		disks[i].minor = i;
		disks[i].mode = 0640;
		disks[i].uid = 1;
		disks[i].gid = 6;
		disks[i].read_only = i == 1;
	}
	CHECK_INT(devices_amend(&spec, &config, &err), 0);
	CHECK_INT(spec.spec->n_mounts, 2);
	CHECK_STR(spec.spec->mounts[1]->source, GUEST_SHARE "c3/v0");
	CHECK_INT(spec.spec->linux->n_devices, 2);
	d = spec.spec->linux->devices[0];
	CHECK_STR(d->path, "/dev/xx");
	CHECK_STR(d->type, "b");
	CHECK(d->filemode == 0640 && d->uid == 1 && d->gid == 6 && d->major == 7 && d->minor == 0);
	CHECK_STR(spec.devices[1]->container_path, "/dev/yy");
	CHECK_STR(spec.devices[1]->id, "disk-5");
	CHECK_STR(rule_text(1), "allow b 7:0 rwm");
	CHECK_STR(rule_text(2), "allow b 7:1 rm");
	oci_spec_done(&spec);
}

TEST(all_of_the_hosts_are_left_out)
{
	Ipc__Config config = config_with(0);

	config.host_devices = true;
	read_spec("", DEVICE("/dev/sda", "b", 8, 0) "," DEVICE("/dev/kvm", "c", 10, 232) "," DEVICE("/dev/fuse", "c", 10, 229),
		"{\"allow\":true,\"access\":\"rwm\"}");
	CHECK_INT(devices_amend(&spec, &config, &err), 0);
	CHECK_INT(spec.spec->linux->n_devices, 1);
	CHECK_STR(spec.spec->linux->devices[0]->path, "/dev/fuse");
	CHECK_INT(spec.n_devices, 0);
	CHECK_STR(rule_text(0), "allow a -1:-1 rwm");
	oci_spec_done(&spec);
}

TEST(what_is_refused)
{
	static const struct {
		const char *devices, *says;
	} cases[] = {
		{ DEVICE("/dev/null", "c", 1, 3) "," DEVICE("/dev/kvm", "c", 10, 232),
			"config.json: linux.devices[1]: /dev/kvm (c 10:232) is a device of the host alone; of" },
		{ DEVICE("/dev/vfio/1", "c", 240, 0), "linux.devices[0]: /dev/vfio/1 (c 240:0) is a device of the host" },
		{ DEVICE("/dev/mem", "u", 1, 1), "/dev/mem (u 1:1) is a device of the host alone" },
		/* mountd has sent no disk for it: nothing is made up */
		{ DEVICE("/dev/sda", "b", 8, 0), "linux.devices[0]: /dev/sda is no disk of the VM" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		Ipc__Config config = config_with(0);

		read_spec("", cases[i].devices, "");
		CHECK(devices_amend(&spec, &config, &err) < 0);
		CHECK_CONTAINS(err.msg, cases[i].says);
		oci_spec_done(&spec);
	}
}

TEST(a_volume_that_is_none)
{
	Ipc__Config config = config_with(1);

	read_spec("", "", "");
	disks[0].use = IPC__CONFIG__DISK__USE__VOLUME;
	CHECK(devices_amend(&spec, &config, &err) < 0);
	CHECK_STR(err.msg, "config.json: no volume 0");
	oci_spec_done(&spec);
}
