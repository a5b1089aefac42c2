set(role_test ${CMAKE_SOURCE_DIR}/tests/proc/common_role.c)

foreach(helper netd persistd)
	bulkhead_test(test_${helper} proc
		SOURCES ${CMAKE_SOURCE_DIR}/tests/proc/test_${helper}.c ${role_test}
		LINK bulkhead_test bulkhead_ipc bulkhead_exits)
	add_dependencies(test_${helper} bulkhead-${helper})
endforeach()
