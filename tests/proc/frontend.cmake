bulkhead_test(test_frontend_ttrpc proc
	SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/frontend_ttrpc.c
	LINK frontend_harness TIMEOUT 120)
