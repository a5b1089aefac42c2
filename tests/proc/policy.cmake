# The system call filters: what the text says, what the program says, what the kernel does.
# Here and not in unit/, because those of the dev build allow what its sanitizers need.
set(policy ${CMAKE_SOURCE_DIR}/tests/proc)

foreach(part simulated kernel)
	bulkhead_test(test_policy_${part} proc
		SOURCES ${policy}/policy_${part}.c ${policy}/policy_rules.c ${policy}/policy_bpf.c
		LINK bulkhead_test bulkhead_isolate bulkhead_policy)
endforeach()
target_compile_definitions(test_policy_simulated PRIVATE
	README="${CMAKE_SOURCE_DIR}/seccomp-profiles/README.md")
