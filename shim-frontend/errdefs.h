/* The one place where an error number becomes a ttRPC code, as containerd's errdefs reads it. */
#pragma once

#include "common/error.h"
#include "ipc/ttrpc.h"

enum ttrpc_code errdefs_code(int code);

/*
 * An error that a helper or the guest reported while it worked for a
 * container. Their "no such file" is about a file: towards containerd, where
 * the same number would say "no such container", it becomes a plain failure.
 */
void errdefs_foreign(struct error *err);
