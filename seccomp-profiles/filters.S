/* The BPF programs of policies.list, as compile.c made them: filter_<name> to filter_<name>_end. */
#include <cet.h>

#define TEXT(x) #x
#define P(name)                       \
	.balign	8                    ;\
	.global	filter_##name        ;\
filter_##name:                       ;\
	.incbin	TEXT(name.bpf)       ;\
	.global	filter_##name##_end  ;\
filter_##name##_end:                 ;

	.section .rodata
#include "policies.list"

	.section .note.GNU-stack,"",%progbits
