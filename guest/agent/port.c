#include "port.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <poll.h>

#include "loop.h"
#include "util.h"

#define HEADER_SIZE      10
#define PORT_DEADLINE_MS 30000
#define CONGESTED_BYTES  ((size_t)1 << 20)

struct out_frame {
	struct out_frame *next;
	size_t len, sent;
	uint8_t bytes[];
};

static struct {
	struct watch watch;
	frame_handler *handler;
	void (*relieved)(void);
	void (*empty)(void);

	uint8_t header[HEADER_SIZE];
	uint8_t *data; /* of the frame being read; NULL while its header is incomplete */
	size_t got, want;

	struct out_frame *head, **tail;
	size_t queued;
	bool congested;
} port = { .watch = WATCH_INIT, .want = HEADER_SIZE, .tail = &port.head };

/* Find the port by its name in sysfs and return its device's path, or NULL if there is none yet. */
static char *port_find(const char *name)
{
	DIR *dir = opendir("/sys/class/virtio-ports");
	char *found = NULL;
	struct dirent *entry;

	while (dir && !found && (entry = readdir(dir))) {
		_cleanup_free_ char *path =
		        xasprintf("/sys/class/virtio-ports/%s/name", entry->d_name);
		char text[128];

		if (file_read(path, text, sizeof(text)) <= 0)
			continue;
		text[strcspn(text, "\n")] = '\0';
		if (strcmp(text, name) == 0)
			found = xasprintf("/dev/%s", entry->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* The host tells the port's name some time after the driver was loaded: wait on kernel events. */
static char *port_wait(const char *name)
{
	struct sockaddr_nl addr = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	uint64_t deadline = now_ms() + PORT_DEADLINE_MS;
	_cleanup_close_ int fd =
	        socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die("uevent socket: %s", strerror(errno));
	for (;;) {
		char *path = port_find(name);
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		char discard[4096];

		if (path)
			return path;
		if (now_ms() >= deadline)
			die("no virtio-serial port is named %s", name);
		(void)poll(&pfd, 1, 1000);
		while (recv(fd, discard, sizeof(discard), 0) > 0)
			;
	}
}

static void put_header(uint8_t *out, uint32_t stream, uint8_t type, size_t len)
{
	uint32_t be_len = htonl((uint32_t)len), be_stream = htonl(stream);

	memcpy(out, &be_len, 4);
	memcpy(out + 4, &be_stream, 4);
	out[8] = type;
	out[9] = 0;
}

/* The first that the host hears. A blocking write waits until its end of the port is connected. */
static bool say_hello(const char *hello)
{
	uint8_t frame[HEADER_SIZE + 64];
	size_t len = strlen(hello);

	put_header(frame, 0, FRAME_HELLO, len);
	memcpy(frame + HEADER_SIZE, hello, len);
	return write(port.watch.fd, frame, HEADER_SIZE + len) == (ssize_t)(HEADER_SIZE + len);
}

static void port_opened(void)
{
	if (fcntl(port.watch.fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
		die("the channel to the host: %s", strerror(errno));
}

void port_open(const char *name, const char *hello)
{
	_cleanup_free_ char *path = port_wait(name);

	port.watch.fd = open(path, O_RDWR | O_CLOEXEC);
	if (port.watch.fd < 0)
		die("open %s: %s", path, strerror(errno));
	if (!say_hello(hello))
		die("write %s: %s", path, strerror(errno));
	port_opened();
}

/* The next connection that comes from the host, and not from anybody else. */
static int accept_host(int listener)
{
	for (;;) {
		struct sockaddr_vm peer = { .svm_family = AF_VSOCK };
		socklen_t len = sizeof(peer);
		int fd = accept4(listener, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC);

		if (fd >= 0 && peer.svm_cid == VMADDR_CID_HOST)
			return fd;
		if (fd < 0 && errno != EINTR && errno != ECONNABORTED && errno != ECONNRESET)
			die("accept the host: %s", strerror(errno));
		close_fd(&fd);
	}
}

/* Whether it has heard the hello: it says something, and does not hang up. */
static bool host_answers(void)
{
	struct pollfd pfd = { .fd = port.watch.fd, .events = POLLIN };
	uint8_t byte;

	while (poll(&pfd, 1, -1) < 0)
		;
	return recv(port.watch.fd, &byte, 1, MSG_PEEK) == 1;
}

void port_listen(unsigned int number, const char *hello)
{
	const struct sockaddr_vm addr = {
		.svm_family = AF_VSOCK,
		.svm_cid = VMADDR_CID_ANY,
		.svm_port = number,
	};
	_cleanup_close_ int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (listener < 0 || bind(listener, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	        listen(listener, 1) < 0)
		die("vsock port %u: %s", number, strerror(errno));
	/* A host that was tired of waiting has left a connection that leads nowhere. */
	do {
		close_fd(&port.watch.fd);
		port.watch.fd = accept_host(listener);
	} while (!say_hello(hello) || !host_answers());
	port_opened();
}

static void port_interest(void)
{
	watch_set(&port.watch, (port.congested ? 0 : EPOLLIN) | (port.head ? EPOLLOUT : 0));
}

/* Account for a changed queue: congestion begins at the limit and ends at half of it. */
static void port_account(void)
{
	bool was = port.congested;

	port.congested = port.queued > (was ? CONGESTED_BYTES / 2 : CONGESTED_BYTES);
	port_interest();
	if (was && !port.congested && port.relieved)
		port.relieved();
	if (!port.head && port.empty)
		port.empty();
}

static void port_write(void)
{
	while (port.head) {
		struct out_frame *f = port.head;
		ssize_t n = write(port.watch.fd, f->bytes + f->sent, f->len - f->sent);

		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			die("write to the host: %s", strerror(errno));
		f->sent += (size_t)n;
		port.queued -= (size_t)n;
		if (f->sent < f->len)
			continue;
		port.head = f->next;
		if (!port.head)
			port.tail = &port.head;
		free(f);
	}
	port_account();
}

void port_send(uint32_t stream, uint8_t type, const uint8_t *data, size_t len)
{
	struct out_frame *f = xcalloc(1, sizeof(*f) + HEADER_SIZE + len);

	put_header(f->bytes, stream, type, len);
	memcpy(f->bytes + HEADER_SIZE, data, len);
	f->len = HEADER_SIZE + len;
	*port.tail = f;
	port.tail = &f->next;
	port.queued += f->len;
	port_account();
}

bool port_congested(void)
{
	return port.congested;
}

static uint32_t get_be32(const uint8_t *p)
{
	uint32_t value;

	memcpy(&value, p, sizeof(value));
	return ntohl(value);
}

/* The header is complete: make room for its data. Beyond the limit nothing can be trusted. */
static void frame_begin(void)
{
	port.want = get_be32(port.header);
	if (port.want > FRAME_MAX)
		die("the host sent a frame of %zu bytes", port.want);
	port.data = xcalloc(1, port.want + 1);
	port.got = 0;
}

static void frame_end(void)
{
	_cleanup_free_ uint8_t *data = port.data;
	size_t len = port.want;

	port.data = NULL;
	port.got = 0;
	port.want = HEADER_SIZE;
	port.handler(get_be32(port.header + 4), port.header[8], port.header[9], data, len);
}

/* Read what there is, at most one frame. */
static void port_read(void)
{
	uint8_t *into = port.data ? port.data : port.header;
	ssize_t n = read(port.watch.fd, into + port.got, port.want - port.got);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0)
		die("the host closed the channel");
	port.got += (size_t)n;
	if (!port.data && port.got == port.want)
		frame_begin();
	if (port.data && port.got == port.want)
		frame_end();
}

static void port_ready(struct watch *w, uint32_t events)
{
	(void)w;
	if (events & EPOLLOUT)
		port_write();
	if (events & EPOLLIN)
		port_read();
	else if (events & EPOLLHUP)
		die("the host closed the channel");
}

void port_serve(frame_handler *handler)
{
	port.handler = handler;
	port.watch.ready = port_ready;
	port_interest();
}

void port_on_relief(void (*relieved)(void))
{
	port.relieved = relieved;
}

void port_on_empty(void (*empty)(void))
{
	port.empty = empty;
	if (!port.head && empty)
		empty();
}
