bulkhead_test(test_vmmd_launch proc
	SOURCES ${CMAKE_CURRENT_LIST_DIR}/vmmd_launch.c ${CMAKE_CURRENT_LIST_DIR}/vmmd_rig.c
	LINK bulkhead_ipc bulkhead_test
	TIMEOUT 240)
add_dependencies(test_vmmd_launch bulkhead-vmmd bulkhead-slot)
