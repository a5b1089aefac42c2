foreach(part cmdline matrix)
	set(program test_vmmd_golden_${part})
	if(part STREQUAL cmdline)
		set(program test_vmmd_golden)
	endif()
	bulkhead_test(${program} golden
		SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmmd_${part}.c ${CMAKE_CURRENT_LIST_DIR}/golden.c
		LINK vmmd_core bulkhead_test)
	target_compile_definitions(${program} PRIVATE
		GOLDEN_DIR="${CMAKE_CURRENT_LIST_DIR}")
endforeach()

find_package(Python3 COMPONENTS Interpreter)
if(Python3_FOUND)
	add_test(NAME golden/distinct
		COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/distinct.py
			${CMAKE_CURRENT_LIST_DIR}/vmmd)
	set_tests_properties(golden/distinct PROPERTIES LABELS golden)
endif()
