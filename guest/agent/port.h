/*
 * The channel to the host, a virtio-serial port or one connection by vsock, and ttRPC's framing on it.
 *
 * A port is opened once and never again: what the host sends while it is closed is lost. The
 * first message is the agent's hello, stream 0, type 'H'; the host sends nothing before it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	FRAME_REQUEST = 1,
	FRAME_RESPONSE = 2,
	FRAME_HELLO = 'H',
};

#define FRAME_MAX ((size_t)4 << 20)

typedef void frame_handler(
        uint32_t stream, uint8_t type, uint8_t flags, const uint8_t *data, size_t len);

/* Wait for the port of this name, open it and say hello. Ends the agent if it does not come. */
void port_open(const char *name, const char *hello);

/*
 * Listen on this vsock port until the host has connected and heard the hello. Nobody else is served,
 * then or later: there is no listener any more.
 */
void port_listen(unsigned int number, const char *hello);

/* From now on hand every frame to the handler. When the host has gone, the VM is powered off. */
void port_serve(frame_handler *handler);

/*
 * Queue one frame. Never blocks and never fails. If the host does not read, port_congested() soon
 * says so: then neither requests nor output of containers are read until the queue is shorter.
 */
void port_send(uint32_t stream, uint8_t type, const uint8_t *data, size_t len);
bool port_congested(void);

/* Called each time the queue has become short again, and empty, respectively. */
void port_on_relief(void (*relieved)(void));
void port_on_empty(void (*empty)(void));
