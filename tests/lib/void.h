/* A void as the supervisor makes it: empty namespaces, an empty root that cannot be written. */
#pragma once

#include <sys/types.h>

/* A pidfd of a process that lives in it and dies with the test. *ret_pid may be NULL. */
int test_void(pid_t *ret_pid);

/* The same one at every call: namespaces are dear to make, and a void has nothing that changes. */
int test_void_shared(pid_t *ret_pid);
