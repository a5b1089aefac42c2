bulkhead_test(test_args unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_args.c LINK launcher_core bulkhead_test)
bulkhead_test(test_cgroup unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_cgroup.c LINK launcher_core bulkhead_test)
bulkhead_test(test_spec unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_spec.c LINK launcher_core bulkhead_test)
bulkhead_test(test_sandbox unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_sandbox.c LINK launcher_core bulkhead_test)
bulkhead_test(test_delete unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_delete.c LINK launcher_core bulkhead_test)
bulkhead_test(test_relay unit
	SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_relay.c ${CMAKE_SOURCE_DIR}/supervisor/relay.c
	LINK bulkhead_common bulkhead_test)
bulkhead_test(test_vsock unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_vsock.c LINK launcher_core bulkhead_test)
target_link_options(test_vsock PRIVATE -Wl,--wrap=ioctl)
