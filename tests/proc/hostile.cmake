# Taken-over neighbours: hostile.h
set(proc ${CMAKE_SOURCE_DIR}/tests/proc)
bulkhead_library(hostile
	SOURCES ${proc}/hostile.c ${proc}/hostile_forms.c ${proc}/hostile_payloads.c
		${proc}/common_role.c ${CMAKE_SOURCE_DIR}/tests/unit/common_kinds.c
	LINK bulkhead_test bulkhead_ipc bulkhead_common)

bulkhead_test(test_hostile_helpers proc SOURCES ${proc}/hostile_helpers.c LINK hostile TIMEOUT 300)
add_dependencies(test_hostile_helpers bulkhead-netd bulkhead-persistd)
