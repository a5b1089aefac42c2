#include "tests/proc/vhost_fs.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/test.h"

#define DEADLINE_MS 10000

#define MEMORY	    (1UL << 20)
#define BASE	    0x100000000ULL /* where QEMU would have it */
#define ENTRIES	    8
#define RING_AT	    0
#define REQUEST_AT  0x10000
#define ANSWER_AT   0x40000
#define REQUEST_MAX (ANSWER_AT - REQUEST_AT)
#define ANSWER_MAX  (MEMORY - ANSWER_AT)

#define REQUESTS    1 /* the second queue; the first is for what cannot wait */

/* ---- vhost-user ---- */

enum {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	SET_VRING_ENABLE = 18,
};

#define VERSION		  1U
#define PROTOCOL_FEATURES 30

struct memory_table {
	uint32_t n, padding;
	uint64_t guest, size, user, offset;
};

struct message {
	uint32_t request, flags, size;
	union {
		uint64_t number;
		struct vhost_vring_state state;
		struct vhost_vring_addr address;
		struct memory_table table;
	};
} __attribute__((packed));

static struct {
	int fd, kick, call;
	uint8_t *memory;
	struct vring ring;
	uint16_t used;
	uint64_t unique;
} q;

static void say(struct message *m, uint32_t request, size_t size, int fd)
{
	union {
		struct cmsghdr hdr;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { .bytes = { 0 } };
	struct iovec iov = { m, offsetof(struct message, number) + size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	m->request = request;
	m->flags = VERSION;
	m->size = (uint32_t)size;
	if (fd >= 0) {
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		control.hdr = (struct cmsghdr){ .cmsg_len = CMSG_LEN(sizeof(int)),
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS };
		memcpy(CMSG_DATA(&control.hdr), &fd, sizeof(fd));
	}
	CHECK_INT(sendmsg(q.fd, &msg, MSG_NOSIGNAL), iov.iov_len);
}

static void say_number(uint32_t request, uint64_t number, int fd)
{
	struct message m = { .number = number };

	say(&m, request, sizeof(m.number), fd);
}

static void say_state(uint32_t request, uint32_t queue, uint32_t number)
{
	struct message m = { .state = { queue, number } };

	say(&m, request, sizeof(m.state), -1);
}

static uint64_t ask_features(void)
{
	struct message m = { 0 };
	struct pollfd pfd = { .fd = q.fd, .events = POLLIN };

	say(&m, GET_FEATURES, 0, -1);
	CHECK_INT(poll(&pfd, 1, DEADLINE_MS), 1);
	CHECK_INT(recv(q.fd, &m, offsetof(struct message, number) + sizeof(m.number), MSG_WAITALL), 20);
	CHECK_INT(m.request, GET_FEATURES);
	return m.number;
}

static void share_memory(void)
{
	struct message m = { .table = { 1, 0, BASE, MEMORY, BASE, 0 } };
	int fd = memfd_create("guest", MFD_CLOEXEC);

	CHECK(fd >= 0 && ftruncate(fd, MEMORY) == 0);
	q.memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	CHECK(q.memory != MAP_FAILED);
	say(&m, SET_MEM_TABLE, sizeof(m.table), fd);
	close(fd);
}

static void set_up(uint32_t queue, int kick, int call)
{
	struct message m = { .address = { .index = queue } };
	size_t at = queue == REQUESTS ? RING_AT : RING_AT + 0x4000;
	struct vring ring;

	vring_init(&ring, ENTRIES, q.memory + at, 0x1000);
	if (queue == REQUESTS)
		q.ring = ring;
	m.address.desc_user_addr = BASE + at;
	m.address.avail_user_addr = BASE + (uint64_t)((uint8_t *)ring.avail - q.memory);
	m.address.used_user_addr = BASE + (uint64_t)((uint8_t *)ring.used - q.memory);
	say_state(SET_VRING_NUM, queue, ENTRIES);
	say_state(SET_VRING_BASE, queue, 0);
	say(&m, SET_VRING_ADDR, sizeof(m.address), -1);
	say_number(SET_VRING_CALL, queue, call);
	say_number(SET_VRING_KICK, queue, kick);
	say_state(SET_VRING_ENABLE, queue, 1);
}

static int event(void)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	CHECK(fd >= 0);
	return fd;
}

void vhost_fs_open(int fd)
{
	struct fuse_init_in in = { .major = FUSE_KERNEL_VERSION, .minor = 31, .max_readahead = 4096 };
	struct fuse_init_out out;
	int other_kick = event(), other_call = event();
	struct message m = { 0 };
	uint64_t features;

	q.fd = fd;
	q.kick = event();
	q.call = event();
	features = ask_features();
	CHECK(features & (1ULL << VIRTIO_F_VERSION_1));
	say(&m, SET_OWNER, 0, -1);
	say_number(SET_FEATURES, (1ULL << VIRTIO_F_VERSION_1) | (1ULL << PROTOCOL_FEATURES), -1);
	share_memory();
	set_up(0, other_kick, other_call);
	set_up(REQUESTS, q.kick, q.call);
	close(other_kick);
	close(other_call);
	CHECK_INT(vhost_fs(&(struct vhost_fs_ask){ .opcode = FUSE_INIT, .in = &in,
			  .in_len = sizeof(in), .out = &out, .out_len = sizeof(out) }),
		0);
	CHECK_INT(out.major, FUSE_KERNEL_VERSION);
}

void vhost_fs_close(void)
{
	munmap(q.memory, MEMORY);
	close(q.kick);
	close(q.call);
}

/* ---- FUSE ---- */

static bool answered(void)
{
	struct pollfd pfd[] = { { .fd = q.call, .events = POLLIN }, { .fd = q.fd, .events = POLLIN } };
	uint64_t n;

	while (__atomic_load_n(&q.ring.used->idx, __ATOMIC_ACQUIRE) == q.used) {
		if (poll(pfd, 2, DEADLINE_MS) <= 0 || pfd[1].revents)
			return false;
		CHECK_INT(read(q.call, &n, sizeof(n)), sizeof(n));
	}
	q.used++;
	return true;
}

int vhost_fs(const struct vhost_fs_ask *a)
{
	struct fuse_in_header head = { .opcode = a->opcode, .nodeid = a->node, .uid = a->uid,
		.gid = a->gid, .unique = ++q.unique };
	uint8_t *request = q.memory + REQUEST_AT;
	const struct fuse_out_header *answer = (const void *)(q.memory + ANSWER_AT);
	size_t len = sizeof(head) + a->in_len + a->names_len;
	uint64_t one = 1;

	CHECK(len <= REQUEST_MAX && sizeof(*answer) + a->out_len <= ANSWER_MAX);
	head.len = (uint32_t)len;
	memcpy(request, &head, sizeof(head));
	if (a->in_len)
		memcpy(request + sizeof(head), a->in, a->in_len);
	if (a->names_len)
		memcpy(request + sizeof(head) + a->in_len, a->names, a->names_len);
	memset(q.memory + ANSWER_AT, 0, sizeof(*answer) + a->out_len);
	q.ring.desc[0] = (struct vring_desc){ BASE + REQUEST_AT, (uint32_t)len, VRING_DESC_F_NEXT, 1 };
	/* Room for any answer: virtiofsd gives none to what would not fit. */
	q.ring.desc[1] = (struct vring_desc){ BASE + ANSWER_AT, ANSWER_MAX, VRING_DESC_F_WRITE, 0 };
	q.ring.avail->ring[q.ring.avail->idx % ENTRIES] = 0;
	__atomic_store_n(&q.ring.avail->idx, (uint16_t)(q.ring.avail->idx + 1), __ATOMIC_RELEASE);
	CHECK_INT(write(q.kick, &one, sizeof(one)), sizeof(one));
	if (!answered())
		return -1;
	CHECK(answer->unique == q.unique);
	if (a->out && !answer->error)
		memcpy(a->out, answer + 1, a->out_len);
	return -answer->error;
}

int vhost_fs_lookup(uint64_t parent, const char *name, struct fuse_entry_out *ret)
{
	return vhost_fs(&(struct vhost_fs_ask){ .opcode = FUSE_LOOKUP, .node = parent, .names = name,
		.names_len = strlen(name) + 1, .out = ret, .out_len = sizeof(*ret) });
}

uint64_t vhost_fs_walk(const char *path)
{
	char copy[256], *save = NULL;
	struct fuse_entry_out e = { .nodeid = FUSE_ROOT_ID };

	snprintf(copy, sizeof(copy), "%s", path);
	for (char *name = strtok_r(copy, "/", &save); name; name = strtok_r(NULL, "/", &save))
		CHECK_INT(vhost_fs_lookup(e.nodeid, name, &e), 0);
	return e.nodeid;
}
