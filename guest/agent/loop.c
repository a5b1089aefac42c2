#include "loop.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "util.h"

static int epoll_fd = -1;

void loop_init(void)
{
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0)
		die("epoll_create1: %s", strerror(errno));
}

void watch_set(struct watch *w, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = w };
	int op = !w->events ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;

	if (w->events == events)
		return;
	if (epoll_ctl(epoll_fd, op, w->fd, &ev) < 0)
		die("epoll_ctl: %s", strerror(errno));
	w->events = events;
}

void watch_close(struct watch *w)
{
	if (w->fd < 0)
		return;
	watch_set(w, 0);
	close_fd(&w->fd);
}

void loop_once(void)
{
	struct epoll_event ev;
	int n = epoll_wait(epoll_fd, &ev, 1, -1);

	if (n < 0 && errno != EINTR)
		die("epoll_wait: %s", strerror(errno));
	if (n == 1) {
		struct watch *w = ev.data.ptr;

		w->ready(w, ev.events);
	}
}
