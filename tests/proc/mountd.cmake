foreach(part disks oom roots refusals streams share volumes guest)
	bulkhead_test(test_mountd_${part} proc
		SOURCES ${CMAKE_CURRENT_LIST_DIR}/mountd_${part}.c
			${CMAKE_CURRENT_LIST_DIR}/mountd_world.c ${CMAKE_CURRENT_LIST_DIR}/mountd_rig.c
			${CMAKE_CURRENT_LIST_DIR}/common_role.c
		LINK bulkhead_test bulkhead_ipc bulkhead_common TIMEOUT 300)
	add_dependencies(test_mountd_${part} bulkhead-mountd bulkhead-slot)
endforeach()
target_sources(test_mountd_guest PRIVATE ${CMAKE_CURRENT_LIST_DIR}/vhost_fs.c)
