bulkhead_test(test_frontend_parts unit
	SOURCES ${CMAKE_CURRENT_SOURCE_DIR}/frontend_parts.c
	LINK frontend_core bulkhead_test TIMEOUT 120)
