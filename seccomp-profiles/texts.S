/* The texts of policies.list as NUL-terminated strings, for the compiler and for tests. */
#include <cet.h>

#define TEXT(x) #x
#define P(name)                       \
	.global	policy_##name        ;\
policy_##name:                       ;\
	.incbin	TEXT(name.policy)    ;\
	.byte	0                    ;

	.section .rodata
#include "policies.list"

	.section .note.GNU-stack,"",%progbits
