/*
 * Small things every file of the agent uses: errors, the log, owned descriptors and strings, and
 * whole-file helpers. Out of memory ends the agent (and with it the VM); everything whose size the
 * host chooses is bounded before it is allocated.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#define ARRAY_SIZE(a)                   (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define _printf_(fmt, first)            __attribute__((format(printf, fmt, first)))
#define _cleanup_free_                  __attribute__((cleanup(free_pointer)))
#define _cleanup_close_                 __attribute__((cleanup(close_fd)))

/* Status codes of ttRPC (google.rpc.Code); 0 is success. */
enum code {
	CODE_OK = 0,
	CODE_INVALID_ARGUMENT = 3,
	CODE_DEADLINE_EXCEEDED = 4,
	CODE_NOT_FOUND = 5,
	CODE_ALREADY_EXISTS = 6,
	CODE_RESOURCE_EXHAUSTED = 8,
	CODE_FAILED_PRECONDITION = 9,
	CODE_ABORTED = 10,
	CODE_UNIMPLEMENTED = 12,
	CODE_INTERNAL = 13,
	CODE_UNAVAILABLE = 14,
};

/* Why something failed, for a person. Lives on the caller's stack, untouched on success. */
struct error {
	enum code code;
	char text[512];
};

/* Fill *err and return -1. error_errno() appends ": " and the text of errno; its code is INTERNAL.
 */
int error_set(struct error *err, enum code code, const char *fmt, ...) _printf_(3, 4);
int error_errno(struct error *err, const char *fmt, ...) _printf_(2, 3);

/* One line to the guest's console, through /dev/kmsg: it works before the console exists. */
void log_line(const char *fmt, ...) _printf_(1, 2);

/* Say why and power the VM off. The host sees QEMU end and has the line in its console ring. */
_Noreturn void die(const char *fmt, ...) _printf_(1, 2);
_Noreturn void power_off(void);

void *xcalloc(size_t n, size_t size);
char *xstrdup(const char *s);
char *xasprintf(const char *fmt, ...) _printf_(1, 2);

void free_pointer(void *p);
void close_fd(int *fd);
/* Return *fd and leave -1 behind: the caller of fd_steal() owns it now. */
int fd_steal(int *fd);

/* Write text to an existing file (sysfs, cgroup, /proc) in one write. Returns 0 or -errno. */
int file_write(const char *path, const char *text);
/* Create or replace a file. Returns 0 or -errno. */
int file_create(const char *path, const char *text, size_t len);
/* Read at most size - 1 bytes and terminate them. Returns the length or -errno. */
ssize_t file_read(const char *path, char *buf, size_t size);
/* The number after "key " in a flat keyed file such as memory.events; 0 if there is none. */
uint64_t flat_key(const char *text, const char *key);

/* mkdir -p with mode 0755. Returns 0 or -errno. */
int make_dirs(const char *path);
/* rm -r that stays on one file system. What cannot be removed stays. */
void remove_tree(const char *path);

/* Milliseconds of CLOCK_MONOTONIC, which in a guest starts with the kernel. */
uint64_t now_ms(void);
void sleep_ms(unsigned int ms);
