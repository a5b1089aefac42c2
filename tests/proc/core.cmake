set(role_test ${CMAKE_SOURCE_DIR}/tests/proc/common_role.c)

set(netd_rig ${CMAKE_SOURCE_DIR}/tests/proc/netd_rig.c)
set(netd_faults ${CMAKE_SOURCE_DIR}/tests/proc/netd_fault.c)

foreach(t attach macvtap)
	bulkhead_test(test_netd_${t} proc
		SOURCES ${CMAKE_SOURCE_DIR}/tests/proc/netd_${t}.c ${netd_rig} ${netd_faults} ${role_test}
		LINK bulkhead_test bulkhead_ipc)
	add_dependencies(test_netd_${t} bulkhead-netd)
endforeach()

foreach(helper netd persistd)
	bulkhead_test(test_${helper} proc
		SOURCES ${CMAKE_SOURCE_DIR}/tests/proc/test_${helper}.c ${${helper}_rig} ${role_test}
		LINK bulkhead_test bulkhead_ipc bulkhead_exits)
	add_dependencies(test_${helper} bulkhead-${helper})
endforeach()
