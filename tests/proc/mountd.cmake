bulkhead_test(test_mountd proc
	SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_mountd.c ${CMAKE_CURRENT_LIST_DIR}/mountd_rig.c
		${CMAKE_CURRENT_LIST_DIR}/common_role.c
	LINK bulkhead_test bulkhead_ipc bulkhead_common TIMEOUT 300)
add_dependencies(test_mountd bulkhead-mountd bulkhead-slot)
