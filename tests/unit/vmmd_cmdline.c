/* Objects of QEMU's command line: grammar, quoting, printing, ownership of fds. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <unistd.h>

#include "tests/lib/test.h"
#include "vmmd/qemu_cmdline.h"

static struct qemu_config config(void)
{
	return (struct qemu_config){
		.name = "sandbox",
		.machine = MACHINE_Q35,
		.accel = ACCEL_TCG,
		.vcpus = 2,
		.memory_mib = 256,
		.kernel = "/kernel",
		.initrd = "/initrd",
		.append = "console=hvc0",
	};
}

static int some_fd(void)
{
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

/* The word after `name`, the nth time it occurs; "" if it does not. */
static void word_after(const struct qemu_cmdline *c, enum qemu_form form, const char *name, int nth,
	char ret[4096])
{
	CLEANUP(qemu_argv_done) struct qemu_argv argv = QEMU_ARGV_INIT;
	struct error err = ERROR_INIT;

	ret[0] = '\0';
	CHECK_INT(qemu_cmdline_print(c, form, &argv, &err), 0);
	for (size_t i = 0; i + 1 < argv.n; i++)
		if (strcmp(argv.arg[i], name) == 0 && nth-- == 0)
			snprintf(ret, 4096, "%s", argv.arg[i + 1]);
}

static void expect_refused(const struct qemu_config *cfg, const char *sentence)
{
	struct qemu_cmdline c;
	struct error err = ERROR_INIT;

	CHECK(qemu_cmdline_init(&c, cfg, &err) < 0);
	CHECK_CONTAINS(err.msg, sentence);
	qemu_cmdline_done(&c);
	qemu_cmdline_done(&c);
}

TEST (commas_are_doubled) {
	struct qemu_config cfg = config();
	struct qemu_cmdline c;
	char word[4096];

	cfg.name = "a,b=c,,d";
	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	word_after(&c, QEMU_FORM_ARGV, "-name", 0, word);
	CHECK_STR(word, "guest=a,,b=c,,,,d");
	qemu_cmdline_done(&c);
}

/* -append is no list: QEMU takes the word as it is. */
TEST (append_is_verbatim) {
	struct qemu_config cfg = config();
	struct qemu_cmdline c;
	char word[4096];

	cfg.append = "a=b,c \"d\" -device x";
	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	word_after(&c, QEMU_FORM_ARGV, "-append", 0, word);
	CHECK_STR(word, "a=b,c \"d\" -device x");
	qemu_cmdline_done(&c);

	cfg.append = "";
	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	word_after(&c, QEMU_FORM_ARGV, "-append", 0, word);
	CHECK_STR(word, "");
	qemu_cmdline_done(&c);
}

TEST (sizes_have_the_largest_unit_that_fits) {
	static const struct {
		unsigned mib;
		const char *text;
	} cases[] = { { 32, "32M" }, { 1023, "1023M" }, { 1024, "1G" }, { 1536, "1536M" },
		{ 1024 * 1024, "1024G" } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct qemu_config cfg = config();
		struct qemu_cmdline c;
		char word[4096];

		cfg.memory_mib = cases[i].mib;
		CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
		word_after(&c, QEMU_FORM_ARGV, "-m", 0, word);
		CHECK_STR(word, cases[i].text);
		qemu_cmdline_done(&c);
	}
}

TEST (numbers_outside_their_range) {
	struct qemu_config cfg = config();

	cfg.vcpus = 0;
	expect_refused(&cfg, "-smp: cpus is 0, allowed are 1 to 255");
	cfg.vcpus = 256;
	expect_refused(&cfg, "-smp: cpus is 256, allowed are 1 to 255");
	cfg = config();
	cfg.memory_mib = 31;
	expect_refused(&cfg, "-m: size is 32505856");
	cfg.memory_mib = 1024 * 1024 + 1;
	expect_refused(&cfg, "-m: size is ");
	cfg.memory_mib = UINT32_MAX;
	expect_refused(&cfg, "-m: size is ");
}

TEST (texts_outside_their_grammar) {
	/* Latin-1; cut short; overlong; a surrogate; noncharacters; above Unicode; C1, DEL */
	static const char *const bad[] = { "\xe4", "\xc3", "\xe2\x82", "\xc0\xaf", "\xe0\x80\xaf",
		"\xed\xa0\x80", "\xef\xbf\xbf", "\xef\xb7\x90", "\xf4\x90\x80\x80", "\xc2\x85",
		"\x7f", "\x80" };
	static char append[QEMU_APPEND_SIZE + 1];
	struct qemu_config cfg = config();

	cfg.append = "quiet\n-device";
	expect_refused(&cfg, "-kernel: append has characters that are not printable");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		cfg.append = bad[i];
		expect_refused(&cfg, "not printable");
	}
	memset(append, 'a', sizeof(append) - 1);
	cfg.append = append;
	expect_refused(&cfg, "is 2048 bytes long, the limit is 2047");
	cfg = config();
	cfg.name = "";
	expect_refused(&cfg, "-name: guest is missing");
	cfg = config();
	cfg.kernel = "";
	expect_refused(&cfg, "-kernel: kernel is missing");
}

TEST (words_outside_their_list) {
	struct qemu_config cfg = config();
	struct error err = ERROR_INIT;

	cfg.accel = (enum accel_type)7;
	expect_refused(&cfg, "-accel: accel is a word that is not in its list");
	CHECK(qemu_word(accels, "accel", "hvf", &err) < 0);
	CHECK_STR(err.msg, "accel 'hvf' is not one of: tcg, kvm");
	CHECK_INT(qemu_word(accels, "accel", "kvm", &err), ACCEL_KVM);
}

TEST (identifiers) {
	static const char *const bad[] = { "", "9a", "-a", "a,b", "a b", "a/b", "a=b", "_x", ".",
		"a\"b", "\xc3\xa4" };
	static const char *const good[] = { "a", "A9-._z", "agent" };
	struct qemu_config cfg = config();

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct qemu_cmdline c;
		struct error err = ERROR_INIT;

		CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
		CHECK(qemu_cmdline_add_port_consume(&c, bad[i], "port", some_fd(), &err) < 0);
		CHECK_CONTAINS(err.msg, "-chardev socket: id ");
		err = (struct error)ERROR_INIT;
		CHECK(qemu_cmdline_add_port_consume(&c, "id", bad[i], some_fd(), &err) < 0);
		CHECK_CONTAINS(err.msg, "-device virtserialport: name ");
		qemu_cmdline_done(&c);
	}
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct qemu_cmdline c;

		CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
		CHECK_INT(qemu_cmdline_add_port_consume(&c, good[i], good[i], some_fd(), NULL), 0);
		qemu_cmdline_done(&c);
	}
}

TEST (long_tag_is_refused) {
	struct qemu_config cfg = config();
	struct error err = ERROR_INIT;
	struct qemu_cmdline c;

	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	CHECK(qemu_cmdline_add_share_consume(&c, "0123456789012345678901234567890123456", some_fd(),
		      &err) < 0);
	CHECK_CONTAINS(err.msg, "the limit is 36");
	qemu_cmdline_done(&c);
}

/* A device is printed as JSON: commas, quotes and backslashes need no rule of ours. */
TEST (json_is_json) {
	struct qemu_config cfg = config();
	struct json_object *json;
	struct qemu_cmdline c;
	char word[4096];

	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	CHECK_INT(qemu_cmdline_add_share_consume(&c, "a,b=\"c\\", some_fd(), NULL), 0);
	word_after(&c, QEMU_FORM_ARGV, "-device", 2, word);
	CHECK_STR(word,
		"{\"driver\":\"vhost-user-fs-pci\",\"id\":\"fs0\",\"chardev\":\"virtiofs\","
		"\"tag\":\"a,b=\\\"c\\\\\",\"queue-size\":1024}");
	json = json_tokener_parse(word);
	CHECK(json);
	CHECK_STR(json_object_get_string(json_object_object_get(json, "tag")), "a,b=\"c\\");
	json_object_put(json);
	word_after(&c, QEMU_FORM_CLASSIC, "-device", 2, word);
	CHECK_STR(word, "vhost-user-fs-pci,id=fs0,chardev=virtiofs,tag=a,,b=\"c\\,queue-size=1024");
	qemu_cmdline_done(&c);
}

TEST (transport_is_a_parameter) {
	static const char *const names[] = { "virtio-serial-pci", "virtio-serial-device",
		"virtio-serial-ccw" };
	struct qemu_config cfg = config();

	for (unsigned i = 0; i < ARRAY_SIZE(names); i++) {
		struct qemu_cmdline c;
		struct json_object *json;
		const struct qemu_object *o;

		CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
		for (struct qemu_object *p = c.objects; p; p = p->next)
			p->transport = (enum qemu_transport)i;
		for (o = c.objects; o->next; o = o->next)
			;
		json = qemu_object_json(o, QEMU_FORM_ARGV);
		CHECK_STR(json_object_get_string(json_object_object_get(json, "driver")), names[i]);
		json_object_put(json);
		qemu_cmdline_done(&c);
	}
}

static int note_fd(void *ctx, struct qemu_fd *fd, struct error *err)
{
	unsigned *sum = ctx;

	(void)err;
	CHECK(fd->fd >= 0);
	*sum = *sum * 100 + fd->number;
	return 0;
}

TEST (objects_own_their_fds) {
	struct qemu_config cfg = config();
	struct qemu_cmdline c;
	unsigned numbers = 0;
	int before = test_count_fds();

	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	CHECK_INT(qemu_cmdline_add_monitor_consume(&c, some_fd(), NULL), 0);
	CHECK_INT(qemu_cmdline_add_port_consume(&c, "agent", "agent.channel.0", some_fd(), NULL),
		0);
	CHECK_INT(qemu_cmdline_add_console_consume(&c, some_fd(), NULL), 0);
	CHECK_INT(qemu_cmdline_add_share_consume(&c, "tag", some_fd(), NULL), 0);
	CHECK_INT(qemu_cmdline_each_fd(&c, note_fd, &numbers, NULL), 0);
	CHECK_INT(numbers, 10111213);
	CHECK_INT(test_count_fds(), before + 4);
	qemu_cmdline_done(&c);
	CHECK_INT(test_count_fds(), before);
	qemu_cmdline_done(&c);
}

TEST (a_refused_object_keeps_no_fd) {
	struct qemu_config cfg = config();
	struct qemu_cmdline c;
	int before = test_count_fds();

	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	CHECK(qemu_cmdline_add_port_consume(&c, "no id", "x", some_fd(), NULL) < 0);
	CHECK(qemu_cmdline_add_monitor_consume(&c, -1, NULL) < 0);
	qemu_cmdline_done(&c);
	CHECK_INT(test_count_fds(), before);
}

TEST (more_fds_than_numbers) {
	struct qemu_config cfg = config();
	struct error err = ERROR_INIT;
	struct qemu_cmdline c;
	int r = 0;

	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	for (int i = 0; i < 300 && r == 0; i++) {
		char id[16];

		snprintf(id, sizeof(id), "p%d", i);
		r = qemu_cmdline_add_port_consume(&c, id, id, some_fd(), &err);
		CHECK(r < 0 || i < 246);
	}
	CHECK_CONTAINS(err.msg, "QEMU would get more than 246 fds");
	qemu_cmdline_done(&c);
}

/* The same objects give the same bytes. */
TEST (printing_is_pure) {
	CLEANUP(qemu_argv_done) struct qemu_argv first = QEMU_ARGV_INIT, second = QEMU_ARGV_INIT;
	struct qemu_config cfg = config();
	struct qemu_cmdline c;

	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	CHECK_INT(qemu_cmdline_print(&c, QEMU_FORM_ARGV, &first, NULL), 0);
	CHECK_INT(qemu_cmdline_print(&c, QEMU_FORM_ARGV, &second, NULL), 0);
	CHECK_INT(first.n, second.n);
	for (size_t i = 0; i < first.n; i++)
		CHECK_STR(first.arg[i], second.arg[i]);
	qemu_argv_done(&second);
	qemu_cmdline_done(&c);
}

/* ---- what does not go together ---- */

TEST (sizes_that_contradict_each_other) {
	struct qemu_config cfg = config();

	cfg.max_vcpus = 1;
	expect_refused(&cfg, "-smp: maxcpus is 1, less than cpus, 2");
	cfg = config();
	cfg.memory_slots = 1;
	expect_refused(&cfg, "-m: slots and maxmem go together");
	cfg = config();
	cfg.memory_max_mib = 512;
	expect_refused(&cfg, "-m: slots and maxmem go together");
	cfg.memory_slots = 1;
	cfg.memory_max_mib = 256;
	expect_refused(&cfg, "-m: maxmem is not above size");
	cfg = config();
	cfg.machine = (enum machine_type)9;
	expect_refused(&cfg, "-machine: type is a word that is not in its list");
}

TEST (kinds_of_memory) {
	struct qemu_config cfg = config();

	cfg.memory = (enum memory_kind)9;
	expect_refused(&cfg, "-object: the kind of memory is unknown");
	cfg.memory = MEMORY_RAM;
	cfg.memory_hugepages = true;
	expect_refused(&cfg, "-object memory-backend-ram: huge pages are memfd's");
	cfg.memory_hugepages = false;
	cfg.memory_path = "/path";
	expect_refused(&cfg, "-object memory-backend-ram: a path and read-only are a file's");
	cfg = config();
	cfg.memory_hugepages = true;
	cfg.memory_mib = 33;
	expect_refused(&cfg, "size is no multiple of a huge page's 2 MiB");
}

TEST (confidential_guests) {
	struct qemu_config cfg = config();

	for (unsigned kind = 1; kind < 12; kind++) {
		cfg.confidential = (enum confidential)kind;
		expect_refused(&cfg, ": confidential guests are not available");
	}
}

TEST (no_share_without_shared_memory) {
	struct qemu_config cfg = config();
	struct error err = ERROR_INIT;
	struct qemu_cmdline c;

	cfg.memory = MEMORY_RAM;
	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	CHECK(qemu_cmdline_add_share_consume(&c, "tag", some_fd(), &err) < 0);
	CHECK_CONTAINS(err.msg, "virtiofsd cannot map memory of kind 'ram'");
	qemu_cmdline_done(&c);
}

TEST (what_a_machine_has_not) {
	struct qemu_config cfg = config();
	struct error err = ERROR_INIT;
	struct qemu_cmdline c;

	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	CHECK(qemu_cmdline_add_root_ports(&c, 1000, &err) < 0);
	CHECK_CONTAINS(err.msg, "-device pcie-root-port: 1000 ports, at most ");
	CHECK(qemu_cmdline_add_virtio_mem(&c, 256 << 20, 1 << 20, &err) < 0);
	CHECK_CONTAINS(err.msg, "requested-size is no multiple of 2 MiB");
	qemu_cmdline_done(&c);
	cfg.machine = MACHINE_MICROVM;
	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	CHECK(qemu_cmdline_add_root_ports(&c, 1, &err) < 0);
	CHECK_CONTAINS(err.msg, "-device pcie-root-port: machine 'microvm' has no PCI");
	CHECK(qemu_cmdline_add_pci_bridge(&c, 1, 0, &err) < 0);
	CHECK_CONTAINS(err.msg, "-device pci-bridge: machine 'microvm' has no PCI");
	CHECK(qemu_cmdline_add_iommu(&c, &err) < 0);
	CHECK_CONTAINS(err.msg, "-device intel-iommu: machine 'microvm' has none");
	qemu_cmdline_done(&c);
}

/* QEMU's own limit is beyond it; ours comes first, with a sentence. */
TEST (more_words_than_there_may_be) {
	CLEANUP(qemu_argv_done) struct qemu_argv argv = QEMU_ARGV_INIT;
	struct qemu_config cfg = config();
	struct error err = ERROR_INIT;
	struct qemu_cmdline c;

	CHECK_INT(qemu_cmdline_init(&c, &cfg, NULL), 0);
	for (int i = 0; i < 300; i++) {
		char id[16];

		snprintf(id, sizeof(id), "io%d", i);
		CHECK_INT(qemu_cmdline_add_iothread(&c, id, NULL), 0);
	}
	CHECK_INT(qemu_cmdline_print(&c, QEMU_FORM_ARGV, &argv, &err), -E2BIG);
	CHECK_CONTAINS(err.msg, "QEMU's command line: Argument list too long");
	qemu_cmdline_done(&c);
}
