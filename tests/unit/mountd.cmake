bulkhead_test(test_mountd_parse unit SOURCES ${CMAKE_CURRENT_LIST_DIR}/test_mountd_parse.c
	LINK bulkhead_test mountd_core)
