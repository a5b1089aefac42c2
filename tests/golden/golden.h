/* What a command line is compared with: golden/vmmd/<name>.txt, or another file of that folder. */
#pragma once

#include "vmmd/qemu_cmdline.h"

#define GOLDEN_SIZE 32768

/* The file must hold `got`. With BULKHEAD_GOLDEN_UPDATE set it is written instead. */
void golden_compare(const char *file, const char *got);

/* Both forms: <name>.txt, one word a line as QEMU gets it; <name>.classic.txt, one switch a line. */
void golden_check(const char *name, const struct qemu_cmdline *c);
