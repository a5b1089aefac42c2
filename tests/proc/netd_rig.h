/* The real netd in a network namespace of the test's own. */
#pragma once

#include "ipc/netd.pb-c.h"
#include "ipc/tables.h"
#include "tests/proc/common_role.h"

#define NETD_DUMP_MAX 16384

extern int netd_vmmd; /* vmmd's end of netd's channel; -1: closed */

void own_netns(void);

/* Runs `ip ARGS`, which must succeed. */
void ip(const char *args);

/* eth0, which is up with an address, and its other end peer0. */
void veth(void);

/* All there is of links, addresses, qdiscs and filters: what an attach that fails must not change. */
void netns_dump(char ret[NETD_DUMP_MAX]);

struct started netd_up(void);
/* The same at its first instruction, for netd_step(): it is READY later. */
struct started netd_begun(void);
void netd_close(struct started *r);

/* 0, or the code of the error that netd answers. */
int netd_scan(struct started *r, struct error *err);
int netd_attach(struct started *r, uint32_t index, struct error *err);

/* Stopped for its tracer, this process; then to the begin or the end of its next system call. False: it has ended. */
struct user_regs_struct;
void netd_seize(const struct started *r);
bool netd_step(const struct started *r, struct user_regs_struct *regs);

/*
 * Frames from and to nobody, of a type that is for experiments, that end with a mark; and
 * whether one arrives within a second, among others.
 */
int packet_socket(const char *link);
void frame_to_tap(int tap, unsigned char mark);
void frame_to_link(int packet_socket, unsigned char mark);
bool frame_arrives(int fd, unsigned char mark);

/* Runs netd as `delete` does. Its exit status. */
int netd_clean(void);

int exit_code(int status);
