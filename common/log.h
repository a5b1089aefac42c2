/*
 * One line per event on fd 2: "<N>text", N a syslog level as the kernel
 * writes them. In a role fd 2 is a datagram socket to the supervisor, which
 * adds time, role and sandbox id, strips control characters and limits the
 * rate; in the launcher it is what containerd gave. Never blocks in a role: a
 * line that finds the socket full is dropped.
 *
 * A function logs an error or returns it, not both.
 */
#pragma once

#include "common/error.h"

enum log_level {
	LOG_LEVEL_ERROR = 3,
	LOG_LEVEL_WARN = 4,
	LOG_LEVEL_INFO = 6,
	LOG_LEVEL_DEBUG = 7,
};

#define LOG_LINE_MAX 1024

/* Lines above this level are not written. The default is LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

void log_line(enum log_level level, const char *fmt, ...) PRINTF(2, 3);

#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...)  log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
