set(role_test ${CMAKE_SOURCE_DIR}/tests/proc/common_role.c)

set(netd_rig ${CMAKE_SOURCE_DIR}/tests/proc/netd_rig.c)

bulkhead_test(test_netd_attach proc
	SOURCES ${CMAKE_SOURCE_DIR}/tests/proc/netd_attach.c ${netd_rig} ${role_test}
	LINK bulkhead_test bulkhead_ipc)
add_dependencies(test_netd_attach bulkhead-netd)

foreach(helper netd persistd)
	bulkhead_test(test_${helper} proc
		SOURCES ${CMAKE_SOURCE_DIR}/tests/proc/test_${helper}.c ${${helper}_rig} ${role_test}
		LINK bulkhead_test bulkhead_ipc bulkhead_exits)
	add_dependencies(test_${helper} bulkhead-${helper})
endforeach()
