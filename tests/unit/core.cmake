# common/, ipc/, netd/, persistd/
set(unit ${CMAKE_SOURCE_DIR}/tests/unit)

bulkhead_test(test_common unit SOURCES ${unit}/test_common.c ${unit}/common_kinds.c
	LINK bulkhead_test bulkhead_common)

bulkhead_test(test_common_grammar unit
	SOURCES ${unit}/test_common_grammar.c ${unit}/common_grammar/texts.c ${CMAKE_SOURCE_DIR}/common/policy.c
	LINK bulkhead_test bulkhead_common PkgConfig::SECCOMP)
target_include_directories(test_common_grammar BEFORE PRIVATE ${unit}/common_grammar)

bulkhead_test(test_common_isolate unit SOURCES ${unit}/test_common_isolate.c
	LINK bulkhead_test bulkhead_isolate)

foreach(part alloc ctl serve)
	bulkhead_test(test_ipc_${part} unit SOURCES ${unit}/test_ipc_${part}.c
		LINK bulkhead_test bulkhead_ipc)
endforeach()
bulkhead_test(test_ipc_channel unit SOURCES ${unit}/test_ipc_channel.c ${unit}/common_kinds.c
	LINK bulkhead_test bulkhead_ipc)

foreach(helper netd persistd)
	bulkhead_test(test_unit_${helper} unit SOURCES ${unit}/test_${helper}.c
		LINK bulkhead_test ${helper}_core)
endforeach()

find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
	add_test(NAME unit/proto_recursion
		COMMAND ${Python3_EXECUTABLE} ${unit}/common_proto_recursion.py ${CMAKE_SOURCE_DIR}
			${CMAKE_CURRENT_BINARY_DIR})
	add_test(NAME unit/attack_cases
		COMMAND ${Python3_EXECUTABLE} ${unit}/attack_cases.py ${CMAKE_SOURCE_DIR})
	# A patch that no longer applies breaks no promise.
	add_test(NAME unit/sabotage_patches
		COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tests/sabotage/run --check)
	set_tests_properties(unit/proto_recursion unit/attack_cases unit/sabotage_patches
		PROPERTIES LABELS unit)
endif()
