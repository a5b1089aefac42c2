/*
 * The one event loop. A watch is embedded in its owner and owns its descriptor. Events are taken
 * from the kernel one at a time, so a handler may close any watch, its own included: no event of a
 * closed descriptor can still be under way.
 */
#pragma once

#include <stdint.h>

struct watch {
	int fd;
	uint32_t events; /* what epoll is asked for now; 0: not registered */
	void (*ready)(struct watch *w, uint32_t events);
};

#define WATCH_INIT       \
	{                \
		.fd = -1 \
	}

void loop_init(void);

/* Ask for these events from now on; 0 asks for none, not even for a hang-up. */
void watch_set(struct watch *w, uint32_t events);

/* Stop watching and close the descriptor. Harmless on a closed watch. */
void watch_close(struct watch *w);

/* Wait for one event and handle it. */
void loop_once(void);
