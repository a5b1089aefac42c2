/*
 * A test program is a list of TEST(name) { ... } bodies. Each runs in its own
 * process with a time limit, and fails if it leaves an fd open that was not
 * open before, or, with sanitizers, memory that nothing points to. main() is in
 * test.c. A name on the command line runs that test alone, in this process, for
 * a debugger.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEST_TIMEOUT_S 30 /* unless the program says TEST_PATIENCE(s) */
#define TEST_SKIPPED   77

struct test {
	const char *name;
	void (*run)(void);
	struct test *next;
};

void test_register(struct test *t);

#define TEST(name)                                                                                 \
	static void test_##name(void);                                                             \
	__attribute__((constructor)) static void register_##name(void)                             \
	{                                                                                          \
		static struct test t = { #name, test_##name, NULL };                               \
		test_register(&t);                                                                 \
	}                                                                                          \
	static void test_##name(void)

extern int test_timeout_s;

/* Each test of this program may take so many seconds. */
#define TEST_PATIENCE(s)                                                                           \
	__attribute__((constructor)) static void be_patient(void)                                  \
	{                                                                                          \
		test_timeout_s = (s);                                                              \
	}

/* So many tests of this program run at once: they share nothing, and wait more than they work. */
extern int test_together;
#define TEST_TOGETHER(n)                                                                           \
	__attribute__((constructor)) static void be_together(void)                                 \
	{                                                                                          \
		test_together = (n);                                                               \
	}

_Noreturn void test_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/* Ends the test as skipped, with the reason. */
_Noreturn void test_skip(const char *why);

#define CHECK(cond)                                                                                \
	do {                                                                                       \
		if (!(cond))                                                                       \
			test_fail(__FILE__, __LINE__, "%s", #cond);                                \
	} while (0)

#define CHECK_INT(got, want)                                                                       \
	do {                                                                                       \
		long long _g = (long long)(got), _w = (long long)(want);                           \
		if (_g != _w)                                                                      \
			test_fail(__FILE__, __LINE__, "%s is %lld, not %lld", #got, _g, _w);       \
	} while (0)

#define CHECK_STR(got, want)                                                                       \
	do {                                                                                       \
		const char *_g = (got), *_w = (want);                                              \
		if (!_g || strcmp(_g, _w) != 0)                                                    \
			test_fail(__FILE__, __LINE__, "%s is \"%s\", not \"%s\"", #got,            \
				_g ? _g : "(null)", _w);                                           \
	} while (0)

/* got contains want */
#define CHECK_CONTAINS(got, want)                                                                  \
	do {                                                                                       \
		const char *_g = (got), *_w = (want);                                              \
		if (!_g || !strstr(_g, _w))                                                        \
			test_fail(__FILE__, __LINE__, "%s is \"%s\", without \"%s\"", #got,        \
				_g ? _g : "(null)", _w);                                           \
	} while (0)

/* How many fds this process has open. */
int test_count_fds(void);

/* A seqpacket pair, close-on-exec. */
void test_pair(int ret[2]);

/*
 * Starts a role's release or dev binary (by name, from the build) with fds
 * given as pairs {target number, fd of ours}, ended by -1; everything else is
 * closed. argv as for exec, without argv[0], ended by NULL. Returns the pid.
 * With BULKHEAD_TRACE=DIR it runs under tests/faults/tracer, which notes in DIR
 * which rules of its system call policy are used.
 */
struct test_fd {
	int target, fd;
};
extern bool test_spawn_traced; /* by this process: it waits for it at its first instruction */
int test_spawn(const char *binary, const char *const *args, const struct test_fd *fds);

/* Waits up to ms for the child; its wait status, or -1 when it still runs (it is killed then). */
int test_wait(int pid, int ms);
