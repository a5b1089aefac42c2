add_executable(supervisor_role ${CMAKE_CURRENT_LIST_DIR}/supervisor_role.c)
target_link_libraries(supervisor_role PRIVATE bulkhead_flags)
bulkhead_test(test_supervisor proc
	SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_supervisor.c ${CMAKE_CURRENT_LIST_DIR}/common_role.c
	LINK bulkhead_test bulkhead_ipc TIMEOUT 240)
add_dependencies(test_supervisor bulkhead-supervisor supervisor_role)
